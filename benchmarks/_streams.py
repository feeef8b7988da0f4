"""What `benchmarks.wire` does to a gateway with bare sockets: nothing of a client library is in the times, and nothing hides a mistake.

Bodies make the scripted model (`tests.clients.answers`) repeat a marker with pauses, or be silent.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson

SECONDS = 60.0
"""For one request at most."""
MARKER = re.compile(rb"\bm\d{5}\b")


class Endpoint(NamedTuple):
    """body: (user text, stream) > a request."""

    path: str
    body: Callable[[str, bool], Mapping[str, Any]]


def _chat(text: str, stream: bool, model: str = "gpt-4.1") -> Mapping[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}


ENDPOINTS: Mapping[str, Endpoint] = {
    "chat": Endpoint("/v1/chat/completions", _chat),
    "responses": Endpoint("/v1/responses", lambda text, stream: {"model": "gpt-4.1", "input": text, "stream": stream}),
    "messages": Endpoint(
        "/v1/messages", lambda text, stream: {**_chat(text, stream, "claude-x"), "max_tokens": 99_999}
    ),
}
DIRECT = Endpoint("/v1/chat/completions", lambda text, stream: _chat(text, stream, "route/direct"))
"""The route whose only rung is the top one: its text is never held."""


class Connection:
    """One HTTP/1.1 connection, kept between requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, prefix: str = "") -> None:
        self._prefix = prefix
        self._reader = reader
        self._writer = writer

    async def ask(self, path: str, body: Mapping[str, Any]) -> None:
        data = orjson.dumps(body)
        head = f"POST {self._prefix}{path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        self._writer.write(head.encode() + data)
        await self._writer.drain()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises RuntimeError for another status than 200."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode("latin-1").partition("\r\n")[0])
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if length:
            yield await self._reader.readexactly(int(length[1]))
            return
        while size := int(await self._reader.readline(), 16):
            yield (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readline()

    def leave(self) -> None:
        """As a client that is killed: the connection goes, at once."""
        self._writer.transport.abort()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        async with asyncio.timeout(SECONDS):
            yield Connection(reader, writer, parts.path)
    finally:
        writer.close()


# --- time to the first token, and the steadiness of what follows ---------------------------------------------------------------------


class Times(NamedTuple):
    """Milliseconds. first: from the request to the first piece with content; gaps: between the pieces after it."""

    first: list[float]
    gaps: list[float]


async def interleaved(
    urls: Mapping[str, tuple[str, Endpoint]], count: int, pieces: int, pause: float
) -> dict[str, Times]:
    """The same stream from each of `urls` by turns, `count` times, after a few that are not counted."""
    now = asyncio.get_running_loop().time
    found = {name: Times([], []) for name in urls}
    for number in range(-5, count):
        for name, (url, endpoint) in urls.items():
            async with connected(url) as connection:
                # The connection stands before the clock runs, as with every client that keeps its connections.
                started = now()
                await connection.ask(endpoint.path, endpoint.body(f"repeat m{0:05} {pieces} {pause}", True))
                seen = [now() async for piece in connection.pieces() if MARKER.search(piece)]
            if number >= 0:
                found[name].first.append(1000 * (seen[0] - started))
                found[name].gaps.extend(1000 * (b - a) for a, b in pairwise(seen))
    return found


# --- nobody gets somebody else's words -------------------------------------------------------------------------------------------------


async def crosstalk(url: str, count: int, pieces: int = 20, pause: float = 0.02) -> int:
    """`count` streams at once over all endpoints, each with a marker of its own: how many got another's, or too few of their own."""
    kinds = [*ENDPOINTS.values(), DIRECT]

    async def mixed(number: int) -> bool:
        own = b"m%05d" % number
        endpoint = kinds[number % len(kinds)]
        async with connected(url) as connection:
            await connection.ask(endpoint.path, endpoint.body(f"repeat {own.decode()} {pieces} {pause}", True))
            body = b"".join([piece async for piece in connection.pieces()])
        markers = MARKER.findall(body)
        return set(markers) != {own} or len(markers) < pieces

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(mixed(number)) for number in range(count)]
    return sum(task.result() for task in tasks)


# --- who leaves frees everything -------------------------------------------------------------------------------------------------------

PHASES: Mapping[str, tuple[str, bool]] = {
    "silent": ("wait 40 hello", True),
    "streaming": ("repeat m00000 2000 0.02", True),
    "whole": ("wait 40 hello", False),
}
"""Before the first token, in the middle of a stream, and of an answer that is not streamed: (user text, stream)."""
LEAVERS = 5
GRACE = 1.0
"""Seconds after which the upstream must not work for them any more."""


async def leaked(url: str, upstream: str) -> dict[str, int]:
    """Upstream requests still running a second after their clients left, by "endpoint phase"."""
    found: dict[str, int] = {}
    for name, endpoint in {**ENDPOINTS, "direct": DIRECT}.items():
        for phase, (text, stream) in PHASES.items():
            before = await running(upstream)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_leaver(url, endpoint, text, stream, phase)) for _ in range(LEAVERS)]
                await _until(upstream, before + LEAVERS)
                gone = [task.result() for task in await _all(tasks)]
                for connection in gone:
                    connection.leave()
                await asyncio.sleep(GRACE)
            found[f"{name} {phase}"] = max(0, await running(upstream) - before)
    return found


async def _leaver(url: str, endpoint: Endpoint, text: str, stream: bool, phase: str) -> Connection:
    parts = urlsplit(url)
    connection = Connection(*await asyncio.open_connection(parts.hostname, parts.port))
    await connection.ask(endpoint.path, endpoint.body(text, stream))
    if phase == "streaming" and endpoint is DIRECT:
        async for piece in connection.pieces():
            if MARKER.search(piece):
                break
    return connection


async def _all(tasks: Sequence["asyncio.Task[Connection]"]) -> Sequence["asyncio.Task[Connection]"]:
    await asyncio.wait(tasks)
    return tasks


async def _until(upstream: str, count: int) -> None:
    """Raises TimeoutError when so many requests do not come to run at the upstream."""
    async with asyncio.timeout(10):
        while await running(upstream) < count:  # noqa: ASYNC110 - the server is another process
            await asyncio.sleep(0.02)


async def running(upstream: str) -> int:
    """Requests that the scripted upstream works on now."""
    async with connected(upstream) as connection:
        await connection.ask("/stats", {})
        body = b"".join([piece async for piece in connection.pieces()])
    return int(orjson.loads(body)["running"])
