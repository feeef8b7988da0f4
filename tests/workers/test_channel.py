"""Questions and answers over a socket pair, both ends in one loop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.workers import channel as channels
from gateway.workers.channel import Channel, Gone, Refused
from tests.waiting import PATIENCE

Handle = Callable[[str, bytes], Awaitable[bytes]]


async def echo(method: str, body: bytes) -> bytes:
    if method == "fail":
        raise ValueError("no")
    return method.encode() + b":" + body


@asynccontextmanager
async def pair(handle: Handle) -> AsyncIterator[tuple[Channel, Channel]]:
    left, right = socket.socketpair()
    one, two = await Channel.over(left), await Channel.over(right)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(end.run(handle)) for end in (one, two)]
        yield one, two
        for task in tasks:
            task.cancel()


def test_both_ask_and_both_answer() -> None:
    """At the same time, large bodies too, and each gets its own answer."""

    async def go() -> None:
        async with pair(echo) as ends:
            asked = [ends[n % 2].call("m", str(n).encode() * 50_000, PATIENCE) for n in range(20)]
            assert await asyncio.gather(*asked) == [b"m:" + str(n).encode() * 50_000 for n in range(20)]

    asyncio.run(go())


def test_a_failure_is_told() -> None:
    """With the exception's type and message; the channel goes on."""

    async def go() -> None:
        async with pair(echo) as (one, _):
            with pytest.raises(Refused, match="no") as refused:
                await one.call("fail")
            assert refused.value.kind == "ValueError"
            assert await one.call("m") == b"m:"

    asyncio.run(go())


def test_who_gives_up_is_not_worked_for() -> None:
    """A cancelled question is cancelled at the other end."""

    async def go() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def slow(_method: str, _body: bytes) -> bytes:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return b""

        async with pair(slow) as (one, _):
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                asking = group.create_task(one.call("m"))
                await begun.wait()
                asking.cancel()
                await ended.wait()
            with pytest.raises(TimeoutError):
                await one.call("m", seconds=0.05)

    asyncio.run(go())


def test_when_the_other_is_gone() -> None:
    """Whoever waits is told so, and whoever asks later too."""

    async def go() -> None:
        async def never(_method: str, _body: bytes) -> bytes:
            await asyncio.Event().wait()
            return b""

        async def leave(end: Channel) -> None:
            await asyncio.sleep(0)
            end.close()

        async with pair(never) as (one, two):
            waited, _ = await asyncio.gather(one.call("m"), leave(two), return_exceptions=True)
            assert isinstance(waited, Gone)
            with pytest.raises(Gone):
                await one.call("m")

    asyncio.run(go())


def test_questions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than so many at once are refused, not queued."""
    monkeypatch.setattr(channels, "MOST", 1)

    async def go() -> None:
        release = asyncio.Event()

        async def held(_method: str, _body: bytes) -> bytes:
            await release.wait()
            return b"done"

        async with pair(held) as (one, _), asyncio.TaskGroup() as group:
            first = group.create_task(one.call("m"))
            await asyncio.sleep(0)
            with pytest.raises(Refused) as refused:
                await one.call("m")
            assert refused.value.kind == "Busy"
            release.set()
            assert await first == b"done"

    asyncio.run(go())
