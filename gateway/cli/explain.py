"""`weir explain REQUEST.json`: what would happen to a request, and why. Routers are asked, backends never."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.check import accepts
from gateway.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, configured, console, fail, print_json, tell

if TYPE_CHECKING:
    from gateway.setup import Setup
    from gateway.story import Story
    from routers.base import RouterConfig, RouterResources
    from wire.types import Asked, Query, Scores

Tier = tuple[str, "Scores | None", str]
"""A router's name, what it said, and why it said nothing."""
Headers = Annotated[
    list[str] | None, typer.Option("--header", "-H", help="Request header as NAME: VALUE; may be given several times.")
]
MOST_SCORES = 5


def register(app: typer.Typer) -> None:
    @app.command()
    def explain(
        request: Annotated[Path, typer.Argument(help="A file with the request's JSON body, or - for stdin.")],
        config: ConfigOption = DEFAULT_CONFIG,
        dialect: Annotated[str, typer.Option(help="Whose JSON it is.")] = "chat",
        header: Headers = None,
        as_json: JsonOption = False,
    ) -> None:
        """Print a request's facts, scores, decision and ladder. Calls no backend."""
        from gateway.app import Resources, build
        from gateway.settings.mistakes import ConfigError
        from wire.errors import WeirError

        raw = _read(request)
        loaded = configured(config)
        resources = Resources(loaded.folder)
        try:
            setup = build(loaded, resources)
        except ConfigError as exc:
            tell(exc.mistakes)
            raise typer.Exit(1) from None
        try:
            asked = understand(raw, dialect, _headers(header or ()), setup)
            tiers, story = asyncio.run(_decide(setup, asked, resources))
        except WeirError as exc:
            fail(f"{exc.status} {exc.code or exc.type}: {exc.message}")
        if as_json:
            print_json({"facts": facts(asked.query), "tiers": [_said(tier) for tier in tiers], **conclusion(story)})
        else:
            _show(setup, asked, tiers, story)


