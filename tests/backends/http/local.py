"""The local client on either loop, with every connection counted."""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from backends.http.local import LocalClient
from backends.http.pool import Pool
from tests.backends.http.playing import LOOPS, new_loop
from tests.backends.upstream import Asked, Handler, Upstream, upstream
from tests.waiting import PATIENCE

Local = Callable[[LocalClient, Upstream], Awaitable[None]]


class Loop:
    """`loop(handler, test)`: runs the test; at its end not one connection, lease or pool is left."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, handler: Handler, test: Local, **options: Any) -> None:
        async def main() -> None:
            client = LocalClient(**options)
            await client.open()
            try:
                async with upstream(handler) as server:
                    await test(client, server)
                    await client.close()
            finally:
                await client.close()
            assert not client.connections
            assert not client.pools
            assert not client.patience

        with asyncio.Runner(loop_factory=new_loop(self._name)) as runner:
            runner.run(main())


EITHER = {name: Loop(name) for name in LOOPS}


async def settled(client: LocalClient, open_: int) -> None:
    """Until the client has `open_` sockets: closing takes a turn of the loop."""
    async with asyncio.timeout(PATIENCE):
        while len(client.connections) != open_:  # noqa: ASYNC110 - a transport has no event for its end
            await asyncio.sleep(0.002)


class full:
    """A socket whose backlog is full: the kernel leaves who connects without an answer."""

    def __enter__(self) -> str:
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(0)
        self._others = [socket.socket() for _ in range(4)]
        for other in self._others:
            other.setblocking(False)
            assert other.connect_ex(self._listening.getsockname()) in (0, errno.EINPROGRESS)
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        for one in (self._listening, *self._others):
            one.close()


def the(client: LocalClient) -> Pool:
    (pool,) = client.pools.values()
    return pool


async def one_block(asked: Asked) -> None:
    await asked.stream(b"one", end=False)
    await asyncio.sleep(60)
