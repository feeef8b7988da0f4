"""gateway.surface.known: a head that came before is read as the parser reads it."""

import asyncio
from typing import Any

import pytest
import uvicorn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from gateway.surface.connection import TRIES, Connection
from gateway.surface.exchange import ARRIVED, Exchange
from gateway.surface.known import KNOWN_BYTES, Known
from tests.surface.test_connection import Socket


def head(length: bytes = b"2", key: bytes = b"k", name: bytes = b"X-A") -> bytes:
    start = b"POST /v1/a%20b?c=d HTTP/1.1\r\nHost: a\r\n"
    return start + b"Authorization: Bearer %b\r\nContent-Length: %b\r\n%b: b\r\n\r\n" % (key, length, name)


HEAD = head()


class Caller:
    """One connection, and what the application behind it was asked: scope, headers, those it may show, body."""

    def __init__(self, *, knows: bool) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.socket = Socket()
        config = uvicorn.Config(self._app, log_config=None, interface="asgi3")
        self.connection = Connection(config, ServerState(), {"a": 1}, asyncio.get_running_loop())
        if not knows:
            self.connection._tries = 0
        self.connection.connection_made(self.socket)

    @property
    def known(self) -> Known | None:
        return self.connection._known

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        exchange = Exchange(scope, receive, send)
        assert scope["state"].pop(ARRIVED) > 0
        seen = dict(scope, headers=list(scope["headers"]))
        scope["headers"].clear()
        self.asked.append((seen, exchange.headers, exchange.public_headers(), await exchange.body(10**6)))
        await exchange.whole(200, b"hello", {})

    async def says(self, data: bytes) -> None:
        """One read of the socket; then all that comes of it."""
        if not self.socket.closed:
            self.connection.data_received(data)
        for _ in range(6):
            await asyncio.sleep(0)


async def _alike(reads: list[bytes]) -> Caller:
    knows, asks = Caller(knows=True), Caller(knows=False)
    for data in reads:
        await knows.says(data)
        await asks.says(data)
        assert knows.asked == asks.asked
        assert (knows.socket.written, knows.socket.closed) == (asks.socket.written, asks.socket.closed)
    assert asks.known is None
    return knows


lengths = st.sampled_from([b"%d", b"00%d", b" %d", b"%d ", b"+%d", b"%d\r\nContent-Length: %d", b"", b"x"])
lines = st.lists(
    st.sampled_from(
        [b"Host: a", b"x-a: b", b"X-A:", b"x-a: 5", b"Connection: keep-alive", b"connection: close", b"Expect: 100-continue", b"a b: c",
         b"Transfer-Encoding: chunked", b"Upgrade: h2c", b" folded: line", b"x-content-length: 5", b"x-a: \xff", b"x-a: a\nb"]
    ),
    max_size=4,
)  # fmt: skip


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Most of them alike, some no HTTP."""
    method = draw(st.sampled_from([b"POST"] * 6 + [b"GET", b"\r\nPOST"]))
    version = draw(st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0"]))
    length = draw(st.sampled_from([b"%d"] * 12) | lengths)
    body = draw(st.sampled_from([b"", b"ab", b"hello", b"b" * 20, b"POST / HTTP/1.1\r\n\r\n", b"\r\n\r\n"]))
    told = max(0, len(body) + draw(st.sampled_from([0] * 12 + [1, -1])))
    head = draw(st.just([b"Host: a"]) | lines)
    name = draw(st.sampled_from([b"Content-Length: "] * 4 + [b"content-length:"]))
    at = draw(st.integers(0, len(head)))
    head = [*head[:at], name + length.replace(b"%d", b"%d" % told), *head[at:]]
    return b"\r\n".join([b"%b /v1/a%%20b?c=d %b" % (method, version), *head, b"", b""]) + body


@st.composite
def reads(draw: st.DrawFn) -> list[bytes]:
    """What a caller sends, as it comes: request by request, two at once, or cut somewhere."""
    found: list[bytes] = []
    for data in draw(st.lists(messages(), min_size=1, max_size=3)) * draw(st.integers(1, 3)):
        how = draw(st.integers(0, 9))
        if how == 0 and found:
            found[-1] += data
        elif how == 1:
            cut = draw(st.integers(1, len(data)))
            found += [part for part in (data[:cut], data[cut:]) if part]
        else:
            found.append(data)
    return found


@given(reads())
@example([HEAD + b"ab", head(b"3") + b"abc", head(b"03") + b"def", head(b"1") + b"a" + HEAD + b"ab", HEAD + b"cd"])
@settings(max_examples=300, deadline=None)
def test_a_known_head_is_read_as_the_parser_reads_it(sent: list[bytes]) -> None:
    """Whatever comes, in whatever pieces: the same requests reach the application, the same bytes go out, the connection ends alike. What
    an application does to its scope stays with that request, and what it has read of one stays as it was when others have come."""
    asyncio.run(_alike(sent))


def test_the_parser_is_not_asked_again() -> None:
    """For the same head with another length, and for that alone."""

    async def run() -> None:
        caller = await _alike([HEAD + b"ab"])
        assert caller.known is not None
        told: list[bytes] = []

        class Parser:
            def feed_data(self, data: bytes) -> None:
                told.append(data)

        caller.connection.parser = Parser()  # type: ignore[assignment]
        other = head(key=b"l") + b"ab"
        cut = HEAD + b"a"
        more = HEAD + b"abc"
        signed = head(b"+2") + b"ab"
        for data in (head(b"12") + b"a" * 12, other, HEAD + b"cd", cut, more, signed):
            await caller.says(data)
        assert told == [other, cut, more, signed]
        assert [asked[-1] for asked in caller.asked] == [b"ab", b"a" * 12, b"cd"]

    asyncio.run(run())


def test_heads_that_differ_are_not_learnt_for_ever() -> None:
    """A caller whose heads are never alike pays for it a few times; one that comes again is learnt anew."""

    async def run() -> None:
        caller, learnt = Caller(knows=True), set()
        for number in range(10):
            await caller.says(head(name=b"x-%d" % number) + b"ab")
            learnt.add(id(caller.known))
        assert len(learnt) <= TRIES
        again = Caller(knows=True)
        for key in (b"k", b"l", b"m", b"n"):
            for _ in range(2):
                await again.says(head(key=key) + b"ab")
            assert again.known is not None
            assert again.known.read(head(key=key) + b"ab") is not None

    asyncio.run(run())


def test_what_is_remembered_is_small() -> None:
    """A long head is not."""

    async def run() -> None:
        caller = Caller(knows=True)
        await caller.says(head(key=b"k" * KNOWN_BYTES) + b"ab")
        assert len(caller.asked) == 1
        assert caller.known is None

    asyncio.run(run())


def test_nobody_writes_into_what_the_next_request_sees() -> None:
    """What a router is shown is of all requests with that head: writing there is its own error, not another's request."""

    async def run() -> None:
        caller = await _alike([HEAD + b"ab", HEAD + b"cd"])
        public = caller.asked[-1][2]
        with pytest.raises(TypeError):
            public["x-weir-bypass"] = "1"  # type: ignore[index]
        await caller.says(HEAD + b"ef")
        assert caller.asked[-1][2] == public

    asyncio.run(run())
