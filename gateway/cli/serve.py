"""`weir serve`: the gateway, until SIGINT or SIGTERM."""

import os
from typing import Annotated

import typer

from gateway.cli.common import DEFAULT_CONFIG, ConfigOption, tell

Host = Annotated[str | None, typer.Option(help="Address to bind instead of server.host.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port instead of server.port; 0: any free one.")]

Workers = Annotated[
    int | None, typer.Option(min=1, max=256, help="Processes that serve, instead of server.workers: one per core.")
]

WithVllm = Annotated[
    bool,
    typer.Option("--with-vllm", help="Also start the vLLM servers of `engines:` (see `weir engines`), and end them."),
]


def register(app: typer.Typer) -> None:
    @app.command()
    def serve(
        config: ConfigOption = DEFAULT_CONFIG,
        host: Host = None,
        port: Port = None,
        workers: Workers = None,
        with_vllm: WithVllm = False,
    ) -> None:
        """Serve. Reloads the configuration when it changes, and on SIGHUP."""
        environ = dict(os.environ)  # engines compute with threads, so before the next lines
        # One thread for numpy's matrices: more only fight the MiniLM worker for the core and hold up the loop (measured: a head's answer
        # p50 0.6 ms instead of 2 to 8 ms, p99 2.8 ms instead of 21 ms). It counts before numpy is imported, so here.
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, "1")
        from gateway import workers as several
        from gateway.settings.mistakes import ConfigError

        engines = environ if with_vllm else None
        try:
            code = several.serve(config, host=host, port=port, workers=workers, engines=engines)
        except ConfigError as exc:
            tell(exc.mistakes)
            code = 1
        raise typer.Exit(code)
