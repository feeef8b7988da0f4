"""A metric whose children are kept, and whose label values are closed."""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.samples import Sample

from gateway.metrics.labels import NONE, OTHER
from gateway.metrics.page import number

MOST = 1e15


class Quick(Histogram):
    """A histogram that one thread at a time observes (who shares it has a lock of its own), and any may read: the bucket is found by
    bisection. Measured: 0.16 us an observation instead of 0.77, and a request makes a dozen."""

    def observe(self, amount: float, exemplar: Mapping[str, str] | None = None) -> None:
        """As `clip` has it. `exemplar` is not kept."""
        if not 0 <= amount < MOST:
            amount = 0.0
        self._sum._value += amount
        self._buckets[bisect_left(self._upper_bounds, amount)]._value += 1

    def _child_samples(self) -> list[Sample]:
        """For a page: without exemplars and `_created`, of which there are none, and what `le` says is made once."""
        made, count = [], 0.0
        for bound, bucket in zip(self._upper_bounds, self._buckets, strict=True):
            count += bucket._value
            made.append(Sample("_bucket", _le(bound), count))
        return [*made, Sample("_count", {}, count), Sample("_sum", {}, self._sum._value)]


@lru_cache(maxsize=256)
def _le(bound: float) -> dict[str, str]:
    return {"le": number(bound)}


class QuickCounter(Counter):
    """The same for counters: 0.08 us instead of 0.34. What another thread counts too is a plain Counter."""

    def inc(self, amount: float = 1, exemplar: Mapping[str, str] | None = None) -> None:
        """As `clip` has it: a counter only goes up. `exemplar` is not kept."""
        if not 0 <= amount < MOST:
            return
        self._value._value += amount


def count_each(counters: Iterable[QuickCounter], times: int) -> None:
    """`inc` each, so many times."""
    for counter in counters:
        counter._value._value += times


def add_each(
    counters: Iterable[tuple[int, QuickCounter]], columns: Sequence[Sequence[float]], totals: Mapping[int, float]
) -> None:
    """`inc` each counter by each amount of the column whose number stands with it. No column is empty; `totals`: their sums."""
    for at, counter in counters:
        amounts, total = columns[at], totals[at]
        if min(amounts) >= 0 and total < MOST:
            counter._value._value += total
        else:  # a negative, an absurd one, or no number
            for amount in amounts:
                counter.inc(amount)


def observe_each(
    histograms: Iterable[tuple[int, Quick]], columns: Sequence[Sequence[float]], totals: Mapping[int, float]
) -> None:
    """The same for histograms. Amounts of one kind that come together fall in few buckets: in order, a bucket is looked for once and not
    for each (0.8 us for eight in two buckets instead of 1.5)."""
    for at, histogram in histograms:
        amounts, total = columns[at], totals[at]
        rising = sorted(amounts)
        if not (rising[0] >= 0 and total < MOST):
            for amount in amounts:
                histogram.observe(amount)
            continue
        histogram._sum._value += total
        buckets, bounds = histogram._buckets, histogram._upper_bounds
        done, bucket = 0, bisect_left(bounds, rising[0])
        while rising[-1] > bounds[bucket]:
            until = bisect_right(rising, bounds[bucket], done)
            buckets[bucket]._value += until - done
            done, bucket = until, bisect_left(bounds, rising[until])
        buckets[bucket]._value += len(rising) - done


M = TypeVar("M", Counter, QuickCounter, Gauge, Quick)


class Family(dict[tuple[str, ...], M]):
    """A metric and its children, by label values in the order of the labels. `allowed`: per label the values that may become series."""

    def __init__(self, metric: M, allowed: Collection[Collection[str]]) -> None:
        super().__init__()
        self._metric: M = metric
        self._allowed = tuple(allowed)

    def __call__(self, *values: str) -> M:
        """The child for these label values. Where a request counts, `family[values]` is the same and costs no call."""
        return self[values]

    def __missing__(self, values: tuple[str, ...]) -> M:
        clean = tuple(self._clean(value, ok) for value, ok in zip(values, self._allowed, strict=True))
        child = self._metric.labels(*clean) if clean else self._metric
        # Only values of closed lists are remembered; remembering junk would be the leak that "other" prevents.
        if all(old in (new, "") for old, new in zip(values, clean, strict=True)):
            self[values] = child
        return child

    def clear(self) -> None:
        """Forget every child."""
        self._metric.clear()
        super().clear()

    @staticmethod
    def _clean(value: str, allowed: Collection[str]) -> str:
        return value if value in allowed else OTHER if value else NONE


def clip(number: float) -> float:
    """Zero for what is negative, absurd or no number: one of them would spoil a sum until the restart."""
    return number if 0 <= number < MOST else 0.0
