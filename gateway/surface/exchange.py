"""One HTTP exchange over ASGI: reading a bounded body, noticing that the caller left, answering once."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from time import perf_counter
from types import TracebackType
from typing import Any, Self, TypeVar

import orjson
from msgspec import Struct

from gateway.access.keys import Caller, Keys
from wire.errors import BadRequest, TooLarge

T = TypeVar("T")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = "application/json"
CREDENTIALS = frozenset({"authorization", "x-api-key", "api-key", "cookie", "proxy-authorization"})
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "proxy-connection",
        "host",
        "content-length",
    }
)


HIDDEN = CREDENTIALS | HOP_BY_HOP

ARRIVED = "weir.arrived"
"""In the scope's `state`: when the server was handed the last bytes of the request's head, as `time.perf_counter` tells it."""

HEADER_BYTES = 64 * 1024
"""Of all request headers together: httptools has no limit of its own."""
DRAINED = 64 * 2**20
"""Bytes past the limit that are read, and not kept, before the connection is closed."""


class ClientLeft(Exception):
    """The caller closed the connection."""


class Head(Struct):
    """What the head of a request says, where a server knows it from before: of all requests that have it, and of their connection alone.
    headers: as an `Exchange` has them; public: as it shows them; nobody changes either. found: whom those keys know it to be from."""

    headers: Mapping[str, str]
    public: Mapping[str, str]
    found: tuple[Keys, Caller] | None = None


class Responder:
    """What our own server can do beyond ASGI (`gateway.surface.connection`): its `send` is a method of one. Whoever wraps a `send` hides
    it, and the exchange goes the way of ASGI: nothing that a wrapper adds is lost. One request and its answer each."""

    head: Head | None = None
    """The request's, where the server knows it from before; no large one then."""
    task: asyncio.Task[None] | None = None
    """In which the application is called, where the server says so."""

    def taken(self) -> bytes | None:
        """The body, where all of it has come and none of it was received; None: receive it."""
        raise NotImplementedError

    def answer(self, status: int, head: bytes, body: bytes, *, keep: bool) -> Awaitable[None] | None:
        """Write a whole answer; None: it is written, else await that. head: its header lines, which say how long it is. keep: they do not
        say `connection: close`."""
        raise NotImplementedError

    async def begin(self, status: int, head: bytes) -> None:
        """Write the head of an answer that is streamed: its header lines, which say nothing of its length."""
        raise NotImplementedError

    async def finish(self, data: bytes) -> None:
        """Write the last piece of an answer that was begun, and its end."""
        raise NotImplementedError

    def ready(self) -> bool:
        """An answer was started and is streamed, and a piece of it would not have to wait."""
        raise NotImplementedError

    def piece(self, data: bytes) -> None:
        """Write a piece of an answer, not b"". Only when `ready`."""
        raise NotImplementedError

    def pour(self, said: Callable[[T], bytes]) -> Callable[[Sequence[T]], bool]:
        """What writes, as one piece, whatever `said` makes of the things that it is given; False, and nothing is said, unless `ready`. For
        who has many to write: 3 calls less each than `ready` and `piece`."""
        raise NotImplementedError

    def watch(self, left: Callable[[], None]) -> None:
        """Call `left`, once and from the loop, when the caller goes before his answer is complete; at the loop's next turn when he has
        gone."""
        raise NotImplementedError


