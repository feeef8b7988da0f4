"""A whole gateway on a real socket, in the test's own loop: `async with serving(yaml, tmp_path) as served: ...`."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from gateway.app import Application
from gateway.energy import Open
from gateway.log import Log
from gateway.record import Record
from gateway.serving import bind
from gateway.surface.connection import Connection
from tests.waiting import PATIENCE, until


class Served:
    """A running gateway and a client for it."""

    def __init__(self, app: Application, client: httpx.AsyncClient, port: int, config: Path) -> None:
        self.app = app
        self.client = client
        self.port = port
        self.config = config

    def rewrite(self, text: str) -> None:
        """Put `text` in the configuration's place, at once: whoever looks at it meanwhile sees the old one or the new one."""
        part = self.config.with_suffix(".part")
        part.write_text(text)
        part.replace(self.config)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def chat(self, body: dict[str, Any], **headers: str) -> httpx.Response:
        return await self.client.post(
            "/v1/chat/completions", json=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    def record(self, response: httpx.Response) -> Record:
        """The Record behind a response. It is told before the last byte: no waiting."""
        self.app.live.fold()
        found = self.app.recorder.find(response.headers["x-weir-request-id"])
        assert found is not None
        return found

    def last(self) -> Record:
        self.app.live.fold()
        return self.app.recorder.recent(1)[0]

    def metric(self, series: str) -> float:
        """The value of a series as it is scraped, e.g. `weir_requests_total{route="r",outcome="accepted",mode="enforce"}`; 0.0
        when it is not there."""
        self.app.live.fold()
        for line in self.app.metrics.render().decode().splitlines():
            name, _, value = line.rpartition(" ")
            if name == series:
                return float(value)
        return 0.0


@asynccontextmanager
async def serving(
    config: str,
    folder: Path,
    *,
    tend: bool = False,
    engines: Mapping[str, str] | None = None,
    port: int = 0,
    log: Log | None = None,
    gpus: Open = lambda: None,
    **client: Any,
) -> AsyncIterator[Served]:
    """`config`: YAML. The state directory is `folder`/var. tend: look after the engines in the background, which
    upstreams that a test has scripted know nothing of. engines: start those of `engines:`, with this environment. port: 0: any. log:
    default, one that writes nowhere. gpus: who counts their energy; default, nobody."""
    path = folder / "weir.yaml"
    path.write_text(config)
    overrides = {"state_dir": folder / "var", "port": 0, "watch": 0.02, "tend": tend}
    app = Application(path, overrides=overrides, log=log or Log(off=True), engines=engines, gpus=gpus)
    listening = bind("127.0.0.1", port)
    port = listening.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(
            app, lifespan="on", log_config=None, access_log=False, http=Connection, timeout_graceful_shutdown=2
        )
    )
    app.dashboard.stopping = lambda: server.should_exit
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    async with asyncio.TaskGroup() as group:
        running = group.create_task(_run(server, listening))
        try:
            await until(lambda: server.started or running.done())
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, **client) as http:
                yield Served(app, http, port, path)
        finally:
            server.should_exit = True
            await until(running.done)
            listening.close()


async def _run(server: uvicorn.Server, listening: Any) -> None:
    # Not `serve`: that would put handlers on the signals of the test run.
    await server._serve(sockets=[listening])
