"""Driving the server: the socket, the loop, the signals. One process; for several see `gateway.workers`."""

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from gateway.app import Application
from gateway.log import capture_logging
from gateway.settings.load import Loaded
from gateway.surface.connection import Connection

BACKLOG = 2048


def serve(config: Path, loaded: Loaded, overrides: Mapping[str, object], engines: Mapping[str, str] | None) -> int:
    """Serve in this process until SIGINT or SIGTERM. As in `Application`. Returns the exit code. Raises ConfigError."""
    app = Application(config, loaded=loaded, overrides=overrides, engines=engines)
    setup = app.live.setup
    listening = listen(setup.settings.server.host, setup.settings.server.port)
    if listening is None:
        return 1

    async def go() -> bool:
        if sys.platform != "win32":
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, app.reload_soon)
        app.log.event("listening", url=url(listening), config=setup.digest, version=setup.version)
        for warning in setup.warnings:
            app.log.event("config_warning", level="warning", warning=warning)
        return await drive(app, listening)

    restore = capture_logging(app.log)
    try:
        return 0 if run(go()) else 1
    finally:
        restore()
        listening.close()


async def drive(app: Application, listening: socket.socket, ready: Callable[[], None] | None = None) -> bool:
    """Serve until SIGINT or SIGTERM, then drain. ready: this is one of several workers on that socket; called once, when it serves. False:
    it could not be started."""
    server = app.live.setup.settings.server
    config = uvicorn.Config(
        app.surface,
        interface="asgi3",
        http=Connection,
        lifespan="on",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        # Longer than proxies keep an idle connection (nginx, cloud balancers: 60 s): whoever closes first must not be us, or a request that
        # is just being sent meets a closed socket and the proxy says 502.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(server.drain) or None,
    )
    driven = Server(config) if ready is None else Sharing(config, listening, ready)
    app.dashboard.stopping = lambda: driven.should_exit  # its streams end then: the drain does not wait for pages
    # What was built so far lives as long as the process: the collector need not look at it again (p99 -35 to -49 %).
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    # The loop would keep a list of all generators that are under way, to close those that nobody has closed: ours are closed by whoever
    # reads them, and what is forgotten is still closed when it is collected (each generator: 1.3 us).
    sys.set_asyncgen_hooks(firstiter=None)
    await driven.serve(sockets=[listening] if ready is None else [])
    return driven.started


class Server(uvicorn.Server):
    """uvicorn's own supervisor would take SIGHUP for a restart, hence this one is driven by us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn raises the signal once more when it is done, and the process ends as if it had not drained."""
        before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


class Sharing(Server):
    """Accepts from a socket that several workers share: one connection at a turn of the loop, so that a worker with work to do leaves the
    others their share. libuv would accept all that wait, and who keeps his connection then stays on that core. Measured with two
    workers on two overloaded cores, the smaller share of bursts of 64: libuv 0 to 4, this 0 to 32 (median 9)."""

    def __init__(self, config: uvicorn.Config, listening: socket.socket, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening
        self._ready = ready
        self._opening: set[asyncio.Task[Any]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._listening.setblocking(False)
            asyncio.get_running_loop().add_reader(self._listening.fileno(), self._accept)
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().remove_reader(self._listening.fileno())
        self._listening.close()
        await asyncio.gather(*self._opening, return_exceptions=True)
        await super().shutdown(sockets)

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except OSError:
            return  # another worker was faster, or the caller has gone, or there is no descriptor left just now
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        # The connection's own affair from here on; the server waits for it when it ends.
        task = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def _protocol(self) -> asyncio.Protocol:
        """As uvicorn makes it in `startup`."""
        protocol: Any = self.config.http_protocol_class
        made: asyncio.Protocol = protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made


def run(main: Coroutine[Any, Any, bool]) -> bool:
    """On uvloop, where there is one."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if sys.platform != "win32":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{host}:{port}"


def listen(host: str, port: int) -> socket.socket | None:
    """As `bind`; None, and said on stderr, when it cannot be."""
    try:
        return bind(host, port)
    except OSError as exc:
        print(f"cannot listen on {host}:{port}: {exc.strerror or exc}", file=sys.stderr)  # noqa: T201
        return None


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
