"""`weir key NAME`: a new key for a caller. It is printed once; the configuration stores its hash."""

import re
from typing import Annotated

import typer

from gateway.cli.common import JsonOption, fail, print_json


def register(app: typer.Typer) -> None:
    @app.command()
    def key(
        name: Annotated[str, typer.Argument(help="Who will use it; becomes a metric label.")],
        admin: Annotated[bool, typer.Option("--admin", help="May read Records and see every tenant.")] = False,
        as_json: JsonOption = False,
    ) -> None:
        """Make a key for a caller and print the lines that let it in."""
        from gateway.access.keys import new_key
        from gateway.settings.model import NAME_PATTERN

        if not re.fullmatch(NAME_PATTERN, name):
            fail("NAME is 1 to 63 of a-z, 0-9, `_`, `.` and `-`, and starts with a letter or a digit", 2)
        secret, digest = new_key()
        if as_json:
            print_json({"name": name, "key": secret, "hash": digest, "admin": admin})
            return
        typer.echo("The key is shown this once; nobody can read it out of the configuration later.", err=True)
        typer.echo(f"# {secret}")
        typer.echo("access:")
        typer.echo("  keys:")
        typer.echo(f'    - name: "{name}"')
        typer.echo(f"      hash: {digest}")
        if admin:
            typer.echo("      admin: true")
