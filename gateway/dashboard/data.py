"""Records > what the page shows: rolling sums of fifteen minutes, in buckets of five seconds. Pure: the caller brings the clock.

Folding one Record takes the same few dictionary steps however many came before, and holds no Record but the last ones; names of routes and
rungs come from configurations, and a bucket tells no more than NAMES of them apart.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

from msgspec import Struct

from gateway.metrics.spills import had_to
from gateway.record import Record

STEP = 5
"""Seconds of a bucket."""
BUCKETS = 180
LAST = 40
"""Decisions that are shown."""
NAMES = 64
OTHER = "other"
ANSWERED = ("accepted", "escalated", "direct", "straight", "degraded")
EDGES = tuple(0.0005 * sqrt(2.0) ** step for step in range(37))
"""Upper ends of the latency bins, seconds: 0.5 ms to 131 s, two to an octave, so that a quantile is at most 19 % off."""


@dataclass(slots=True, eq=False)  # its fields are counted up a tenth faster than a Struct's
class Sums:
    """Counts and USD of one route, or of all of them."""

    outcomes: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    """Of requests that a higher rung answered: why the rung below was not taken."""
    llm: int = 0
    """Requests that the top rung had to answer (`gateway.metrics.spills`)."""
    cost: float = 0.0
    counterfactual: float = 0.0
    llm_cost: float = 0.0
    """Spent on the large model: the top rung."""

    def fold(self, record: Record) -> None:
        outcome = record.outcome
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        if outcome == "escalated":
            self.reasons[record.escalation] = self.reasons.get(record.escalation, 0) + 1
        if outcome != "accepted":  # most are, and no large model had to answer them
            self.llm += had_to(record)
        self.counterfactual += record.counterfactual_cost
        if record.cost:
            self.cost += record.cost
            top = record.top
            # A ladder's only rung, in the house, which proved its answer, is no large model.
            if outcome != "accepted" or record.served != top:
                for attempt in record.attempts:
                    if attempt.rung == top:
                        self.llm_cost += attempt.cost

    def add(self, other: "Sums") -> None:
        for name, count in other.outcomes.items():
            self.outcomes[name] = self.outcomes.get(name, 0) + count
        for name, count in other.reasons.items():
            self.reasons[name] = self.reasons.get(name, 0) + count
        self.llm += other.llm
        self.cost += other.cost
        self.counterfactual += other.counterfactual
        self.llm_cost += other.llm_cost


@dataclass(slots=True, eq=False)
class Bucket:
    number: int
    """Unix seconds of its start over STEP."""
    all: Sums = field(default_factory=Sums)
    routes: dict[str, Sums] = field(default_factory=dict)
    latency: dict[str, dict[int, int]] = field(default_factory=dict)
    """Rung > number of the bin > attempts."""

    def add(self, other: "Bucket") -> None:
        """Of the same five seconds, counted elsewhere."""
        self.all.add(other.all)
        for route, sums in other.routes.items():
            _named(self.routes, route, Sums).add(sums)
        for rung, counts in other.latency.items():
            bins: dict[int, int] = _named(self.latency, rung, dict)
            for at, count in counts.items():
                bins[at] = bins.get(at, 0) + count


class Rates(Struct, frozen=True):
    """What the headline says of some Sums. Shares are None where nothing was counted."""

    requests: int
    answered: int
    accepted: int
    escalated: int
    direct: int
    straight: int
    degraded: int
    unanswered: int
    """Refused, failed, and those whose caller left."""
    llm_calls: float | None
    """Of those that small models answered or the top rung had to: the latter's share."""
    llm_spend: float | None
    """USD that went to large models / USD spent."""
    escalation: float | None
    """escalated / (accepted + escalated)."""
    reasons: Mapping[str, int]
    cost: float
    counterfactual: float
    """USD, had the top rung answered everything that was answered."""


class Latency(Struct, frozen=True):
    """Seconds of a rung's attempts that came to an end."""

    rung: str
    count: int
    p50: float
    p95: float


