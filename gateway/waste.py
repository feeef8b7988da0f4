"""How many early starts a route may throw away: a token bucket.

Every request of the route brings its share (0.03), an early start takes 1, and gets it back unless its answer was thrown away. So the
wasted starts stay at or below that share of the requests, and a bucket's content more; a bucket holds little, so that a quiet night does
not allow a wasteful morning.
"""

from collections import OrderedDict

MOST = 5.0
"""Starts that a bucket holds."""
FIRST = 1.0
"""What a new bucket holds: the first unsure answer need not wait for 33 requests."""
ROUTES = 10_000
"""Buckets; names of routes come from configurations, and there may be many reloads."""


class Waste:
    def __init__(self) -> None:
        self._left: OrderedDict[str, float] = OrderedDict()

    def earn(self, route: str, share: float) -> None:
        """A request of `route` has come."""
        self._left[route] = min(MOST, self._left.get(route, FIRST) + share)
        if len(self._left) > ROUTES:
            self._left.popitem(last=False)

    def reserve(self, route: str) -> bool:
        """May an early start be made now? It is paid for then."""
        left = self._left.get(route, FIRST)
        if left < 1.0:
            return False
        self._left[route] = left - 1.0
        return True

    def refund(self, route: str) -> None:
        """The start was of use, or was not made."""
        self._left[route] = min(MOST, self._left.get(route, 0.0) + 1.0)
