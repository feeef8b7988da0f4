"""One connection of a caller: uvicorn's HTTP/1.1 protocol, with what an `Exchange` finds behind its `send` (`Responder`).

uvicorn reads requests, writes streams and everything that is rare. Ours is what every request pays: when it arrived, a head that is read
once and known again (`known`), a callback for the caller who leaves instead of a task that waits for it, a whole answer in one write that
goes out with others of the same turn of the loop (`cycle`), one timer per connection instead of one per answer, and a task without
callbacks at its end (each costs a turn of the loop).
"""

import asyncio
import math
from functools import lru_cache
from time import perf_counter
from typing import Any
from urllib.parse import unquote
from weakref import WeakKeyDictionary

import httptools
import orjson
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.surface.cycle import Cycle, Server
from gateway.surface.exchange import ARRIVED, HEADER_BYTES
from gateway.surface.known import Known
from wire.errors import BadRequest

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


URL_KEPT = 256
"""Bytes of a URL that is remembered with its parts."""
TRIES = 2
"""Heads of a connection that are learnt for nothing before no more are: its requests differ."""


class Connection(HttpToolsProtocol):
    """Given to `uvicorn.Config` as `http`. Says when a request arrived (`ARRIVED`): not when its connection did, what lies between is the
    caller's time as much as ours."""

    _read = 0.0
    _head: int | None = None
    """Bytes that came since the read in which a head, or the trailers of a request, began; None between them."""
    _trails = False
    _between = True
    """The parser has seen the end of a message and nothing of the next."""
    _known: Known | None = None
    _tries = TRIES
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
        self._idle_until = math.inf
        between, before = self._between, self.cycle
        if self._known is not None and between and before.response_complete:
            request = self._known.read(data)
            if request is not None:  # as the parser's callbacks below
                self._tries = TRIES
                scope, body = request
                scope["state"] = {**self.app_state, ARRIVED: self._read}
                self.cycle = Cycle(self, self.shared, scope, True, self._known.head, body)
                self._start_asgi_task(self.cycle, self.app)
                return
        if self._head is not None:
            self._head += len(data)
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
            self._between = False
            self.send_400_response(said)
        if self._head is not None and self._head > ENDLESS and not self.transport.is_closing():
            if not self._trails and (self.cycle is None or self.cycle.response_complete):  # else an answer is under way
                self.transport.write(_REFUSED)
            self.transport.close()
        if between and self._between and self.cycle is not before and self._tries:
            self._learn(data)

    def _learn(self, data: bytes) -> None:
        self._tries -= 1
        cycle = self.cycle
        if isinstance(cycle, Cycle) and cycle.keep_alive and self.limit_concurrency is None:
            self._known = Known.learn(data, cycle.scope)

    def on_message_begin(self) -> None:
        self._between = False
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
        self._between = True
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
        keep_alive = version != "1.0" and parser.should_keep_alive()
        cycle = self.cycle = Cycle(self, self.shared, scope, keep_alive)
        cycle.waiting_for_100_continue = self.expect_100_continue
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
        cycle.task = self.loop.create_task(cycle.run_asgi(app))
        self.tasks.add(cycle.task)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
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
        found = _servers[state] = Server(loop, state.tasks)
    return found


def _place(root: str, url: bytes) -> tuple[str, bytes, bytes]:
    """The `path`, `raw_path` and `query_string` of a scope. Raises httptools.HttpParserInvalidURLError."""
    parts = httptools.parse_url(url)
    path = parts.path.decode("ascii")
    return root + (unquote(path) if "%" in path else path), root.encode("ascii") + parts.path, parts.query or b""


_known_place = lru_cache(maxsize=256)(_place)
