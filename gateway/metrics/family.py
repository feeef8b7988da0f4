"""A metric whose children are kept, and whose label values are closed."""

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Generic, TypeVar

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.samples import Sample

from gateway.metrics.labels import NONE, OTHER
from gateway.metrics.page import number

MOST = 1e15


class Quick(Histogram):
    """A histogram that one thread observes (the loop's), and any may read: no lock, and the bucket is found by bisection. Measured:
    0.16 us an observation instead of 0.77, and a request makes a dozen."""

    def observe(self, amount: float, exemplar: Mapping[str, str] | None = None) -> None:
        """As `clip` has it. `exemplar` is not kept."""
        if not 0 <= amount < MOST:
            amount = 0.0
        self._sum._value += amount
        self._buckets[bisect_left(self._upper_bounds, amount)]._value += 1

    def take(self, amounts: Sequence[float]) -> None:
        """`observe` each, of which there is at least one. Those of one kind that come together mostly fall in one bucket."""
        least, total = min(amounts), sum(amounts)
        if not (least >= 0 and total < MOST):  # a negative, an absurd one, or no number
            for amount in amounts:
                self.observe(amount)
            return
        self._sum._value += total
        buckets, bounds = self._buckets, self._upper_bounds
        at = bisect_left(bounds, least)
        if max(amounts) <= bounds[at]:
            buckets[at]._value += len(amounts)
            return
        for amount in amounts:
            buckets[bisect_left(bounds, amount, at)]._value += 1

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

    def take(self, amounts: Sequence[float]) -> None:
        """`inc` by each, of which there is at least one."""
        total = sum(amounts)
        if min(amounts) >= 0 and total < MOST:
            self._value._value += total
        else:
            for amount in amounts:
                self.inc(amount)


M = TypeVar("M", Counter, QuickCounter, Gauge, Quick)


class Family(Generic[M]):
    """A metric and its children. `allowed`: per label the values that may become series."""

    def __init__(self, metric: M, allowed: Collection[Collection[str]]) -> None:
        self._metric: M = metric
        self._allowed = tuple(allowed)
        self._kept: dict[tuple[str, ...], M] = {}

    def __call__(self, *values: str) -> M:
        """The child for these label values, in the order of the labels."""
        kept = self._kept.get(values)
        if kept is None:
            clean = tuple(self._clean(value, ok) for value, ok in zip(values, self._allowed, strict=True))
            kept = self._metric.labels(*clean) if clean else self._metric
            # Only values of closed lists are remembered; remembering junk would be the leak that "other" prevents.
            if all(old in (new, "") for old, new in zip(values, clean, strict=True)):
                self._kept[values] = kept
        return kept

    def clear(self) -> None:
        """Forget every child."""
        self._metric.clear()
        self._kept.clear()

    @staticmethod
    def _clean(value: str, allowed: Collection[str]) -> str:
        return value if value in allowed else OTHER if value else NONE


def clip(number: float) -> float:
    """Zero for what is negative, absurd or no number: one of them would spoil a sum until the restart."""
    return number if 0 <= number < MOST else 0.0
