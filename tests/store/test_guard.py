"""gateway/store/guard.py"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from gateway.store.base import StoreError
from gateway.store.guard import PAUSE, Guarded
from gateway.store.memory import Memory
from tests.waiting import PATIENCE


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Broken:
    """A store of which every call ends the same bad way."""

    def __init__(self, end: Callable[[], Awaitable[None]]) -> None:
        self._end = end
        self.asked = 0

    async def _fail(self) -> None:
        self.asked += 1
        await self._end()

    async def get(self, tenant: str, id: str) -> bytes | None:
        await self._fail()
        return None

    async def put(self, tenant: str, id: str, value: bytes, ttl: float) -> None:
        await self._fail()

    async def delete(self, tenant: str, id: str) -> bool:
        await self._fail()
        return False

    async def close(self) -> None:
        await self._fail()


async def hangs() -> None:
    await asyncio.sleep(60)


async def fails() -> None:
    raise StoreError("no")


async def crashes() -> None:
    raise ValueError("a store of somebody else's")


def guarded(store: Broken | Memory, clock: Clock) -> tuple[Guarded, Counter[tuple[str, str]]]:
    counted: Counter[tuple[str, str]] = Counter()
    return Guarded(store, 0.05, clock, lambda op, result: counted.update([(op, result)])), counted


@pytest.mark.parametrize("end", [hangs, fails, crashes])
def test_keeping_never_fails(end: Callable[[], Awaitable[None]]) -> None:
    """Whatever the store does: False, counted, within the time that it may take; then it is left alone for a while."""

    async def run() -> None:
        clock, store = Clock(), Broken(end)
        guard, counted = guarded(store, clock)
        async with asyncio.timeout(PATIENCE):
            assert await guard.put("", "a", b"x", 60) is False
        assert await guard.put("", "b", b"x", 60) is False
        assert counted == {("put", "error"): 1, ("put", "skipped"): 1}
        assert store.asked == 1
        clock.now += PAUSE
        await guard.put("", "c", b"x", 60)
        assert store.asked == 2
        async with asyncio.timeout(PATIENCE):
            await guard.close() if end is not crashes else None

    asyncio.run(run())


@pytest.mark.parametrize("end", [hangs, fails, crashes])
def test_who_needs_it_hears(end: Callable[[], Awaitable[None]]) -> None:
    """Looking up and deleting raise StoreError, also while nothing is put."""

    async def run() -> None:
        guard, counted = guarded(Broken(end), Clock())
        for _ in range(2):
            with pytest.raises(StoreError):
                await guard.get("", "a")
            with pytest.raises(StoreError):
                await guard.delete("", "a")
        assert counted == {("get", "error"): 2, ("delete", "error"): 2}

    asyncio.run(run())


def test_what_goes_well_is_counted_too() -> None:
    """Found, not found, kept, too large: one count each, and too large is no failure of the store."""

    async def run() -> None:
        guard, counted = guarded(Memory(9, 2000, Clock()), Clock())
        assert await guard.put("", "a", bytes(5000), 60) is False
        assert await guard.put("", "a", b"x", 60) is True
        assert await guard.get("", "a") == b"x"
        assert await guard.get("", "b") is None
        assert await guard.delete("", "a") is True
        assert await guard.delete("", "a") is False
        assert counted == {
            ("put", "too_large"): 1, ("put", "ok"): 1, ("get", "ok"): 1, ("get", "missing"): 1, ("delete", "ok"): 1,
            ("delete", "missing"): 1,
        }  # fmt: skip

    asyncio.run(run())


def test_a_caller_who_leaves_is_no_failure() -> None:
    """Cancelling a call is not counted against the store."""

    async def run() -> None:
        guard, counted = guarded(Broken(hangs), Clock())
        async with asyncio.TaskGroup() as group:
            task = group.create_task(guard.put("", "a", b"x", 60))
            await asyncio.sleep(0.01)
            task.cancel()
        assert not counted

    asyncio.run(run())
