"""The way out to TLS clouds: aiohttp behind `Http`.

Why aiohttp: 142 us a request, cancels at once in every phase, TLS (httpx's pool costs 6.6 ms a request at 64 connections;
pyreqwest is faster, but leaves the request running upstream when it is cancelled before the head; Nov 2026, 2 vCPU).

What it is told not to do: no cookies, no redirects, no proxy from the environment, no compression asked for (a server that
compresses anyway is decoded), no retry of its own (it retries no POST).

One retry is ours: a kept-alive connection may be closed by the server at the moment when it is used again. Then, and only when
not one byte of an answer has come, the request is sent once more on a fresh connection (RFC 9112, section 9.3.1). Whether bytes
came is known to the protocol object alone, hence `_Protocol`.
"""

import asyncio
import functools
import io
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from backends.http.base import Timeouts
from backends.http.errors import translated
from backends.http.rules import NOT_PASSED_ON, origin_of
from wire.errors import Broken

_LARGE = 2**19
"""Bytes. A larger body is written in slices, so that the loop breathes in between."""


class _Sent:
    """What became of one sending: which connection took it."""

    __slots__ = ("protocol",)

    def __init__(self) -> None:
        self.protocol: _Protocol | None = None

    def stale(self) -> bool:
        """The connection had served before, and not a byte came back on it this time."""
        return self.protocol is not None and self.protocol.requests > 1 and not self.protocol.heard


_sent: ContextVar[_Sent] = ContextVar("_sent")


class _Protocol(ResponseHandler):
    """Counts the requests of a connection, and whether anything came back since the last one."""

    requests = 0
    heard = False

    def set_response_params(self, **params: Any) -> None:
        self.requests += 1
        self.heard = False
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        self.heard = True
        super().data_received(data)


class _Connector(aiohttp.TCPConnector):
    """Tells the sending that asks for a connection which one it got."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        protocol: type[ResponseHandler] = _Protocol
        self._factory = functools.partial(protocol, loop=self._loop)

    async def connect(self, *args: Any, **options: Any) -> Connection:
        connection = await super().connect(*args, **options)
        if isinstance(connection.protocol, _Protocol):
            _sent.get().protocol = connection.protocol
        return connection


class AiohttpClient:
    """Made by the lifespan: `await open()` in the running loop, `await close()` at its end.

    limit: connections at once; who comes later waits (phase `connect`). keepalive: seconds that an idle connection is kept.
    ca_file: certificates trusted beside the system's. max_header: bytes of one header line.
    """

    def __init__(
        self, *, limit: int = 1024, keepalive: float = 15.0, ca_file: Path | None = None, max_header: int = 32 * 1024
    ) -> None:
        self._limit = limit
        self._keepalive = keepalive
        self._ca_file = ca_file
        self._max_header = max_header
        self._pooled: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Raises OSError or ssl.SSLError when `ca_file` cannot be read."""
        context: ssl.SSLContext | bool = True
        if self._ca_file is not None:
            context = ssl.create_default_context()
            context.load_verify_locations(self._ca_file)
        shared: dict[str, Any] = {"limit": self._limit, "limit_per_host": 0, "ssl": context, "ttl_dns_cache": 30}
        self._pooled = self._session(_Connector(keepalive_timeout=self._keepalive, **shared))
        self._fresh = self._session(_Connector(force_close=True, **shared))

    async def close(self) -> None:
        """Close every connection. Requests under way end with Broken."""
        sessions, self._pooled, self._fresh = (self._pooled, self._fresh), None, None
        for session in sessions:
            if session is not None:
                await session.close()

    def post(
        self, url: str, body: bytes, headers: Mapping[str, str], timeouts: Timeouts, request_id: str = ""
    ) -> "_Post":
        """See `Http.post`."""
        return _Post(self, url, body, {"x-request-id": request_id, **headers} if request_id else headers, timeouts)

    async def send(self, url: str, body: bytes, headers: Mapping[str, str], connect: float) -> aiohttp.ClientResponse:
        """Send once; once more when the connection turns out to have been closed by the server. Raises aiohttp's errors."""
        if self._pooled is None or self._fresh is None:
            raise Broken("the HTTP client is closed")
        sent = _Sent()
        token = _sent.set(sent)
        try:
            return await self._send(self._pooled, url, body, headers, connect)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if not sent.stale():
                raise
            return await self._send(self._fresh, url, body, headers, connect)
        finally:
            _sent.reset(token)

    async def _send(
        self, session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str], connect: float
    ) -> aiohttp.ClientResponse:
        return await session.post(
            url,
            data=body if len(body) < _LARGE else io.BytesIO(body),
            headers={"accept-encoding": "identity", **headers},
            allow_redirects=False,
            timeout=_connect_within(connect),
        )

    def _session(self, connector: _Connector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"user-agent": "weir"},
            trust_env=False,
            auto_decompress=True,
            raise_for_status=False,
            max_line_size=self._max_header,
            max_field_size=self._max_header,
        )


