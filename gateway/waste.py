"""How many early starts a route may throw away: a budget, and what a start costs of it.

Every request of the route brings its share (0.03); a start whose answer was thrown away takes 1. Until that is known it is charged
with how likely it is to be thrown away, which the calibration says. And the less there is left, the surer a start must be to be of use: a
full bucket allows what the calibration would allow at twice the share, an empty one nothing. So the allowance goes to those starts that
save the most for what they waste, and its use settles near the share by itself. Where today's requests are not those of the calibration
it may go over by what is under way at once (AT_ONCE); that is paid back before anything starts again. A bucket holds little, so that a
quiet night does not allow a wasteful morning.
"""

from collections import OrderedDict
from math import sqrt

MOST = 5.0
"""Wasted starts that a bucket holds."""
FIRST = 1.0
"""What a new bucket holds: the first unsure answer need not wait for 33 requests."""
LEAST = 0.02
"""A start under way is charged with this at least."""
AT_ONCE = 20
"""Starts of a route under way. Where the calibration is wrong, all of them may be thrown away before any of it is known."""
ROUTES = 10_000
"""Buckets; names of routes come from configurations, and there may be many reloads."""


class _Bucket:
    __slots__ = ("left", "starts", "under_way")

    def __init__(self) -> None:
        self.left = FIRST
        self.starts = 0
        """Under way."""
        self.under_way = 0.0
        """Charged for starts of which nothing is known yet."""


class Waste:
    def __init__(self) -> None:
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def earn(self, route: str, share: float) -> None:
        """A request of `route` has come."""
        bucket = self._bucket(route)
        bucket.left = min(MOST, bucket.left + share)

    def reserve(self, route: str, vain: float, most: float = 1.0) -> bool:
        """May an early start be made now? Whoever is told so says how it ended (`settle`). vain: how likely it will be thrown away; most:
        up to which `vain` a full bucket allows it."""
        bucket, charge = self._bucket(route), max(LEAST, vain)
        left = bucket.left - bucket.under_way - charge
        if (
            bucket.starts >= AT_ONCE
            or left < -1e-9
            or vain > most * sqrt(max(0.0, bucket.left - bucket.under_way) / MOST)
        ):
            return False
        bucket.under_way += charge
        bucket.starts += 1
        return True

    def settle(self, route: str, vain: float, *, wasted: bool) -> None:
        """What came of a start that was reserved; one that was not made after all was not wasted."""
        bucket = self._bucket(route)
        bucket.under_way = max(0.0, bucket.under_way - max(LEAST, vain))
        bucket.starts = max(0, bucket.starts - 1)
        bucket.left -= wasted

    def _bucket(self, route: str) -> _Bucket:
        bucket = self._buckets.get(route)
        if bucket is None:
            bucket = self._buckets[route] = _Bucket()
            if len(self._buckets) > ROUTES:
                self._buckets.popitem(last=False)
        return bucket
