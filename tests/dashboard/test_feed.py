"""The feed: shared, bounded, and over when the server stops."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from gateway.dashboard.feed import BEAT, Feed
from tests.waiting import until
from wire.errors import NoAnswer


class World:
    def __init__(self) -> None:
        self.made = 0
        self.stop = False
        self.now = 0.0
        self.text = b"1"
        self.sent: list[bytes] = []
        self.leave = asyncio.Event()
        self.feed = Feed(self.make, lambda: self.stop, lambda: self.now)

    def make(self) -> bytes:
        self.made += 1
        return self.text

    async def receive(self) -> MutableMapping[str, Any]:
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message.get("body", b""))

    async def listen(self) -> None:
        await self.feed.listen(2, {}, every=0.001)({}, self.receive, self.send)


def test_a_state_is_made_once_a_second_for_all() -> None:
    """Whoever asks within a second gets the same bytes."""

    async def go() -> None:
        world = World()
        for _ in range(5):
            world.feed.state()
        assert world.made == 1
        world.now = 1.0
        world.feed.state()
        assert world.made == 2

    asyncio.run(go())


def test_what_has_not_changed_is_a_beat() -> None:
    """The first frame is the state; then beats until it changes, so that a page knows that the gateway is there."""

    async def go() -> None:
        world = World()
        async with asyncio.TaskGroup() as group:
            group.create_task(world.listen())
            await until(lambda: world.sent.count(BEAT) > 2)
            world.text, world.now = b"2", 5.0
            await until(lambda: any(b"data: 2" in data for data in world.sent))
            world.leave.set()
        assert sum(b"data: 1\n\n" in data for data in world.sent) == 1

    asyncio.run(go())


def test_only_so_many_may_listen_and_who_leaves_makes_room() -> None:
    """A third of two is refused with 503 and when to come back; a page that leaves gives its place back."""

    async def go() -> None:
        world = World()
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(world.listen())
            await until(lambda: world.feed.listeners == 2)
            with pytest.raises(NoAnswer) as refused:
                world.feed.listen(2, {})
            assert refused.value.status == 503
            assert "ui.listeners" in refused.value.message
            world.leave.set()
        assert world.feed.listeners == 0

    asyncio.run(go())


def test_streams_end_when_the_server_stops() -> None:
    """The last event says so, and the answer is complete: nothing is left that a drain would wait for."""

    async def go() -> None:
        world = World()
        async with asyncio.TaskGroup() as group:
            group.create_task(world.listen())
            await until(lambda: len(world.sent) > 2)
            world.stop = True
        assert world.sent[-1].startswith(b"event: stopping")
        assert world.feed.listeners == 0

    asyncio.run(go())


def test_a_broken_connection_frees_its_place() -> None:
    """A send that fails ends the stream, raises nothing, and gives the place back."""

    async def go() -> None:
        world = World()

        async def broken(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.body":
                raise OSError("gone")

        await world.feed.listen(2, {}, every=0.001)({}, world.receive, broken)
        assert world.feed.listeners == 0

    asyncio.run(go())
