"""One connection of a caller: uvicorn's HTTP/1.1 protocol, with what an `Exchange` finds behind its `send` (`Responder`).

uvicorn reads requests, writes streams and everything that is rare. Ours is what every request pays: when it arrived, a callback for the
caller who leaves instead of a task that waits for it, a whole answer in one write that goes out with others of the same turn of the loop,
one timer per connection instead of one per answer, and a task without callbacks at its end (each costs a turn of the loop).
"""

import asyncio
import math
from collections.abc import Callable
from functools import lru_cache, partial
from time import perf_counter
from typing import Any
from urllib.parse import unquote
from weakref import WeakKeyDictionary

import httptools
import orjson
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from backends.http.outbox import Outbox
from gateway.surface.exchange import ARRIVED, HEADER_BYTES, Responder
from wire.errors import BadRequest

_COPIED = 2**16
"""Bytes. Up to here head and body are one write: one call into the kernel."""
_SLACK = 0.001  # seconds; uvloop's clock stands still within one turn of the loop and counts milliseconds


ENDLESS = 2 * HEADER_BYTES
"""Bytes of a request's head, after the read it began in, past which nobody waits for its end: the parser keeps all of it."""
_TOO_LARGE = orjson.dumps(
    BadRequest(f"the request head is larger than {HEADER_BYTES} bytes", status=431, code="headers_too_large").body()
)
_REFUSED = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"connection: close\r\n\r\n%b" % (len(_TOO_LARGE), _TOO_LARGE)
)


def _nothing() -> None: ...


Lines = list[tuple[bytes, bytes]]
URL_KEPT = 256
"""Bytes of a URL that is remembered with its parts."""


