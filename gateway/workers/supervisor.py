"""The process above the workers. It serves nothing, so that nothing that a request does can take it with it.

    starting > serving ( > dead > pausing > starting ... ) > draining

A worker that dies is started again after 0.5, 1, 2, ... 30 seconds; one that dies `loop` times without having stood is told as a crash
loop, and tried on. What it had counted is kept. A reload is read once, here, and used by all workers or by none: each builds it beside what
it has, and only when all could does any change over. One that is started again gets what is in force, whatever stands in the file by then.
Workers end with the supervisor, also when that is killed (`worker.Life`).
"""

import asyncio
import os
import pickle
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, structs
from prometheus_client import Counter, Gauge

import gateway
from gateway.app import engines_of, read, want_engines
from gateway.build import resolve, weir_version
from gateway.dashboard.joined import Board
from gateway.energy import Energy, nvml
from gateway.engines import supervisor as engines
from gateway.engines.plan import Plan
from gateway.log import Log
from gateway.metrics import Metrics
from gateway.record import decode, encode
from gateway.serving import url
from gateway.settings.load import Loaded
from gateway.settings.mistakes import ConfigError, Mistake
from gateway.settings.watch import Fingerprint
from gateway.workers.channel import Channel, Gone, Refused
from gateway.workers.exporter import Exporter, pack
from gateway.workers.memory import Memory, create
from gateway.workers.models import Lent
from gateway.workers.worker import Ready, Start, mistakes_in

ABOUT = "supervisor"
HOME = str(Path(gateway.__file__).resolve().parent.parent)
ANSWER, BUILD = 0.25, 60.0
"""Seconds that a worker may take to tell its gauges, and to build a configuration."""
KILL = 5.0
"""Seconds beyond `server.drain` until a worker is killed."""


class Pace(Struct, frozen=True):
    """Seconds, but for the count."""

    start: float = 120.0
    """Until a worker must serve."""
    first: float = 0.5
    """Pause after the first death."""
    longest: float = 30.0
    stood: float = 10.0
    """A worker that served for so long begins to count anew."""
    loop: int = 5
    """Deaths in a row that make a crash loop."""


