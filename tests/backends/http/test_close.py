"""Closing the client ends everything at once, whatever is under way."""

import asyncio
from contextlib import suppress

import pytest

from backends.http.local import LocalClient
from tests.backends.http.local import Loop, full, one_block
from tests.backends.http.playing import ask, echo
from tests.backends.http.wire import WiredClient
from tests.backends.upstream import Upstream, hang
from tests.waiting import PATIENCE
from wire.errors import BackendError, Broken


@pytest.mark.parametrize("turns", range(14))
def test_closed_at_every_turn_of_the_loop(loop: Loop, turns: int) -> None:
    """Closed after any number of turns, a client has no connection left, and whoever asked has an answer or Broken."""

    async def test(client: LocalClient, server: Upstream) -> None:
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(_ask_or_broken(client, server.url))
            for _ in range(turns):
                await asyncio.sleep(0)
            await client.close()
            assert not client.connections
        assert not client.connections
        await asyncio.sleep(0.005)
        await server.wait_left(server.connections)

    loop(echo, test, limit=2)


def test_closed_in_the_turn_in_which_a_connection_is_made() -> None:
    """A connection that comes up when the client was just closed is closed with it, and whoever wanted it is told."""

    async def main() -> None:
        client = WiredClient([], "open")
        client.lingers = False
        await client.open()
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            group.create_task(_ask_or_broken(client, "http://here"))
            await asyncio.sleep(0)
            await client.close()
        await asyncio.sleep(0)
        assert [wire.lost for wire in client.wires] == [True]
        assert not client.connections
        assert not client.pools

    asyncio.run(main())


async def _ask_or_broken(client: LocalClient, url: str) -> None:
    with suppress(Broken):
        assert await ask(client, url) == b"{}"


@pytest.mark.parametrize("phase", ["queued", "connecting", "head", "body"])
def test_closing_ends_everything_at_once(loop: Loop, phase: str) -> None:
    """`close` ends requests in every phase with Broken; nothing can be asked afterwards; it can be opened again."""

    async def test(client: LocalClient, server: Upstream) -> None:
        if phase == "body":
            server.handler = one_block
        caught: list[BackendError] = []

        async def asking(url: str) -> None:
            try:
                await ask(client, url)
            except BackendError as exc:
                caught.append(exc)

        with full() as elsewhere:
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                group.create_task(asking(elsewhere if phase == "connecting" else server.url))
                if phase == "queued":
                    group.create_task(asking(server.url))
                await asyncio.sleep(0.05)
                await client.close()
                assert not client.connections
        assert len(caught) == 1 + (phase == "queued")
        assert all(isinstance(exc, Broken) and "closed" in exc.message for exc in caught)
        with pytest.raises(Broken, match="closed"):
            await ask(client, server.url)
        server.handler = echo
        await client.open()
        assert await ask(client, server.url) == b"{}"

    loop(hang, test, limit=1)
