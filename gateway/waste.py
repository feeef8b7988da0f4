"""How many early starts a route may throw away: a budget charged with what was thrown away, and with what is likely to be.

Every request of the route brings its share (0.03); a start whose answer was thrown away takes 1. One under way is charged with how
often starts of this route were thrown away lately. (Charging it with 1 until it has ended allows one start at a time where most are of
use: with 40 requests in flight, none to speak of.) So wasted starts stay at that share of the requests, but for the few that are under
way at once, and what went over is paid back before anything starts again. A bucket holds little, so that a quiet night does not allow a
wasteful morning.
"""

from collections import OrderedDict

MOST = 5.0
"""Wasted starts that a bucket holds."""
FIRST = 1.0
"""What a new bucket holds: the first unsure answer need not wait for 33 requests."""
LEAST = 0.02
"""A start under way is charged with this at least: at most MOST / LEAST are under way at once."""
BEFORE = 10.0, 1.0
"""Starts and wasted ones that a new bucket is told of: the soft threshold was calibrated for few."""
REMEMBERED = 200.0
"""Starts after which what came of the older half counts half."""
ROUTES = 10_000
"""Buckets; names of routes come from configurations, and there may be many reloads."""


class _Bucket:
    __slots__ = ("ended", "left", "under_way", "wasted")

    def __init__(self) -> None:
        self.left = FIRST
        self.under_way = 0
        self.ended, self.wasted = BEFORE

    def likely(self) -> float:
        return max(LEAST, self.wasted / self.ended)


class Waste:
    def __init__(self) -> None:
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def earn(self, route: str, share: float) -> None:
        """A request of `route` has come."""
        bucket = self._bucket(route)
        bucket.left = min(MOST, bucket.left + share)

    def reserve(self, route: str) -> bool:
        """May an early start be made now? Whoever is told so says how it ended (`settle`)."""
        bucket = self._bucket(route)
        if bucket.left < (bucket.under_way + 1) * bucket.likely():
            return False
        bucket.under_way += 1
        return True

    def settle(self, route: str, *, wasted: bool) -> None:
        """What came of a start that was reserved; one that was not made after all was not wasted."""
        bucket = self._bucket(route)
        bucket.under_way = max(0, bucket.under_way - 1)
        bucket.left -= wasted
        bucket.ended, bucket.wasted = bucket.ended + 1, bucket.wasted + wasted
        if bucket.ended > REMEMBERED:
            bucket.ended, bucket.wasted = bucket.ended / 2, bucket.wasted / 2

    def _bucket(self, route: str) -> _Bucket:
        bucket = self._buckets.get(route)
        if bucket is None:
            bucket = self._buckets[route] = _Bucket()
            if len(self._buckets) > ROUTES:
                self._buckets.popitem(last=False)
        return bucket
