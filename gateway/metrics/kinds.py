"""What of a Record decides in which series it is counted; all else in it is an amount.

Requests repeat themselves: the children that one was counted in are kept for the next of its kind, so that the fold of a common one is a
look-up and a dozen additions. What is not in a kind can decide nothing, as its children are found by the kind alone.
"""

from typing import NamedTuple, TypeVar

from msgspec import Struct
from prometheus_client import Counter, Histogram

C = TypeVar("C")
KINDS = 4096
"""Kinds that are remembered; more of them are none of ours, and all are forgotten. 40 routes with three rungs have some hundreds."""


class RequestKind(NamedTuple):
    route: str
    outcome: str
    mode: str
    reason: str
    direct: bool
    router: str
    served: str
    late: str
    speculation: str
    error: str
    llm: bool
    """`had_to`."""
    failed: bool
    """`failure`."""
    accept: bool
    """`Seconds.accept` is known."""
    first: bool
    """`Seconds.first_byte` is known."""


class RequestChildren(Struct, frozen=True):
    """Those that are None, or not there, are not of the kind."""

    once: tuple[Counter, ...]
    router: Histogram
    upstream: Histogram
    check: Histogram
    total: Histogram
    overhead: Histogram
    rest: Histogram
    parse: Histogram
    accept: Histogram | None
    first: Histogram | None
    tier: Histogram | None
    """Of the router."""
    counterfactual: Counter


class AttemptKind(NamedTuple):
    route: str
    request: str
    """Outcome of the request."""
    top: str
    speculation: str
    rung: str
    outcome: str
    reason: str
    purpose: str
    first: bool
    """Its first chunk came."""
    many: bool
    """Its answer came in several."""
    known: bool
    """It has a probability."""
    counted: bool
    """It took tokens."""
    paid: bool


class AttemptChildren(Struct, frozen=True):
    """As `RequestChildren`."""

    once: tuple[Counter, ...]
    seconds: Histogram
    first: Histogram | None
    gap: Histogram | None
    confidence: Histogram | None
    expected: tuple[Counter, ...]
    tokens: tuple[Counter, ...]
    """Input that was not cached, cached, output."""
    wasted: tuple[Counter, ...]
    costs: tuple[Counter, ...]


def keep(table: dict[tuple[str | bool, ...], C], kind: tuple[str | bool, ...], children: C) -> C:
    """Remember `children` for this kind."""
    if len(table) >= KINDS:
        table.clear()
    table[kind] = children
    return children
