"""Keeps the planned engines running, from the lifespan's task group: starts, asks, restarts, drains.

    waiting > starting > ready ( > failing ) > pausing > starting ...        and stopping from anywhere

The gateway serves all the while: a rung whose engine is not ready fails at once, and its requests go up the ladder. Engines on the same
device start one after the other, for each measures what memory is free while it starts. One that dies is started again after 1,
2, 4, ... 60 seconds; one that dies `loop` times without having stood is told as a crash loop, and still tried once a minute.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

from msgspec import Struct

from gateway.engines import process as processes
from gateway.engines.plan import Process, change

Phase = Literal["waiting", "starting", "ready", "failing", "pausing", "stopping"]


class Pace(Struct, frozen=True):
    """Seconds, but for the counts. Tests go faster."""

    look: float = 0.5
    """Between two looks at an engine that starts."""
    ask: float = 5.0
    """Between two looks at one that is ready."""
    answer: float = 10.0
    """That /health may take."""
    failures: int = 6
    """Looks in a row that fail, until an engine that runs is given up and started anew."""
    first: float = 1.0
    """Pause after the first death."""
    longest: float = 60.0
    stood: float = 60.0
    """An engine that was ready for so long begins to count anew."""
    loop: int = 5
    """Deaths in a row that make a crash loop."""

    def pause(self, deaths: int) -> float:
        """Seconds until the next start after so many deaths in a row."""
        return min(self.longest, self.first * 2.0 ** min(deaths - 1, 30))


class Say(Protocol):
    def __call__(self, name: str, /, *, level: str = "info", **fields: Any) -> None: ...


class Gauges(Protocol):
    """What metrics show of engines."""

    def engine_up(self, engine: str, up: bool) -> None: ...

    def engine_restarted(self, engine: str) -> None: ...


class _Died(Exception):
    """Why an engine does not run any more."""


class _State:
    """What is known of one process."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.phase: Phase = "waiting"
        self.restarts = 0
        self.reason = ""
        """Why it died last; "" once it is ready again."""
        self.task: asyncio.Task[None] | None = None

    def told(self) -> dict[str, Any]:
        told = {"ready": self.phase == "ready", "phase": self.phase, "url": self.process.url, "restarts": self.restarts}
        return {**told, "reason": self.reason} if self.reason else told


