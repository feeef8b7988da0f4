"""Scores > Decision. Pure: the same scores give the same decision, today, in a test and in a replay."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

from msgspec import Struct

from gateway.confidence import Outlook, Scorer
from gateway.validators.base import Validator
from wire.types import Constraint, Scores


class Rung(Struct, frozen=True):
    """What a decision needs to know of a backend."""

    name: str
    cloud: bool = False
    missing: str = ""
    """The variable to set before this rung can be asked; "" when it can."""
    timeout: float = 30.0
    """Seconds to the end of an answer, before commit."""
    paid: bool = False
    modality: frozenset[str] = frozenset({"text", "image", "audio", "file"})
    """Kinds of content parts that it takes."""
    threshold: float | None = None
    """What the route's promised risk demands of this rung; None when nothing was calibrated."""
    scorer: Scorer | None = None
    """Makes a probability of a language model's answer; None: the rung says one itself, or nobody knows."""
    outlook: Outlook | None = None
    """Says of an answer that still grows how likely it will not be accepted; None: nobody does."""
    start: float | None = None
    """The doubt from which on the next rung may be started early, while much of the budget for waste is left."""
    collapsed: float | None = None
    """A token less likely than this (log-probability): no answer like it was ever accepted, so this one is stopped."""
    calibrated: str = ""
    digest: str = ""
    """What identifies the model behind it."""
    passthrough: bool = False
    """`auth: passthrough`: it is asked with the caller's own key."""


class ToolRule(Struct, frozen=True):
    """May a small model's call of one tool be delivered?"""

    local: Literal["always", "agree", "never"] = "always"
    threshold: float | None = None
    """Stricter than the rung's own; infinite when its calibration cannot keep the tool's risk."""


class Route(Struct, frozen=True, dict=True):
    """A class of requests and how they are answered."""

    name: str
    ladder: Sequence[Rung]
    """Smallest first; the last is the top rung."""
    mode: str = "observe"
    min_score: float = 0.5
    constraint: Constraint | None = None
    """Imposed on every rung but the top one."""
    render: str | None = None
    validators: Sequence[Validator] = ()
    risk: float | None = None
    strict: bool = False
    deliver_unproven: bool = False
    egress: str = "any"
    max_usd: float | None = None
    max_attempts: int = 6
    seconds: float = 60.0
    companion: Rung | None = None
    """The second small model of `agrees_with`."""
    agreement: Literal["", "always", "grey", "weighed"] = ""
    repair: int = 0
    samples: int = 0
    temperature: float = 0.7
    waste: float | None = None
    """Share of requests whose early started next rung may be thrown away; None: nothing is started early."""
    window: int | None = None
    """Characters of free text that are held; None: all of it."""
    lag: int = 0
    writes: Sequence[str] = ()
    tools: Mapping[str, ToolRule] = {}
    holdout: float = 0.0
    """Share of conversations that the top rung answers alone, for comparison."""
    canary: float = 1.0
    """Share of conversations that `mode: canary` enforces."""
    shadowed: Sequence[Rung] = ()
    """Small rungs that are asked off the path: in `mode: shadow` those of the ladder; else those that may not answer until they are
    calibrated, which then stand on no ladder."""
    sample: float = 1.0
    """Share of the requests that `shadowed` rungs are asked."""
    in_flight: int = 2
    """Of those, most at once."""

    @cached_property
    def top(self) -> Rung:
        return self.ladder[-1]

    @cached_property
    def large(self) -> str:
        """The top rung's name; "" where it is the ladder's only one and in the house, and so is `small`."""
        return "" if len(self.ladder) == 1 and not self.top.cloud else self.top.name

    @cached_property
    def hard(self) -> Sequence[Validator]:
        """The validators that are not soft."""
        return tuple(validator for validator in self.validators if not getattr(validator, "soft", False))

    @cached_property
    def calibrated(self) -> str:
        """Of the lowest rung that has a calibration; "" when none has."""
        for rung in self.ladder:
            if rung.calibrated:
                return rung.calibrated
        return ""

    @cached_property
    def looks(self) -> bool:
        """Is any answer looked at while it grows?"""
        return self.window is not None or any(r.start is not None or r.collapsed is not None for r in self.ladder)

    def small(self, rung: Rung) -> bool:
        """Must `rung` prove its answers on this route? All but the top; and a ladder's only rung, when it is in the house."""
        return rung.name != self.large


class Decision(Struct, frozen=True):
    route: str
    reason: str
    """matched, default, below_min_score, out_of_scope, router_error, router_timeout, pinned, tool_loop, holdout, bypass, straight."""
    score: float | None = None
    direct: bool = False
    """Straight to the top rung."""


REASONS = (
    "matched", "default", "below_min_score", "out_of_scope", "router_error", "router_timeout", "pinned", "tool_loop",
    "bypass", "straight", "observe", "holdout",
)  # fmt: skip
"""The closed list, also the values of the metric label."""

OUT_OF_SCOPE = 0.5
"""A router that thinks a request more likely out of scope than in it sends it to the top."""


def decide(scores: Scores, routes: Mapping[str, Route], default: str) -> Decision:
    """The best scored route if it reaches its own `min_score`, else the default route.

    Out of scope is an answer: such a request goes straight to the top of the default route. Ties go to the route that stands
    first in the configuration.
    """
    best, score = "", -1.0
    for name in routes:
        value = scores.by_route.get(name)
        if value is not None and value > score:
            best, score = name, value
    if best and score >= routes[best].min_score:
        return Decision(best, "matched", score)
    if scores.out_of_scope is not None and scores.out_of_scope > OUT_OF_SCOPE:
        return Decision(default, "out_of_scope", score if best else None, direct=True)
    if best:
        return Decision(default, "below_min_score", score)
    return Decision(default, "default")
