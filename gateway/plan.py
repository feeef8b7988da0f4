"""What may be asked for one request: of whom, in which order, in what time, and what stands in a rung's way. Pure: a function of what was
tried so far. `escalate` says what to do next.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

from msgspec import Struct

from gateway.decide import Decision, Route, Rung
from gateway.validators.base import Verdict
from wire.errors import Reason

COMPANION = -1
"""The companion's place as a rung: it is on no ladder."""

Purpose = Literal["", "repair", "sample", "agree", "early"]
"""Why an attempt was made; "" for a rung in its turn."""
Local = Literal["always", "agree", "never"]
"""May a small model's call of a tool be delivered?"""
OPINIONS = ("agree", "sample")
"""Purposes of attempts that are evidence for another one."""
Agreement = Literal["", "always", "grey", "weighed"]
"""When the companion is asked, and what for; "": never."""
BESIDE = ("always", "weighed")
"""The companion is asked beside every small answer, and none is taken without its."""


class Plan(Struct, frozen=True, dict=True):
    """What may be asked, in order."""

    rungs: Sequence[Rung]
    """From the first to ask to the top rung; the last one is the top."""
    top_proves: bool = False
    """The top rung is a small one: a ladder with a single rung in the house. Its answer must pass like any small rung's."""
    strict: bool = False
    deliver_unproven: bool = False
    egress: str = "any"
    max_usd: float | None = None
    max_attempts: int = 6
    modality: frozenset[str] = frozenset({"text"})
    """Kinds of content parts in the request: a rung that does not take one of them is never asked."""
    reserve: float = 0.5
    """Share of the time left that a rung leaves to those above it."""
    companion: Rung | None = None
    agreement: Agreement = ""
    repair: int = 0
    samples: int = 0
    early: bool = False
    """The route's waste budget has granted one early start."""
    tools: Mapping[str, Local] = {}
    writes: Sequence[str] = ()
    """Globs: a tool that `tools` does not name and one of these matches is for larger models only."""

    def rung(self, index: int) -> Rung:
        """The rung at `index`, which may be COMPANION. Raises LookupError."""
        if index != COMPANION:
            return self.rungs[index]
        if self.companion is None:
            raise LookupError("no companion")
        return self.companion

    def small(self, index: int) -> bool:
        """Must the rung at `index` prove its answers? All but the top one; and that too, when it is a small one."""
        return index < len(self.rungs) - 1 or self.top_proves

    @cached_property
    def beside(self) -> bool:
        """May anything be asked while something else runs? Where not, what was started is waited for."""
        return self.companion is not None or self.samples > 0 or self.early

    @cached_property
    def compares(self) -> bool:
        """Does it matter what an answer says, or which tools it calls?"""
        return bool(self.companion or self.samples or self.tools or self.writes)

    @cached_property
    def entry(self) -> tuple[int, float, float] | None:
        """The rung to ask first, its timeout in seconds, and the share of the time left that it may take at most. None: there is none."""
        index, _ = next_rung(self, ())
        return None if index is None else (index, self.rungs[index].timeout, _share(self, index, ()))


class Attempt(Struct, frozen=True):
    """One rung, asked once, as it stands now."""

    number: int
    rung: int
    """Index into `Plan.rungs`, or COMPANION."""
    running: bool = True
    begun: bool = False
    """Content has come."""
    verdict: Verdict | None = None
    """None until something could be judged. Final when not running; a whole answer that waits to be weighed with the companion's has
    none yet."""
    error: Reason | None = None
    """It did not answer."""
    cost: float = 0.0
    """USD, estimated while it runs."""
    purpose: Purpose = ""
    stopped: bool = False
    """Ended by us, before its end."""
    seconds: float = 0.0
    """It has run so long."""
    answer: str = ""
    """Canonical form of the finished answer: equal strings mean equal answers. "" while that is unknown."""
    calls: Sequence[str] = ()
    """Names of the tools that the finished answer calls."""
    probability: float | None = None
    """That the finished answer is right; None when nobody knows."""
    unsure: bool = False
    """While it runs: it is likely not to be accepted."""
    flows: bool = False
    """While it runs: free text whose window is full, and nothing has failed."""


class Budget(Struct, frozen=True):
    seconds: float
    """Left for the whole ladder, until the first byte goes out."""


class GiveUp(Struct, frozen=True):
    why: Literal["deadline", "unavailable", "exhausted", "invalid"]
    """unavailable: a higher rung exists but cannot be asked; invalid: the top rung's answer breaks the schema and the route is
    strict; exhausted: the last rung that could be asked did not answer."""
    missing: str = ""
    """unavailable: the variable to set, when that is the way out."""
    policy: str = ""
    """unavailable: egress, budget, attempts, modality or ladder (it has no larger rung), when one of these forbids it."""