class Window:
    """The last BUCKETS x STEP seconds, everything since the start in one sum, and the last Records."""

    def __init__(self, start: float) -> None:
        """start: Unix seconds."""
        self.start = start
        self.folded = 0
        self.last: deque[Record] = deque(maxlen=LAST)
        self._buckets: dict[int, Bucket] = {}
        self._newest: Bucket | None = None
        self._ever = Sums()
        self._fresh: dict[str, Sums] = {}
        """By route, what was folded and is neither in the newest bucket's sums nor in `_ever` yet."""

    @property
    def ever(self) -> Sums:
        """Everything since the start."""
        self._settle()
        return self._ever

    @ever.setter
    def ever(self, told: Sums) -> None:
        self._ever = told

    def fold(self, records: Sequence[Record], now: float) -> None:
        """Count Records in the bucket of `now`, Unix seconds. A clock that was set back counts in the newest bucket."""
        number = int(now // STEP)
        bucket = self._newest
        if bucket is None or number > bucket.number:
            bucket = self.put(Bucket(number))
        fresh, latency = self._fresh, bucket.latency
        for record in records:
            sums = fresh.get(record.route)
            if sums is None:
                if len(fresh) >= NAMES:
                    self._settle()
                    fresh = self._fresh
                sums = fresh[record.route] = Sums()
            sums.fold(record)
            for attempt in record.attempts:
                if attempt.outcome != "stopped":
                    bins = latency.get(attempt.rung)
                    if bins is None:
                        bins = _named(latency, attempt.rung, dict)
                    at = bisect_left(EDGES, attempt.seconds)
                    bins[at] = bins.get(at, 0) + 1
        self.last.extend(records)
        self.folded += len(records)

    def _settle(self) -> None:
        """Add up what was folded: when somebody reads, or a new bucket begins."""
        fresh, bucket = self._fresh, self._newest
        if fresh and bucket is not None:
            self._fresh = {}
            for route, sums in fresh.items():
                bucket.all.add(sums)
                self._ever.add(sums)
                _named(bucket.routes, route, Sums).add(sums)

    def put(self, bucket: Bucket) -> Bucket:
        """In place of the one of the same time; the oldest goes when there are too many."""
        self._settle()
        self._buckets[bucket.number] = bucket
        if self._newest is None or bucket.number >= self._newest.number:
            self._newest = bucket
        if len(self._buckets) > BUCKETS:
            del self._buckets[min(self._buckets)]
        return bucket

    def add(self, buckets: Iterable[Bucket], ever: Sums) -> None:
        """What another Window has counted, in whatever order it comes."""
        for bucket in buckets:
            (self._buckets.get(bucket.number) or self.put(Bucket(bucket.number))).add(bucket)
        self._ever.add(ever)

    def kept(self, numbers: Container[int] | None = None) -> list[Bucket]:
        """All buckets there are, or those of `numbers`."""
        self._settle()
        return [bucket for number, bucket in self._buckets.items() if numbers is None or number in numbers]

    def buckets(self, now: float) -> list[Bucket | None]:
        """The whole window, oldest first, the one of `now` last; None where nothing came."""
        self._settle()
        newest = int(now // STEP)
        return [self._buckets.get(number) for number in range(newest - BUCKETS + 1, newest + 1)]

    def per_second(self, now: float) -> float:
        """Requests per second over the last five to ten seconds."""
        since = self.start if now - self.start < 2 * STEP else (int(now // STEP) - 1) * STEP
        count = sum(sum(bucket.all.outcomes.values()) for bucket in self.buckets(now)[-2:] if bucket is not None)
        return count / max(now - since, 1.0)


def total(sums: Iterable[Sums]) -> Sums:
    whole = Sums()
    for one in sums:
        whole.add(one)
    return whole


def rates(sums: Sums) -> Rates:
    count = sums.outcomes.get
    answered = sum(count(name, 0) for name in ANSWERED)
    accepted, escalated = count("accepted", 0), count("escalated", 0)
    requests = sum(sums.outcomes.values())
    return Rates(
        requests=requests,
        answered=answered,
        accepted=accepted,
        escalated=escalated,
        direct=count("direct", 0),
        straight=count("straight", 0),
        degraded=count("degraded", 0),
        unanswered=requests - answered,
        llm_calls=_share(sums.llm, sums.llm + accepted + count("degraded", 0)),
        llm_spend=_share(sums.llm_cost, sums.cost),
        escalation=_share(escalated, accepted + escalated),
        reasons=dict(sorted(sums.reasons.items(), key=lambda item: (-item[1], item[0]))),
        cost=sums.cost,
        counterfactual=sums.counterfactual,
    )


def latencies(buckets: Iterable[Bucket | None]) -> list[Latency]:
    """By rung, the busiest first."""
    bins: dict[str, dict[int, int]] = {}
    for bucket in buckets:
        for rung, counts in bucket.latency.items() if bucket is not None else ():
            into = bins.setdefault(rung, {})
            for at, count in counts.items():
                into[at] = into.get(at, 0) + count
    found = [Latency(r, sum(c.values()), quantile(c, 0.5), quantile(c, 0.95)) for r, c in bins.items()]
    return sorted(found, key=lambda one: (-one.count, one.rung))


def quantile(bins: Mapping[int, int], share: float) -> float:
    """Seconds below which `share` of the attempts in `bins` lie, even between a bin's ends; 0 for none."""
    wanted, seen = share * sum(bins.values()), 0
    for at in sorted(bins):
        seen += bins[at]
        if seen >= wanted:
            high = EDGES[min(at, len(EDGES) - 1)]
            low = EDGES[at - 1] if 0 < at < len(EDGES) else 0.0 if at == 0 else high
            return high - (high - low) * (seen - wanted) / bins[at]
    return 0.0


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _named(table: dict[str, Any], name: str, make: Any) -> Any:
    found = table.get(name)
    if found is None:
        if len(table) >= NAMES:
            name = OTHER
        found = table.setdefault(name, make())
    return found
