"""What of a Record decides in which series it is counted; all else in it is an amount.

Requests repeat themselves: the children that one was counted in are kept for the next of its kind, so that the fold of a common one is
a look-up and a dozen additions, and that of several together one addition for all of them. What is not in a kind can decide nothing, as
its children are found by the kind alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from gateway.metrics.family import Quick, QuickCounter, add_each, count_each, observe_each

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


class Children(Struct):
    """Where those of one kind are counted."""

    once: Sequence[QuickCounter]
    """By one each."""
    added: Sequence[tuple[int, QuickCounter]]
    """A column of `rows`, and who is counted up by its amounts."""
    observed: Sequence[tuple[int, Quick]]
    """A column of `rows`, and who observes its amounts."""
    read: frozenset[int]
    """The columns that somebody takes."""
    rows: list[tuple[float, ...]] = []
    """The amounts of those that are not counted yet."""

    @classmethod
    def of(cls, once: Sequence[QuickCounter], takers: Sequence[Sequence[Quick | QuickCounter]]) -> "Children":
        """takers: by column of `rows`, who takes these amounts; nobody, where there are none in this kind."""
        pairs = [(at, taker) for at, column in enumerate(takers) for taker in column]
        added = [(at, taker) for at, taker in pairs if isinstance(taker, QuickCounter)]
        observed = [(at, taker) for at, taker in pairs if isinstance(taker, Quick)]
        return cls(once, added, observed, frozenset(at for at, _ in pairs))

    def count(self) -> int:
        """`rows`: column by column, so that a series is looked at once for all of them. Returns how many were left out, because what would
        be counted of them is no number."""
        rows, self.rows = self.rows, []
        columns, lost = list(zip(*rows, strict=True)), 0
        try:  # all sums before the first number is changed
            totals = {at: sum(columns[at]) for at in self.read}
        except TypeError:
            sound = [row for row in rows if all(isinstance(row[at], int | float) for at in self.read)]
            lost = len(rows) - len(sound)
            if not sound:
                return lost
            rows, columns = sound, list(zip(*sound, strict=True))
            totals = {at: sum(columns[at]) for at in self.read}
        count_each(self.once, len(rows))
        add_each(self.added, columns, totals)
        observe_each(self.observed, columns, totals)
        return lost


def keep(table: dict[tuple[str | bool, ...], Children], kind: tuple[str | bool, ...], children: Children) -> Children:
    """Remember `children` for this kind."""
    if len(table) >= KINDS:
        table.clear()
    table[kind] = children
    return children
