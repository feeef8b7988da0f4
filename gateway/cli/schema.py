"""`weir schema`: the JSON Schema of weir.yaml, for editors."""

import typer

from gateway.cli.common import print_json


def register(app: typer.Typer) -> None:
    @app.command()
    def schema() -> None:
        """Print the JSON Schema of the configuration file."""
        from gateway.settings.schema import json_schema

        print_json(json_schema())
