"""The ASGI callable: model endpoints at once, everything else to the administration app."""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import FastAPI

from gateway.surface.exchange import Exchange, Receive, Scope, Send
from gateway.surface.listing import Listing
from gateway.surface.models import Door, request_id_of
from wire.errors import NotFound, WeirError


class Surface:
    """doors: path without the `/v1` prefix > endpoint. With and without the prefix both work: clients differ."""

    def __init__(self, doors: Mapping[str, Door], listing: Listing, operations: FastAPI, lifespan: "Lifespan") -> None:
        self._doors = {prefix + path: door for path, door in doors.items() for prefix in ("", "/v1")}
        self._listing = listing
        self._operations = operations
        self._lifespan = lifespan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            door = self._doors.get(scope["path"])
            if door is not None:
                exchange = Exchange(scope, receive, send)
                if scope["method"] == "POST":
                    await door(exchange)
                else:
                    await _refuse(
                        exchange, NotFound(f"{scope['path']} takes POST", status=405, code="method_not_allowed")
                    )
                return
            path = scope["path"].removeprefix("/v1")
            if path == "/models" or path.startswith("/models/"):
                await self._models(Exchange(scope, receive, send), path)
                return
            await self._operations(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)

    async def _models(self, exchange: Exchange, path: str) -> None:
        told = {"x-request-id": request_id_of(exchange)}
        try:
            if exchange.method not in ("GET", "HEAD"):
                raise NotFound(f"{exchange.path} takes GET", status=405, code="method_not_allowed")
            await self._listing(exchange, path.removeprefix("/models/") if path != "/models" else None, told)
        except WeirError as error:
            await _refuse(exchange, error)


Lifespan = Callable[[Scope, Receive, Send], Awaitable[None]]


async def _refuse(exchange: Exchange, error: WeirError) -> None:
    await exchange.json(error.status, error.body(), {"x-request-id": request_id_of(exchange), **error.headers})
