"""`weir check`: every mistake at once, each with its line; then what the configuration comes to."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, console, print_json, tell

if TYPE_CHECKING:
    from gateway.decide import Route, Rung
    from gateway.settings.mistakes import Mistake
    from gateway.setup import Setup


def register(app: typer.Typer) -> None:
    @app.command()
    def check(
        config: ConfigOption = DEFAULT_CONFIG,
        as_json: JsonOption = False,
        live: Annotated[bool, typer.Option("--live", help="Ask the rungs in the house what they enforce.")] = False,
        cloud: Annotated[bool, typer.Option("--cloud", help="With --live: ask those in the cloud too.")] = False,
    ) -> None:
        """Name every mistake of the configuration, or say what it comes to. Asks nobody, but with --live."""
        import asyncio

        from msgspec import to_builtins

        from gateway.app import Resources, build
        from gateway.cli.live import survey, tables
        from gateway.settings.load import load
        from gateway.settings.mistakes import ConfigError

        setup: Setup | None = None
        mistakes: tuple[Mistake, ...] = ()
        warned: list[str] = []
        try:
            loaded = load(config)
            mistakes = loaded.warnings
            resources = Resources(loaded.folder)
            setup = build(loaded, resources)
            known = {str(mistake) for mistake in mistakes}
            warned = [warning for warning in setup.warnings if warning not in known]
        except ConfigError as exc:
            mistakes = exc.mistakes
        found = asyncio.run(survey(setup, resources, cloud=cloud)) if live and setup is not None else []
        if as_json:
            said = report(setup, mistakes, warned)
            print_json(said | {"live": [to_builtins(seen) for seen in found]} if live else said)
        else:
            tell(mistakes)
            for warning in warned:
                console(stderr=True).print(f"warning: {warning}", style="yellow")
            _conclude(setup, str(config), mistakes, len(mistakes) + len(warned))
            for told in tables(found) if found else ():
                console().print(told)
            for seen in found:
                for lack in seen.lacks:
                    console(stderr=True).print(f"error: {seen.backend} on {lack}", style="red")
        raise typer.Exit(0 if setup is not None and not any(seen.lacks for seen in found) else 1)


def report(setup: "Setup | None", mistakes: "tuple[Mistake, ...]", warned: list[str]) -> dict[str, Any]:
    """What `--json` prints."""
    from msgspec import to_builtins

    told: dict[str, Any] = {
        "ok": setup is not None,
        "mistakes": [to_builtins(mistake) for mistake in mistakes],
        "warnings": warned,
    }
    if setup is not None:
        told |= {
            "config": setup.digest,
            "default": setup.default,
            "routes": [_route_facts(route) for route in setup.routes.values()],
            "backends": [_backend_facts(setup, rung) for rung in setup.rungs.values()],
            "models": sorted(setup.models),
        }
    return told


def _route_facts(route: "Route") -> dict[str, Any]:
    return {
        "name": route.name,
        "mode": route.mode,
        "shadowed": [rung.name for rung in route.shadowed],
        "ladder": [rung.name for rung in route.ladder],
        "risk": route.risk,
        "thresholds": {rung.name: rung.threshold for rung in route.ladder if rung.threshold is not None},
        "available": [rung.name for rung in route.ladder if not rung.missing],
        "missing": {rung.name: rung.missing for rung in route.ladder if rung.missing},
    }


def _backend_facts(setup: "Setup", rung: "Rung") -> dict[str, Any]:
    price = setup.prices[rung.name]
    return {
        "name": rung.name,
        "kind": setup.settings.backends[rung.name].kind,
        "model": str(getattr(setup.settings.backends[rung.name], "model", "") or ""),
        "digest": rung.digest,
        "cloud": rung.cloud,
        "missing": rung.missing,
        "price": {"input": price.input, "cached_input": price.cached_input, "output": price.output},
    }


def _conclude(setup: "Setup | None", config: str, mistakes: "tuple[Mistake, ...]", count: int) -> None:
    if setup is None:
        errors = sum(mistake.severity == "error" for mistake in mistakes)
        typer.echo(f"{config}: {_counted(errors, 'mistake')}", err=True)
        return
    out = console()
    out.print(_routes(setup))
    out.print(_backends(setup))
    out.print(f"models: {', '.join(setup.models) or 'none'}")
    warnings = f", {_counted(count, 'warning')}" if count else ""
    out.print(f"{config} is valid{warnings} (config {setup.digest})")


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _routes(setup: "Setup") -> Any:
    from rich.table import Table

    table = Table(title="routes", title_justify="left")
    for column in ("route", "mode", "ladder", "accept", "available"):
        table.add_column(column, overflow="fold")
    for route in setup.routes.values():
        default = " (default)" if route.name == setup.default else ""
        missing = [rung for rung in route.ladder if rung.missing]
        available = "yes" if not missing else "partly" if len(missing) < len(route.ladder) else "no"
        table.add_row(
            route.name + default,
            _mode(route),
            " > ".join(rung.name for rung in route.ladder),
            accepts(route),
            available + "".join(f"; {rung.name} needs {rung.missing}" for rung in missing),
        )
    return table


def _mode(route: "Route") -> str:
    beside = [rung.name for rung in route.shadowed] if route.mode != "shadow" else []
    share = f" {route.canary:.0%}" if route.mode == "canary" else ""
    return f"{route.mode}{share}" + (f", {', '.join(beside)} in shadow" if beside else "")


def accepts(route: "Route") -> str:
    """When this route takes a small model's answer, in words."""
    if len(route.ladder) == 1:
        return "as it comes"
    if route.risk is None:
        return "checks only"
    sure = [rung for rung in route.ladder[:-1] if rung.threshold is not None]
    at = "; ".join(f"{rung.name} at {rung.threshold:.4f}" for rung in sure) or "never sure: not calibrated"
    return f"risk {route.risk:.2%} ({at})"


def _backends(setup: "Setup") -> Any:
    from rich.table import Table

    table = Table(title="backends", title_justify="left")
    for column in ("backend", "kind", "model", "where", "USD per million tokens in / cached / out", "available"):
        table.add_column(column, overflow="fold")
    for rung in setup.rungs.values():
        facts, price = _backend_facts(setup, rung), setup.prices[rung.name]
        table.add_row(
            rung.name,
            facts["kind"],
            facts["model"] or rung.digest[:16],
            "cloud" if rung.cloud else "local",
            f"{price.input:g} / {price.cached_input:g} / {price.output:g}",
            f"needs {rung.missing}" if rung.missing else "yes",
        )
    return table