class Worker:
    """One of them, through all its lives."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = str(number)
        self.process: Process | None = None
        self.channel: Channel | None = None
        self.generation = -1
        """Of the configuration that it was given."""
        self.serving = asyncio.Event()
        self.since = 0.0
        self.deaths = 0

    async def ask(self, method: str, body: bytes = b"", seconds: float | None = None) -> bytes:
        """Raises Gone, Refused, TimeoutError."""
        if self.channel is None:
            raise Gone
        return await self.channel.call(method, body, seconds)

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)


class Supervisor:
    def __init__(
        self,
        config: Path,
        loaded: Loaded,
        overrides: Mapping[str, object],
        listening: socket.socket,
        environ: Mapping[str, str] | None,
        pace: Pace | None = None,
    ) -> None:
        """loaded: `config` as it was just read, with `overrides`. environ: start the local engines, with this; None: somebody else does.
        Raises ConfigError."""
        self._config, self._loaded, self._overrides, self._environ = config, loaded, dict(overrides), environ
        self._listening = listening
        self._pace = pace or Pace()
        self._generation = 0
        settings = loaded.settings
        self.log = Log(off=settings.telemetry.log == "off")
        self.exporter = Exporter()
        fd = create()
        memory = Memory(fd)
        memory.install()
        self.exporter.add(ABOUT, Memory(fd))
        os.close(fd)
        self.metrics = Metrics(
            list(settings.routes), [*settings.backends, *settings.embeddings], version=weir_version()
        )
        self._restarts = Counter("weir_worker_restarts", "Workers started again.", ["worker"], registry=None)
        self.board = Board(time.time())
        self._up = Gauge("weir_workers", "Workers that serve.", registry=None)
        self.workers = [Worker(number) for number in range(settings.server.workers)]
        for worker in self.workers:
            self._restarts.labels(worker.name)
        self.energy = Energy(nvml, self.metrics, self.log.event)
        self.models = Lent()
        self.engines = engines.Supervisor(settings.server.state_dir / "engines", self.log.event, self.metrics)
        self._want(loaded, self._planned(loaded))
        self._reload, self._stop = asyncio.Event(), asyncio.Event()
        self._turn = asyncio.Lock()
        self._served = False
        self._failed = ""
        self._warnings: Sequence[str] = ()
        self._refused: Sequence[Mistake] = ()

    async def run(self) -> bool:
        """Until SIGINT or SIGTERM. False: it could not be started."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        self.log.start()
        self.energy.start()
        try:
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(self.engines.run()), group.create_task(self._watch())]
                keeping = [group.create_task(self._keep(worker)) for worker in self.workers]
                beside.append(group.create_task(self._announce()))
                await self._stop.wait()
                await self._drain(keeping)
                for task in beside:
                    task.cancel()
        finally:
            self.energy.close()
            await self.models.close()
            self._end()
            await self.log.close()
        return not self._failed

    # -- workers --------------------------------------------------------------------------------------------------------------------

    async def _keep(self, worker: Worker) -> None:
        """One life after the other."""
        pace = self._pace
        while True:
            try:
                reason = await self._live(worker)
            except OSError as exc:
                reason = f"cannot be started: {exc}"
            if self._stop.is_set():
                return
            if not self._served:
                self._failed = reason
                self._stop.set()
                return
            stood = asyncio.get_running_loop().time() - worker.since if worker.since else 0.0
            worker.deaths = 1 if stood >= pace.stood else worker.deaths + 1
            pause = min(pace.longest, pace.first * 2.0 ** min(worker.deaths - 1, 30))
            told = {"worker": worker.number, "reason": reason}
            self.log.event("worker_died", level="error", served_seconds=round(stood, 1), restart_in=pause, **told)
            if worker.deaths == pace.loop:
                self.log.event("worker_crash_loop", level="error", deaths=worker.deaths, **told)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stop.wait()
                    return
            self._restarts.labels(worker.name).inc()

    async def _live(self, worker: Worker) -> str:
        """One life; how it ended. Raises OSError."""
        memory = create()
        self.exporter.add(worker.name, Memory(memory))
        ours, theirs = socket.socketpair()
        held, life = os.pipe()
        worker.since = 0.0
        try:
            try:
                worker.process = await self._spawn(self._listening.fileno(), theirs.fileno(), memory, held)
            finally:
                theirs.close()
                os.close(held)
                os.close(memory)
            worker.channel = await Channel.over(ours)
            async with asyncio.TaskGroup() as group:
                beside = [
                    group.create_task(worker.channel.run(partial(self._answer, worker))),
                    group.create_task(self._welcome(worker)),
                ]
                code = await worker.process.wait()
                for task in beside:
                    task.cancel()
            return f"ended by signal {-code}" if code < 0 else f"ended with status {code}"
        finally:
            worker.signal(signal.SIGKILL)
            worker.serving.clear()
            worker.channel = None
            self.board.left(worker.number)
            os.close(life)
            self.exporter.retire(worker.name)

    async def _spawn(self, *descriptors: int) -> Process:
        path = os.pathsep.join(filter(None, (HOME, os.environ.get("PYTHONPATH"))))
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.workers.worker", *map(str, descriptors)),
            pass_fds=descriptors,
            stdin=DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for the supervisor, which lets them drain
        )

    async def _welcome(self, worker: Worker) -> None:
        """It must serve in time, and with the configuration that is in force by then."""
        try:
            async with asyncio.timeout(self._pace.start):
                await worker.serving.wait()
        except TimeoutError:
            self.log.event("worker_hangs", level="error", worker=worker.number)
            worker.signal(signal.SIGKILL)
            return
        async with self._turn:
            if worker.generation != self._generation and await self._prepared([worker], self._loaded):
                worker.signal(signal.SIGKILL)
            elif worker.generation != self._generation:
                await self._commit([worker])

    async def _announce(self) -> None:
        for worker in self.workers:
            await worker.serving.wait()
        self._served = True
        told = {"url": url(self._listening), "config": self._loaded.digest, "version": weir_version()}
        self.log.event("listening", workers=len(self.workers), **told)
        for warning in self._warnings:
            self.log.event("config_warning", level="warning", warning=warning)

    async def _drain(self, keeping: "list[asyncio.Task[None]]") -> None:
        self._listening.close()  # who comes now is refused at once, and waits for nobody
        for worker in self.workers:
            worker.signal(signal.SIGTERM)
        _, left = await asyncio.wait(keeping, timeout=self._loaded.settings.server.drain + KILL)
        for worker in self.workers:
            worker.signal(signal.SIGKILL)
        if left:
            self.log.event("workers_killed", level="error", count=len(left))
            await asyncio.wait(left)

    def _end(self) -> None:
        for mistake in self._refused:
            print(mistake, file=sys.stderr)  # noqa: T201
        if self._failed:
            self.log.event("not_started", level="error", reason=self._failed)
        else:
            self.log.event("stopped", requests=int(self.exporter.total("weir_requests_total")))

    # -- what workers ask -----------------------------------------------------------------------------------------------------------

    async def _answer(self, worker: Worker, method: str, body: bytes) -> bytes:
        if method.startswith("model."):
            return await self.models.answer(method, body)
        if method == "start":
            worker.generation = self._generation
            return msgspec.msgpack.encode(Start(str(self._config), _packed(self._loaded, worker.number)))
        if method == "ready":
            ready = msgspec.msgpack.decode(body, type=Ready)
            self._warnings = ready.warnings
            self.metrics.config(self._loaded.digest)
            worker.since = asyncio.get_running_loop().time()
            worker.serving.set()
            return b""
        if method == "refused":
            self._refused = mistakes_in.decode(body)
            return b""
        if method == "page":
            return await self.page()
        if method == "seen":
            return self.board.take(worker.number, body)
        if method == "recent":
            return await self._recent(int(body))
        if method == "find":
            found = next((found for found in await self._all("find", body) if found), b"")
            return found or self.board.find(body.decode())
        if method == "engines":
            return msgspec.msgpack.encode(self.engines.states())
        raise LookupError(method)

    async def page(self) -> bytes:
        """Every series of the instance, as it is now. A worker that does not answer in time has no gauges on it."""
        self._up.set(sum(worker.serving.is_set() for worker in self.workers))
        ours = pack([*self.metrics.gauges(), *self._up.collect()])
        gauges = [ours, *filter(None, await self._all("gauges"))]
        running = {worker.name: worker.process for worker in self.workers if worker.serving.is_set()}
        processes = {name: process.pid for name, process in running.items() if process is not None}
        return await asyncio.to_thread(self.exporter.page, gauges, {ABOUT: os.getpid(), **processes})

    async def _recent(self, n: int) -> bytes:
        lines = [line for lines in await self._all("recent", str(n).encode()) for line in lines.splitlines()]
        records = sorted(map(decode, lines), key=lambda record: record.time, reverse=True)
        return b"\n".join(map(encode, records[:n]))

    async def _all(self, method: str, body: bytes = b"") -> list[bytes]:
        """What the workers that serve answer; b"" for one that does not in time."""

        async def one(worker: Worker) -> bytes:
            with suppress(Gone, Refused, TimeoutError):
                return await worker.ask(method, body, ANSWER)
            return b""

        return await asyncio.gather(*(one(worker) for worker in self.workers if worker.serving.is_set()))

    # -- configuration --------------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Notices changed files, and SIGHUP. One look a second; never lets an error out."""
        seen = Fingerprint.of(self._loaded.watched)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._loaded.settings.server.watch):
                    await self._reload.wait()
            try:
                now = Fingerprint.of(self._loaded.watched)
                if self._reload.is_set() or now != seen:
                    self._reload.clear()
                    seen = now
                    await self.reload()
                    seen = Fingerprint.of(self._loaded.watched) if now == seen else seen
            except Exception as exc:
                self.log.event("watch_failed", level="error", error=type(exc).__name__)

    async def reload(self) -> bool:
        """Read, let all workers build, then change over. False, and the old one stays everywhere, when anything is wrong."""
        async with self._turn:
            try:
                loaded = await asyncio.to_thread(read, self._config, self._overrides)
                planned = self._planned(loaded)
            except ConfigError as exc:
                return self._keep_old(exc.mistakes)
            serving = [worker for worker in self.workers if worker.serving.is_set()]
            if wrong := await self._prepared(serving, loaded):
                return self._keep_old(wrong)
            self._note_restart(loaded)
            self._loaded, self._generation = loaded, self._generation + 1
            await self._commit(serving)
            settings = loaded.settings
            self.metrics.reconfigure(list(settings.routes), [*settings.backends, *settings.embeddings])
            self.metrics.config(loaded.digest)
            self._want(loaded, planned)
            self.metrics.reloaded(True)
            self.log.event("reloaded", config=loaded.digest, workers=len(serving))
            return True

    def _keep_old(self, mistakes: Sequence[Mistake]) -> bool:
        self.metrics.reloaded(False)
        wrong = [str(m) for m in mistakes if m.severity == "error"]
        self.log.event("reload_refused", level="error", kept=self._loaded.digest, mistakes=wrong)
        return False

    async def _prepared(self, workers: Sequence[Worker], loaded: Loaded) -> list[Mistake]:
        """What those workers find wrong with it. One that is gone finds nothing: it starts with what is in force then."""

        async def one(worker: Worker) -> list[Mistake]:
            try:
                return mistakes_in.decode(await worker.ask("prepare", _packed(loaded, worker.number), BUILD))
            except Gone:
                return []
            except (Refused, TimeoutError) as exc:
                what = f"worker {worker.number} could not build it: {exc or 'no answer'}"
                return [Mistake(str(self._config), 0, "", what)]

        return [mistake for found in await asyncio.gather(*map(one, workers)) for mistake in found]

    async def _commit(self, workers: Sequence[Worker]) -> None:
        async def one(worker: Worker) -> None:
            try:
                await worker.ask("commit", b"", BUILD)
                worker.generation = self._generation
            except Gone:
                pass
            except (Refused, TimeoutError):  # it starts anew with what the others have
                worker.signal(signal.SIGKILL)

        await asyncio.gather(*map(one, workers))

    def _note_restart(self, loaded: Loaded) -> None:
        before, now = self._loaded.settings.server, loaded.settings.server
        for field in ("workers", "host", "port"):
            if getattr(before, field) != getattr(now, field):
                self.log.event("restart_needed", level="warning", table=f"server.{field}")

    def _planned(self, loaded: Loaded) -> Plan | None:
        if self._environ is None:
            return None
        return engines_of(loaded, partial(resolve, loaded.folder), self._environ)

    def _want(self, loaded: Loaded, planned: Plan | None) -> None:
        if planned is not None and self._environ is not None:
            want_engines(self.engines, loaded, planned, self._environ, self.log, self.metrics)


def _packed(loaded: Loaded, number: int) -> bytes:
    """For one worker: the first alone probes what engines enforce, as that costs them generated tokens."""
    settings: Any = loaded.settings
    if number:
        backends = {
            name: backend.model_copy(update={"probe": False}) if "probe" in type(backend).model_fields else backend
            for name, backend in settings.backends.items()
        }
        settings = settings.model_copy(update={"backends": backends})
    return pickle.dumps(structs.replace(loaded, settings=settings))
