"""In this process: bounded by count and bytes, the one not used for longest goes first."""

from collections import OrderedDict
from collections.abc import Callable

from gateway.store.base import TooLargeToKeep

OVERHEAD = 512
"""Bytes counted for an entry beside its value: key, tuple, dict slot."""


class Memory:
    def __init__(self, count: int, size: int, clock: Callable[[], float]) -> None:
        self._count = count
        self._size = size
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, tenant: str, id: str) -> bytes | None:
        found = self._kept.get((tenant, id))
        if found is None:
            return None
        if found[0] <= self._clock():
            self._forget((tenant, id))
            return None
        self._kept.move_to_end((tenant, id))
        return found[1]

    async def put(self, tenant: str, id: str, value: bytes, ttl: float) -> None:
        size = len(value) + OVERHEAD
        self._forget((tenant, id))
        if size > self._size:
            raise TooLargeToKeep
        while self._kept and (len(self._kept) >= self._count or self.bytes + size > self._size):
            self._forget(next(iter(self._kept)))
        self._kept[tenant, id] = (self._clock() + ttl, value)
        self.bytes += size

    async def delete(self, tenant: str, id: str) -> bool:
        there = await self.get(tenant, id) is not None
        self._forget((tenant, id))
        return there

    async def close(self) -> None:
        self._kept.clear()
        self.bytes = 0

    def _forget(self, key: tuple[str, str]) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self.bytes -= len(found[1]) + OVERHEAD
