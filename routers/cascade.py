"""`kind: cascade`: asks its tiers in order, cheapest first, and stops at the first one that is sure.

A tier is sure when its best score reaches its `sure`, or its out-of-scope its `sure_out`. Then its word alone counts:
what earlier tiers guessed is dropped, so that two half-sure tiers never add up to a third opinion. When none is sure, a
later tier overrides an earlier one for the routes that both scored, and the rest is kept.

A tier that raises is passed over and named in `Scores.errors`; only when all raise does the cascade raise. There is no
deadline in here: the pipeline holds one over the whole router, and a late answer sends the request the default way.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from routers.base import Router, RouterConfig, RouterResources, RouteSpec
from wire.kinds import load_kind
from wire.types import Query, Scores


def _tier(value: Any) -> Any:
    """A table becomes its kind's own `Config`; its mistakes keep their place (`of.1.neighbours`)."""
    if not isinstance(value, Mapping):
        return value
    kind = value.get("kind")
    if not isinstance(kind, str):
        raise ValueError("give kind: which router this tier is")
    return load_kind("routers", kind).Config.model_validate(value)


class CascadeConfig(RouterConfig):
    kind: str = "cascade"
    of: tuple[Annotated[SerializeAsAny[RouterConfig], BeforeValidator(_tier)], ...] = Field(
        max_length=8, description="routers, cheapest first; each may say name, sure and sure_out"
    )

    @model_validator(mode="after")
    def _some_and_distinct(self) -> Self:
        if not self.of:
            raise ValueError("of: give at least one tier")
        names = [tier_name(tier) for tier in self.of]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two tiers are called {', '.join(twice)}: give them a name")
        return self


def tier_name(config: RouterConfig) -> str:
    return config.name or config.kind


class Cascade:
    """Several routers as one. See the file's head."""

    Config = CascadeConfig

    def __init__(self, config: CascadeConfig, routes: Sequence[RouteSpec], resources: RouterResources) -> None:
        """Raises what building a tier raises."""
        self._tiers = tuple(
            _Tier(
                tier_name(tier),
                load_kind("routers", tier.kind)(tier, routes, resources),
                tier.sure,
                tier.sure_out,
                tier.kind == CascadeConfig.model_fields["kind"].default,
            )
            for tier in config.of
        )

    async def score(self, query: Query) -> Scores:
        """Raises ExceptionGroup when every tier raised."""
        heard: list[tuple[str, Scores]] = []
        silent = ""
        failed: list[tuple[str, Exception]] = []
        for name, router, sure, sure_out, nested in self._tiers:
            try:
                scores = await router.score(query)
            except Exception as exc:  # whatever a router raises, the next one may still know
                failed.append((name, exc))
                continue
            source = f"{name}/{scores.source}" if nested else name
            by_route, out = scores.by_route, scores.out_of_scope
            if not by_route and out is None:
                silent = source
                continue
            if (out is not None and out >= sure_out) or (by_route and max(by_route.values()) >= sure):
                heard = [(source, scores)]
                break
            heard.append((source, scores))
        errors = tuple(name for name, _ in failed) if failed else ()
        if len(heard) == 1:
            [(source, scores)] = heard
            return Scores(scores.by_route, scores.out_of_scope, source, errors)
        if heard:
            return _merge(heard, errors)
        if silent:
            return Scores({}, None, silent, errors)
        raise ExceptionGroup("every tier of the cascade failed", [exc for _, exc in failed])


class _Tier(NamedTuple):
    name: str
    router: Router
    sure: float
    sure_out: float
    nested: bool
    """It is a cascade, so its scores' source is named beside it."""


def _merge(heard: Sequence[tuple[str, Scores]], errors: tuple[str, ...]) -> Scores:
    """Later over earlier. The source is who gave the best score; without scores, who gave the out-of-scope."""
    by_route: dict[str, float] = {}
    owner: dict[str, str] = {}
    out, source = None, ""
    for name, scores in heard:
        for route, score in scores.by_route.items():
            by_route[route], owner[route] = score, name
        if scores.out_of_scope is not None:
            out, source = scores.out_of_scope, name
    if by_route:
        source = owner[max(by_route, key=by_route.__getitem__)]
    return Scores(by_route, out, source, errors)