def _read(request: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(request) == "-" else request.read_bytes()
    except OSError as exc:
        fail(f"{request}: {exc.strerror or 'cannot be read'}", 2)


def _headers(given: Sequence[str]) -> dict[str, str]:
    pairs = [line.partition(":") for line in given]
    wrong = next((name for name, colon, _ in pairs if not colon or not name.strip()), None)
    if wrong is not None:
        fail(f"a header is NAME: VALUE, not {wrong!r}", 2)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def understand(raw: bytes, dialect: str, headers: Mapping[str, str], setup: "Setup") -> "Asked":
    """The request as the gateway would read it. Raises WeirError as the gateway would answer it."""
    from importlib import import_module

    import orjson

    from gateway.dialects.base import Caller, Dialect
    from gateway.surface.schema import check_constraint
    from wire.errors import BadRequest
    from wire.kinds import kinds

    known = [
        name for name in kinds("gateway.dialects") if hasattr(import_module(f"gateway.dialects.{name}"), "understand")
    ]
    if dialect not in known:
        fail(f"no dialect {dialect!r}: one of {', '.join(known)}", 2)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        message = f"the request body is not valid JSON: {exc.msg} (line {exc.lineno}, column {exc.colno})"
        raise BadRequest(message, param="body", code="invalid_json") from None
    spoken: Dialect = import_module(f"gateway.dialects.{dialect}")
    asked = spoken.understand(body, raw, Caller(headers=headers))
    if asked.constraint is not None:
        check_constraint(asked.constraint, setup.edge, spoken.schema_param)
    return asked


async def _decide(setup: "Setup", asked: "Asked", resources: "RouterResources") -> tuple[list[Tier], "Story"]:
    from gateway.choose import choose
    from gateway.settings import bypass
    from gateway.setup import Live
    from gateway.story import Story

    live = Live(setup, ())
    live.bypass = bypass.read(setup.settings.server.state_dir).bypass
    story = Story(setup, asked, "explain", setup.clock(), setup.now())
    await choose(live, story)
    return await _ask_tiers(setup, asked.query, resources), story


async def _ask_tiers(setup: "Setup", query: "Query", resources: "RouterResources") -> list[Tier]:
    """Every router apart: in a cascade also those that would not be asked because an earlier one is sure."""
    from routers.base import RouteSpec
    from routers.rules import read_matches
    from wire.kinds import load_kind

    specs = [
        RouteSpec(
            name=name,
            match=read_matches(route.match),
            examples=route.examples if isinstance(route.examples, tuple) else (),
            description=route.description,
        )
        for name, route in setup.settings.routes.items()
    ]
    tiers: list[Tier] = []
    for config in _tiers(setup.settings.router.use):
        name = config.name or config.kind
        try:
            tiers.append((name, await load_kind("routers", config.kind)(config, specs, resources).score(query), ""))
        except Exception as exc:  # as in the product: a router that raises is passed over, and said
            tiers.append((name, None, f"raised {type(exc).__name__}"))
    return tiers


def _tiers(config: "RouterConfig") -> "list[RouterConfig]":
    inner: Sequence[RouterConfig] | None = getattr(config, "of", None)
    return [config] if inner is None else [tier for part in inner for tier in _tiers(part)]


def facts(query: "Query") -> dict[str, Any]:
    """What rules can match on, by the names that `match:` has for it; the text only as its length."""
    return {
        "model": query.model,
        "system": query.system,
        "tools": query.tools,
        "tool_names": list(query.tool_names),
        "schema": query.schema,
        "schema_name": query.schema_name,
        "signature": query.signature,
        "turns": query.turns,
        "chars": query.chars,
        "text_chars": len(query.text),
        "modality": sorted(query.modality),
        "tool_loop": query.tool_loop,
        "session": query.session,
    }


def _said(tier: Tier) -> dict[str, Any]:
    name, scores, why = tier
    if scores is None:
        return {"tier": name, "error": why}
    return {"tier": name, "scores": dict(scores.by_route), "out_of_scope": scores.out_of_scope}


def conclusion(story: "Story") -> dict[str, Any]:
    """The decision and the rungs that would be asked, in order."""
    decision, route = story.decision, story.route
    return {
        "decision": {
            "route": decision.route,
            "reason": decision.reason,
            "score": decision.score,
            "source": story.scores.source,
            "mode": story.mode,
            "direct": decision.direct,
            "unchecked": story.straight,
            "unchanged": story.verbatim,
        },
        "accept": accepts(route) if route else "as it comes",
        "ladder": [
            {
                "rung": rung.name,
                "cloud": rung.cloud,
                "missing": rung.missing,
                "forbidden": story.plan.egress == "local" and rung.cloud,
                "threshold": None if story.straight else rung.threshold,
                "timeout": rung.timeout,
            }
            for rung in story.plan.rungs
        ],
    }


def _show(setup: "Setup", asked: "Asked", tiers: list[Tier], story: "Story") -> None:
    from rich.table import Table

    out, told = console(), conclusion(story)
    table = Table("fact", "value", title="facts (as `match:` names them)", title_justify="left")
    for name, value in facts(asked.query).items():
        if value not in ("", [], False):
            table.add_row(name, f'"{value}"' if name in ("system", "tools", "schema", "signature") else _text(value))
    out.print(table)
    table = Table("router", "scores", "out of scope", title="scores", title_justify="left")
    for name, scores, why in tiers:
        out_of_scope = "" if scores is None or scores.out_of_scope is None else f"{scores.out_of_scope:.3f}"
        table.add_row(name, why if scores is None else _best(scores.by_route), out_of_scope)
    out.print(table)
    decision = told["decision"]
    score = "" if decision["score"] is None else f", score {decision['score']:.3f}"
    by = f" by {decision['source']}" if decision["source"] else ""
    out.print(
        f"decision: {decision['route'] or asked.query.model} ({decision['reason']}{score}{by}), {decision['mode']}"
    )
    if decision["unchecked"]:
        out.print("straight through: one rung, no check" + (", the body unchanged" if decision["unchanged"] else ""))
    if decision["direct"]:
        out.print("direct: only the top rung is asked")
    if story.would:
        out.print(f"in enforce, {story.would} would be asked first")
    out.print(f"accept: {told['accept']}")
    for number, rung in enumerate(told["ladder"], 1):
        out.print(f"{number}. {rung['rung']}: {_state(rung)}")
    missing = [rung["missing"] for rung in told["ladder"] if rung["missing"]]
    if missing and len(missing) == len(told["ladder"]):
        out.print(f"nobody can answer until {missing[0]} is set: 503", style="yellow")


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _best(by_route: Mapping[str, float]) -> str:
    best = sorted(by_route.items(), key=lambda pair: -pair[1])
    more = f", and {len(best) - MOST_SCORES} more" if len(best) > MOST_SCORES else ""
    return ", ".join(f"{name} {score:.3f}" for name, score in best[:MOST_SCORES]) + more or "none"


def _state(rung: Mapping[str, Any]) -> str:
    if rung["missing"]:
        state = f"unavailable until {rung['missing']} is set"
    elif rung["forbidden"]:
        state = "never asked (egress: local)"
    else:
        state = "available"
    sure = "" if rung["threshold"] is None else f", taken at probability {rung['threshold']:.4f} and above"
    return f"{state}, at most {rung['timeout']:g} s{sure}"
