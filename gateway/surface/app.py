"""The ASGI callable: model endpoints at once, everything else to the administration app."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from fastapi import FastAPI

from gateway.dialects import messages
from gateway.setup import Live
from gateway.surface.admission import request_id_of
from gateway.surface.exchange import HEADER_BYTES, Exchange, Receive, Scope, Send
from gateway.surface.listing import Listing
from wire.errors import BadRequest, NotFound, WeirError


class Surface:
    """doors: path without the `/v1` prefix > endpoint. below: such a path that ends with `/` > endpoint of all that lies below it, which
    gets the rest of the path. With and without the prefix both work: clients differ."""

    def __init__(
        self,
        live: Live,
        doors: Mapping[str, "Endpoint"],
        listing: Listing,
        operations: FastAPI,
        lifespan: "Lifespan",
        *,
        below: "Mapping[str, Below] | None" = None,
    ) -> None:
        self._live = live
        self._doors = {prefix + path: door for path, door in doors.items() for prefix in ("", "/v1")}
        self._below = dict(below or {})
        self._listing = listing
        self._operations = operations
        self._lifespan = lifespan

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """ASGI 3. What nearly all ask is handed on at once: who waits for it does so without a step in between. It is no coroutine
        function, so a server that guesses takes it for ASGI 2: tell it."""
        if scope["type"] == "http" and scope["method"] == "POST" and not self._live.setup.edge.cors:
            door = self._doors.get(scope["path"])
            if door is not None:
                exchange = Exchange(scope, receive, send)
                if not exchange.oversized:
                    return door(exchange)
        return self._rest(scope, receive, send)

    async def _rest(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        if scope["type"] != "http":
            return
        if origins := self._live.setup.edge.cors:
            send = _allowing(scope, send, origins)
        exchange = Exchange(scope, receive, send)
        door = self._doors.get(exchange.path)
        path = exchange.path.removeprefix("/v1")
        if exchange.oversized:
            await _refuse(exchange, _too_many())
        elif exchange.method == "OPTIONS":
            await _preflight(exchange, allowed=bool(origins))
        elif door is not None and exchange.method == "POST":
            await door(exchange)
        elif door is not None:
            await _refuse(exchange, NotFound(f"{exchange.path} takes POST", status=405, code="method_not_allowed"))
        elif path == "/models" or path.startswith("/models/"):
            await self._models(exchange, path)
        elif start := next((start for start in self._below if path.startswith(start)), None):
            await self._below[start](exchange, path[len(start) :])
        elif path.startswith(f"/{messages.name}/"):
            await _refuse(exchange, NotFound(f"there is nothing at {exchange.path}"))
        elif path in ("", "/") and exchange.method in ("GET", "HEAD"):
            # Claude Code and others knock here before they ask anything.
            await exchange.json(200, {"name": "weir"}, {"x-request-id": request_id_of(exchange)})
        else:
            await self._operations(scope, receive, _named(exchange, send))

    async def _models(self, exchange: Exchange, path: str) -> None:
        told = {"x-request-id": request_id_of(exchange)}
        try:
            if exchange.method not in ("GET", "HEAD"):
                raise NotFound(f"{exchange.path} takes GET", status=405, code="method_not_allowed")
            await self._listing(exchange, path.removeprefix("/models/") if path != "/models" else None, told)
        except WeirError as error:
            await _refuse(exchange, error)


def _too_many() -> BadRequest:
    said = f"the request headers are larger than {HEADER_BYTES} bytes"
    return BadRequest(said, status=431, code="headers_too_large")


def _named(exchange: Exchange, send: Send) -> Send:
    """Every answer has a request id, also those of the administration app."""
    request_id = request_id_of(exchange).encode("latin-1")

    async def named(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", request_id)]}
        await send(message)

    return named


def _allowing(scope: Scope, send: Send, origins: Sequence[str]) -> Send:
    """CORS, for the origins that `server.cors` names."""
    origin = next((value for name, value in scope["headers"] if name.lower() == b"origin"), b"").decode("latin-1")
    if not origin or not ("*" in origins or origin in origins):
        return send

    async def allowing(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            told = [
                (b"access-control-allow-origin", origin.encode("latin-1")),
                (b"access-control-allow-methods", b"GET, POST, DELETE, OPTIONS"),
                (b"access-control-allow-headers", b"*, authorization"),
                (b"access-control-expose-headers", b"*"),
                (b"vary", b"origin"),
            ]
            message = {**message, "headers": [*message.get("headers", ()), *told]}
        await send(message)

    return allowing


async def _preflight(exchange: Exchange, *, allowed: bool) -> None:
    """OPTIONS: 204; browsers go on only when the origin was named above."""
    headers = {"x-request-id": request_id_of(exchange), "allow": "GET, POST, DELETE, OPTIONS"}
    if allowed:
        headers["access-control-max-age"] = "600"
    await exchange.start(204, headers)
    await exchange.end()


Lifespan = Callable[[Scope, Receive, Send], Awaitable[None]]
Endpoint = Callable[[Exchange], Awaitable[None]]
Below = Callable[[Exchange, str], Awaitable[None]]


async def _refuse(exchange: Exchange, error: WeirError) -> None:
    if exchange.path.removeprefix("/v1").startswith(f"/{messages.name}"):
        error.request_id = request_id_of(exchange)
        told = {"x-request-id": error.request_id, messages.id_header: error.request_id, **error.headers}
        await exchange.whole(messages.status(error), messages.error(error), told)
        return
    await exchange.json(error.status, error.body(), {"x-request-id": request_id_of(exchange), **error.headers})
