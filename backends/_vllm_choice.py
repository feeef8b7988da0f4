"""Which replica of an engine gets a request. Pure.

Affinity first, as far as it costs nobody: a conversation goes back to the replica that holds its prefix, a new one to where requests
of the same kind (system prompt, tools, schema) go, by rendezvous hashing. But only while that replica is within its share of the
load: consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2018). Otherwise the least loaded one.
"""

from collections.abc import Hashable, Sequence
from hashlib import blake2b
from math import ceil, inf

from msgspec import Struct
from msgspec.structs import replace

SHARE = 1.25
"""A favourite may have so many times the mean load."""
FULL = 0.95
"""Share of the KV cache from which on a replica starts to push requests out again."""
FAILURES = 3
"""Failures one after the other until a replica is passed over."""
REST, LONGEST_REST = 1.0, 30.0
"""Seconds that it is passed over the first time, and at most; doubled each time that its trial fails too."""


class Load(Struct, frozen=True):
    """What is known of a replica when a request is to be placed. All zero: nothing yet."""

    usable: bool = True
    """Answers /health, holds the adapter, and its circuit is closed or due for a trial."""
    waiting: float = 0.0
    """Requests that it queued, when it was last looked at."""
    running: float = 0.0
    kv: float = 0.0
    """Share of its KV cache in use, in [0, 1]."""
    own: int = 0
    """Requests that this process has under way there now."""
    own_then: int = 0
    """... and had when it was looked at: those are in `waiting` and `running` already."""

    @property
    def busy(self) -> float:
        """Requests there now, as far as this process can know."""
        return max(float(self.own), self.waiting + self.running + self.own - self.own_then)


def order(loads: Sequence[Load], *, last: int | None = None, ring: Sequence[int] = ()) -> list[int]:
    """Indices of `loads`, the replica to ask first; the others follow by load, those that are not usable left out.

    last: the replica that answered this conversation before. ring: all indices in the order of this kind of request (`rendezvous`);
    ties between equally loaded ones fall in its favour. When none is usable all are tried: what is known may be old.
    """
    usable = [at for at, load in enumerate(loads) if load.usable] or list(range(len(loads)))
    place = {at: position for position, at in enumerate(ring)}
    ranked = sorted(usable, key=lambda at: (*_pressure(loads[at]), place.get(at, 0)))
    total = sum(loads[at].busy for at in usable)
    # The mean over whole requests, this one included: the room that every replica has before one of them counts as ahead.
    room = ceil(SHARE * (total + 1) / max(1, len(usable)))
    for favourite in ([] if last is None else [last], ring):
        for at in favourite:
            if at in usable and _has_room(loads[at], room, loads[ranked[0]]):
                return [at, *(other for other in ranked if other != at)]
    return ranked


def rendezvous(names: Sequence[str], key: Hashable) -> list[int]:
    """Indices of `names` in an order that depends on `key` only (highest random weight: Thaler, Ravishankar, 1998): when one of them
    goes, only what was its own moves."""
    weights = [blake2b(f"{name}\n{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in names]
    return sorted(range(len(names)), key=weights.__getitem__, reverse=True)


def _pressure(load: Load) -> tuple[bool, float, float, float]:
    return load.kv >= FULL, load.waiting, load.busy, load.kv


def _has_room(load: Load, room: int, least: Load) -> bool:
    queues = load.waiting > least.waiting and load.busy > least.busy
    return load.busy < room and not queues and not (load.kv >= FULL > least.kv)


class Circuit(Struct, frozen=True):
    """What a replica's last answers were. Three failures in a row open it; after a rest one request is let through as a trial (half
    open)."""

    failures: int = 0
    until: float = -inf
    """Passed over until then, on the clock of `now`, seconds."""

    def admits(self, now: float) -> bool:
        return now >= self.until

    def asked(self, now: float) -> "Circuit":
        """A request goes there. The one that goes to an open circuit is its trial: the others keep away until it ended."""
        return replace(self, until=now + self._rest()) if self.failures >= FAILURES else self

    def failed(self, now: float) -> "Circuit":
        again = replace(self, failures=min(self.failures + 1, 1000))
        return replace(again, until=now + again._rest()) if again.failures >= FAILURES else again

    def full(self, now: float, seconds: float | None) -> "Circuit":
        """It refused for load (503, 429): it is left alone for as long as it said, a second when it said nothing. That is no failure."""
        return Circuit(until=max(self.until, now + min(seconds if seconds is not None else REST, LONGEST_REST)))

    def answered(self) -> "Circuit":
        return self if self is CLOSED else CLOSED

    def _rest(self) -> float:
        return min(REST * 2.0 ** min(self.failures - FAILURES, 10), LONGEST_REST)


CLOSED = Circuit()
