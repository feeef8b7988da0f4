"""Client and server on one loop: either client, either loop, a server that plays what the test writes."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol

from backends.http.base import Http, Timeouts
from backends.http.client import AiohttpClient
from backends.http.local import LocalClient
from tests.backends.upstream import Asked, Handler, Upstream, upstream
from tests.waiting import PATIENCE

LONG = Timeouts(connect=PATIENCE, first_byte=PATIENCE, idle=PATIENCE)


class Client(Http, Protocol):
    """An `Http` with its own beginning and end."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...


class Make(Protocol):
    def __call__(self, *, limit: int = ...) -> Client: ...


Test = Callable[[Client, Upstream], Awaitable[None]]


class Play:
    """A kind of client on a kind of loop."""

    def __init__(self, make: Make, loop: str) -> None:
        self.make = make
        self._loop = loop

    def __call__(self, handler: Handler, test: Test, limit: int = 8) -> None:
        """Run `test` with an open client and a server that plays `handler`."""

        async def main() -> None:
            async with both(self.make(limit=limit), handler) as (client, server):
                await test(client, server)

        self.run(main())

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=new_loop(self._loop)) as runner:
            runner.run(main)


def new_loop(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """`asyncio` or `uvloop`."""
    if name == "asyncio":
        return None
    import uvloop

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


LOOPS = ["asyncio", "uvloop"] if sys.platform != "win32" else ["asyncio"]
KINDS: dict[str, Play] = {
    **{f"aiohttp-{loop}": Play(AiohttpClient, loop) for loop in LOOPS},
    **{f"local-{loop}": Play(LocalClient, loop) for loop in LOOPS},
}


@asynccontextmanager
async def both(client: Client, handler: Handler) -> AsyncIterator[tuple[Client, Upstream]]:
    await client.open()
    try:
        async with upstream(handler) as server:
            yield client, server
            await client.close()
    finally:
        await client.close()


async def ask(client: Http, url: str, timeouts: Timeouts = LONG, body: bytes = b"{}") -> bytes:
    async with client.post(url, body, {"content-type": "application/json"}, timeouts) as answer:
        return await answer.read()


@contextmanager
def deaf() -> Iterator[int]:
    """A port that nobody listens on, and that nobody else gets meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def echo(asked: Asked) -> None:
    await asked.answer(asked.body)


async def closes(asked: Asked) -> None:
    asked.writer.close()


async def resets(asked: Asked) -> None:
    asked.writer.transport.abort()
