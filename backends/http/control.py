"""Control traffic: small questions to engines (health, metrics, models, adapters), never an answer for a caller. httpx behind `Control`.

Why another client than the request path's: it can GET, and nothing here is in anybody's way. httpx is imported by the first question,
in a thread.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from backends.http.rules import origin_of
from wire import failures
from wire.errors import Broken, TimedOut

if TYPE_CHECKING:
    import httpx

MOST = 4 * 2**20
"""Bytes of an answer. A page of vLLM's metrics has 50 to 500 KiB."""


class Control:
    """Made without a loop; `close` at the end of the lifespan. No redirects, no proxy, no cookies. At most 64 questions at once."""

    def __init__(self, *, most: int = MOST) -> None:
        self._most = most
        self._client: httpx.AsyncClient | None = None
        self._one_at_a_time = asyncio.Lock()
        self._closed = False

    async def get(self, url: str, headers: Mapping[str, str], seconds: float) -> bytes:
        """The body of a 2xx answer. Raises BackendError: TimedOut, Broken, or what the status means (`wire.failures`)."""
        return await self._ask("GET", url, None, headers, seconds)

    async def post(self, url: str, body: Any, headers: Mapping[str, str], seconds: float) -> bytes:
        """POST `body` as JSON. As `get`."""
        return await self._ask("POST", url, orjson.dumps(body), headers, seconds)

    async def close(self) -> None:
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _ask(self, verb: str, url: str, body: bytes | None, headers: Mapping[str, str], seconds: float) -> bytes:
        origin = origin_of(url)
        client = await self._ready()
        import httpx

        head = {"user-agent": "weir", **headers} | ({"content-type": "application/json"} if body is not None else {})
        try:
            async with (
                asyncio.timeout(seconds),
                client.stream(verb, url, content=body, headers=head, timeout=seconds) as answer,
            ):
                read = bytearray()
                async for block in answer.aiter_bytes():
                    read += block
                    if len(read) > self._most:
                        raise Broken(f"{origin}: the answer is longer than {self._most} bytes")
        except (TimeoutError, httpx.TimeoutException) as exc:
            raise TimedOut(f"{origin}: no end of the answer within {seconds:g} s") from exc
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as exc:  # RuntimeError: closed under way
            raise Broken(f"{origin}: cannot be asked ({type(exc).__name__})") from exc
        if not answer.is_success:
            raise failures.failure(origin, answer.status_code, bytes(read), dict(answer.headers))
        return bytes(read)

    async def _ready(self) -> "httpx.AsyncClient":
        if self._client is None:
            async with self._one_at_a_time:
                if self._closed:
                    raise Broken("the control client is closed")
                if self._client is None:
                    self._client = await asyncio.to_thread(_make)
        return self._client


def _make() -> "httpx.AsyncClient":
    import httpx

    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64, keepalive_expiry=15)
    return httpx.AsyncClient(trust_env=False, follow_redirects=False, limits=limits)


def document(origin: str, body: bytes) -> Any:
    """`body` as JSON. Raises Broken."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise Broken(f"{origin}: the answer is no JSON") from exc
