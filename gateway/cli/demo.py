"""`weir demo`: the gateway at work on real input, with a stand-in for the cloud. Needs neither a key nor a GPU."""

import tempfile
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.common import JsonOption, console, fail, print_json

if TYPE_CHECKING:
    from gateway.demo.setting import Setting

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and SIGTERM, as shells have them."""

Requests = Annotated[
    int, typer.Option(min=1, max=5500, help="Utterances of CLINC150; a tenth as many chats go with them.")
]
Parallel = Annotated[int, typer.Option(min=1, max=256, help="Requests at a time.")]
Seed = Annotated[int, typer.Option(help="Of the sample and of the stand-in.")]
Speed = Annotated[float, typer.Option(min=0.01, max=1000, help="The stand-in is so many times faster than a cloud.")]
Keep = Annotated[bool, typer.Option("--keep", help="Serve on until Ctrl-C, and keep configuration and Records.")]


def register(app: typer.Typer) -> None:
    @app.command()
    def demo(
        requests: Requests = 1000,
        parallel: Parallel = 16,
        seed: Seed = 1,
        speed: Speed = 1.0,
        keep: Keep = False,
        as_json: JsonOption = False,
    ) -> None:
        """Serve real requests, locally where that is proven, and show what it saved. Exit code 1 when anything went wrong."""
        from gateway.demo.setting import Setting

        raise typer.Exit(play(Setting(requests, parallel, seed, speed), keep=keep, as_json=as_json))


def play(given: "Setting", *, keep: bool, as_json: bool) -> int:
    """The whole demo; the exit code."""
    import asyncio

    from gateway.demo.client import ClientMissing
    from gateway.demo.server import DidNotStart
    from gateway.demo.traffic import DataMissing

    with ExitStack() as stack:
        if keep:
            folder = Path(tempfile.mkdtemp(prefix="weir-demo-"))
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weir-demo-")))
        try:
            return asyncio.run(_play(given, folder, keep=keep, as_json=as_json))
        except (DataMissing, ClientMissing, DidNotStart, OSError) as exc:
            fail(f"weir demo: {exc}")
        except KeyboardInterrupt:
            code = INTERRUPTED
        except asyncio.CancelledError:
            code = TERMINATED
        typer.echo("weir demo: stopped, and the gateway with it", err=True)
        return code


async def _play(given: "Setting", folder: Path, *, keep: bool, as_json: bool) -> int:
    import asyncio
    import signal

    from gateway.demo import run, show, traffic

    task = asyncio.current_task()
    assert task is not None
    with suppress(NotImplementedError):  # Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    total = given.utterances + traffic.chats(given.utterances)
    async with AsyncExitStack() as stack:
        with show.bar(console(stderr=True), total) as tell:
            outcome = await stack.enter_async_context(run.playing(given, folder, tell))
        if as_json:
            print_json(outcome.table(given))
        else:
            show.report(console(), given, outcome)
        if keep:
            show.look_further(console(stderr=as_json), outcome)
            with suppress(asyncio.CancelledError):  # Ctrl-C is how this ends
                await asyncio.Event().wait()
        elif not as_json:
            console().print(
                "  Look further with --keep: the gateway serves on, and `weir why ID` tells a request's story."
            )
    return 0 if outcome.well else 1
