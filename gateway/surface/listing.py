"""GET /v1/models and /v1/models/{id}: the names that a client may ask for."""

from typing import Any
from urllib.parse import unquote

from gateway.setup import Live, Setup
from gateway.surface.exchange import Exchange
from wire.errors import NotFound


class Listing:
    def __init__(self, live: Live, started: int) -> None:
        self._live = live
        self._started = started
        """Unix seconds: `created` of every model."""

    async def __call__(self, exchange: Exchange, wanted: str | None, told: dict[str, str]) -> None:
        """All of them, or the one named `wanted` (it may hold `/`). Raises NotFound."""
        setup = self._live.setup
        setup.keys.check(exchange.headers)
        if wanted is None:
            data = [self._card(name) for name in names(setup)]
            await exchange.json(200, {"object": "list", "data": data}, told)
            return
        name = unquote(wanted)
        if setup.targets[name] is None and setup.embedder(name) is None:
            raise NotFound(f"the model '{name}' does not exist", param="model", code="model_not_found")
        await exchange.json(200, self._card(name), told)

    def _card(self, name: str) -> dict[str, Any]:
        card: dict[str, Any] = {"id": name, "object": "model", "created": self._started, "owned_by": "weir"}
        known = context_length(self._live.setup, name)
        if known is not None:
            # vLLM's name and the one that agents look for; without either some fall back to 8k.
            card.update(max_model_len=known, context_length=known)
        return card


def context_length(setup: Setup, model: str) -> int | None:
    """Tokens that a request by this name may have: what the largest rung behind it takes. None when nobody said."""
    target = setup.targets[model]
    if target is None:
        return None
    if target.use == "backend":
        rungs = [target.name]
    else:
        rungs = [rung.name for rung in setup.routes[target.name or setup.default].ladder]
    return max((n for name in rungs if (n := setup.settings.backends[name].context_length) is not None), default=None)


def names(setup: Setup) -> list[str]:
    """Exact model names as configured, then those of embeddings, then a pin for every route. Globs stand for names that nobody can
    list."""
    exact = [name for name in (*setup.models, *setup.embedders) if not any(c in name for c in "*?[")]
    return [*dict.fromkeys(exact), *(f"route/{name}" for name in setup.routes)]