class Supervisor:
    """See the module. `run` belongs into a task group; everything else is called from the same loop."""

    def __init__(self, folder: Path, say: Say, gauges: Gauges, pace: Pace | None = None) -> None:
        """folder: where NAME.log stands."""
        self._folder = folder
        self._say = say
        self._gauges = gauges
        self._pace = pace or Pace()
        self._wanted: tuple[Process, ...] = ()
        self._environ: Mapping[str, str] = {}
        self._changed = asyncio.Event()
        self._states: dict[str, _State] = {}
        self._starts: dict[str, asyncio.Lock] = {}

    def want(self, wanted: Iterable[Process], environ: Mapping[str, str]) -> None:
        """From now on these shall run, with that environment. What differs in more than its address runs on as it is."""
        self._wanted = tuple(wanted)
        self._environ = environ
        self._changed.set()

    def states(self) -> dict[str, dict[str, Any]]:
        """Process > what /readyz tells of it."""
        return {name: state.told() for name, state in self._states.items()}

    async def run(self) -> None:
        """Until cancelled; then every engine is ended before this returns."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._changed.wait()
                self._changed.clear()
                await self._apply(group)

    async def _apply(self, group: asyncio.TaskGroup) -> None:
        todo = change([state.process for state in self._states.values()], self._wanted)
        for process in todo.stale:
            message = "runs on as it is"
            self._say("restart_needed", level="warning", engine=process.name, message=message)
        leaving = [self._states[process.name] for process in todo.stop]
        for state in leaving:
            if state.task is not None:
                state.task.cancel()
        tasks = [state.task for state in leaving if state.task is not None]
        if tasks:
            await asyncio.wait(tasks)  # first they give their memory back
        for state in leaving:
            del self._states[state.process.name]
        for process in todo.start:
            new = self._states[process.name] = _State(process)
            new.task = group.create_task(self._keep(new))

    # -- one process ----------------------------------------------------------------------------------------------------------------

    async def _keep(self, state: _State) -> None:
        """One life after the other. Lets no error out: the gateway serves on whatever becomes of an engine."""
        pace, process = self._pace, state.process
        deaths = 0
        self._gauges.engine_up(process.name, False)
        while True:
            since = [0.0]
            try:
                await self._live(state, since)
            except _Died as exc:
                state.reason = str(exc)
            except Exception as exc:
                state.reason = f"{type(exc).__name__}: {exc}"
            stood = asyncio.get_running_loop().time() - since[0] if since[0] else 0.0
            deaths = 1 if stood >= pace.stood else deaths + 1
            pause = pace.pause(deaths)
            state.phase = "pausing"
            told = {"engine": process.name, "reason": state.reason, "log": str(self._log(process))}
            self._say("engine_died", level="error", ready_seconds=round(stood, 1), restart_in=pause, **told)
            if deaths == pace.loop:
                self._say("engine_crash_loop", level="error", deaths=deaths, **told)
            await asyncio.sleep(pause)
            state.restarts += 1
            self._gauges.engine_restarted(process.name)

    async def _live(self, state: _State, since: list[float]) -> None:
        """One life, from the start to its end. since: gets the loop's time at which it was ready. Raises _Died, OSError."""
        process = state.process
        async with self._turn(state):
            running = await self._start(state)
        since[0] = asyncio.get_running_loop().time()
        try:
            state.phase, state.reason = "ready", ""
            self._gauges.engine_up(process.name, True)
            await self._attend(state, running)
        finally:
            self._gauges.engine_up(process.name, False)
            await self._stop(state, running)

    async def _start(self, state: _State) -> processes.Running:
        """A process that answers. One that does not come to that is ended. Raises _Died, OSError."""
        process, loop = state.process, asyncio.get_running_loop()
        if await processes.listening(process.port):
            raise _Died(f"port {process.port} is somebody else's: end that, or write another `port:`")
        state.phase, began = "starting", loop.time()
        running = await processes.start(process, self._log(process), self._environ)
        try:
            self._say(
                "engine_started", engine=process.name, url=process.url, pid=running.pid, log=str(self._log(process))
            )
            while loop.time() - began < process.start_seconds:
                code = await running.wait(self._pace.look)
                if code is not None:
                    raise _Died(_ended(code))
                if await processes.healthy(process.port, self._pace.answer):
                    seconds = round(loop.time() - began, 1)
                    self._say("engine_ready", engine=process.name, url=process.url, seconds=seconds)
                    return running
            raise _Died(f"did not answer within {process.start_seconds:g} s (`start_seconds`)")
        except BaseException:
            await self._stop(state, running)
            raise

    async def _attend(self, state: _State, running: processes.Running) -> None:
        """Look at it until it is over. Raises _Died."""
        failed = 0
        while True:
            code = await running.wait(self._pace.ask)
            if code is not None:
                raise _Died(_ended(code))
            if await processes.healthy(state.process.port, self._pace.answer):
                if failed:
                    state.phase = "ready"
                    self._gauges.engine_up(state.process.name, True)
                failed = 0
                continue
            failed += 1
            state.phase = "failing"
            self._gauges.engine_up(state.process.name, False)
            if failed >= self._pace.failures:
                raise _Died(f"runs, but did not answer {failed} times in a row")

    async def _stop(self, state: _State, running: processes.Running) -> None:
        state.phase = "stopping"
        code = await running.stop()
        self._say("engine_stopped", engine=state.process.name, status=code)

    @asynccontextmanager
    async def _turn(self, state: _State) -> AsyncIterator[None]:
        """Alone among those that start on the same devices; the CPU counts as one."""
        state.phase = "waiting"
        async with AsyncExitStack() as stack:
            for device in sorted(map(str, state.process.devices)) or ["cpu"]:
                await stack.enter_async_context(self._starts.setdefault(device, asyncio.Lock()))
            yield

    def _log(self, process: Process) -> Path:
        return self._folder / f"{process.name}.log"


def _ended(code: int) -> str:
    if code < 0:
        return f"its keeper was ended by signal {-code}"
    if code > 128:
        return f"ended by signal {code - 128}"
    return "could not be started" if code == 127 else f"ended with status {code}"
