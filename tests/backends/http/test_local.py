"""HTTP/1.1 as servers really write it, and as they should not: framing, heads, codings. Answers are written byte for byte."""

import asyncio
import gzip
import zlib

import pytest

from backends.http.local import LocalClient
from tests.backends.http.local import Loop, settled
from tests.backends.http.playing import LONG, ask
from tests.backends.upstream import Asked, Handler, Upstream
from wire.errors import Broken

OK = b"HTTP/1.1 200 OK\r\n"


def says(*pieces: bytes, close: bool = False) -> Handler:
    """A server that answers with these bytes, piece by piece."""

    async def handler(asked: Asked) -> None:
        for number, piece in enumerate(pieces):
            if number:
                await asyncio.sleep(0.002)
            await asked.send(piece)
        if close:
            asked.writer.close()

    return handler


KEPT = {
    "length": (OK + b"content-length: 5\r\n\r\nhello", b"hello"),
    "empty": (OK + b"content-length: 0\r\n\r\n", b""),
    "chunked": (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "chunked, mixed case": (OK + b"Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "extensions": (OK + b"transfer-encoding: chunked\r\n\r\n2;a=b\r\nhe\r\n3;c=\"d\"\r\nllo\r\n0;e\r\n\r\n", b"hello"),
    "trailers": (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\nx-b: 2\r\n\r\n", b"hello"),
    "100 before it": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 5\r\n\r\nhello", b"hello"),
    "several 1xx": (
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK + b"content-length: 5\r\n\r\nhello",
        b"hello",
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "304": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", b""),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nhello", b"hello"),
    "1.0, kept": (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello", b"hello"),
}  # fmt: skip


@pytest.mark.parametrize("split", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("case", KEPT)
def test_what_is_whole_and_keeps_its_connection(loop: Loop, case: str, split: bool) -> None:
    """Every way to frame a body that HTTP/1.1 knows, however the bytes are cut; the next request uses the same connection."""
    answer, body = KEPT[case]
    pieces = [answer[i : i + 1] for i in range(len(answer))] if split else [answer]

    async def handler(asked: Asked) -> None:
        for piece in pieces:
            asked.writer.write(piece)
            await asyncio.sleep(0)

    async def test(client: LocalClient, server: Upstream) -> None:
        assert await ask(client, server.url) == body
        assert await ask(client, server.url) == body
        assert server.connections == 1

    loop(handler, test)


CLOSED = {
    "connection: close": (OK + b"connection: close\r\ncontent-length: 5\r\n\r\nhello", b"hello"),
    "1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"hello"),
    "no length": (OK + b"content-type: text/plain\r\n\r\nhello", b"hello"),
    "no length, empty": (OK + b"\r\n", b""),
    "longer than its length": (OK + b"content-length: 5\r\n\r\nhelloX", b"hello"),
    "an answer nobody asked for": (OK + b"content-length: 5\r\n\r\nhello" + OK + b"content-length: 4\r\n\r\nevil", b"hello"),
    "the beginning of one": (OK + b"content-length: 5\r\n\r\nhelloHTTP/1.1 2", b"hello"),
    "rubbish behind the last chunk": (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /", b"hello"),
    "a body that 204 has not": (b"HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nevil", b""),
}  # fmt: skip


@pytest.mark.parametrize("case", CLOSED)
def test_what_is_whole_and_loses_its_connection(loop: Loop, case: str) -> None:
    """An answer stands, but nothing is asked again where it ends with the connection or where more came than its length."""
    answer, body = CLOSED[case]

    async def test(client: LocalClient, server: Upstream) -> None:
        assert await ask(client, server.url) == body
        await settled(client, 0)
        assert await ask(client, server.url) == body
        assert server.connections == 2

    loop(says(answer, close="no length" in case), test)


@pytest.mark.parametrize("more", [b"X", b"\r\n", OK + b"content-length: 4\r\n\r\nevil"])
def test_bytes_while_idle(loop: Loop, more: bytes) -> None:
    """Bytes that come on an idle connection close it: they are the answer to nothing, least of all to the next request."""

    async def handler(asked: Asked) -> None:
        await asked.answer(b"right")
        if asked.number == 1:
            await asyncio.sleep(0.05)
            asked.writer.write(more)
            await asyncio.sleep(1)

    async def test(client: LocalClient, server: Upstream) -> None:
        assert await ask(client, server.url) == b"right"
        await settled(client, 1)
        await settled(client, 0)
        assert await ask(client, server.url) == b"right"
        assert server.connections == 2

    loop(handler, test)


BROKEN = {
    "two lengths": OK + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
    "two lengths that differ": OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "a list of lengths": OK + b"content-length: 5, 5\r\n\r\nhello",
    "a signed length": OK + b"content-length: +5\r\n\r\nhello",
    "a negative length": OK + b"content-length: -5\r\n\r\nhello",
    "an endless length": OK + b"content-length: 99999999999999999999999\r\n\r\nhello",
    "length, then chunked": OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunked, then length": OK + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "a length in the trailers": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\ncontent-length: 5\r\n\r\n",
    "another transfer coding": OK + b"transfer-encoding: gzip\r\n\r\nhello",
    "two transfer codings": OK + b"transfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunked twice": OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "a chunk size that is none": OK + b"transfer-encoding: chunked\r\n\r\nxyz\r\nhello\r\n0\r\n\r\n",
    "a signed chunk size": OK + b"transfer-encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    "a chunk longer than its size": OK + b"transfer-encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n",
    "a space before the colon": OK + b"content-length : 5\r\n\r\nhello",
    "a folded line": OK + b"x: a\r\n b\r\ncontent-length: 5\r\n\r\nhello",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 5\n\nhello",
    "a NUL in a header": OK + b"x: a\0b\r\ncontent-length: 5\r\n\r\nhello",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "HTTP/0.9": b"hello",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhello",
    "another protocol, unsaid": b"HTTP/1.1 101 Switching Protocols\r\n\r\nhello",
    "a status that is none": b"HTTP/1.1 000 OK\r\ncontent-length: 5\r\n\r\nhello",
    "a large head": OK + b"x: " + b"a" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n",
    "many headers": OK + b"x: a\r\n" * 12_000 + b"content-length: 0\r\n\r\n",
    "many 1xx": b"HTTP/1.1 102 Processing\r\nx: aaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n" * 2000,
    "large trailers": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n" + b"x: a\r\n" * 100_000,
    "large chunk extensions": OK + b"transfer-encoding: chunked\r\n\r\n5;" + b"a" * 600_000,
    "a coding nobody asked for": OK + b"content-encoding: br\r\ncontent-length: 5\r\n\r\nhello",
    "two content codings": OK + b"content-encoding: gzip, gzip\r\ncontent-length: 5\r\n\r\nhello",
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_trusted(loop: Loop, case: str) -> None:
    """What two readers could understand differently (RFC 9112, 6.3), what is no HTTP, what is too large: Broken, asked once, the
    connection closed, and not a byte of it in the message."""

    async def test(client: LocalClient, server: Upstream) -> None:
        with pytest.raises(Broken) as caught:
            await ask(client, server.url)
        assert "hello" not in str(caught.value)
        assert "127.0.0.1" in str(caught.value)
        assert len(server.asked) == 1
        await settled(client, 0)
        await server.wait_left(1)

    loop(says(BROKEN[case]), test)


UNDECODABLE = {
    "no gzip": OK + b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello",
    "half a gzip": OK + b"content-encoding: gzip\r\ncontent-length: 20\r\n\r\n" + gzip.compress(b"hello" * 100)[:20],
    "rubbish behind a gzip": OK + b"content-encoding: gzip\r\ncontent-length: 31\r\n\r\n" + gzip.compress(b"hello", 9, mtime=0) + b"hello!",
}  # fmt: skip


@pytest.mark.parametrize("case", UNDECODABLE)
def test_what_cannot_be_decoded(loop: Loop, case: str) -> None:
    """A body that is not what its content coding says is Broken, never half of it in silence."""

    async def test(client: LocalClient, server: Upstream) -> None:
        with pytest.raises(Broken, match="decoded"):
            await ask(client, server.url)
        assert len(server.asked) == 1

    loop(says(UNDECODABLE[case]), test)


CUT = {
    "nothing": b"",
    "half a head": OK + b"content-ty",
    "a head": OK + b"content-length: 5\r\n\r\n",
    "half a body": OK + b"content-length: 5\r\n\r\nhel",
    "between chunks": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "before the last line": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    "in a trailer": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-a: ",
    "after a 1xx": b"HTTP/1.1 102 Processing\r\n\r\n",
}


@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
@pytest.mark.parametrize("case", CUT)
def test_what_ends_too_early(loop: Loop, case: str, how: str) -> None:
    """An answer that stops before its end is Broken, however the server leaves; never a silent end."""

    async def handler(asked: Asked) -> None:
        await asked.send(CUT[case])
        await asyncio.sleep(0.005)
        if how == "close":
            asked.writer.close()
        elif how == "reset":
            asked.writer.transport.abort()
        else:
            asked.writer.write_eof()
            await asyncio.sleep(5)

    async def test(client: LocalClient, server: Upstream) -> None:
        with pytest.raises(Broken):
            await ask(client, server.url)
        assert len(server.asked) == 1
        await settled(client, 0)

    loop(handler, test)


def test_a_body_that_came_with_its_head_is_there(loop: Loop) -> None:
    """Nothing needs to be awaited for it, its connection is free, and `read` gives it once. One that is compressed must be read."""
    packed = gzip.compress(b"hello")

    async def test(client: LocalClient, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, LONG) as answer:
            assert (answer.whole, answer.ended) == (b"hello", True)
            assert await answer.read() == b"hello"
            assert (answer.whole, await answer.read()) == (None, b"")

    async def compressed(client: LocalClient, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, LONG) as answer:
            assert answer.whole is None
            assert await answer.read() == b"hello"

    loop(says(OK + b"content-length: 5\r\n\r\nhello"), test)
    loop(says(OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed) + packed), compressed)


def test_what_came_before_the_end_is_given_first(loop: Loop) -> None:
    """A stream that breaks off has told its blocks before it says so."""

    async def test(client: LocalClient, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, LONG) as answer:
            await settled(client, 0)
            blocks = answer.blocks()
            assert await anext(blocks) == b"hello"
            with pytest.raises(Broken):
                await anext(blocks)

    loop(says(OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", close=True), test)


def test_trailers_are_no_headers(loop: Loop) -> None:
    """A trailer does not become a header, not even when all came at once (RFC 9110, 6.5.1)."""
    answer = OK + b"x-a: 1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-a: 2\r\nx-b: 3\r\n\r\n"

    async def test(client: LocalClient, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, LONG) as given:
            assert given.headers == {"x-a": "1"}

    loop(says(answer), test)


def test_headers_of_an_interim_answer_are_gone(loop: Loop) -> None:
    """What a 1xx says is not said by the answer."""
    answer = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK + b"x: 1\r\ncontent-length: 0\r\n\r\n"

    async def test(client: LocalClient, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, LONG) as given:
            assert (given.status, given.headers) == (200, {"x": "1"})

    loop(says(answer), test)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "GZIP", "identity"])
def test_codings_nobody_asked_for(loop: Loop, coding: str) -> None:
    """gzip and deflate are decoded, across every cut, and bounded: the connection is kept."""
    plain = b"0123456789" * 100_000
    packed = {"identity": plain, "deflate": zlib.compress(plain)}.get(coding, gzip.compress(plain))
    head = OK + b"content-encoding: %b\r\ncontent-length: %d\r\n\r\n" % (coding.encode(), len(packed))

    async def test(client: LocalClient, server: Upstream) -> None:
        for _ in range(2):
            async with client.post(server.url, b"{}", {}, LONG) as given:
                blocks = [block async for block in given.blocks()]
            assert b"".join(blocks) == plain
            assert max(map(len, blocks)) <= 2**19
        assert server.connections == 1

    loop(says(head + packed[:7], packed[7:500], packed[500:]), test)
