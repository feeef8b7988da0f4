"""gateway.surface.connection: uvicorn's protocol and what ours adds, on real sockets, with small applications behind it."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import orjson
import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.serving import bind
from gateway.surface.connection import Connection
from gateway.surface.exchange import ARRIVED, ClientLeft, Exchange
from gateway.surface.presence import Presence
from tests.waiting import until
from wire.errors import TooLarge

Handler = Callable[[Exchange], Awaitable[None]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


class App:
    """Every request becomes an Exchange; what its handler raised is kept. plain: behind a wrapped `send`, as with any ASGI server."""

    def __init__(self, handler: Handler, *, plain: bool = False) -> None:
        self.begun: list[str] = []
        self.ended: list[BaseException | None] = []
        self.cancelling: list[int] = []
        self._handler = handler
        self._plain = plain

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def wrapped(message: Any) -> None:
            await send(message)

        exchange = Exchange(scope, receive, wrapped if self._plain else send)
        self.begun.append(exchange.path)
        error: BaseException | None = None
        try:
            await self._handler(exchange)
        except (ClientLeft, TooLarge) as exc:
            error = exc
        except BaseException as exc:
            error = exc
            raise
        finally:
            self.ended.append(error)
            host = asyncio.current_task()
            self.cancelling.append(host.cancelling() if host else -1)


@asynccontextmanager
async def listening(app: Any, **config: Any) -> AsyncIterator[Callable[[], Awaitable[Streams]]]:
    """A server of `app`; call what comes for a new connection."""
    sock = bind("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(app, http=Connection, lifespan="off", log_config=None, access_log=False, **config)
    )
    opened: list[asyncio.StreamWriter] = []

    async def connect() -> Streams:
        streams = await asyncio.open_connection(*sock.getsockname())
        opened.append(streams[1])
        return streams

    async with asyncio.TaskGroup() as group:
        running = group.create_task(server._serve(sockets=[sock]))
        try:
            await until(lambda: server.started or running.done())
            yield connect
        finally:
            for writer in opened:
                writer.close()
            server.should_exit = True
            await until(running.done)
            sock.close()


async def answered(reader: asyncio.StreamReader) -> tuple[bytes, dict[str, str], bytes]:
    """Status line, headers, body."""
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    headers = dict(line.split(": ", 1) for line in lines)
    return status.encode(), headers, await reader.readexactly(int(headers["content-length"]))


async def says_hello(exchange: Exchange) -> None:
    await exchange.body(100)
    await exchange.whole(200, b"hello", {"x-a": "b"})


def test_a_request_has_arrived_when_its_head_is_whole() -> None:
    """Not when the connection was opened or the head began, and not when the body came: those wait for the caller. On the clock of
    `Setup`, and anew for each request of a connection."""
    seen: list[tuple[float, float]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["state"][ARRIVED], perf_counter()))
        await says_hello(Exchange(scope, receive, send))

    async def run() -> None:
        async with listening(app) as connect:
            reader, writer = await connect()
            for number in (1, 2):
                writer.write(b"POST / HTTP/1.1\r\nhost: a\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)
                before = perf_counter()
                writer.write(b"content-length: 2\r\n\r\n")
                await until(lambda number=number: len(seen) == number)  # type: ignore[misc]
                after = perf_counter()
                writer.write(b"ab")
                await answered(reader)
                arrived, called = seen[-1]
                assert before <= arrived <= called <= after

    asyncio.run(run())


@pytest.mark.parametrize("plain", [False, True])
def test_a_whole_answer(plain: bool) -> None:
    """Status, date, the headers given, type and length, body; the connection is kept. The same through a `send` that somebody wraps."""

    async def run() -> None:
        app = App(says_hello, plain=plain)
        async with listening(app, server_header=False) as connect:
            reader, writer = await connect()
            for _ in range(2):
                writer.write(b"POST /v1/a%20b?c=d HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab")
                status, headers, body = await answered(reader)
                assert (status, body) == (b"HTTP/1.1 200 OK", b"hello")
                assert headers.pop("date")
                assert headers == {"content-type": "application/json", "x-a": "b", "content-length": "5"}
            assert app.begun == ["/v1/a b"] * 2

    asyncio.run(run())


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1000\r\n\r\n",
    ],
    ids=["HTTP/1.0", "asked to", "unread body"],
)
def test_a_connection_that_ends(request_: bytes, plain: bool) -> None:
    """Said, and done, once: for a caller who wants it so, and where what was not read would be taken for the next request."""

    async def whole(exchange: Exchange) -> None:
        await exchange.whole(200, b"hello", {})

    async def run() -> None:
        async with listening(App(whole, plain=plain)) as connect:
            reader, writer = await connect()
            writer.write(request_)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.count(b"\r\nconnection: close\r\n") == 1
            assert await reader.read() == b"hello"

    asyncio.run(run())


def test_head_gets_no_body() -> None:
    """But its length."""

    async def run() -> None:
        async with listening(App(says_hello)) as connect:
            reader, writer = await connect()
            writer.write(b"HEAD / HTTP/1.1\r\n\r\n")
            assert b"\r\ncontent-length: 5\r\n" in await reader.readuntil(b"\r\n\r\n")
            writer.write(GET)
            assert (await answered(reader))[2] == b"hello"

    asyncio.run(run())


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("size", [0, 5, 70_000, 300_000])
@pytest.mark.parametrize("expects", [False, True])
def test_a_body_comes_whole(size: int, expects: bool, plain: bool) -> None:
    """At once or in pieces, more of it than the server holds, and after a 100 Continue where one is waited for."""
    sent, got = bytes(range(256)) * (size // 256) + b"x" * (size % 256), []

    async def handler(exchange: Exchange) -> None:
        got.append(await exchange.body(size))
        await exchange.whole(200, b"hello", {})

    async def run() -> None:
        async with listening(App(handler, plain=plain)) as connect:
            reader, writer = await connect()
            head = b"POST / HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n"
            for _ in range(2):
                writer.write(head % (b"expect: 100-continue\r\n" if expects and size else b"", size))
                if expects and size:
                    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
                writer.write(sent)
                assert (await answered(reader))[2] == b"hello"
            assert got == [sent, sent]

    asyncio.run(run())


@pytest.mark.parametrize("plain", [False, True])
def test_too_large_a_body(plain: bool) -> None:
    """TooLarge, also when all of it has come already; what was read to its end leaves the connection usable."""

    async def handler(exchange: Exchange) -> None:
        try:
            await exchange.body(3)
        except TooLarge as error:
            await exchange.whole(error.status, b"no", {})
            raise
        await exchange.whole(200, b"yes", {})

    async def run() -> None:
        app = App(handler, plain=plain)
        async with listening(app) as connect:
            reader, writer = await connect()
            for body, status in ((b"abcd", b"413"), (b"abc", b"200")):
                writer.write(b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
                assert (await answered(reader))[0].split()[1] == status

    asyncio.run(run())


class Work:
    """A handler that waits in a Presence until it is let go, beside a task that does the same."""

    def __init__(self) -> None:
        self.running = 0
        self.go = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.body(100)
        async with Presence(exchange) as group:
            group.create_task(self._wait())
            await self._wait()
            await exchange.whole(200, b"hello", {})

    async def _wait(self) -> None:
        self.running += 1
        try:
            await self.go.wait()
        finally:
            self.running -= 1


@pytest.mark.parametrize("plain", [False, True])
def test_a_caller_who_leaves(plain: bool) -> None:
    """All work for him is cancelled, it ends in ClientLeft, and no cancellation is left behind."""

    async def run() -> None:
        work = Work()
        app = App(work, plain=plain)
        async with listening(app) as connect:
            _, writer = await connect()
            writer.write(GET)
            await until(lambda: work.running == 2)
            writer.close()
            await until(lambda: len(app.ended) == 1)
            assert isinstance(app.ended[0], ClientLeft)
            assert app.cancelling == [0]
            assert work.running == 0

    asyncio.run(run())


@pytest.mark.parametrize("plain", [False, True])
def test_a_caller_who_left_before_the_work_began(plain: bool) -> None:
    """It ends at its first wait."""

    async def run() -> None:
        reading, go, never = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def handler(exchange: Exchange) -> None:
            await exchange.body(100)
            reading.set()
            await go.wait()
            async with Presence(exchange):
                await never.wait()

        app = App(handler, plain=plain)
        async with listening(app) as connect:
            _, writer = await connect()
            writer.write(GET)
            await reading.wait()
            writer.transport.abort()
            await asyncio.sleep(0.05)  # for the server to notice; both ways end the same if it has not
            go.set()
            await until(lambda: len(app.ended) == 1)
            assert isinstance(app.ended[0], ClientLeft)
            assert app.cancelling == [0]

    asyncio.run(run())


@pytest.mark.parametrize("plain", [False, True])
def test_a_caller_who_leaves_with_his_answer(plain: bool) -> None:
    """He has got all of it: whoever still works on it goes on to the end."""

    async def run() -> None:
        go = asyncio.Event()

        async def handler(exchange: Exchange) -> None:
            await exchange.body(100)
            async with Presence(exchange):
                await exchange.whole(200, b"hello", {})
                if not plain:  # a waiting task sees the end of the answer as the caller's leaving
                    await go.wait()

        app = App(handler, plain=plain)
        async with listening(app) as connect:
            reader, writer = await connect()
            writer.write(GET)
            await answered(reader)
            writer.close()
            await writer.wait_closed()
            await asyncio.sleep(0.05)
            go.set()
            await until(lambda: len(app.ended) == 1)
            assert app.ended == [None]
            assert app.cancelling == [0]

    asyncio.run(run())


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_cancelled_by_somebody_else(plain: bool, left: bool) -> None:
    """That is no caller who leaves, also when he leaves at the same moment: the cancellation goes on its way."""

    async def run() -> None:
        hosts: list[asyncio.Task[Any] | None] = []
        work = Work()

        async def handler(exchange: Exchange) -> None:
            hosts.append(asyncio.current_task())
            try:
                await exchange.body(100)
                async with Presence(exchange) as group:
                    if left:
                        group._leave()  # as the server calls it, now
                    host = hosts[0]
                    assert host is not None
                    host.cancel()
                    await work.go.wait()
            finally:
                exchange.started = True

        app = App(handler, plain=plain)
        async with listening(app) as connect:
            _, writer = await connect()
            writer.write(GET)
            await until(lambda: len(app.ended) == 1)
            assert isinstance(app.ended[0], asyncio.CancelledError)
            assert app.cancelling == [1]

    asyncio.run(run())


def test_pipelined() -> None:
    """Answered in their order, one at a time."""

    async def run() -> None:
        async def handler(exchange: Exchange) -> None:
            await exchange.body(100)
            await asyncio.sleep(0.01 if exchange.path == "/1" else 0)
            await exchange.whole(200, exchange.path.encode(), {})

        app = App(handler)
        async with listening(app) as connect:
            reader, writer = await connect()
            writer.write(b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % number for number in (1, 2, 3)))
            assert [(await answered(reader))[2] for _ in range(3)] == [b"/1", b"/2", b"/3"]

    asyncio.run(run())


@pytest.mark.parametrize("at", [1, 2])
def test_leaving_with_requests_in_the_pipeline(at: int) -> None:
    """The one that is being answered ends; those after it never begin."""

    async def run() -> None:
        work = Work()

        async def handler(exchange: Exchange) -> None:
            await (work if len(app.begun) == at else says_hello)(exchange)

        app = App(handler)
        async with listening(app) as connect:
            _, writer = await connect()
            writer.write(GET + GET + GET)
            await until(lambda: work.running == 2)
            writer.close()
            await until(lambda: len(app.ended) == at)
            await asyncio.sleep(0.02)
            assert isinstance(app.ended[-1], ClientLeft)
            assert (len(app.begun), work.running) == (at, 0)

    asyncio.run(run())


def test_a_slow_reader() -> None:
    """The next answer waits until what went before it is read."""
    large = b"x" * 32_000_000  # more than the kernel keeps

    async def run() -> None:
        written: list[Exchange] = []

        async def handler(exchange: Exchange) -> None:
            await exchange.body(100)
            await exchange.whole(200, large, {})
            written.append(exchange)

        async with listening(App(handler)) as connect:
            reader, writer = await connect()
            writer.write(GET + GET)
            await until(lambda: len(written) == 1)
            await asyncio.sleep(0.05)
            assert len(written) == 1
            assert [len((await answered(reader))[2]) for _ in range(2)] == [len(large)] * 2
            await until(lambda: len(written) == 2)
            assert written[1].writing > 0

    asyncio.run(run())


@pytest.mark.parametrize(("plain", "begun"), [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize("size", [10, 4_000_000])
def test_a_streamed_answer(size: int, plain: bool, begun: bool) -> None:
    """Piece by piece, an empty one is none, and no faster than it is read; the connection is kept."""
    pieces = [b"a" * size, b"", b"b", b"c" * size * 10]

    async def run() -> None:
        async def handler(exchange: Exchange) -> None:
            await exchange.body(100)
            headers = {"content-type": "text/plain"}
            await (exchange.stream(headers) if begun else exchange.start(200, headers))
            for piece in pieces:
                await exchange.more(piece)
            await exchange.end(b"d")

        app = App(handler, plain=plain)
        async with listening(app) as connect:
            reader, writer = await connect()
            for number in (1, 2):
                writer.write(GET)
                head = await reader.readuntil(b"\r\n\r\n")
                assert b"\r\ntransfer-encoding: chunked\r\n" in head
                if size > 10:
                    await asyncio.sleep(0.02)
                    assert len(app.ended) == number - 1  # 40 MB wait for us
                assert await _unchunked(reader) == b"".join([*pieces, b"d"])
            writer.write(GET.replace(b"1.1", b"1.0"))
            assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")

    asyncio.run(run())


def test_a_stream_is_begun_and_ended_once() -> None:
    """Not after another answer, not without a beginning; and only between the two it is ready for pieces."""

    async def run() -> None:
        seen: list[object] = []

        async def handler(exchange: Exchange) -> None:
            responder = exchange.responder
            assert responder is not None
            seen.append(responder.ready())
            with pytest.raises(RuntimeError):
                await responder.finish(b"")
            await exchange.stream({})
            seen.append(responder.ready())
            with pytest.raises(RuntimeError):
                await exchange.stream({})
            responder.piece(b"a")
            await exchange.end()
            seen.append(responder.ready())
            with pytest.raises(RuntimeError):
                await exchange.end()

        app = App(handler)
        async with listening(app) as connect:
            reader, writer = await connect()
            writer.write(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"\r\nconnection: close\r\n" in head
            assert await reader.read() == b"1\r\na\r\n0\r\n\r\n"
        assert (seen, app.ended) == ([False, True, False], [None])

    asyncio.run(run())


def test_what_is_poured_is_said_only_where_it_can_go_out() -> None:
    """As one piece, and none where nothing came of it; not before the answer is begun, after its end, for a caller who has left or one
    who does not read."""
    large = b"x" * 32_000_000

    async def run() -> None:
        said: list[bytes] = []
        taken: list[bool] = []
        left = asyncio.Event()

        def say(thing: bytes) -> bytes:
            said.append(thing)
            return thing

        async def handler(exchange: Exchange) -> None:
            assert exchange.responder is not None
            pour = exchange.responder.pour(say)
            taken.append(pour([b"early"]))
            await exchange.stream({})
            taken.extend(map(pour, ([b"a"], [b"b", b"c"], [b""])))
            if exchange.path == "/slow":
                taken.extend(map(pour, ([large], [b"unread"])))
            if exchange.path == "/left":
                exchange.responder.watch(left.set)
                await left.wait()
                taken.append(pour([b"gone"]))
            await exchange.end()
            taken.append(pour([b"late"]))

        async with listening(App(handler)) as connect:
            for path, pieces, more in (
                (b"", b"abc", []),
                (b"slow", b"abc" + large, [True, False]),
                (b"left", b"", [False]),
            ):
                reader, writer = await connect()
                writer.write(GET.replace(b"/ ", b"/%b " % path))
                if path == b"left":
                    await reader.readuntil(b"bc\r\n")
                    writer.transport.abort()
                    await until(lambda: len(taken) == 6)
                else:
                    await reader.readuntil(b"\r\n\r\n")
                    assert await _unchunked(reader) == pieces
                assert taken == [False, True, True, True, *more, False]
                assert said == [b"a", b"b", b"c", b"", *[large] * (path == b"slow")]
                taken.clear()
                said.clear()

    asyncio.run(run())


@pytest.mark.parametrize("plain", [False, True])
def test_a_stream_whose_caller_leaves(plain: bool) -> None:
    """What is still said to him is said to nobody, and the work ends."""

    async def run() -> None:
        said: list[None] = []

        async def handler(exchange: Exchange) -> None:
            await exchange.body(100)
            async with Presence(exchange):
                await exchange.stream({})
                try:
                    while True:
                        await exchange.more(b"a" * 100_000)
                        await asyncio.sleep(0)
                finally:
                    await exchange.more(b"b")
                    await exchange.end(b"c")
                    said.append(None)

        app = App(handler, plain=plain)
        async with listening(app) as connect:
            reader, writer = await connect()
            writer.write(GET)
            await reader.readexactly(1000)
            writer.transport.abort()
            await until(lambda: len(app.ended) == 1)
            assert isinstance(app.ended[0], ClientLeft)
            assert (app.cancelling, said) == ([0], [None])

    asyncio.run(run())


async def _unchunked(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readline(), 16):
        parts.append(await reader.readexactly(size))
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n"
    return b"".join(parts)


def test_idle_connections_end() -> None:
    """After `timeout_keep_alive` seconds."""

    async def run() -> None:
        async with listening(App(says_hello), timeout_keep_alive=0.1) as connect:
            reader, writer = await connect()
            writer.write(GET)
            assert (await answered(reader))[2] == b"hello"
            assert await reader.read() == b""

    asyncio.run(run())


class Clock:
    """A loop's clock that the test turns, and what was set on it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> "Clock":
        self.timers.append((when, call))
        return self

    def cancel(self) -> None:
        self.timers.clear()

    def until(self, now: float) -> None:
        """Let time pass to `now`, and call what comes due."""
        self.now = now
        for timer in [timer for timer in self.timers if timer[0] <= now]:
            self.timers.remove(timer)
            timer[1]()


