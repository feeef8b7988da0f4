"""POST /v1/messages/count_tokens: how long a prompt is, before it is sent.

A rung that speaks Anthropic's wire counts exactly and for nothing; it is asked when the requested name leads to one: the backend that
knows the name (`through`, `backend/NAME`), else the top rung of the route, whose model is the one to fit into. Everywhere else, and when
that rung cannot say, the answer is an estimate: four characters to a token over messages, tools and schema (`gateway.money`), images and
files not counted. `x-weir-count` says which of the two it is: `upstream` or `estimate`. A count is no answer of a model: it costs nothing,
and there is no Record of it.
"""

import asyncio
from typing import Any, Protocol, runtime_checkable

from gateway import money
from gateway.calls import SPOKEN
from gateway.dialects import messages
from gateway.setup import Live, Setup
from gateway.surface.admission import LimitsOf, admitted, request_id_of
from gateway.surface.exchange import ClientLeft, Exchange
from gateway.surface.presence import Presence
from wire.errors import BackendError, NotFound, WeirError
from wire.types import Call

SECONDS = 10.0
"""For an upstream to count; a backend may allow itself less."""


@runtime_checkable
class Counts(Protocol):
    """A backend that can count."""

    async def count(self, call: Call) -> int:
        """Raises BackendError."""


class Count:
    def __init__(self, live: Live, limits: LimitsOf) -> None:
        self._live = live
        self._limits = limits

    async def __call__(self, exchange: Exchange) -> None:
        setup = self._live.setup
        request_id = request_id_of(exchange)
        told = {"x-request-id": request_id, "x-weir-request-id": request_id, messages.id_header: request_id}
        self._live.in_flight += 1
        try:
            _, _, body = await admitted(self._live, setup, self._limits, exchange, told)
            await self._answer(exchange, setup, body, told)
        except WeirError as error:
            error.request_id = request_id
            await exchange.whole(messages.status(error), messages.error(error), {**told, **error.headers})
        except ClientLeft:
            pass
        finally:
            self._live.in_flight -= 1

    async def _answer(self, exchange: Exchange, setup: Setup, body: Any, told: dict[str, str]) -> None:
        canonical = messages.canonical(body)
        rung = counting_rung(setup, canonical["model"])
        call = self._call(setup, exchange, rung, canonical, body, told["x-request-id"])
        async with Presence(exchange):
            tokens = await _asked(setup, rung, call)
            source = "estimate" if tokens is None else "upstream"
            tokens = money.estimate(canonical).input if tokens is None else tokens
            await exchange.json(200, {"input_tokens": tokens}, {**told, "x-weir-count": source})

    def _call(
        self, setup: Setup, exchange: Exchange, rung: str, canonical: dict[str, Any], body: Any, request_id: str
    ) -> Call:
        passthrough = bool(rung) and setup.rungs[rung].passthrough
        return Call(
            body=canonical,
            seconds=SECONDS,
            model=canonical["model"],
            dialect=messages.name,
            native=body,
            credential=setup.keys.foreign(exchange.headers) if passthrough else "",
            request_id=request_id,
            headers={name: exchange.headers[name] for name in SPOKEN[messages.name] if name in exchange.headers},
        )


def counting_rung(setup: Setup, model: str) -> str:
    """The backend that counts for this name; "" when there is none. Raises NotFound for an unknown name."""
    target = setup.targets[model]
    if target is None:
        raise NotFound(f"the model '{model}' does not exist", param="model", code="model_not_found")
    named = [target.through, target.name] if target.use == "backend" else [target.through]
    if target.use != "backend":
        named.append(setup.routes[target.name or setup.default].top.name)
    able = (name for name in named if name and not setup.rungs[name].missing)
    return next((name for name in able if isinstance(setup.backends[name], Counts)), "")


async def _asked(setup: Setup, rung: str, call: Call) -> int | None:
    backend = setup.backends.get(rung)
    if not isinstance(backend, Counts):
        return None
    try:
        async with asyncio.timeout(SECONDS):
            return await backend.count(call)
    except (BackendError, TimeoutError):
        return None
