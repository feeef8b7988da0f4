"""Stands before a store: no call takes longer than it may, every call is counted, and a store that failed is left alone for a while.

A request that only wants its answer kept never notices: `put` raises nothing, and while the store is left alone it does not even wait.
A request that needs what is kept asks all the same, and gets the StoreError.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.store.base import Store, StoreError, TooLargeToKeep

Count = Callable[[str, str], None]
"""Takes the operation (get, put, delete) and how it ended (ok, missing, error, skipped, too_large)."""

PAUSE = 5.0
"""Seconds without `put` after a failure."""

T = TypeVar("T")


class Guarded:
    def __init__(self, store: Store, seconds: float, clock: Callable[[], float], count: Count) -> None:
        self._store = store
        self._seconds = seconds
        self._clock = clock
        self._count = count
        self._resume = -1.0

    async def get(self, tenant: str, id: str) -> bytes | None:
        """Raises StoreError."""
        found = await self._bounded("get", self._store.get(tenant, id))
        self._count("get", "missing" if found is None else "ok")
        return found

    async def put(self, tenant: str, id: str, value: bytes, ttl: float) -> bool:
        """Whether it is kept. Raises nothing."""
        if self._clock() < self._resume:
            self._count("put", "skipped")
            return False
        try:
            await self._bounded("put", self._store.put(tenant, id, value, ttl))
        except StoreError:
            return False
        self._count("put", "ok")
        return True

    async def delete(self, tenant: str, id: str) -> bool:
        """Raises StoreError."""
        there = await self._bounded("delete", self._store.delete(tenant, id))
        self._count("delete", "ok" if there else "missing")
        return there

    async def close(self) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._store.close()
        except (TimeoutError, StoreError):
            pass  # the process ends: what hangs ends with it

    async def _bounded(self, operation: str, call: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._seconds):
                return await call
        except TooLargeToKeep:
            self._count(operation, "too_large")
            raise
        except TimeoutError as exc:
            self._failed(operation)
            raise StoreError(f"no answer within {self._seconds:g} s") from exc
        except StoreError:
            self._failed(operation)
            raise
        except Exception as exc:  # a store of somebody else's: whatever it raises is its own failure, not the request's
            self._failed(operation)
            raise StoreError(type(exc).__name__) from exc

    def _failed(self, operation: str) -> None:
        self._count(operation, "error")
        self._resume = self._clock() + PAUSE
