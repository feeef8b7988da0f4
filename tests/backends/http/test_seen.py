"""A head like the last one is not parsed again, and nobody can tell."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backends.http.connection import Connection
from backends.http.head import Fields, Head, Seen, answer_head
from backends.http.outbox import Outbox
from tests.backends.http.test_fuzz import SCRAPS, cut
from tests.waiting import PATIENCE

OK = b"HTTP/1.1 200 OK\r\n"
PLAIN = OK + b"date: now\r\ncontent-length: %d\r\nserver: x\r\n\r\n"


class _Blind(Seen):
    """Knows no head."""

    def read(self, data: bytes) -> tuple[Head, bytes] | None:
        return None


class _Nobody:
    def made(self, conn: Connection) -> None: ...
    def ended(self, conn: Connection) -> None: ...
    def lost(self, conn: Connection) -> None: ...


class _Mute(asyncio.Transport):
    def write(self, data: Any) -> None: ...
    def abort(self) -> None: ...
    def is_closing(self) -> bool:
        return False


def told(seen: Seen, answers: list[list[bytes]], max_head: int) -> list[tuple[Any, ...]]:
    """What is read of `answers`, each in its pieces, one after the other: on one connection as long as it can be used again, then on the
    next, and all of them know what was `seen`."""

    async def main() -> list[tuple[Any, ...]]:
        loop = asyncio.get_running_loop()
        outbox = Outbox(loop)
        found: list[tuple[Any, ...]] = []
        conn: Connection | None = None
        for pieces in answers:
            if conn is None or not conn.reusable:
                conn = Connection(loop, max_head, _Nobody(), outbox, seen)
                conn.connection_made(_Mute())
            conn.ask(b"head", b"body", loop.time() + PATIENCE)
            for piece in pieces:
                conn.data_received(piece)
            left = (conn.status, conn.whole, conn.reusable, conn.used, conn.heard, conn.error, conn.ended, conn.filled)
            found.append((*left, _head(conn), conn.take()))
            if not conn.reusable:
                conn.abort()
        if conn is not None:
            conn.abort()
        return found

    return asyncio.run(main())


def _head(conn: Connection) -> Head | str:
    try:
        return conn.head if conn.head is not None else answer_head(conn.fields)
    except ValueError as exc:
        return str(exc)


@st.composite
def servers(draw: st.DrawFn) -> list[list[bytes]]:
    """Answers of a server or two that seldom change their heads, some of them cut, damaged, or of another length than they say."""
    status = [OK] * 4 + [
        b"HTTP/1.1 200 \r\n",
        b"HTTP/1.1 204 No Content\r\n",
        b"HTTP/1.1 404 X\r\n",
        b"HTTP/1.0 200 OK\r\n",
    ]
    length = [b"content-length: %d"] * 3 + [
        b"Content-Length:%d",
        b"content-length:\t %d ",
        b"content-length: 0%d",
        b"x: %d",
    ]
    lines = [
        b"date: Mon, 01 Jan 2026 00:00:00 GMT", b"content-type: application/json", b"connection: keep-alive", b"connection: close",
        b"content-encoding: gzip", b"transfer-encoding: chunked", b"content-length: 3", b"x: content-length: 3", b"connection: x", b"x: ",
    ]  # fmt: skip
    heads: list[bytes] = []
    for _ in range(draw(st.integers(1, 2))):
        others = draw(st.lists(st.sampled_from(lines[:3] * 3 + lines), max_size=4))
        others.insert(draw(st.integers(0, len(others))), draw(st.sampled_from(length)))
        heads.append(draw(st.sampled_from(status)) + b"".join(line + b"\r\n" for line in others) + b"\r\n")
    answers: list[list[bytes]] = []
    for _ in range(draw(st.integers(1, 6))):
        body = draw(st.binary(max_size=12) | st.just(b"x" * 120))
        said = len(body) + draw(st.sampled_from([0] * 9 + [-1, 1]))
        data = draw(st.sampled_from(heads)) % max(said, 0) + body
        if draw(st.integers(0, 3)) == 0:
            at = draw(st.integers(0, len(data)))
            put = draw(st.binary(max_size=2) | st.sampled_from(SCRAPS))
            data = data[:at] + put + data[min(len(data), at + draw(st.integers(0, 2))) :]
        answers.append(cut(data, draw(st.lists(st.integers(0, 200), max_size=1))))
    return answers


@given(servers(), st.sampled_from([64 * 1024, 150, 90, 60]))
@example([[PLAIN % 2 + b"ab"], [PLAIN % 3 + b"abc"], [PLAIN % 3 + b"ab", b"c"], [PLAIN % 1 + b"ab"]], 64 * 1024)
@example([[PLAIN % 2 + b"ab"], [b"HTTP/1.1 100 Continue\r\n\r\n", PLAIN % 2 + b"cd"]], 64 * 1024)
@example([[b"HTTP/1.1 100 X\r\ncontent-length: 40\r\n\r\n" + OK + b"content-length: 2\r\n\r\nab"]] * 2, 64 * 1024)
def test_nobody_can_tell(answers: list[list[bytes]], max_head: int) -> None:
    """Whatever a server sends: what is made of it is the same as where every head is parsed."""
    assert told(Seen(), answers, max_head) == told(_Blind(), answers, max_head)


def test_what_is_known() -> None:
    """A head that differs in the digits of its length, around exactly so many bytes; nothing else, not one byte of it."""
    seen = Seen()
    data = PLAIN % 2 + b"ab"
    assert seen.read(data) is None
    seen.learn(data, [(b"date", b"now"), (b"content-length", b"2"), (b"server", b"x")])
    head = Head({"date": "now", "server": "x"}, "")
    assert seen.read(data) == (head, b"ab")
    assert seen.read(PLAIN % 1000 + b"x" * 1000) == (head, b"x" * 1000)
    for other in (
        data[:-1], data + b"c", PLAIN % 3 + b"ab", data.replace(b"now", b"new"), data.replace(b"2\r", b"+2\r"),
        data.replace(b"2\r", b"2 \r"), data.replace(b" 2\r", b" \r"), data.replace(b"2\r", b"2\n"), data.replace(b"2\r", b"00000002\r"),
        data.replace(b"server", b"Server"), data.lower(), b"", b"a" + data,
    ):  # fmt: skip
        assert seen.read(other) is None, other


@pytest.mark.parametrize(
    "data",
    [
        OK + b"content-length: 2\r\ncontent-encoding: gzip\r\n\r\nab", OK + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 404 X\r\ncontent-length: 2\r\n\r\nab", OK + b"x: " + b"a" * 5000 + b"\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 100 X\r\n\r\n" + OK + b"content-length: 2\r\n\r\nab", OK + b"content-length: 2\r\nconnection: close\r\n\r\nab",
    ],
)  # fmt: skip
def test_what_is_left(data: bytes) -> None:
    """Only a plain answer of a length is worth knowing, or safe to: one that is compressed, chunked, an error, long, behind another, or the
    last of its connection is parsed each time."""
    seen = Seen()
    told(seen, [[data]] * 2, 64 * 1024)
    assert seen.read(data) is None


LINES = st.lists(
    st.tuples(
        st.sampled_from([b"date", b"x", b"Connection", b"transfer-encoding", b"content-encoding"]),
        st.sampled_from([b"now", b"then", b"close, x", b"chunked", b"gzip", b"identity"]),
    ),
    max_size=4,
)


@given(st.lists(LINES, max_size=6))
def test_lines_that_come_again_say_the_same(heads: list[list[tuple[bytes, bytes]]]) -> None:
    """What is kept of one head is told of the next one only where all its lines are the same; what was refused is refused again."""

    def said(head: Head | ValueError) -> object:
        return str(head) if isinstance(head, ValueError) else (head.headers, head.coding)

    def tried(read: Callable[[Fields], Head], fields: Fields) -> Head | ValueError:
        try:
            return read(fields)
        except ValueError as exc:
            return exc

    seen = Seen()
    for fields in [fields for fields in heads for _ in range(2)]:
        assert said(tried(seen.head, [*fields])) == said(tried(answer_head, fields))
    kept = seen.head([(b"x", b"now")])
    assert seen.head([(b"x", b"now")]) is kept


def test_a_known_head_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second answer, and the first of the next connection: they never come to the parser."""
    parsed: list[str] = []
    begins = Connection.on_message_begin

    def counted(conn: Connection) -> None:
        parsed.append("one")
        begins(conn)

    monkeypatch.setattr(Connection, "on_message_begin", counted)
    seen = Seen()
    told(seen, [[PLAIN % 2 + b"ab"], [PLAIN % 4 + b"abcd"]], 64 * 1024)
    ((status, whole, reusable, *_, body),) = told(seen, [[PLAIN % 3 + b"abc"]], 64 * 1024)
    assert (status, whole, reusable, body, len(parsed)) == (200, True, True, b"abc", 1)


@pytest.mark.parametrize("end", [b"", b"0\r\n\r\n", b"no chunk\r\n", b"5\r\nab"])
@pytest.mark.parametrize("size", [1, 40, 5000])
def test_what_is_filled_is_what_can_be_taken(end: bytes, size: int) -> None:
    """In one piece or in many, however it ends; and bytes of a body are none of a head, which may not be as long."""
    body = [b"a" * 100] * 20
    data = OK + b"transfer-encoding: chunked\r\n\r\n" + b"".join(b"64\r\n%b\r\n" % block for block in body) + end
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    ((status, whole, _, _, _, error, _, filled, _, taken),) = told(Seen(), [pieces], 256)
    assert (status, whole) == (200, end.startswith(b"0"))
    assert error == ("the answer is no HTTP" if end.startswith(b"no") else "")
    assert taken == b"".join(body) + (b"ab" if end.startswith(b"5") else b"")
    assert filled == len(taken)