class Server:
    """What the connections of one server share."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.outbox = Outbox(loop)
        self._lines: Lines = []
        self._standing = b""

    def standing(self, lines: Lines) -> bytes:
        """The header lines that every answer has, as bytes. uvicorn makes a new list of them each second, for the date."""
        if lines is not self._lines:
            self._lines, self._standing = lines, b"".join([b"%b: %b\r\n" % line for line in lines])
        return self._standing


class Cycle(RequestResponseCycle, Responder):
    """One request and its answer."""

    disconnected = response_started = response_complete = False
    more_body = True
    chunked_encoding = None
    expected_content_length = 0
    ended: Callable[[], None] = staticmethod(_nothing)
    """Called with the last step of its task: the server need not wait for it any longer."""
    event: asyncio.Event | None = None
    """uvicorn's `message_event`, where somebody has waited for it."""
    _left: Callable[[], None] | None = None
    _taken = False

    def __init__(self, connection: "Connection", scope: Any, *, keep_alive: bool) -> None:
        """In place of uvicorn's; what it sets to the same for each request stands above."""
        self.scope = scope
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = connection.expect_100_continue
        self.transport = connection.transport
        self.flow = connection.flow
        self.logger = connection.logger
        self.access_logger = connection.access_logger
        self.access_log = connection.access_log
        self.default_headers = connection.server_state.default_headers
        self.on_response = connection.on_response_complete
        self.body = bytearray()
        self._shared = connection.shared

    @property
    def message_event(self) -> asyncio.Event:  # type: ignore[override]
        """Wakes uvicorn's `receive`; made when that waits for the first time."""
        if self.event is None:
            self.event = asyncio.Event()
            unread = not self._taken and (self.body or not self.more_body)
            if unread or self.disconnected or self.response_complete:
                self.event.set()
        return self.event

    async def run_asgi(self, app: Any) -> None:
        """As uvicorn's, which is asked only where it has something to say."""
        try:
            await app(self.scope, self.receive, self.send)
        except BaseException as exc:
            self._shared.outbox.flush()  # what was said before, before the connection is closed
            await super().run_asgi(_raising(exc))
        else:
            if not (self.response_complete or self.disconnected):
                self._shared.outbox.flush()
                await super().run_asgi(_silent)
        finally:
            self.on_response = _nothing  # it holds the connection, which holds us
            self.ended()

    def taken(self) -> bytes | None:
        if self.more_body or self.disconnected or self.response_complete:
            return None
        self.flow.resume_reading()
        self._taken = True
        if self.event is not None:
            self.event.clear()
        body = bytes(self.body)
        self.body = bytearray()
        return body

    async def answer(self, status: int, head: bytes, body: bytes, *, keep: bool) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if not self._begins():
            return
        self.response_complete = True
        standing = self._shared.standing(self.default_headers)
        if keep and not self.keep_alive:
            keep, head = False, head + b"connection: close\r\n"
        if len(body) <= _COPIED:
            self._write(b"".join((STATUS_LINE[status], standing, head, b"\r\n", body)))
        else:
            self._write(b"".join((STATUS_LINE[status], standing, head, b"\r\n")))
            self._write(body)
        self.keep_alive = keep
        self._complete()

    def _begins(self) -> bool:
        """The answer begins now; not for a caller who has left."""
        if self.disconnected:
            return False
        if self.response_started:
            raise RuntimeError("an answer was begun before")
        self.response_started = True
        self.waiting_for_100_continue = False
        return True

    def _write(self, data: bytes) -> None:
        """Paced streams: 65 us of CPU per chunk instead of 80 where 16 of them get a chunk in the same turn of the loop."""
        outbox = self._shared.outbox
        if len(data) <= _COPIED:
            outbox.write(self.transport, data)
        else:
            outbox.flush()
            self.transport.write(data)

    def _complete(self) -> None:
        if self.event is not None:
            self.event.set()
        if not self.keep_alive:
            self._shared.outbox.flush()
            self.transport.close()
        self.on_response()

    async def send(self, message: Any) -> None:
        self._shared.outbox.flush()  # uvicorn writes at once
        await super().send(message)

    async def begin(self, status: int, head: bytes) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if not self._begins():
            return
        self.chunked_encoding = True
        standing = self._shared.standing(self.default_headers)
        closing = b"" if self.keep_alive else b"connection: close\r\n"
        last = b"transfer-encoding: chunked\r\n\r\n"
        self._write(b"".join((STATUS_LINE[status], standing, head, closing, last)))

    async def finish(self, data: bytes) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if self.response_complete or not self.chunked_encoding:
            raise RuntimeError("no answer is streamed")
        self.response_complete = True
        self._write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n")
        self._complete()

    def ready(self) -> bool:
        return bool(self.chunked_encoding) and not (
            self.flow.write_paused or self.disconnected or self.response_complete
        )

    def piece(self, data: bytes) -> None:
        self._write(b"%x\r\n%b\r\n" % (len(data), data))

    def watch(self, left: Callable[[], None] | None) -> None:
        self._left = left
        if left is not None:
            if self.disconnected:
                asyncio.get_running_loop().call_soon(left)
            else:
                self.flow.resume_reading()  # a socket that is not read does not say that the other end has gone

    def lost(self) -> None:
        """The connection is closed."""
        if self.response_complete:
            return
        self.disconnected = True
        if self.event is not None:
            self.event.set()
        left, self._left = self._left, None
        if left is not None:
            left()


