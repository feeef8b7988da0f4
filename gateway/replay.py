"""What another configuration would have made of yesterday's requests, added up. Pure: Records and terms in, a Report out.

Each Record is decided again by `gateway.redecide`. Requests that are open (a small rung was never asked for them) are counted
as if they escalated (`after`) and as if they did not (`at_best`): the truth is in between.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field

from gateway.record import Record
from gateway.redecide import Terms, redecide

LARGE = frozenset({"direct", "escalated", "straight", "open"})
"""Outcomes in which a large model answered (`open`: in the worst case)."""
BESIDE = frozenset({"embeddings"})
"""Dialects of requests that no ladder answers: they are left out."""
CHANGES = 50
"""Most changes that a report lists one by one."""


class Side(Struct, frozen=True):
    """The figures of one side of the comparison. llm_share: requests that a large model answered / all. cost: USD."""

    outcomes: Mapping[str, int]
    routes: Mapping[str, Mapping[str, int]]
    """Route > outcome > requests; "" for requests that no route took."""
    llm_share: float
    cost: float
    escalation_rate: float | None = None
    """escalated / (accepted + escalated); None when there were neither."""


class Change(Struct, frozen=True):
    id: str
    before: str
    """route/outcome"""
    after: str
    why: str = ""


class Report(Struct, frozen=True):
    records: int
    before: Side
    after: Side
    at_best: Side
    counterfactual_cost: float
    """All of it at the top rungs' prices, USD."""
    scored: Mapping[str, int]
    unchecked: int
    """Requests for which a check stands in the new configuration that did not run then."""
    changed: int
    moves: Mapping[str, int]
    """`before > after`, outcomes, only where they differ."""
    rerouted: int
    changes: Sequence[Change] = field(default_factory=list)
    """The first CHANGES of them."""


def replay(records: Iterable[Record], terms: Terms) -> Report:
    """Decide every Record again under `terms`. One pass, memory does not grow with the Records."""
    before, after, best = _Tally(), _Tally(), _Tally()
    scored: Counter[str] = Counter({"rules": 0, "stored": 0, "unscored": 0, "kept": 0})
    moves: Counter[str] = Counter()
    changes: list[Change] = []
    count = changed = rerouted = unchecked = 0
    saved = 0.0
    for record in records:
        if record.dialect in BESIDE:
            continue
        again = redecide(record, terms)
        count += 1
        scored[again.how] += 1
        unchecked += again.unchecked
        saved += record.counterfactual_cost
        before.add(record.route, record.outcome, record.cost)
        after.add(again.route, again.outcome, again.cost)
        lucky = again.outcome == "open"
        best.add(again.route, "accepted" if lucky else again.outcome, again.least)
        rerouted += again.route != record.route
        if (again.route, again.outcome) != (record.route, record.outcome):
            changed += 1
            if again.outcome != record.outcome:
                moves[f"{record.outcome} > {again.outcome}"] += 1
            if len(changes) < CHANGES:
                told = (f"{record.route}/{record.outcome}", f"{again.route}/{again.outcome}")
                changes.append(Change(record.id, *told, again.why or again.reason))
    return Report(
        records=count,
        before=before.side(),
        after=after.side(),
        at_best=best.side(),
        counterfactual_cost=saved,
        scored=dict(scored),
        unchecked=unchecked,
        changed=changed,
        moves=dict(moves.most_common()),
        rerouted=rerouted,
        changes=changes,
    )


class _Tally:
    def __init__(self) -> None:
        self._routes: dict[str, Counter[str]] = {}
        self._cost = 0.0

    def add(self, route: str, outcome: str, usd: float) -> None:
        self._routes.setdefault(route, Counter())[outcome] += 1
        self._cost += usd

    def side(self) -> Side:
        outcomes = sum(self._routes.values(), Counter[str]())
        proven = outcomes["accepted"] + outcomes["escalated"]
        large = sum(outcomes[outcome] for outcome in LARGE)
        return Side(
            outcomes=dict(outcomes.most_common()),
            routes={name: dict(counts.most_common()) for name, counts in sorted(self._routes.items())},
            llm_share=large / outcomes.total() if outcomes else 0.0,
            cost=self._cost,
            escalation_rate=outcomes["escalated"] / proven if proven else None,
        )