class Socket(asyncio.Transport):
    closed = False
    written = b""

    def write(self, data: Any) -> None:
        self.written += data

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def test_one_timer_for_all_answers() -> None:
    """It counts from the last answer, not from an earlier one, and does nothing while a request comes or is under way."""

    async def run() -> None:
        clock, socket = Clock(), Socket()
        config = uvicorn.Config(App(says_hello), log_config=None, timeout_keep_alive=75)
        connection = Connection(config, ServerState(), {}, clock)  # type: ignore[arg-type]
        connection.connection_made(socket)
        connection.on_response_complete()
        clock.until(50.0)
        connection.data_received(b"GET")
        clock.until(60.0)
        connection.on_response_complete()
        assert len(clock.timers) == 1
        clock.until(134.0)  # the first answer's time has passed
        assert not socket.closed
        connection.data_received(b" / ")
        clock.until(1000.0)  # under way
        assert not socket.closed
        connection.on_response_complete()
        clock.until(1074.0)
        assert not socket.closed
        clock.until(1075.0)
        assert socket.closed
        connection.connection_lost(None)
        assert not clock.timers

    asyncio.run(run())


@pytest.mark.parametrize("then", ["the end of the turn", "what is no HTTP", "shutdown", "a request of HTTP/1.0"])
def test_answers_of_one_turn(then: str) -> None:
    """The first goes out at once, the second with the end of the turn, or before whatever else is done to its connection."""

    async def run() -> None:
        go = asyncio.Event()

        async def handler(exchange: Exchange) -> None:
            await exchange.body(100)
            await go.wait()
            await says_hello(exchange)

        config, state = uvicorn.Config(App(handler), log_config=None), ServerState()
        sockets = [Socket(), Socket()]
        connections = [Connection(config, state, {}, asyncio.get_running_loop()) for _ in sockets]
        for connection, socket in zip(connections, sockets, strict=True):
            connection.connection_made(socket)
            old = connection is connections[1] and then == "a request of HTTP/1.0"
            connection.data_received(GET.replace(b"1.1", b"1.0") if old else GET)
        await asyncio.sleep(0)
        go.set()
        await asyncio.sleep(0)
        assert [socket.written.count(b"200 OK") for socket in sockets] == [1, then == "a request of HTTP/1.0"]
        if then == "what is no HTTP":
            connections[1].data_received(b"no HTTP\r\n\r\n")
        elif then == "shutdown":
            connections[1].shutdown()
        await until(lambda: b"hello" in sockets[1].written)
        assert sockets[1].written.startswith(b"HTTP/1.1 200 OK")
        assert sockets[1].written.count(b"HTTP/1.1 400") == (then == "what is no HTTP")
        assert sockets[1].closed == (then != "the end of the turn")

    asyncio.run(run())


