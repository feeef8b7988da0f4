"""`weir bypass on|off|status`: everything, or one route, straight through to the model asked for. The server notices within a second."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, fail, print_json


class Switch(StrEnum):
    on = "on"
    off = "off"
    status = "status"


def register(app: typer.Typer) -> None:
    @app.command()
    def bypass(
        switch: Annotated[Switch, typer.Argument(help="on, off or status")],
        route: Annotated[list[str] | None, typer.Option(help="Only this route; may be given several times.")] = None,
        config: ConfigOption = DEFAULT_CONFIG,
        as_json: JsonOption = False,
    ) -> None:
        """Send requests straight to the model that they ask for, unrouted and unchecked (counted all the same)."""
        from gateway.settings import bypass as switchboard
        from gateway.settings.mistakes import did_you_mean

        folder, routes = _place(config)
        for name in route or ():
            if name not in routes:
                fail(f"no route named {name!r}{did_you_mean(name, routes)}", 2)
        reading = switchboard.read(folder)
        if reading.warning:
            typer.echo(f"warning: {reading.warning}", err=True)
        now = reading.bypass
        if switch is not Switch.status:
            now = now.switched(switch is Switch.on, tuple(route or ()))
            try:
                switchboard.write(folder, now)
            except OSError as exc:
                fail(f"{folder}: {exc.strerror or 'cannot be written'}")
        if as_json:
            print_json({"all": now.all, "routes": now.routes})
        elif now.all:
            typer.echo("bypass is on for everything")
        elif now.routes:
            typer.echo(f"bypass is on for {', '.join(now.routes)}")
        else:
            typer.echo("bypass is off")


def _place(config: Path) -> tuple[Path, list[str]]:
    """The state directory and the routes' names.

    A switch for emergencies must work while somebody is editing the file: one with mistakes in it is read as far as it goes.
    """
    from gateway.settings.interpolate import interpolate
    from gateway.settings.load import load
    from gateway.settings.mistakes import ConfigError
    from gateway.settings.sources import read_sources

    try:
        settings = load(config).settings
    except ConfigError:
        if not config.exists():
            fail(f"{config}: no such file")
        typer.echo(f"warning: {config} has mistakes (weir check); the server keeps what it runs on", err=True)
    else:
        return settings.server.state_dir, list(settings.routes)
    table = read_sources(config).table
    server, routes = table.get("server"), table.get("routes")
    folder = server.get("state_dir") if isinstance(server, dict) else None
    place = interpolate(folder, os.environ)[0] if isinstance(folder, str) else "var"
    return Path(place), list(routes) if isinstance(routes, dict) else []