def plan(
    route: Route,
    decision: Decision,
    *,
    modality: frozenset[str] = frozenset({"text"}),
    reserve: float = 0.5,
    first: str = "",
) -> Plan:
    """The ladder from the rung where this request begins: `first` by name when it is given, the top when it is direct."""
    rungs = list(route.ladder)
    if decision.direct:
        rungs = rungs[-1:]
    elif first:
        names = [rung.name for rung in rungs]
        rungs = rungs[names.index(first) :] if first in names else rungs
    return Plan(
        rungs=tuple(rungs),
        top_proves=route.small(route.top),
        strict=route.strict,
        deliver_unproven=route.deliver_unproven,
        egress=route.egress,
        max_usd=route.max_usd,
        max_attempts=route.max_attempts,
        modality=modality,
        reserve=reserve,
        companion=route.companion,
        agreement=route.agreement if route.companion is not None else "",
        repair=route.repair,
        samples=route.samples,
        tools={name: rule.local for name, rule in route.tools.items()},
        writes=route.writes,
    )


def ladder(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Those that could be delivered themselves, without the second opinions."""
    return [attempt for attempt in attempts if attempt.purpose not in OPINIONS]


def can_climb(plan: Plan, attempts: Sequence[Attempt], index: int) -> bool:
    """Could a rung above `index` be asked, as things stand?"""
    return any(obstacle(plan, rung, attempts) is None for rung in plan.rungs[index + 1 :])


def next_rung(plan: Plan, attempts: Sequence[Attempt]) -> tuple[int | None, GiveUp | None]:
    """The lowest rung above all that were asked that can be asked, or why there is none."""
    asked = _asked(attempts)
    obstacles: list[GiveUp] = []
    for index in range(asked + 1, len(plan.rungs)):
        if plan.agreement in BESIDE and plan.small(index) and _alone(attempts):
            continue
        found = obstacle(plan, plan.rungs[index], attempts)
        if found is None:
            return index, None
        obstacles.append(found)
    if obstacles:
        return None, obstacles[-1]
    last = next(iter(reversed(ladder(attempts))), None)
    if plan.top_proves and last is not None and last.error is None:
        return None, GiveUp("unavailable", policy="ladder")
    return None, GiveUp("invalid" if last is not None and last.error is None else "exhausted")


def spare(plan: Plan, attempts: Sequence[Attempt], count: int) -> bool:
    """May `count` attempts be spent here, and one be left for a higher rung where there is one?"""
    asked = _asked(attempts)
    kept = 1 if can_climb(plan, attempts, asked) else 0
    return len(attempts) + count + kept <= plan.max_attempts


def seconds_for(plan: Plan, index: int, attempts: Sequence[Attempt], budget: Budget) -> float:
    """Its own timeout at most, and the reserve is left where a higher rung could be asked after it."""
    return min(plan.rung(index).timeout, budget.seconds * _share(plan, index, attempts))


def _share(plan: Plan, index: int, attempts: Sequence[Attempt]) -> float:
    """Of the time left: how much of it the rung at `index` may take."""
    asked = index if index != COMPANION else _asked(attempts)
    last = len(attempts) + 1 >= plan.max_attempts or not can_climb(plan, attempts, asked)
    return 1.0 if last else 1 - plan.reserve


def _asked(attempts: Sequence[Attempt]) -> int:
    """The highest rung that was asked."""
    return max([attempt.rung for attempt in attempts], default=COMPANION)


def _alone(attempts: Sequence[Attempt]) -> bool:
    """The companion gave nothing that a small answer could agree, or be weighed, with."""
    companion = next((attempt for attempt in attempts if attempt.purpose == "agree"), None)
    return companion is not None and not companion.running and not passed(companion)


def passed(attempt: Attempt) -> bool:
    """It came to its end, and every check passed."""
    ended = not attempt.running and not attempt.stopped and attempt.error is None
    return ended and attempt.verdict is not None and attempt.verdict.passed


def obstacle(plan: Plan, rung: Rung, attempts: Sequence[Attempt]) -> GiveUp | None:
    """Why `rung` cannot be asked, as things stand; None when it can."""
    if len(attempts) >= plan.max_attempts:
        return GiveUp("unavailable", policy="attempts")
    if not plan.modality <= rung.modality:
        return GiveUp("unavailable", policy="modality")
    if rung.missing:
        return GiveUp("unavailable", missing=rung.missing)
    if plan.egress == "local" and rung.cloud:
        return GiveUp("unavailable", policy="egress")
    # An empty purse blocks paid rungs only: local ones go on serving.
    if plan.max_usd is not None and rung.paid and sum(attempt.cost for attempt in attempts) >= plan.max_usd:
        return GiveUp("unavailable", policy="budget")
    return None