def test_a_stream_that_fails() -> None:
    """What was handed to the server goes out before the connection is closed."""

    async def run() -> None:
        async def handler(exchange: Exchange) -> None:
            await exchange.body(100)
            await exchange.stream({})
            for data in (b"first", b"second"):
                await exchange.more(data)
            raise ValueError("on purpose")

        socket = Socket()
        config = uvicorn.Config(App(handler), log_config=None)
        connection = Connection(config, ServerState(), {}, asyncio.get_running_loop())
        connection.connection_made(socket)
        connection.data_received(GET)
        await until(lambda: socket.closed)
        assert socket.written.endswith(b"5\r\nfirst\r\n6\r\nsecond\r\n")

    asyncio.run(run())


@pytest.mark.parametrize("raises", [False, True])
def test_an_application_that_fails(raises: bool) -> None:
    """500 where nothing was answered; nobody waits for its task any longer."""

    async def run() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if raises:
                raise ValueError("on purpose")

        state = ServerState()
        connection = Connection(uvicorn.Config(app, log_config=None), state, {}, asyncio.get_running_loop())
        socket = Socket()
        connection.connection_made(socket)
        connection.data_received(GET)
        assert len(state.tasks) == 1
        await until(lambda: not state.tasks)
        assert socket.written.startswith(b"HTTP/1.1 500 ")
        assert socket.closed

    asyncio.run(run())


