"""One connection of a caller: uvicorn's HTTP/1.1 protocol, with what an `Exchange` finds behind its `send` (`Responder`).

uvicorn reads requests, starts their tasks, writes streams and everything that is rare. Ours is what every request pays: when it arrived,
a callback for the caller who leaves instead of a task that waits for it, a whole answer in one write, and one timer per connection
instead of one per answer. Measured, with `Presence`: 21 us of CPU per request less.
"""

import asyncio
import math
from collections.abc import Callable
from time import perf_counter
from typing import Any
from urllib.parse import unquote

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

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


class Cycle(RequestResponseCycle, Responder):
    """One request and its answer."""

    _left: Callable[[], None] | None = None

    def taken(self) -> bytes | None:
        if self.more_body or self.disconnected or self.response_complete:
            return None
        self.flow.resume_reading()
        self.message_event.clear()
        body = bytes(self.body)
        self.body = bytearray()
        return body

    async def answer(self, status: int, head: bytes, body: bytes, *, keep: bool) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if self.response_started:
            raise RuntimeError("an answer was begun before")
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        standing = b"".join([b"%b: %b\r\n" % line for line in self.default_headers])
        if keep and not self.keep_alive:
            keep, head = False, head + b"connection: close\r\n"
        head = b"".join((STATUS_LINE[status], standing, head, b"\r\n"))
        if len(body) <= _COPIED:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)
        self.message_event.set()
        if not keep:
            self.keep_alive = False
            self.transport.close()
        self.on_response()

    def piece(self, data: bytes) -> bool:
        if (
            not self.chunked_encoding
            or self.flow.write_paused
            or self.disconnected
            or self.response_complete
            or not data
        ):
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

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
        self.message_event.set()
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

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if isinstance(self._answered, Cycle):
            self._answered.lost()

    def data_received(self, data: bytes) -> None:
        self._read = perf_counter()
        if self._head is not None:
            self._head += len(data)
        super().data_received(data)
        if self._head is not None and self._head > ENDLESS and not self.transport.is_closing():
            if not self._trails and (self.cycle is None or self.cycle.response_complete):  # else an answer is under way
                self.transport.write(_REFUSED)
            self.transport.close()

    def on_message_begin(self) -> None:
        self._head, self._trails = 0, False
        super().on_message_begin()

    def on_chunk_header(self) -> None:
        """Of the last chunk too: what follows that one are trailers, which are as endless as they like."""
        self._head, self._trails = 0, True

    def on_body(self, body: bytes) -> None:
        self._head = None
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head = None
        super().on_message_complete()

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
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + url.path
        scope["query_string"] = url.query or b""
        before = self.cycle
        cycle = self.cycle = Cycle(
            scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            self.access_log,
            self.server_state.default_headers,
            asyncio.Event(),
            self.expect_100_continue,
            version != "1.0" and parser.should_keep_alive(),
            self.on_response_complete,
        )
        self.headers = []  # trailers are no headers (RFC 9110, 6.5.1)
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

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

    def _unset_keepalive_if_required(self) -> None:
        self._idle_until = math.inf

    def _tick(self) -> None:
        self._timer = None
        if self._idle_until == math.inf:
            return  # the next answer sets it again
        if self.loop.time() < self._idle_until - _SLACK:
            self._timer = self.loop.call_at(self._idle_until, self._tick)
        else:
            self.timeout_keep_alive_handler()
