"""The way out against a server that misbehaves: every phase can be left, every lie is an error, nothing ends silently.

The same for both clients, on both loops.
"""

import asyncio
import gzip

import pytest
from msgspec.structs import replace

from backends.http.base import Standing, Timeouts
from tests.backends.http.playing import KINDS, LONG, Client, Play, ask, closes, deaf, echo, resets
from tests.backends.upstream import Asked, Handler, Upstream, hang
from wire.errors import BackendError, Broken, TimedOut


@pytest.fixture(params=KINDS)
def play(request: pytest.FixtureRequest) -> Play:
    """Either client on either loop."""
    return KINDS[request.param]


def test_head_and_body(play: Play) -> None:
    """The answer's head has lower-case names without hop-by-hop headers and cookies; a connection that was read to its end is
    used again; nothing is asked for that the caller did not ask for."""

    async def handler(asked: Asked) -> None:
        await asked.answer(
            asked.body,
            status=418,
            headers={"X-Request-Id": "r1", "Set-Cookie": "a=b", "Keep-Alive": "1", "Connection": "x-hop", "X-Hop": "1"},
        )

    async def test(client: Client, server: Upstream) -> None:
        async with client.post(server.url + "/v1", b'{"a":1}', {"authorization": "Bearer k"}, LONG) as answer:
            assert answer.status == 418
            assert answer.headers == {"content-type": "application/json", "x-request-id": "r1"}
            assert await answer.read() == b'{"a":1}'
        assert await ask(client, server.url) == b"{}"
        assert server.connections == 1
        first, second = server.asked
        assert first.line == "POST /v1 HTTP/1.1"
        assert first.headers["authorization"] == "Bearer k"
        assert first.headers["accept-encoding"] == "identity"
        assert "cookie" not in second.headers

    play(handler, test)


def test_the_request_id(play: Play) -> None:
    """Goes along as a header of its own, with standing headers and others; one that is no header is refused."""

    async def test(client: Client, server: Upstream) -> None:
        standing = Standing({"x": "1"})
        for headers, name in ((standing, "r1"), ({"x": "1"}, "r2"), (standing, "r3"), (standing, "")):
            async with client.post(server.url, b"{}", headers, LONG, name) as answer:
                assert await answer.read() == b"{}"
            told = server.asked[-1].headers
            assert (told["x"], told.get("x-request-id", "")) == ("1", name)
        with pytest.raises(Broken):
            async with client.post(server.url, b"{}", standing, LONG, "a\r\nb: c"):
                pass
        assert len(server.asked) == 4

    play(echo, test)


def test_what_came_whole_is_what_is_read(play: Play) -> None:
    """A client that has the body at once may say so. It is the same body, in one piece, and `read` still gives it."""

    async def test(client: Client, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, LONG) as answer:
            assert answer.whole in (None, b"{}")
            assert await answer.read() == b"{}"
            assert answer.whole is None

    play(echo, test)


def test_large_body_is_sent_once_and_whole(play: Play) -> None:
    """A body of several MiB arrives as it is, with its length, once."""
    body = bytes(range(256)) * 8192

    async def test(client: Client, server: Upstream) -> None:
        assert await ask(client, server.url, body=body) == body
        assert [asked.headers["content-length"] for asked in server.asked] == [str(len(body))]

    play(echo, test)


def test_no_redirect(play: Play) -> None:
    """A redirect is an answer like any other: the body, and the key in the head, go to no second host."""

    async def handler(asked: Asked) -> None:
        await asked.answer(b"", status=307, headers={"location": "/elsewhere"})

    async def test(client: Client, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, LONG) as answer:
            assert answer.status == 307
        assert len(server.asked) == 1

    play(handler, test)


def test_gzip_is_decoded(play: Play) -> None:
    """A server that compresses unasked is understood, and the head no longer says so."""

    async def handler(asked: Asked) -> None:
        await asked.answer(gzip.compress(b'{"ok":true}'), headers={"content-encoding": "gzip"})

    async def test(client: Client, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, LONG) as answer:
            assert "content-encoding" not in answer.headers
            assert await answer.read() == b'{"ok":true}'

    play(handler, test)


def test_blocks_come_as_they_are_sent(play: Play) -> None:
    """A block is given when it has come, not when the body is whole."""

    async def handler(asked: Asked) -> None:
        await asked.stream(b"one", end=False)
        await asyncio.sleep(60)

    async def test(client: Client, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, LONG) as answer:
            assert await anext(answer.blocks()) == b"one"
        await server.wait_left(1)

    play(handler, test)


@pytest.mark.parametrize("phase", ["head", "body"])
def test_cancelled_while_waiting(play: Play, phase: str) -> None:
    """Cancelled before the head or in the middle of the body, the connection is closed at once."""

    async def handler(asked: Asked) -> None:
        if phase == "body":
            await asked.stream(b"one", end=False)
        await asyncio.sleep(60)

    async def test(client: Client, server: Upstream) -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(ask(client, server.url))
            await server.wait_asked(1)
            await asyncio.sleep(0.05)
            task.cancel()
        await server.wait_left(1)

    play(handler, test)


