"""How often: one token bucket per key, in the memory of this process.

Buckets exist for configured keys with a `rate` only, so their number is bounded by the configuration. The clock is passed in.

Retries. The official clients retry by themselves (twice) and say so in `x-stainless-retry-count`. A retry of a request that was
counted is not counted again; a retry of one that was refused is counted, or the header would be a way around the limit. As
requests carry no identity, this is book-keeping per key: a counted request earns two free retries, a refused one is owed one
counted retry first. So a caller who always sends the header gets at most three times the rate, and an honest one exactly it.
"""

import math
from collections.abc import Mapping, Sequence

from gateway.access.keys import Caller
from gateway.settings.model import KeySettings, RateSettings
from wire.errors import RateLimited

RETRY = "x-stainless-retry-count"
RETRIES = 2
"""Retries that the official clients make of one request."""


class TokenBucket:
    """`burst` tokens at most, `per_minute` new ones a minute. Starts full."""

    __slots__ = ("_at", "_burst", "_free", "_most", "_owed", "_per_second", "level", "reset")

    def __init__(self, per_minute: float, burst: int) -> None:
        self._per_second = per_minute / 60
        self._burst = float(burst)
        self._most = RETRIES * burst
        self._at = -math.inf
        self._free = 0
        self._owed = 0
        self.level = float(burst)
        """Tokens left, as of the last `take`."""
        self.reset = 0.0
        """Seconds until it is full, as of the last `take`."""

    def take(self, now: float, retry: bool = False) -> float | None:
        """None: the request may pass. Else seconds until there is a token for it; nothing was taken.

        now: seconds of a monotonic clock; one that goes back is taken to stand still. retry: the request says it is one, and is free when
        the first try was counted.
        """
        level = self.level
        if now > self._at:
            level += (now - self._at) * self._per_second
            level = level if level < self._burst else self._burst
            self._at = now
        wait = None
        if retry and not self._owed and self._free:
            self._free -= 1
        else:
            if retry and self._owed:
                self._owed -= 1
            if level >= 1.0:
                level -= 1.0
                free = self._free + RETRIES
                self._free = free if free < self._most else self._most
            else:
                # Slightly late rather than early: a caller who waits exactly this long must get through.
                wait = (1.0 - level) / self._per_second + 1e-6
                self._owed = min(self._owed + 1, self._most)
        self.level = level
        self.reset = (self._burst - level) / self._per_second
        return wait


class Limits:
    """The buckets of the configured keys. `previous`: after a reload, buckets whose rate is unchanged go on as they are."""

    def __init__(self, keys: Sequence[KeySettings], previous: "Limits | None" = None) -> None:
        old = previous._buckets if previous is not None else {}
        self._buckets: dict[str, tuple[RateSettings, TokenBucket, str]] = {}
        """The last: the burst, as a header's value."""
        for key in keys:
            if key.rate is None:
                continue
            kept = old.get(key.name)
            fresh = (key.rate, TokenBucket(key.rate.per_minute, key.rate.burst), str(key.rate.burst))
            self._buckets[key.name] = kept if kept is not None and kept[0] == key.rate else fresh

    def admit(self, caller: Caller, headers: Mapping[str, str], now: float) -> dict[str, str]:
        """Count one request. Returns response headers (none without a limit). Raises RateLimited with `retry-after`."""
        found = self._buckets.get(caller.tenant)
        if found is None:
            return {}
        rate, bucket, burst = found
        wait = bucket.take(now, RETRY in headers and _is_retry(headers[RETRY]))
        told = {
            "x-ratelimit-limit-requests": burst,
            "x-ratelimit-remaining-requests": str(int(bucket.level)),
            "x-ratelimit-reset-requests": duration(bucket.reset),
        }
        if wait is None:
            return told
        told["retry-after"] = str(max(1, math.ceil(wait)))
        told["retry-after-ms"] = str(math.ceil(wait * 1000))
        raise RateLimited(
            f"Rate limit reached for requests: {rate.per_minute:g} per minute, {rate.burst} at once. "
            f"Please try again in {duration(wait)}.",
            headers=told,
        )


def duration(seconds: float) -> str:
    """As OpenAI writes it, rounded up: 0s, 20ms, 1s, 6m0s, 1h0m0s."""
    if seconds <= 0:
        return "0s"
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms" if seconds <= 0.999 else "1s"
    whole = math.ceil(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _is_retry(count: str) -> bool:
    return count != "" and count.isascii() and count.isdigit() and count.strip("0") != ""