def test_what_every_answer_says() -> None:
    """uvicorn's own headers, as they are when a request comes: the date changes."""

    async def run() -> None:
        state, socket = ServerState(), Socket()
        config = uvicorn.Config(App(says_hello), log_config=None)
        connection = Connection(config, state, {}, asyncio.get_running_loop())
        connection.connection_made(socket)
        for count, date in enumerate((b"today", b"today", b"tomorrow"), 1):
            if date not in dict(state.default_headers).values():
                state.default_headers = [(b"date", date), (b"x-b", b"c")]
            connection.data_received(GET)
            await until(lambda count=count: socket.written.count(b"hello") == count)  # type: ignore[misc]
        dates = [line for line in socket.written.split(b"\r\n") if line.startswith(b"date")]
        assert dates == [b"date: today", b"date: today", b"date: tomorrow"]
        assert socket.written.count(b"x-b: c") == 3

    asyncio.run(run())


def test_an_upgrade_that_nobody_offers() -> None:
    """Goes uvicorn's way: an answer as to any other request."""

    async def run() -> None:
        async with listening(App(says_hello)) as connect:
            reader, writer = await connect()
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
            assert (await answered(reader))[2] == b"hello"

    asyncio.run(run())


def test_what_is_used_of_uvicorn() -> None:
    """A version of it in which these are called or called with something else needs a look at `Connection` and `Cycle`."""
    overridden = {
        "connection_lost": ["exc"],
        "data_received": ["data"],
        "on_headers_complete": [],
        "_start_asgi_task": ["cycle", "app"],
        "on_response_complete": [],
        "shutdown": [],
        "send_400_response": ["msg"],
        "handle_websocket_upgrade": [],
        "timeout_keep_alive_handler": [],
    }
    for name, parameters in overridden.items():
        assert list(inspect.signature(getattr(HttpToolsProtocol, name)).parameters) == ["self", *parameters], name
    assert list(inspect.signature(RequestResponseCycle).parameters) == [
        "scope", "transport", "flow", "logger", "access_logger", "access_log", "default_headers", "message_event",
        "expect_100_continue", "keep_alive", "on_response",
    ]  # fmt: skip
    source = inspect.getsource(RequestResponseCycle)
    for name in ("disconnected", "response_started", "response_complete", "more_body", "waiting_for_100_continue"):
        assert f"self.{name}" in source, name
    assert '"body": bytes(self.body)' in source, "a body that came whole is bytes"
    # What our own `on_headers_complete` and `on_response_complete` do in their place.
    assert "self.pipeline.appendleft((self.cycle, app))" in inspect.getsource(HttpToolsProtocol.on_headers_complete)
    assert "self.timeout_keep_alive_task = self.loop.call_later(" in inspect.getsource(
        HttpToolsProtocol.on_response_complete
    )
    assert "task.add_done_callback(self.tasks.discard)" in inspect.getsource(HttpToolsProtocol._start_asgi_task)
    for name in ("scope", "transport", "flow", "logger", "access_logger", "access_log", "default_headers", "message_event",
                 "on_response", "keep_alive", "body", "chunked_encoding", "expected_content_length"):  # fmt: skip
        assert f"self.{name}" in inspect.getsource(RequestResponseCycle.__init__), name
    assert "self.pipeline.pop()" in inspect.getsource(HttpToolsProtocol.on_response_complete)


