"""gateway/store/memory.py"""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from gateway.store.base import TooLargeToKeep
from gateway.store.memory import OVERHEAD, Memory


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_tenants_is_not_anothers() -> None:
    """The same id of another tenant is another value, or none."""

    async def run() -> None:
        store = Memory(10, 10_000, Clock())
        await store.put("a", "id", b"of a", 60)
        assert await store.get("b", "id") is None
        assert await store.delete("b", "id") is False
        await store.put("b", "id", b"of b", 60)
        assert (await store.get("a", "id"), await store.get("b", "id")) == (b"of a", b"of b")

    asyncio.run(run())


def test_it_expires() -> None:
    """After its time it is gone, and its room is free; putting it again starts the time again."""

    async def run() -> None:
        clock = Clock()
        store = Memory(10, 10_000, clock)
        await store.put("", "id", b"x", 60)
        clock.now += 59
        assert await store.get("", "id") == b"x"
        await store.put("", "id", b"y", 60)
        clock.now += 59
        assert await store.get("", "id") == b"y"
        clock.now += 1
        assert await store.get("", "id") is None
        assert (len(store), store.bytes) == (0, 0)

    asyncio.run(run())


def test_the_one_not_used_for_longest_goes_first() -> None:
    """By count, and by bytes; looking it up is using it."""

    async def run() -> None:
        store = Memory(2, 10_000, Clock())
        await store.put("", "a", b"1", 60)
        await store.put("", "b", b"1", 60)
        await store.get("", "a")
        await store.put("", "c", b"1", 60)
        assert [await store.get("", id) for id in "abc"] == [b"1", None, b"1"]
        tight = Memory(99, 2 * (100 + OVERHEAD), Clock())
        for id in "abc":
            await tight.put("", id, bytes(100), 60)
        assert [await tight.get("", id) is not None for id in "abc"] == [False, True, True]

    asyncio.run(run())


def test_what_is_larger_than_everything() -> None:
    """It is refused, and pushes nothing out."""

    async def run() -> None:
        store = Memory(9, 1000, Clock())
        await store.put("", "a", b"1", 60)
        try:
            await store.put("", "b", bytes(1000), 60)
        except TooLargeToKeep:
            assert await store.get("", "a") == b"1"
        else:
            raise AssertionError

    asyncio.run(run())


steps = st.lists(st.tuples(st.sampled_from("pgdt"), st.sampled_from("abcde"), st.integers(0, 300)), max_size=40)


@given(steps)
def test_never_more_than_its_bounds(steps: list[tuple[str, str, int]]) -> None:
    """Whatever is put, looked up, deleted or expires: count and bytes hold, and the bytes are counted right."""

    async def run() -> None:
        clock = Clock()
        store = Memory(3, 2000, clock)
        for what, id, size in steps:
            if what == "p":
                await store.put("", id, bytes(size), 10)
            elif what == "g":
                await store.get("", id)
            elif what == "d":
                await store.delete("", id)
            else:
                clock.now += size / 50
            assert len(store) <= 3
            assert store.bytes == sum(len(value) + OVERHEAD for _, value in store._kept.values()) <= 2000

    asyncio.run(run())
