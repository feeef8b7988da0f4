"""What to do next: a function of the past. Pure: no clock, no chance, nothing is started here.

    next_step(plan, attempts, budget) -> Start(rung, seconds) | Stop(attempt) | Wait | Deliver(attempt) | GiveUp(why)

The pipeline asks after every event (first content, verdict, attempt ended, deadline) and does as told. It sees running attempts, so
a second small model beside the first, a speculative large one, voting and early abort are decisions of this module, not special
cases of the pipeline. What is here is the simplest instance: one attempt at a time, up the ladder.

The table, first line that applies:

    an attempt may be delivered                      Deliver   (the pipeline stops the others)
    a running attempt has already failed its check   Stop
    an attempt is running                            Wait
    time is up                                       GiveUp(deadline)
    a higher rung can be asked                       Start
    the route delivers unproven answers              Deliver(degraded)
    otherwise                                        GiveUp

A small rung's answer may be delivered when its verdict is PASS: undecided is not sure. The top rung's may be delivered from its first
content on, whatever the soft checks say; only where the route is `strict` it must first fit the schema. A ladder's only rung, when it
is in the house, is a small rung and must prove itself. After Deliver nothing is
asked any more: that is the commit point.
"""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from gateway.decide import Decision, Route, Rung
from gateway.validators.base import Verdict
from wire.errors import Reason

SOFT: frozenset[Reason] = frozenset({"low_confidence", "disagreement", "unsupported"})
"""Rejections of an answer that is unproven, not proven bad: only these may be delivered as degraded."""


class Plan(Struct, frozen=True):
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


class Attempt(Struct, frozen=True):
    """One rung, asked once, as it stands now."""

    number: int
    rung: int
    """Index into `Plan.rungs`."""
    running: bool = True
    begun: bool = False
    """Content has come."""
    verdict: Verdict | None = None
    """None until something could be judged. Final when not running."""
    error: Reason | None = None
    """It did not answer."""
    cost: float = 0.0
    """USD, estimated while it runs."""


class Budget(Struct, frozen=True):
    seconds: float
    """Left for the whole ladder, until the first byte goes out."""


class Start(Struct, frozen=True):
    rung: int
    seconds: float


class Stop(Struct, frozen=True):
    number: int


class Wait(Struct, frozen=True):
    pass


class Deliver(Struct, frozen=True):
    number: int
    degraded: bool = False


class GiveUp(Struct, frozen=True):
    why: Literal["deadline", "unavailable", "exhausted", "invalid"]
    """unavailable: a higher rung exists but cannot be asked; invalid: the top rung's answer breaks the schema and the route is
    strict; exhausted: the last rung that could be asked did not answer."""
    missing: str = ""
    """unavailable: the variable to set, when that is the way out."""
    policy: str = ""
    """unavailable: egress, budget, attempts, modality or ladder (it has no larger rung), when one of these forbids it."""


Step = Start | Stop | Wait | Deliver | GiveUp


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
    )


def next_step(plan: Plan, attempts: Sequence[Attempt], budget: Budget) -> Step:
    """See the table at the head of this file."""
    for attempt in attempts:
        if deliverable(plan, attempt):
            return Deliver(attempt.number)
    for attempt in attempts:
        if (
            attempt.running
            and attempt.verdict is not None
            and attempt.verdict.opinion == "fail"
            and not _top(plan, attempt)
        ):
            return Stop(attempt.number)
    if any(attempt.running for attempt in attempts):
        return Wait()
    if budget.seconds <= 0:
        return _unproven(plan, attempts) or GiveUp("deadline")
    index, refusal = _next_rung(plan, attempts)
    if index is not None:
        rung = plan.rungs[index]
        last = len(attempts) + 1 >= plan.max_attempts or not any(
            _obstacle(plan, higher, attempts) is None for higher in plan.rungs[index + 1 :]
        )
        left = budget.seconds if last else budget.seconds * (1 - plan.reserve)
        return Start(index, min(rung.timeout, left))
    return _unproven(plan, attempts) or refusal


def deliverable(plan: Plan, attempt: Attempt) -> bool:
    """May this attempt's answer go out, proven, now?"""
    if attempt.error is not None:
        return False
    if not _top(plan, attempt) or plan.top_proves:
        return not attempt.running and attempt.verdict is not None and attempt.verdict.passed
    if plan.strict:
        return not attempt.running and (attempt.verdict is None or attempt.verdict.reason != "schema")
    return attempt.begun or not attempt.running


def rejection(attempt: Attempt) -> Reason | None:
    """Why this attempt's answer is not taken; None when it is, or when that is still open."""
    if attempt.error is not None:
        return attempt.error
    if attempt.verdict is None or attempt.verdict.passed:
        return None
    return attempt.verdict.reason


def _top(plan: Plan, attempt: Attempt) -> bool:
    return attempt.rung == len(plan.rungs) - 1


def _next_rung(plan: Plan, attempts: Sequence[Attempt]) -> tuple[int | None, GiveUp]:
    """The lowest rung above all that were asked that can be asked, or why there is none."""
    asked = max((attempt.rung for attempt in attempts), default=-1)
    obstacles: list[GiveUp] = []
    for index in range(asked + 1, len(plan.rungs)):
        obstacle = _obstacle(plan, plan.rungs[index], attempts)
        if obstacle is None:
            return index, GiveUp("exhausted")
        obstacles.append(obstacle)
    if obstacles:
        return None, obstacles[-1]
    last = attempts[-1] if attempts else None
    if plan.top_proves and last is not None and last.error is None:
        return None, GiveUp("unavailable", policy="ladder")
    return None, GiveUp("invalid" if last is not None and last.error is None else "exhausted")


def _obstacle(plan: Plan, rung: Rung, attempts: Sequence[Attempt]) -> GiveUp | None:
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


def _unproven(plan: Plan, attempts: Sequence[Attempt]) -> Deliver | None:
    """The highest rung's answer that is unproven but not proven bad, where the route delivers such."""
    if not plan.deliver_unproven:
        return None
    for attempt in reversed(attempts):
        if attempt.error is None and attempt.verdict is not None and attempt.verdict.reason in SOFT:
            return Deliver(attempt.number, degraded=True)
    return None