class _Post:
    """One POST: the context that `AiohttpClient.post` gives."""

    __slots__ = ("_answer", "_body", "_client", "_headers", "_timeouts", "_url")

    def __init__(
        self, client: AiohttpClient, url: str, body: bytes, headers: Mapping[str, str], timeouts: Timeouts
    ) -> None:
        self._client = client
        self._url = url
        self._body = body
        self._headers = headers
        self._timeouts = timeouts
        self._answer: _Answer | None = None

    async def __aenter__(self) -> "_Answer":
        limits = self._timeouts
        begun = asyncio.get_running_loop().time()
        seconds, phase = limits.first_byte, "first_byte"
        if limits.total is not None and limits.total < seconds:
            seconds, phase = limits.total, "total"
        origin = origin_of(self._url)
        with translated(origin, phase, seconds):
            async with asyncio.timeout_at(begun + seconds):
                response = await self._client.send(self._url, self._body, self._headers, limits.connect)
        self._answer = _Answer(response, origin, begun, limits)
        return self._answer

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A body that was read to its end has given its connection back already; any other connection is closed here.
        if self._answer is not None:
            self._answer.close()


class _Answer:
    """`Answer`, and the iterator of its blocks (no generator: nothing to finalise when nobody reads on)."""

    __slots__ = ("_begun", "_first", "_limits", "_loop", "_origin", "_response", "headers", "status", "whole")

    def __init__(self, response: aiohttp.ClientResponse, origin: str, begun: float, limits: Timeouts) -> None:
        self.status = response.status
        self.whole: bytes | None = None
        self.headers: Mapping[str, str] = _head(response)
        self._response = response
        self._origin = origin
        self._begun = begun
        self._limits = limits
        self._first = True
        self._loop = asyncio.get_running_loop()

    @property
    def ended(self) -> bool:
        return self._response.content.at_eof()

    def blocks(self) -> AsyncIterator[bytes]:
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        content = self._response.content
        when, seconds, phase = self._until()
        with translated(self._origin, phase, seconds):
            block = content.read_nowait()  # raises what ended the body early
            if not block and not content.at_eof():
                async with asyncio.timeout_at(when):
                    block = await content.readany()
        if not block:
            raise StopAsyncIteration
        self._first = False
        return block

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        async for block in self:
            if not take(block):
                return True
        return False

    async def read(self, limit: int = 64 * 2**20) -> bytes:
        blocks: list[bytes] = []
        length = 0
        async for block in self:
            blocks.append(block)
            length += len(block)
            if length > limit:
                raise Broken(f"{self._origin}: the answer is longer than {limit} bytes")
        return b"".join(blocks)

    def close(self) -> None:
        self._response.close()

    def _until(self) -> tuple[float, float, str]:
        """The loop time until which the next block must come, the seconds that this is, and the phase they belong to."""
        limits = self._limits
        if self._first:
            when, seconds, phase = self._begun + limits.first_byte, limits.first_byte, "first_byte"
        else:
            when, seconds, phase = self._loop.time() + limits.idle, limits.idle, "idle"
        if limits.total is not None and self._begun + limits.total < when:
            return self._begun + limits.total, limits.total, "total"
        return when, seconds, phase


def _head(response: aiohttp.ClientResponse) -> dict[str, str]:
    named = {name.strip().lower() for name in response.headers.get("connection", "").split(",")}
    head: dict[str, str] = {}
    for name, value in response.headers.items():
        name = name.lower()
        if name not in NOT_PASSED_ON and name not in named:
            head[name] = f"{head[name]}, {value}" if name in head else value
    return head


@functools.lru_cache(maxsize=256)
def _connect_within(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=seconds, sock_connect=seconds)
