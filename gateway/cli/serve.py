"""`weir serve`: the gateway, until SIGINT or SIGTERM."""

from typing import Annotated

import typer

from gateway.cli.common import DEFAULT_CONFIG, ConfigOption, tell

Host = Annotated[str | None, typer.Option(help="Address to bind instead of server.host.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port instead of server.port; 0: any free one.")]


def register(app: typer.Typer) -> None:
    @app.command()
    def serve(config: ConfigOption = DEFAULT_CONFIG, host: Host = None, port: Port = None) -> None:
        """Serve. Reloads the configuration when it changes, and on SIGHUP."""
        from gateway import app as gateway_app
        from gateway.settings.mistakes import ConfigError

        try:
            code = gateway_app.serve(config, host=host, port=port)
        except ConfigError as exc:
            tell(exc.mistakes)
            code = 1
        raise typer.Exit(code)
