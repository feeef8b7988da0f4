"""One request and its answer: uvicorn's cycle, with what an `Exchange` finds behind its `send` (`Responder`)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from backends.http.outbox import Outbox
from gateway.surface.exchange import Head, Responder

_COPIED = 2**16
"""Bytes. Up to here head and body are one write: one call into the kernel."""

T = TypeVar("T")
Lines = list[tuple[bytes, bytes]]


def nothing() -> None: ...


class Server:
    """What the connections of one server share. tasks: what it waits for before it ends. standing: the header lines that every answer has,
    as bytes, made of `lines`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tasks: set[asyncio.Task[None]]) -> None:
        self.outbox = Outbox(loop)
        self.tasks = tasks
        self.lines: Lines = []
        self.standing = b""

    def stand(self, lines: Lines) -> None:
        """uvicorn makes a new list of them each second, for the date."""
        self.lines, self.standing = lines, b"".join([b"%b: %b\r\n" % line for line in lines])


class Cycle(RequestResponseCycle, Responder):
    """See the file's head."""

    disconnected = response_started = response_complete = False
    waiting_for_100_continue = False
    more_body = True
    chunked_encoding = None
    expected_content_length = 0
    event: asyncio.Event | None = None
    """uvicorn's `message_event`, where somebody has waited for it."""
    _left: Callable[[], None] | None = None
    _taken = False

    def __init__(
        self,
        connection: HttpToolsProtocol,
        shared: Server,
        scope: Any,
        keep_alive: bool,
        head: Head | None = None,
        body: bytes | None = None,
    ) -> None:
        """In place of uvicorn's; what it sets to the same for each request stands above. body: all of it has come."""
        self.scope = scope
        self.keep_alive = keep_alive
        self.transport = connection.transport
        self.flow = connection.flow
        self.logger = connection.logger
        self.access_logger = connection.access_logger
        self.access_log = connection.access_log
        self.default_headers = connection.server_state.default_headers
        self.on_response = connection.on_response_complete
        self._shared = shared
        self.body: bytearray | bytes  # type: ignore[assignment]
        if body is None:
            self.body = bytearray()
        else:
            self.head, self.body = head, body
            self.more_body = False

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
            self.on_response = nothing  # it holds the connection, which holds us
            self._left = None
            if self.task is not None:
                self._shared.tasks.discard(self.task)
                self.task = None

    def taken(self) -> bytes | None:
        if self.more_body or self.disconnected or self.response_complete:
            return None
        if self.flow.read_paused:
            self.flow.resume_reading()
        self._taken = True
        if self.event is not None:
            self.event.clear()
        body = bytes(self.body)
        self.body = bytearray()
        return body

    def answer(self, status: int, head: bytes, body: bytes, *, keep: bool) -> Awaitable[None] | None:
        if self.flow.write_paused and not self.disconnected:
            return self._answer_later(status, head, body, keep)
        if not self._begins():
            return None
        self.response_complete = True
        if keep and not self.keep_alive:
            keep, head = False, head + b"connection: close\r\n"
        self.keep_alive = keep
        parts = (STATUS_LINE[status], self._shared.standing, head, b"\r\n", body)
        if len(body) <= _COPIED:
            self._shared.outbox.write(self.transport, b"".join(parts))
        else:
            self._write(b"".join(parts[:-1]))
            self._write(body)
        self._complete()
        return None

    async def _answer_later(self, status: int, head: bytes, body: bytes, keep: bool) -> None:
        await self.flow.drain()
        waits = self.answer(status, head, body, keep=keep)
        if waits is not None:
            await waits

    def _begins(self) -> bool:
        """The answer begins now; not for a caller who has left."""
        if self.disconnected:
            return False
        if self.response_started:
            raise RuntimeError("an answer was begun before")
        self.response_started = True
        self.waiting_for_100_continue = False
        if self.default_headers is not self._shared.lines:
            self._shared.stand(self.default_headers)
        return True

    def _write(self, data: bytes, more: bool = False) -> None:
        """Paced streams: 65 us of CPU per chunk instead of 80 where 16 of them get a chunk in the same turn of the loop. more: mostly more
        is written at once, the first chunk after the head and the end after the last, and one call into the kernel takes both."""
        outbox = self._shared.outbox
        if len(data) <= _COPIED:
            (outbox.later if more else outbox.write)(self.transport, data)
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
        closing = b"" if self.keep_alive else b"connection: close\r\n"
        last = b"transfer-encoding: chunked\r\n\r\n"
        self._write(b"".join((STATUS_LINE[status], self._shared.standing, head, closing, last)), more=True)

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
        self._write(b"%x\r\n%b\r\n" % (len(data), data), more=True)

    def pour(self, said: Callable[[T], bytes]) -> Callable[[Sequence[T]], bool]:
        flow, transport, write = self.flow, self.transport, self._shared.outbox.write

        def poured(things: Sequence[T]) -> bool:
            if flow.write_paused or self.disconnected or self.response_complete or not self.chunked_encoding:
                return False
            data = said(things[0]) if len(things) == 1 else b"".join(map(said, things))
            size = len(data)
            if size > _COPIED:
                self.piece(data)
            elif size:
                write(transport, b"%x\r\n%b\r\n" % (size, data))
            return True

        return poured

    def watch(self, left: Callable[[], None]) -> None:
        self._left = left
        if self.disconnected:
            asyncio.get_running_loop().call_soon(left)
        elif self.flow.read_paused:
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


def _raising(exc: BaseException) -> Any:
    async def app(*_: Any) -> None:
        raise exc

    return app


async def _silent(*_: Any) -> None:
    """An application that does not answer."""
