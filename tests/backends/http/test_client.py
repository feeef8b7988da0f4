"""The way out against a server that misbehaves: every phase can be left, every lie is an error, nothing ends silently."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from backends.http.base import Timeouts
from backends.http.client import AiohttpClient
from tests.backends.upstream import Asked, Handler, Upstream, hang, upstream
from wire.errors import BackendError, Broken, TimedOut

SHORT = Timeouts(connect=0.15, first_byte=0.15, idle=0.15)
LONG = Timeouts(connect=5, first_byte=5, idle=5)


@asynccontextmanager
async def _both(handler: Handler, limit: int = 8) -> AsyncIterator[tuple[AiohttpClient, Upstream]]:
    client = AiohttpClient(limit=limit)
    await client.open()
    try:
        async with upstream(handler) as server:
            yield client, server
            await client.close()
    finally:
        await client.close()


async def _ask(client: AiohttpClient, url: str, timeouts: Timeouts = LONG, body: bytes = b"{}") -> bytes:
    async with client.post(url, body, {"content-type": "application/json"}, timeouts) as answer:
        return await answer.read()


def _run(handler: Handler, test: Callable[[AiohttpClient, Upstream], Awaitable[None]], limit: int = 8) -> None:
    async def main() -> None:
        async with _both(handler, limit) as (client, server):
            await test(client, server)

    asyncio.run(main())


async def _echo(asked: Asked) -> None:
    await asked.answer(asked.body)


def test_head_and_body() -> None:
    """The answer's head has lower-case names without hop-by-hop headers and cookies; a connection that was read to its end is
    used again; nothing is asked for that the caller did not ask for."""

    async def handler(asked: Asked) -> None:
        await asked.answer(
            asked.body,
            status=418,
            headers={"X-Request-Id": "r1", "Set-Cookie": "a=b", "Keep-Alive": "1", "Connection": "x-hop", "X-Hop": "1"},
        )

    async def test(client: AiohttpClient, server: Upstream) -> None:
        async with client.post(server.url + "/v1", b'{"a":1}', {"authorization": "Bearer k"}, LONG) as answer:
            assert answer.status == 418
            assert answer.headers == {"content-type": "application/json", "x-request-id": "r1"}
            assert await answer.read() == b'{"a":1}'
        assert await _ask(client, server.url) == b"{}"
        assert server.connections == 1
        first, second = server.asked
        assert first.line == "POST /v1 HTTP/1.1"
        assert first.headers["authorization"] == "Bearer k"
        assert first.headers["accept-encoding"] == "identity"
        assert "cookie" not in second.headers

    _run(handler, test)


def test_large_body_is_sent_once_and_whole() -> None:
    """A body of several MiB arrives as it is, with its length, once."""
    body = bytes(range(256)) * 8192

    async def test(client: AiohttpClient, server: Upstream) -> None:
        assert await _ask(client, server.url, body=body) == body
        assert [asked.headers["content-length"] for asked in server.asked] == [str(len(body))]

    _run(_echo, test)


def test_no_redirect() -> None:
    """A redirect is an answer like any other: the body, and the key in the head, go to no second host."""

    async def handler(asked: Asked) -> None:
        await asked.answer(b"", status=307, headers={"location": "/elsewhere"})

    async def test(client: AiohttpClient, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, LONG) as answer:
            assert answer.status == 307
        assert len(server.asked) == 1

    _run(handler, test)


def test_gzip_is_decoded() -> None:
    """A server that compresses unasked is understood, and the head no longer says so."""

    async def handler(asked: Asked) -> None:
        await asked.answer(gzip.compress(b'{"ok":true}'), headers={"content-encoding": "gzip"})

    async def test(client: AiohttpClient, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, LONG) as answer:
            assert "content-encoding" not in answer.headers
            assert await answer.read() == b'{"ok":true}'

    _run(handler, test)


def test_blocks_come_as_they_are_sent() -> None:
    """A block is given when it has come, not when the body is whole."""

    async def handler(asked: Asked) -> None:
        await asked.stream(b"one", end=False)
        await asyncio.sleep(60)

    async def test(client: AiohttpClient, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, LONG) as answer:
            assert await anext(answer.blocks()) == b"one"
        await server.wait_left(1)

    _run(handler, test)


@pytest.mark.parametrize("phase", ["head", "body"])
def test_cancelled_while_waiting(phase: str) -> None:
    """Cancelled before the head or in the middle of the body, the connection is closed at once."""

    async def handler(asked: Asked) -> None:
        if phase == "body":
            await asked.stream(b"one", end=False)
        await asyncio.sleep(60)

    async def test(client: AiohttpClient, server: Upstream) -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(_ask(client, server.url))
            await server.wait_asked(1)
            await asyncio.sleep(0.05)
            task.cancel()
        await server.wait_left(1)

    _run(handler, test)


def test_cancelled_in_the_queue() -> None:
    """Cancelled while it waits for a free connection, a request is never sent, and its place is free again."""

    async def test(client: AiohttpClient, server: Upstream) -> None:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(_ask(client, server.url))
            await server.wait_asked(1)
            second = group.create_task(_ask(client, server.url))
            await asyncio.sleep(0.05)
            second.cancel()
            await asyncio.sleep(0.05)
            assert len(server.asked) == 1
            first.cancel()
        await server.wait_left(1)
        server.handler = _echo
        assert await _ask(client, server.url) == b"{}"

    _run(hang, test, limit=1)


def test_cancelled_while_connecting() -> None:
    """Cancelled while it connects, a request leaves no connection behind, and its place is free again."""

    async def main() -> None:
        client = AiohttpClient(limit=1)
        await client.open()
        reached = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reached.set()  # a TLS client hello that is never answered: the client is still connecting
            await reader.read()
            left.set()
            writer.close()

        left = asyncio.Event()
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            async with asyncio.timeout(3), asyncio.TaskGroup() as group:
                task = group.create_task(_ask(client, f"https://127.0.0.1:{port}"))
                await reached.wait()
                task.cancel()
            async with asyncio.timeout(3):
                await left.wait()
            async with upstream(_echo) as other:
                assert await _ask(client, other.url) == b"{}"
                await client.close()
        finally:
            server.close()
            await client.close()

    asyncio.run(main())


async def _head_only(asked: Asked) -> None:
    await asked.stream(end=False)
    await asyncio.sleep(60)


async def _one_block(asked: Asked) -> None:
    await asked.stream(b"one", end=False)
    await asyncio.sleep(60)


async def _dripping(asked: Asked) -> None:
    await asked.stream(end=False)
    while True:
        await asked.chunk(b"x")
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("handler", "timeouts", "phase"),
    [
        (hang, SHORT, "first_byte"),
        (_head_only, SHORT, "first_byte"),
        (_one_block, SHORT, "idle"),
        (_dripping, Timeouts(first_byte=5, idle=5, total=0.2), "total"),
        (hang, Timeouts(first_byte=5, idle=5, total=0.2), "total"),
    ],
)
def test_timeouts(handler: Handler, timeouts: Timeouts, phase: str) -> None:
    """Each phase has its own limit; the error names the phase, and the connection is closed."""

    async def test(client: AiohttpClient, server: Upstream) -> None:
        with pytest.raises(TimedOut) as caught:
            await _ask(client, server.url, timeouts)
        assert caught.value.phase == phase
        await server.wait_left(1)

    _run(handler, test)


def test_connect_timeout_counts_the_queue() -> None:
    """Waiting for a free connection is part of connecting."""

    async def test(client: AiohttpClient, server: Upstream) -> None:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(_ask(client, server.url))
            await server.wait_asked(1)
            with pytest.raises(TimedOut) as caught:
                await _ask(client, server.url, Timeouts(connect=0.1, first_byte=5))
            assert caught.value.phase == "connect"
            first.cancel()

    _run(hang, test, limit=1)


async def _short_body(asked: Asked) -> None:
    await asked.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort")
    asked.writer.close()


async def _cut_chunks(asked: Asked) -> None:
    await asked.stream(b"data: {}\n\n", end=False)
    asked.writer.close()


async def _cut_head(asked: Asked) -> None:
    await asked.send(b"HTTP/1.1 200 OK\r\ncontent-type: appl")
    asked.writer.close()


async def _large_head(asked: Asked) -> None:
    await asked.send(b"HTTP/1.1 200 OK\r\nx-large: " + b"x" * 100_000 + b"\r\ncontent-length: 0\r\n\r\n")


async def _no_http(asked: Asked) -> None:
    await asked.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


async def _bad_gzip(asked: Asked) -> None:
    await asked.answer(b"this is no gzip", headers={"content-encoding": "gzip"})


async def _closes(asked: Asked) -> None:
    asked.writer.close()


async def _resets(asked: Asked) -> None:
    asked.writer.transport.abort()


@pytest.mark.parametrize(
    "handler", [_short_body, _cut_chunks, _cut_head, _large_head, _no_http, _bad_gzip, _closes, _resets]
)
def test_lies_are_errors(handler: Handler) -> None:
    """A body shorter than promised, a cut stream, a head that is none or too large: Broken, never a silent end; asked once."""

    async def test(client: AiohttpClient, server: Upstream) -> None:
        with pytest.raises(Broken):
            await _ask(client, server.url)
        assert len(server.asked) == 1

    _run(handler, test)


def test_nobody_listens() -> None:
    """A refused connection is Broken, and the message names the host but neither path, key nor query."""

    async def main() -> None:
        async with _both(_echo) as (client, server):
            port = int(server.url.rpartition(":")[2])
        client = AiohttpClient()
        await client.open()
        try:
            with pytest.raises(Broken) as caught:
                await _ask(client, f"http://user:secret@127.0.0.1:{port}/path?key=secret")
            assert "127.0.0.1" in str(caught.value)
            assert "secret" not in str(caught.value)
            assert "path" not in str(caught.value)
        finally:
            await client.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "headers"), [("http://[", {}), ("nonsense", {}), ("http://127.0.0.1:1", {"x": "a\nb"})]
)
def test_what_cannot_be_sent(url: str, headers: dict[str, str]) -> None:
    """A URL or a header that HTTP forbids is Broken, and its value is not repeated."""

    async def main() -> None:
        client = AiohttpClient()
        await client.open()
        try:
            with pytest.raises(BackendError) as caught:
                async with client.post(url, b"", headers, SHORT):
                    pass
            assert "a\nb" not in str(caught.value)
        finally:
            await client.close()

    asyncio.run(main())


@pytest.mark.parametrize("trusted", [False, True])
def test_tls_is_verified(trusted: bool) -> None:
    """A certificate that nobody vouches for is refused before a byte of the request goes out; `ca_file` vouches for it.

    `localhost.pem` is for 127.0.0.1 only, signed by itself, good for a hundred years, and of no use outside this test.
    """
    pem = Path(__file__).with_name("localhost.pem")

    async def main() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        played = Upstream(_echo)
        server = await asyncio.start_server(played.serve, "127.0.0.1", 0, ssl=context)
        client = AiohttpClient(ca_file=pem if trusted else None)
        await client.open()
        try:
            url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            if trusted:
                assert await _ask(client, url) == b"{}"
            else:
                with pytest.raises(Broken, match="certificate"):
                    await _ask(client, url)
                assert not played.asked
        finally:
            await client.close()
            server.close()

    asyncio.run(main())


def test_closed_client() -> None:
    """A client that was closed, or never opened, says so in our words."""

    async def main() -> None:
        client = AiohttpClient()
        with pytest.raises(Broken, match="closed"):
            await _ask(client, "http://127.0.0.1:1")

    asyncio.run(main())


def test_read_is_bounded() -> None:
    """A body longer than the caller's limit is Broken, and the rest is not read."""

    async def test(client: AiohttpClient, server: Upstream) -> None:
        async with client.post(server.url, b"x" * 5000, {}, LONG) as answer:
            with pytest.raises(Broken, match="longer than 1000"):
                await answer.read(1000)

    _run(_echo, test)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_stale_connection_is_tried_once_more(how: str) -> None:
    """A kept connection that the server closes when it is used again, before any byte: the request goes out on a fresh one."""

    async def handler(asked: Asked) -> None:
        if asked.connection == 1 and asked.number > 1:
            await (_closes if how == "close" else _resets)(asked)
            return
        await asked.answer(asked.body)

    async def test(client: AiohttpClient, server: Upstream) -> None:
        assert await _ask(client, server.url, body=b"1") == b"1"
        assert await _ask(client, server.url, body=b"2") == b"2"
        assert [asked.body for asked in server.asked] == [b"1", b"2", b"2"]
        assert [asked.connection for asked in server.asked] == [1, 1, 2]

    _run(handler, test)


@pytest.mark.parametrize("first", [b"H", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\ncontent-"])
def test_no_second_try_after_a_byte(first: bytes) -> None:
    """Once a single byte of the answer came, the request is not sent again."""

    async def handler(asked: Asked) -> None:
        if asked.number == 1:
            await asked.answer(b"1")
            return
        await asked.send(first)
        await asyncio.sleep(0.02)
        asked.writer.transport.abort()

    async def test(client: AiohttpClient, server: Upstream) -> None:
        assert await _ask(client, server.url) == b"1"
        with pytest.raises(Broken):
            await _ask(client, server.url)
        assert len(server.asked) == 2

    _run(handler, test)


def test_second_try_is_the_last() -> None:
    """A server that closes the fresh connection too is Broken: two sendings, no loop."""

    async def handler(asked: Asked) -> None:
        if asked.number == 1:
            await asked.answer(b"1")
            return
        asked.writer.close()

    async def test(client: AiohttpClient, server: Upstream) -> None:
        assert await _ask(client, server.url) == b"1"
        with pytest.raises(Broken):
            await _ask(client, server.url)
        assert len(server.asked) == 3

    _run(handler, test)
