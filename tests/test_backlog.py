"""gateway.backlog: a bounded queue with one thread behind it."""

import asyncio
import threading

import pytest

from gateway.backlog import BATCH, Backlog
from tests.waiting import PATIENCE, until


def test_nothing_is_lost_under_a_busy_producer() -> None:
    """Every item that `put` took is written once and in order, however puts and batches interleave."""
    got: list[int] = []
    taken: list[int] = []

    async def whole() -> None:
        backlog: Backlog[int] = Backlog(got.extend, limit=300, name="t", every=0.0)
        backlog.start()
        for n in range(20_000):
            if backlog.put(n):
                taken.append(n)
            if n % 100 == 0:
                await asyncio.sleep(0)
        assert await backlog.close(PATIENCE) == 0

    asyncio.run(whole())
    assert got == taken
    assert got


def test_batches_are_bounded() -> None:
    """`write` never gets more than BATCH items at once."""
    sizes: list[int] = []

    async def whole() -> None:
        backlog: Backlog[int] = Backlog(lambda batch: sizes.append(len(batch)), limit=10_000, name="t")
        for n in range(2 * BATCH + 1):
            assert backlog.put(n)
        backlog.start()
        await backlog.close(PATIENCE)

    asyncio.run(whole())
    assert sizes == [BATCH, BATCH, 1]


def test_what_comes_during_a_write_is_gathered_anew() -> None:
    """A loop that puts one item during every write would else have each written by itself, without an end."""
    got: list[list[int]] = []

    async def whole() -> None:
        backlog: Backlog[int]

        def write(batch: list[int]) -> None:
            got.append(batch)
            if len(got) < 5:
                backlog.put_all([len(got)] * 3)

        backlog = Backlog(write, limit=100, name="t", every=0.0)
        gathered = Counted()
        backlog._closing = gathered
        backlog.put(0)
        backlog.start()
        await until(lambda: len(got) == 5)
        assert gathered.times == 5
        assert await backlog.close(PATIENCE) == 0

    asyncio.run(whole())
    assert got == [[0], [1] * 3, [2] * 3, [3] * 3, [4] * 3]


class Counted(threading.Event):
    """How often it was waited for: how often the thread has gathered."""

    times = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.times += 1
        return super().wait(timeout)


def test_several_at_once_are_taken_as_far_as_there_is_room() -> None:
    """In order, the first of them; how many were left out is said, and all of them after the end."""
    got: list[int] = []

    async def whole() -> None:
        backlog: Backlog[int] = Backlog(got.extend, limit=5, name="t")
        assert backlog.put_all([0, 1, 2]) == 0
        assert backlog.put_all([3, 4, 5, 6]) == 2
        assert backlog.put_all([7]) == 1
        assert backlog.put_all([]) == 0
        backlog.start()
        await until(lambda: len(got) == 5)
        assert backlog.put_all([8, 9]) == 0
        await backlog.close(PATIENCE)
        assert backlog.put_all([10, 11]) == 2

    asyncio.run(whole())
    assert got == [0, 1, 2, 3, 4, 8, 9]


def test_a_write_that_raises_does_not_end_the_thread() -> None:
    """An exception costs its batch, counted, and the next batch is written."""
    got: list[int] = []

    def write(batch: list[int]) -> None:
        if 0 in batch:
            raise ValueError("no zeros")
        got.extend(batch)

    async def whole() -> None:
        backlog: Backlog[int] = Backlog(write, limit=10, name="t", every=0.0)
        backlog.start()
        backlog.put(0)
        await until(lambda: backlog.lost > 0)
        backlog.put(1)
        await backlog.close(PATIENCE)

    asyncio.run(asyncio.wait_for(whole(), 2 * PATIENCE))
    assert got == [1]


def test_who_starts_it_stops_it() -> None:
    """After close no thread is left and nothing more is taken; a second start is refused."""

    async def whole() -> None:
        backlog: Backlog[int] = Backlog(lambda _batch: None, limit=10, name="ends")
        backlog.start()
        assert backlog.running
        await backlog.close(PATIENCE)
        assert not backlog.running
        assert not backlog.put(1)
        for thread in threading.enumerate():
            if thread.name == "ends":
                thread.join(PATIENCE)
        assert "ends" not in [thread.name for thread in threading.enumerate()]
        with pytest.raises(RuntimeError):
            backlog.start()

    asyncio.run(whole())


def test_closing_what_never_started_waits_for_nothing() -> None:
    """close without start returns at once and tells what was left."""

    async def whole() -> None:
        backlog: Backlog[int] = Backlog(lambda _batch: None, limit=10, name="t")
        backlog.put(1)
        assert await asyncio.wait_for(backlog.close(3600), PATIENCE) == 1

    asyncio.run(whole())