def test_cancelled_in_the_queue(play: Play) -> None:
    """Cancelled while it waits for a free connection, a request is never sent, and its place is free again."""

    async def test(client: Client, server: Upstream) -> None:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(ask(client, server.url))
            await server.wait_asked(1)
            second = group.create_task(ask(client, server.url))
            await asyncio.sleep(0.05)
            second.cancel()
            await asyncio.sleep(0.05)
            assert len(server.asked) == 1
            first.cancel()
        await server.wait_left(1)
        server.handler = echo
        assert await ask(client, server.url) == b"{}"

    play(hang, test, limit=1)


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
        (hang, replace(LONG, first_byte=0.15), "first_byte"),
        (_head_only, replace(LONG, first_byte=0.15), "first_byte"),
        (_one_block, replace(LONG, idle=0.15), "idle"),
        (_dripping, replace(LONG, total=0.2), "total"),
        (hang, replace(LONG, total=0.2), "total"),
    ],
)
def test_timeouts(play: Play, handler: Handler, timeouts: Timeouts, phase: str) -> None:
    """Each phase has its own limit; the error names the phase, and the connection is closed."""

    async def test(client: Client, server: Upstream) -> None:
        with pytest.raises(TimedOut) as caught:
            await ask(client, server.url, timeouts)
        assert caught.value.phase == phase
        await server.wait_left(1)

    play(handler, test)


def test_connect_timeout_counts_the_queue(play: Play) -> None:
    """Waiting for a free connection is part of connecting."""

    async def test(client: Client, server: Upstream) -> None:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(ask(client, server.url))
            await server.wait_asked(1)
            with pytest.raises(TimedOut) as caught:
                await ask(client, server.url, replace(LONG, connect=0.1))
            assert caught.value.phase == "connect"
            first.cancel()

    play(hang, test, limit=1)


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


@pytest.mark.parametrize(
    "handler", [_short_body, _cut_chunks, _cut_head, _large_head, _no_http, _bad_gzip, closes, resets]
)
def test_lies_are_errors(play: Play, handler: Handler) -> None:
    """A body shorter than promised, a cut stream, a head that is none or too large: Broken, never a silent end; asked once."""

    async def test(client: Client, server: Upstream) -> None:
        with pytest.raises(Broken):
            await ask(client, server.url)
        assert len(server.asked) == 1

    play(handler, test)


def test_nobody_listens(play: Play) -> None:
    """A refused connection is Broken, and the message names the host but neither path, key nor query."""

    async def test(client: Client, server: Upstream) -> None:
        with deaf() as port, pytest.raises(Broken) as caught:
            await ask(client, f"http://user:secret@127.0.0.1:{port}/path?key=secret")
        assert "127.0.0.1" in str(caught.value)
        assert "secret" not in str(caught.value)
        assert "path" not in str(caught.value)

    play(echo, test)


@pytest.mark.parametrize(
    ("url", "headers"), [("http://[", {}), ("nonsense", {}), ("http://127.0.0.1:1", {"x": "a\nb"})]
)
def test_what_cannot_be_sent(play: Play, url: str, headers: dict[str, str]) -> None:
    """A URL or a header that HTTP forbids is Broken, and its value is not repeated."""

    async def main() -> None:
        client = play.make()
        await client.open()
        try:
            with pytest.raises(BackendError) as caught:
                async with client.post(url, b"", headers, LONG):
                    pass
            assert "a\nb" not in str(caught.value)
        finally:
            await client.close()

    play.run(main())


def test_closed_client(play: Play) -> None:
    """A client that was closed, or never opened, says so in our words."""

    async def main() -> None:
        client = play.make()
        with pytest.raises(Broken, match="closed"):
            await ask(client, "http://127.0.0.1:1")

    play.run(main())


def test_read_is_bounded(play: Play) -> None:
    """A body longer than the caller's limit is Broken, and the rest is not read."""

    async def test(client: Client, server: Upstream) -> None:
        async with client.post(server.url, b"x" * 5000, {}, LONG) as answer:
            with pytest.raises(Broken, match="longer than 1000"):
                await answer.read(1000)

    play(echo, test)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_stale_connection_is_tried_once_more(play: Play, how: str) -> None:
    """A kept connection that the server closes when it is used again, before any byte: the request goes out on a fresh one."""

    async def handler(asked: Asked) -> None:
        if asked.connection == 1 and asked.number > 1:
            await (closes if how == "close" else resets)(asked)
            return
        await asked.answer(asked.body)

    async def test(client: Client, server: Upstream) -> None:
        assert await ask(client, server.url, body=b"1") == b"1"
        assert await ask(client, server.url, body=b"2") == b"2"
        assert [asked.body for asked in server.asked] == [b"1", b"2", b"2"]
        assert [asked.connection for asked in server.asked] == [1, 1, 2]

    play(handler, test)


@pytest.mark.parametrize("first", [b"H", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\ncontent-"])
def test_no_second_try_after_a_byte(play: Play, first: bytes) -> None:
    """Once a single byte of the answer came, the request is not sent again."""

    async def handler(asked: Asked) -> None:
        if asked.number == 1:
            await asked.answer(b"1")
            return
        await asked.send(first)
        await asyncio.sleep(0.02)
        asked.writer.transport.abort()

    async def test(client: Client, server: Upstream) -> None:
        assert await ask(client, server.url) == b"1"
        with pytest.raises(Broken):
            await ask(client, server.url)
        assert len(server.asked) == 2

    play(handler, test)


def test_second_try_is_the_last(play: Play) -> None:
    """A server that closes the fresh connection too is Broken: two sendings, no loop."""

    async def handler(asked: Asked) -> None:
        if asked.number == 1:
            await asked.answer(b"1")
            return
        asked.writer.close()

    async def test(client: Client, server: Upstream) -> None:
        assert await ask(client, server.url) == b"1"
        with pytest.raises(Broken):
            await ask(client, server.url)
        assert len(server.asked) == 3

    play(handler, test)