def test_trailers_are_no_headers() -> None:
    """Also those that come with the head; and without an end they are not waited for."""
    seen: list[Mapping[str, str]] = []

    async def read(exchange: Exchange) -> None:
        seen.append(exchange.headers)
        await exchange.body(10**6)
        await exchange.whole(200, b"hello", {})

    async def run() -> None:
        socket = Socket()
        connection = Connection(
            uvicorn.Config(App(read), log_config=None), ServerState(), {}, asyncio.get_running_loop()
        )
        connection.connection_made(socket)
        head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        for count in (1, 2):
            connection.data_received(head + b"2\r\nab\r\n0\r\nauthorization: Bearer k\r\n\r\n")
            await until(lambda count=count: socket.written.count(b"200 OK") == count)  # type: ignore[misc]
        assert seen == [{"host": "a", "transfer-encoding": "chunked"}] * 2
        connection.data_received(head)
        for _ in range(100):
            connection.data_received(b"fa0\r\n" + b"b" * 4000 + b"\r\n")
        assert not socket.closed, "a body is as long as its limit says"
        connection.data_received(b"0\r\n")
        sent = 0
        while not socket.closed:
            connection.data_received(b"x: y\r\n" * 500)
            sent += 3000
            assert sent < 200_000
        assert socket.written.count(b"HTTP/1.1") == 2, "no second answer to one request"

    asyncio.run(run())


