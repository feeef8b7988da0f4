"""`weir ...`: one file per group of commands. Exit codes: 0 it is so, 1 mistakes, 2 wrong usage.

What a person asked for goes to stdout, everything else to stderr; `--json` where a machine would read. A command imports what it
needs when it runs, so that `weir --help` needs neither the server nor a model.
"""

from importlib import import_module
from importlib.util import find_spec

import typer

GROUPS = (
    "serve",
    "engines",
    "check",
    "explain",
    "calibrate",
    "test",
    "records",
    "slo",
    "compare",
    "cost",
    "bypass",
    "keys",
    "schema",
    "demo",
)
"""Modules of this package in the order of `weir --help`; each has `register(app)`."""


def application() -> typer.Typer:
    """All commands. A group whose module is not there is left out."""
    app = typer.Typer(
        name="weir",
        help="OpenAI-compatible gateway: small models carry agent traffic, only the overflow spills to a large one.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # its tracebacks show local variables, and those may hold a key
    )

    @app.callback(invoke_without_command=True)
    def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
        if version:
            from importlib.metadata import version as installed

            typer.echo(f"weir {installed('weir')}")
            raise typer.Exit

    for group in GROUPS:
        name = f"{__name__}.{group}"
        if find_spec(name) is not None:
            import_module(name).register(app)
    return app


def main() -> None:
    application()()