class Connection(HttpToolsProtocol):
    """Given to `uvicorn.Config` as `http`. Says when a request arrived (`ARRIVED`): not when its connection did, what lies between is the
    caller's time as much as ours."""

    _read = 0.0
    _head: int | None = None
    """Bytes that came since the read in which a head, or the trailers of a request, began; None between them."""
    _trails = False
    _answered: RequestResponseCycle | None = None
    """Whose turn it is; `cycle` is the last that came, which waits for its turn where requests are pipelined."""
    _idle_until = math.inf
    _timer: asyncio.TimerHandle | None = None
    shared: Server

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.shared = _shared(self.server_state, self.loop)

    def shutdown(self) -> None:
        self.shared.outbox.flush()
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if isinstance(self._answered, Cycle):
            self._answered.lost()

    def eof_received(self) -> None:
        self.shared.outbox.flush()  # the transport closes now, and what waits would be lost

    def data_received(self, data: bytes) -> None:
        self._read = perf_counter()
        if self.shared.outbox.waiting:  # whatever is written because of `data` comes after what was written before
            self.shared.outbox.flush()
        if self._head is not None:
            self._head += len(data)
        self._idle_until = math.inf
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._unsupported_upgrade_warning()
        except httptools.HttpParserError:
            said = "Invalid HTTP request received."
            self.logger.warning(said)
            self.send_400_response(said)
        if self._head is not None and self._head > ENDLESS and not self.transport.is_closing():
            if not self._trails and (self.cycle is None or self.cycle.response_complete):  # else an answer is under way
                self.transport.write(_REFUSED)
            self.transport.close()

    def on_message_begin(self) -> None:
        self._head, self._trails = 0, False
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,  # type: ignore[typeddict-item]
            "root_path": self.root_path,
            "headers": self.headers,
            "state": {**self.app_state, ARRIVED: 0.0},
        }

    def on_chunk_header(self) -> None:
        """Of the last chunk too: what follows that one are trailers, which are as endless as they like."""
        self._head, self._trails = 0, True

    def on_body(self, body: bytes) -> None:
        self._head = None
        cycle = self.cycle
        if not isinstance(cycle, Cycle):
            super().on_body(body)
            return
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        if cycle.event is not None:
            cycle.event.set()

    def on_message_complete(self) -> None:
        self._head = None
        cycle = self.cycle
        if not isinstance(cycle, Cycle):
            super().on_message_complete()
        elif not cycle.response_complete:
            cycle.more_body = False
            if cycle.event is not None:
                cycle.event.set()

    def on_headers_complete(self) -> None:
        self._head = None
        scope: Any = self.scope
        parser = self.parser
        scope["state"][ARRIVED] = self._read
        if self.limit_concurrency is not None or parser.should_upgrade():
            super().on_headers_complete()
            return
        version = parser.get_http_version()
        if version != "1.1":
            scope["http_version"] = version
        scope["method"] = parser.get_method().decode("ascii")
        url = self.url
        place = _known_place if len(url) <= URL_KEPT else _place
        scope["path"], scope["raw_path"], scope["query_string"] = place(self.root_path, url)
        before = self.cycle
        cycle = self.cycle = Cycle(self, scope, keep_alive=version != "1.0" and parser.should_keep_alive())
        self.headers = []  # trailers are no headers (RFC 9110, 6.5.1)
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        if not isinstance(cycle, Cycle) or self.config.reset_contextvars:
            super()._start_asgi_task(cycle, app)
            return
        task = self.loop.create_task(cycle.run_asgi(app))
        self.tasks.add(task)
        cycle.ended = partial(self.tasks.discard, task)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        # One timer per connection, set lazily: a later end only overwrites `_idle_until`, and a timer that fires early sets itself again.
        self._idle_until = self.loop.time() + self.timeout_keep_alive
        if self._timer is None:
            self._timer = self.loop.call_at(self._idle_until, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._idle_until == math.inf:
            return  # the next answer sets it again
        if self.loop.time() < self._idle_until - _SLACK:
            self._timer = self.loop.call_at(self._idle_until, self._tick)
        else:
            self.timeout_keep_alive_handler()


_servers: WeakKeyDictionary[ServerState, Server] = WeakKeyDictionary()


def _shared(state: ServerState, loop: asyncio.AbstractEventLoop) -> Server:
    found = _servers.get(state)
    if found is None:
        found = _servers[state] = Server(loop)
    return found


def _place(root: str, url: bytes) -> tuple[str, bytes, bytes]:
    """The `path`, `raw_path` and `query_string` of a scope. Raises httptools.HttpParserInvalidURLError."""
    parts = httptools.parse_url(url)
    path = parts.path.decode("ascii")
    return root + (unquote(path) if "%" in path else path), root.encode("ascii") + parts.path, parts.query or b""


_known_place = lru_cache(maxsize=256)(_place)


def _raising(exc: BaseException) -> Any:
    async def app(*_: Any) -> None:
        raise exc

    return app


async def _silent(*_: Any) -> None:
    """An application that does not answer."""
