"""The client that the composition root makes: `http://` goes out through our own, `https://` through aiohttp.

aiohttp is imported and opened by the first request that needs it, in a thread (0.2 to 0.4 s; a configuration with local upstreams
only never pays for it), or beforehand by `prepare`.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from backends.http.base import Answer, Timeouts
from backends.http.local import Exchange, LocalClient
from backends.http.pool import CLOSED
from wire.errors import Broken

if TYPE_CHECKING:
    from backends.http.client import AiohttpClient


class HttpClient:
    """Made by the lifespan: `await open()` in the running loop, `await close()` at its end.

    limit: connections at once, per upstream (plain) and in all (TLS). keepalive: seconds that an idle connection is kept.
    ca_file: certificates trusted beside the system's.
    """

    def __init__(self, *, limit: int = 1024, keepalive: float = 15.0, ca_file: Path | None = None) -> None:
        self._limit = limit
        self._keepalive = keepalive
        self._ca_file = ca_file
        self._local = LocalClient(limit=limit, keepalive=keepalive)
        self._tls: AiohttpClient | None = None
        self._one_at_a_time = asyncio.Lock()
        self._closed = True

    async def open(self) -> None:
        self._closed = False
        await self._local.open()

    async def close(self) -> None:
        """Close every connection. Requests under way end with Broken."""
        self._closed = True
        await self._local.close()
        tls, self._tls = self._tls, None
        if tls is not None:
            await tls.close()

    def post(
        self, url: str, body: bytes, headers: Mapping[str, str], timeouts: Timeouts, request_id: str = ""
    ) -> AbstractAsyncContextManager[Answer]:
        """See `Http.post`."""
        if url[:5] == "http:" or url[:6].lower() != "https:":
            return Exchange(self._local, url, body, headers, timeouts, request_id)
        if self._tls is not None:
            return self._tls.post(url, body, headers, timeouts, request_id)
        return _First(self, url, body, headers, timeouts, request_id)

    async def prepare(self) -> "AiohttpClient":
        """Have the TLS client ready before the first request needs it. Raises Broken when the client is closed or `ca_file` unusable."""
        async with self._one_at_a_time:
            if self._closed:
                raise Broken(CLOSED)
            if self._tls is None:
                made = await asyncio.to_thread(self._make)
                try:
                    await made.open()
                except OSError as exc:  # ssl.SSLError is one
                    raise Broken(f"the certificates to trust cannot be read ({type(exc).__name__})") from exc
                if self._closed:
                    await made.close()
                    raise Broken(CLOSED)
                self._tls = made
            return self._tls

    def _make(self) -> "AiohttpClient":
        from backends.http.client import AiohttpClient

        return AiohttpClient(limit=self._limit, keepalive=self._keepalive, ca_file=self._ca_file)


class _First:
    """A POST that waits for the TLS client to be there."""

    __slots__ = ("_asked", "_client", "_inner")

    def __init__(
        self, client: HttpClient, url: str, body: bytes, headers: Mapping[str, str], timeouts: Timeouts, request_id: str
    ) -> None:
        self._client = client
        self._asked = (url, body, headers, timeouts, request_id)
        self._inner: AbstractAsyncContextManager[Answer] | None = None

    async def __aenter__(self) -> Answer:
        tls = await self._client.prepare()
        inner: AbstractAsyncContextManager[Answer] = tls.post(*self._asked)
        self._inner = inner
        return await inner.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inner is not None:
            await self._inner.__aexit__(kind, exc, trace)