class Exchange:
    __slots__ = (
        "_read", "_receive", "_send", "_streams", "arrived", "head", "headers", "method", "oversized", "path", "query", "responder",
        "started", "writing",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope.get("query_string", b"")
        server = getattr(send, "__self__", None)
        self.responder = responder = server if isinstance(server, Responder) else None
        self.head = head = None if responder is None else responder.head
        self.headers: Mapping[str, str] = plain_headers(scope["headers"]) if head is None else head.headers
        self.oversized = head is None and len(b"".join(chain.from_iterable(scope["headers"]))) > HEADER_BYTES
        """Of headers there are more than HEADER_BYTES."""
        state = scope.get("state")
        self.arrived: float | None = state.get(ARRIVED) if state else None
        """As ARRIVED; None: the server does not say."""
        self.started = False
        """The status has gone out."""
        self.writing = 0.0
        """Seconds spent in handing the answer to the server. That waits while more than 64 KiB have not gone out, so for a caller who reads
        slower than we write; what the caller has not read yet is not waited for at the end. Pieces that go out at once, past `more`, are
        not counted."""
        self._receive = receive
        self._send = send
        self._read = False
        self._streams = False

    def public_headers(self) -> Mapping[str, str]:
        """What may be seen behind the door: no credentials, nothing that belongs to this connection."""
        return public_headers(self.headers) if self.head is None else self.head.public

    def taken(self, limit: int) -> bytes | None:
        """The request body, where all of it is there; else None: wait for `body`. Raises TooLarge, BadRequest (compressed)."""
        if self.headers.get("content-encoding", "identity") != "identity":
            raise BadRequest(
                "compressed request bodies are not taken: send it as it is", status=415, param="content-encoding"
            )
        data = None if self.responder is None else self.responder.taken()
        if data is not None:
            self._read = True
            if len(data) > limit:
                raise _too_large(limit)
        return data

    async def body(self, limit: int) -> bytes:
        """The request body. Raises as `taken`, and ClientLeft."""
        data = self.taken(limit)
        if data is not None:
            return data
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            part = message.get("body", b"")
            size += len(part)
            if size <= limit:
                parts.append(part)
            else:
                # Read on a while and throw it away: a connection closed on a client that still sends is reset, and the client never
                # sees the 413.
                parts.clear()
                if size > limit + DRAINED:
                    raise _too_large(limit)
            if not message.get("more_body"):
                self._read = True
                break
        if size > limit:
            raise _too_large(limit)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def left(self) -> None:
        """Waits until the caller has gone. After `body`."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        self.started = True
        raw = [(name.encode("latin-1"), _plain(value).encode("latin-1", "replace")) for name, value in headers.items()]
        await self._hand({"type": "http.response.start", "status": status, "headers": raw})

    async def stream(self, headers: Mapping[str, str]) -> None:
        """As `start`, of a 200 that is streamed; not for HEAD."""
        if self.responder is None:
            await self.start(200, headers)
            return
        self.started = self._streams = True
        began = perf_counter()
        try:
            await self.responder.begin(200, head_lines(headers))
        finally:
            self.writing += perf_counter() - began

    async def more(self, data: bytes) -> None:
        responder = self.responder
        if data and responder is not None and responder.ready():  # 0.4 us instead of 0.9
            began = perf_counter()
            responder.piece(data)
            self.writing += perf_counter() - began
        else:
            await self._hand({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        if self.responder is None or not self._streams:
            await self._hand({"type": "http.response.body", "body": data, "more_body": False})
            return
        began = perf_counter()
        try:
            await self.responder.finish(data)
        finally:
            self.writing += perf_counter() - began

    async def _hand(self, message: MutableMapping[str, Any]) -> None:
        began = perf_counter()
        try:
            await self._send(message)
        finally:  # also when the caller leaves while we wait
            self.writing += perf_counter() - began

    async def whole(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        """A complete answer. Its length is told, so that the connection can be kept."""
        waits = self.put(status, data, headers)
        if waits is not None:
            await waits

    def put(
        self, status: int, data: bytes, headers: Mapping[str, str], standing: "Standing | None" = None
    ) -> Awaitable[None] | None:
        """As `whole`; None: it is written, as nearly all are at once, else await that. standing: more headers."""
        if not self._read and self.method == "POST":
            headers = {**headers, "connection": "close"}  # what was not read would be taken for the next request
        body = b"" if self.method == "HEAD" else data
        self.started = True
        responder = self.responder
        if responder is None or "content-type" in headers or "content-length" in headers:
            more = {} if standing is None else standing.headers
            headers = {"content-type": JSON, **headers, **more, "content-length": str(len(data))}
            if responder is None:
                return self._all(status, headers, body)
            head = head_lines(headers)
        else:
            head = _WHOLE % (head_lines(headers), b"" if standing is None else standing.lines, len(data))
        began = perf_counter()
        try:
            waits = responder.answer(status, head, body, keep="connection" not in headers)
        finally:
            self.writing += perf_counter() - began
        return None if waits is None else self._timed(waits)

    async def _all(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        await self.start(status, headers)
        await self.end(body)

    async def _timed(self, waits: Awaitable[None]) -> None:
        began = perf_counter()
        try:
            await waits
        finally:
            self.writing += perf_counter() - began

    async def json(self, status: int, value: Any, headers: Mapping[str, str]) -> None:
        await self.whole(status, orjson.dumps(value), headers)


def plain_headers(lines: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """A scope's headers, names in lower case."""
    return {
        _lower(name) if len(name) <= NAME_KEPT else name.decode("latin-1").lower(): value.decode("latin-1")
        for name, value in lines
    }


def public_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in HIDDEN}


