"""What the commands share: the `--config` option, reading it, and how mistakes are told."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from gateway.settings.load import Loaded
    from gateway.settings.mistakes import Mistake

DEFAULT_CONFIG = Path("deploy/weir.yaml")

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", envvar="WEIR_CONFIG", help="The configuration file.", show_default=True)
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout, for a machine.")]


def console(*, stderr: bool = False) -> "Console":
    """For people: colours only on a terminal. Markup is off, for values may have brackets in them."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)


def print_json(value: Any) -> None:
    import orjson

    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode())


def fail(message: str, code: int = 1) -> NoReturn:
    """Say it on stderr and exit."""
    typer.echo(message, err=True)
    raise typer.Exit(code)


def tell(mistakes: "Iterable[Mistake]") -> None:
    """Every mistake on a line of its own, on stderr, as editors and CI read it: FILE:LINE: where: what."""
    out = console(stderr=True)
    for mistake in mistakes:
        style = "red" if mistake.severity == "error" else "yellow"
        out.print(f"{mistake.severity}: ", style=style, end="")
        out.print(str(mistake))


def configured(path: Path) -> "Loaded":
    """The configuration in `path`; with mistakes in it they are told, and the command ends with 1."""
    from gateway.settings.load import load
    from gateway.settings.mistakes import ConfigError

    try:
        return load(path)
    except ConfigError as exc:
        tell(exc.mistakes)
    raise typer.Exit(1)