@pytest.mark.parametrize("piece", [b"a" * 4096, b"x: y\r\n" * 500], ids=["one endless line", "endless lines"])
def test_a_head_without_an_end(piece: bytes) -> None:
    """It is refused in the API's own words and the connection closed, long before it fills the memory. Bodies and heads that end may be
    as many as they like."""

    async def read(exchange: Exchange) -> None:
        await exchange.body(10**6)
        await exchange.whole(200, b"hello", {})

    async def run() -> None:
        socket = Socket()
        config = uvicorn.Config(App(read), log_config=None)
        connection = Connection(config, ServerState(), {}, asyncio.get_running_loop())
        connection.connection_made(socket)
        for count in range(1, 4):
            connection.data_received(b"POST / HTTP/1.1\r\ncontent-length: 200000\r\n\r\n")
            for _ in range(50):
                connection.data_received(b"b" * 4000)
            await until(lambda count=count: socket.written.count(b"200 OK") == count)  # type: ignore[misc]
        assert not socket.closed
        connection.data_received(b"GET / HTTP/1.1\r\nx: y\r\n" if piece.endswith(b"\n") else b"GET / HTTP/1.1\r\nx: ")
        sent = 0
        while not socket.closed:
            connection.data_received(piece)
            sent += len(piece)
            assert sent < 200_000
        head, body = socket.written.split(b"HTTP/1.1 431 ")[1].split(b"\r\n\r\n")
        assert head.endswith(b"connection: close")
        assert orjson.loads(body)["error"]["code"] == "headers_too_large"

    asyncio.run(run())
