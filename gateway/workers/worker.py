"""A worker process: `python -m gateway.workers.worker LISTENING CHANNEL MEMORY LIFE` (file descriptors), as the supervisor starts it."""

import asyncio
import os
import pickle
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway.app import Application
from gateway.log import capture_logging
from gateway.record import Record, decode, encode
from gateway.serving import drive, run
from gateway.settings.load import Loaded
from gateway.settings.mistakes import ConfigError, Mistake
from gateway.workers.channel import Channel, Gone, Refused
from gateway.workers.exporter import pack
from gateway.workers.memory import Memory
from gateway.workers.models import Borrowed

ASK_SECONDS = 5.0
"""That the supervisor may take for an answer."""
TELL = 1.0
"""Seconds between two reports of what this worker has counted."""
LAST_SECONDS = 5.0
"""Beyond `server.drain`, until a worker whose supervisor is gone ends whatever it still does."""


class Start(Struct, frozen=True):
    """The supervisor's answer to `start`."""

    config: str
    loaded: bytes
    """Pickled `Loaded`: both ends are the same program, and nobody else can write there."""


class Ready(Struct, frozen=True):
    config: str
    """Digest."""
    warnings: list[str]


mistakes_in = msgspec.msgpack.Decoder(list[Mistake])


class Life:
    """Ends this process when the supervisor has ended, however that came about: then nobody holds the other end of the pipe."""

    def __init__(self, fd: int) -> None:
        self.drain = 0.0
        threading.Thread(target=self._watch, args=(fd,), name="weir-life", daemon=True).start()

    def _watch(self, fd: int) -> None:
        os.read(fd, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self.drain + LAST_SECONDS)
        os._exit(70)


class Instance:
    """`gateway.instance.Instance`, by way of the supervisor."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def page(self) -> bytes:
        return await self._ask("page")

    async def recent(self, n: int) -> list[Record]:
        return [decode(line) for line in (await self._ask("recent", str(n).encode())).splitlines()]

    async def find(self, id: str) -> Record | None:
        found = await self._ask("find", id.encode("utf-8", "replace"))
        return decode(found) if found else None

    async def engines(self) -> dict[str, Any]:
        told: dict[str, Any] = msgspec.msgpack.decode(await self._ask("engines"))
        return told

    async def _ask(self, method: str, body: bytes = b"") -> bytes:
        try:
            return await self._channel.call(method, body, ASK_SECONDS)
        except (Gone, Refused, TimeoutError) as exc:
            raise OSError("the supervisor does not answer") from exc


class Siblings:
    """`gateway.app.Siblings`."""

    def __init__(self, channel: Channel, start: Start) -> None:
        self.loaded: Loaded = pickle.loads(start.loaded)
        self.instance = Instance(channel)
        self._channel = channel

    def model(self, folder: Path) -> Borrowed:
        return Borrowed(folder, self._channel)


class Desk:
    """Answers the supervisor's questions."""

    def __init__(self) -> None:
        self.app: Application | None = None

    async def answer(self, method: str, body: bytes) -> bytes:
        app = self.app
        if app is None:
            raise LookupError("not there yet")
        app.live.fold()
        if method == "gauges":
            return pack(app.metrics.gauges())
        if method == "recent":
            return b"\n".join(map(encode, app.recorder.recent(int(body))))
        if method == "find":
            found = app.recorder.find(body.decode())
            return encode(found) if found else b""
        if method == "prepare":
            try:
                await app.prepare(pickle.loads(body))
            except ConfigError as exc:
                return msgspec.msgpack.encode(exc.mistakes)
            return msgspec.msgpack.encode([])
        if method == "commit":
            await app.commit()
            return b""
        raise LookupError(method)


class Joining:
    """The page is one for all workers (`gateway.dashboard.joined`): tells the supervisor once a second what this one has counted, and takes
    what all have. Nothing waits for it. One question at most is under way, and it has no deadline: of a supervisor that is slow the page
    alone gets older, and what it has not read yet is one report, not one for every second."""

    def __init__(self, channel: Channel, app: Application) -> None:
        self.over = asyncio.Event()
        """The worker ends: what it has counted by now is told, and nothing after that."""
        self._channel, self._app = channel, app
        self._failed = False

    async def keep(self) -> None:
        over = False
        while not over:
            with suppress(TimeoutError):
                async with asyncio.timeout(TELL):
                    await self.over.wait()
            over = self.over.is_set()  # set while it tells: there is one more to come
            await self.once()

    async def once(self) -> None:
        dashboard = self._app.dashboard
        try:
            report = dashboard.report()
            if report is not None:
                dashboard.told(await self._channel.call("seen", report))
        except Gone:
            return
        except Exception as exc:  # a page is never worth a worker
            dashboard.refused()
            if not self._failed:
                self._app.log.event("page_not_joined", level="error", error=f"{type(exc).__name__}: {exc}")
            self._failed = True
        else:
            self._failed = False


def main(listening: int, channel: int, memory: int, life: int) -> int:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor's affair
    watched = Life(life)
    Memory(memory).install()
    os.close(memory)
    return 0 if run(_work(socket.socket(fileno=listening), socket.socket(fileno=channel), watched)) else 1


async def _work(listening: socket.socket, sock: socket.socket, life: Life) -> bool:
    channel, desk = await Channel.over(sock), Desk()
    async with asyncio.TaskGroup() as group:
        answering = group.create_task(channel.run(desk.answer))
        try:
            start = msgspec.msgpack.decode(await channel.call("start"), type=Start)
            try:
                desk.app = app = Application(Path(start.config), siblings=Siblings(channel, start))
            except ConfigError as exc:
                await channel.call("refused", msgspec.msgpack.encode(exc.mistakes))
                return False
            setup = app.live.setup
            life.drain = setup.settings.server.drain
            joining = Joining(channel, app)
            await joining.once()  # who opens the page sees from the first look on what the others have counted
            kept = group.create_task(joining.keep())
            ready = msgspec.msgpack.encode(Ready(setup.digest, list(setup.warnings)))
            restore = capture_logging(app.log)
            try:
                return await drive(app, listening, lambda: _drop(group.create_task(_tell(channel, ready))))
            finally:
                restore()
                joining.over.set()
                with suppress(TimeoutError):
                    async with asyncio.timeout(TELL):
                        await kept
        finally:
            answering.cancel()


async def _tell(channel: Channel, ready: bytes) -> None:
    with suppress(Gone, Refused):
        await channel.call("ready", ready)


def _drop(_: "asyncio.Task[None]") -> None: ...


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
