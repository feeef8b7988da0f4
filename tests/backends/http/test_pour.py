"""Blocks that are given where they come: the same body, the same ends, and nobody is woken for them. Both clients, on both loops."""

import asyncio
import gzip

import pytest
from msgspec.structs import replace

from backends.http.local import LocalClient
from tests.backends.http.local import Loop
from tests.backends.http.playing import KINDS, LONG, Client, Play
from tests.backends.upstream import Asked, Upstream
from tests.waiting import until
from wire.errors import Broken, TimedOut


@pytest.fixture(params=KINDS)
def play(request: pytest.FixtureRequest) -> Play:
    """Either client on either loop."""
    return KINDS[request.param]


class Taker:
    """Takes blocks until it has seen `enough`; in which task it did so."""

    def __init__(self, enough: bytes = b"\0") -> None:
        self.enough = enough
        self.got = b""
        self.tasks: list[object] = []

    def take(self, block: bytes) -> bool:
        self.got += block
        self.tasks.append(asyncio.current_task())
        return self.enough not in self.got


@pytest.mark.parametrize("packed", [False, True])
def test_all_of_a_body_is_poured(play: Play, packed: bool) -> None:
    """Until its end, compressed or not; then there is nothing more, and the connection is free."""
    body = b"".join(b"%d;" % n for n in range(200))
    headers = {"content-encoding": "gzip"} if packed else {}

    async def handler(asked: Asked) -> None:
        sent = gzip.compress(body) if packed else body
        await asked.stream(end=False, headers=headers)
        for at in range(0, len(sent), 50):
            await asked.chunk(sent[at : at + 50])
            await asyncio.sleep(0.001)
        await asked.send(b"0\r\n\r\n")

    async def test(client: Client, server: Upstream) -> None:
        for _ in range(2):
            taker = Taker()
            async with client.post(server.url, b"{}", {}, LONG) as answer:
                assert not await answer.pour(taker.take)
                assert not await answer.pour(taker.take)
                assert answer.ended
            assert taker.got == body
        assert server.connections == 1

    play(handler, test)


def test_poured_until_it_is_declined(play: Play) -> None:
    """A block at which `take` says no was taken; what comes later waits for the next time, and no byte comes twice."""
    goes_on = asyncio.Event()

    async def handler(asked: Asked) -> None:
        await asked.stream(b"a", end=False)
        for block in (b"b", b"c!"):
            await asyncio.sleep(0.02)
            await asked.chunk(block)
        await goes_on.wait()
        await asked.chunk(b"d")
        await asyncio.sleep(0.02)
        await asked.chunk(b"e")
        await asked.send(b"0\r\n\r\n")

    async def test(client: Client, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, LONG) as answer:
            taker = Taker(b"!")
            assert await answer.pour(taker.take)
            assert taker.got == b"abc!"
            assert not answer.ended
            goes_on.set()
            await asyncio.sleep(0.1)
            taker = Taker()
            assert not await answer.pour(taker.take)
            assert taker.got == b"de"
        goes_on.clear()

    play(handler, test)


def test_what_take_raises(play: Play) -> None:
    """It comes out where it was poured, also from a block that came later, and the connection is closed."""

    async def handler(asked: Asked) -> None:
        await asked.stream(b"a", end=False)
        await asyncio.sleep(0.02)
        await asked.chunk(b"b")
        await asyncio.sleep(60)

    def take(block: bytes) -> bool:
        if b"b" in block:
            raise LookupError(block)
        return True

    async def test(client: Client, server: Upstream) -> None:
        with pytest.raises(LookupError):
            async with client.post(server.url, b"{}", {}, LONG) as answer:
                await answer.pour(take)
        await server.wait_left(1)

    play(handler, test)


@pytest.mark.parametrize("ends", [True, False])
def test_a_body_that_breaks_while_it_is_poured(play: Play, ends: bool) -> None:
    """A connection that closes early is Broken, silence TimedOut; each block gives as much time as the one before it."""

    async def handler(asked: Asked) -> None:
        await asked.stream(b"a", end=False)
        for _ in range(4):
            await asyncio.sleep(0.2)
            await asked.chunk(b"b")
        if ends:
            asked.writer.close()
        else:
            await asyncio.sleep(60)

    async def test(client: Client, server: Upstream) -> None:
        taker = Taker()
        with pytest.raises(Broken if ends else TimedOut) as caught:
            async with client.post(server.url, b"{}", {}, replace(LONG, idle=0.6)) as answer:
                await answer.pour(taker.take)
        assert taker.got == b"abbbb"
        assert ends or getattr(caught.value, "phase", "") == "idle"
        await server.wait_left(1)

    play(handler, test)


def test_cancelled_while_it_is_poured(play: Play) -> None:
    """The connection is closed at once, and `take` is not called any more."""

    async def handler(asked: Asked) -> None:
        await asked.stream(end=False)
        while True:
            await asked.chunk(b"a")
            await asyncio.sleep(0.002)

    async def test(client: Client, server: Upstream) -> None:
        async def pours() -> None:
            async with client.post(server.url, b"{}", {}, LONG) as answer:
                await answer.pour(taker.take)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(pours())
            await until(lambda: len(taker.got) > 3)
            task.cancel()
            got = len(taker.got)
        await server.wait_left(1)
        assert len(taker.got) == got

    taker = Taker()
    play(handler, test)


def test_poured_without_a_wake_up(loop: Loop) -> None:
    """The local client gives what comes later from the loop, in no task at all: that is what pouring is for."""
    taker = Taker()

    async def handler(asked: Asked) -> None:
        await asked.stream(b"a", end=False)
        for _ in range(5):
            await asyncio.sleep(0.02)
            await asked.chunk(b"b")
        await asyncio.sleep(0.02)
        await asked.send(b"0\r\n\r\n")

    async def test(client: LocalClient, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, LONG) as answer:
            assert not await answer.pour(taker.take)
        assert taker.got == b"abbbbb"
        assert taker.tasks[1:] == [None] * (len(taker.tasks) - 1)
        assert len(taker.tasks) > 1

    loop(handler, test)
