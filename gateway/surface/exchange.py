"""One HTTP exchange over ASGI: reading a bounded body, noticing that the caller left, answering once."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import orjson

from wire.errors import BadRequest, TooLarge

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

DRAINED = 64 * 2**20
"""Bytes past the limit that are read, and not kept, before the connection is closed."""


class ClientLeft(Exception):
    """The caller closed the connection."""


class Exchange:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope.get("query_string", b"")
        self.headers: dict[str, str] = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        self.started = False
        """The status has gone out."""
        self._receive = receive
        self._send = send
        self._read = False

    def public_headers(self) -> dict[str, str]:
        """What may be seen behind the door: no credentials, nothing that belongs to this connection."""
        return {name: value for name, value in self.headers.items() if name not in HIDDEN}

    async def body(self, limit: int) -> bytes:
        """The request body. Raises TooLarge, BadRequest (compressed), ClientLeft."""
        if self.headers.get("content-encoding", "identity") != "identity":
            raise BadRequest(
                "compressed request bodies are not taken: send it as it is", status=415, param="content-encoding"
            )
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
        """Waits until the caller has gone, then raises ClientLeft. After `body`."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        raise ClientLeft

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        self.started = True
        raw = [(name.encode("latin-1"), _latin(value)) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def more(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def whole(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        """A complete answer. Its length is told, so that the connection can be kept."""
        if not self._read and self.method == "POST":
            headers = {**headers, "connection": "close"}  # what was not read would be taken for the next request
        body = b"" if self.method == "HEAD" else data
        await self.start(status, {"content-type": JSON, "content-length": str(len(data)), **headers})
        await self.end(body)

    async def json(self, status: int, value: Any, headers: Mapping[str, str]) -> None:
        await self.whole(status, orjson.dumps(value), headers)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the request body is larger than {limit} bytes (limits.body_bytes)", param="body")


def _latin(value: str) -> bytes:
    return value.replace("\r", " ").replace("\n", " ").encode("latin-1", "replace")