NAME_KEPT = 64
"""Bytes of a header's name that is remembered."""


@lru_cache(maxsize=512)
def _lower(name: bytes) -> str:
    """A header's name, lower case. Requests differ in values, seldom in names."""
    return name.decode("latin-1").lower()


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the request body is larger than {limit} bytes (limits.body_bytes)", param="body")


class Presence(Struct, eq=False):
    """`async with Presence(exchange) as group`: what lasts as long as the caller is there. When he goes before his answer is complete, all
    of it is cancelled and it ends in ClientLeft. After `Exchange.body`, in the task that the application is called in. A task group, which
    is made when it gets its first task: most requests have none (a TaskGroup takes 2.3 us).

    Where the server cannot call (`Responder.watch`), a task of the group waits for the message that says so: 10 us a request more.
    """

    exchange: Exchange
    host: asyncio.Task[Any] | None = None
    """The task that has entered, until it leaves."""
    _group: asyncio.TaskGroup | None = None
    _waiter: asyncio.Task[None] | None = None
    _gone: bool = False
    _before: int = 0

    def create_task(self, coro: Coroutine[Any, Any, T], /) -> asyncio.Task[T]:
        """As TaskGroup's. The first time, from the task that has entered."""
        group = self._group
        if group is None:
            group = asyncio.TaskGroup()
            with suppress(StopIteration):
                group.__aenter__().send(None)  # it waits for nothing
            self._group = group
        return group.create_task(coro)

    async def __aenter__(self) -> Self:
        responder = self.exchange.responder
        host: asyncio.Task[Any] | None = responder.task if responder is not None else None
        if host is None:
            host = asyncio.current_task()
            assert host is not None
        self.host = host
        self._before = host.cancelling()
        if responder is not None:
            responder.watch(self._leave)
        else:
            self._waiter = self.create_task(self._wait())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._group is None and not self._gone:  # as nearly all end
            self.host = None
            return
        if self._waiter is not None:
            self._waiter.cancel()
            self._waiter = None  # its end would keep all of this alive until garbage is collected
        try:
            if self._group is not None:
                await self._group.__aexit__(kind, error, trace)
            elif error is not None:
                raise error
        except asyncio.CancelledError:
            if not self._end():
                raise
            raise ClientLeft from None
        except BaseException:
            self._end()
            raise
        if self._end():
            raise ClientLeft

    async def _wait(self) -> None:
        await self.exchange.left()
        self._leave()

    def _leave(self) -> None:
        if self.host is not None and not self._gone:
            self._gone = True
            self.host.cancel()

    def _end(self) -> bool:
        """Our own cancel is taken back, whatever became of it. Has the caller left, and nobody else cancelled?"""
        host, self.host = self.host, None
        return self._gone and host is not None and host.uncancel() <= self._before


def head_lines(headers: Mapping[str, str]) -> bytes:
    """Header lines. Raises ValueError for a name that is none, or that says how the connection is framed. Names come from us and from
    upstreams, values from callers too. Twelve headers: 1.5 us; uvicorn, which looks at each name and each value, takes 8."""
    values = tuple(headers.values())
    if not "".join(values).isprintable():
        values = tuple([_plain(value) for value in values])
    text = _form(tuple(headers)) % values
    return text.encode("latin-1", "replace")


_WHOLE = b"content-type: application/json\r\n%b%bcontent-length: %d\r\n"


class Standing(Struct, frozen=True):
    """Headers that many answers have: made into lines once (0.15 us each). None of the body's or the connection's."""

    headers: Mapping[str, str]
    lines: bytes

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self:
        """Raises as `head_lines`."""
        return cls(headers, head_lines(headers))


@lru_cache(maxsize=128)
def _form(names: tuple[str, ...]) -> str:
    """Header lines with a place for each value."""
    for name in names:
        lower = name.lower()
        if not _NAME.fullmatch(lower) or lower == "transfer-encoding" or (lower != name and lower in HOP_BY_HOP):
            raise ValueError("a header that an answer cannot have")
    return "".join(f"{name.lower().replace('%', '%%')}: %s\r\n" for name in names)


_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def _plain(value: str) -> str:
    """As a header value: no line breaks, no other control characters."""
    return value if value.isprintable() else _CONTROL.sub(" ", value)
