"""A server of our own on 127.0.0.1: plays what the test writes, byte for byte, and notices when its client leaves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson

from tests.waiting import PATIENCE


class Asked:
    """One request as it arrived, and the way back."""

    def __init__(self, head: bytes, body: bytes, writer: asyncio.StreamWriter, number: int, connection: int) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        self.body = body
        self.writer = writer
        self.number = number
        """1 for the first request of this server, and so on."""
        self.connection = connection

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """A whole answer, connection kept."""
        head = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        await self.send(b"HTTP/1.1 %d X\r\n" % status + _lines(head) + b"\r\n" + body)

    async def stream(self, *blocks: bytes, headers: Mapping[str, str] | None = None, end: bool = True) -> None:
        """An event stream in chunks, connection kept."""
        head = {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked", **(headers or {})}
        await self.send(b"HTTP/1.1 200 OK\r\n" + _lines(head) + b"\r\n")
        for block in blocks:
            await self.chunk(block)
        if end:
            await self.send(b"0\r\n\r\n")

    async def chunk(self, block: bytes) -> None:
        await self.send(b"%x\r\n" % len(block) + block + b"\r\n")


Handler = Callable[[Asked], Awaitable[None]]


class Upstream:
    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.asked: list[Asked] = []
        self.connections = 0
        self.left = 0
        """Connections that the client closed."""
        self._changed = asyncio.Condition()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    asked = Asked(head[:-4], b"", writer, len(self.asked) + 1, connection)
                    asked.body = await reader.readexactly(int(asked.headers.get("content-length", 0)))
                    self.asked.append(asked)
                    await self._tell()
                    await self._answer(asked, reader)
        finally:
            writer.close()
            self.left += 1
            await self._tell()

    async def _answer(self, asked: Asked, reader: asyncio.StreamReader) -> None:
        """Run the handler, and stop it when the client closes its side."""
        async with asyncio.TaskGroup() as group:
            gone = group.create_task(self._gone(reader))
            work = group.create_task(_run(self.handler, asked))
            await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            work.cancel()

    async def _gone(self, reader: asyncio.StreamReader) -> None:
        while not reader.at_eof() and reader.exception() is None:  # noqa: ASYNC110 - a reader has no event for its end
            await asyncio.sleep(0.002)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def wait_left(self, count: int) -> None:
        """Until `count` clients have closed their connection."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: self.left >= count)

    async def wait_asked(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: len(self.asked) >= count)


async def _run(handler: Handler, asked: Asked) -> None:
    with suppress(ConnectionError):
        await handler(asked)


def _lines(head: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in head.items()).encode("latin-1")


@asynccontextmanager
async def upstream(handler: Handler) -> AsyncIterator[Upstream]:
    """A running server. Its `url` has no path."""
    played = Upstream(handler)
    server = await asyncio.start_server(played.serve, "127.0.0.1", 0)
    played.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield played
    finally:
        server.close()


async def hang(_: Asked) -> None:
    """Take the request, and say nothing."""
    await asyncio.sleep(60)


def event(value: Any) -> bytes:
    return b"data: " + (value.encode() if isinstance(value, str) else orjson.dumps(value)) + b"\n\n"
