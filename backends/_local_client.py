"""The gateway's side of a `local` model: a client that owns one worker process (`backends._local_worker`).

torch, its memory and its hold on the interpreter stay in that process. One answer at a time, first come first served, and a bounded queue:
who comes too late is Overloaded at once, which sends the request to the next rung. A caller that gives up leaves the queue; if its answer
has begun, the worker stops between two tokens. A worker that dies or hangs fails whoever waits as Broken and is started anew; one that
says why it cannot load the model is not.
"""

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from backends import _local_worker as worker
from embed.process import end
from wire.errors import BackendError, Broken, ContextOverflow, Overloaded, TimedOut, Unavailable, Unsupported

Event = dict[str, Any]

HANG_SECONDS = 120.0
"""A worker that says nothing for so long while it has work is ended and started anew."""
START_SECONDS = 300.0
STOP_SECONDS = 2.0
BACKOFF = (0.1, 1.0, 5.0, 30.0)
"""Seconds before the first, second, ... restart in a row; then always the last."""

_ENVIRONMENT = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "SYSTEMROOT",
    "TMPDIR",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_HOME",
)
"""All that the worker inherits: it has no use for the gateway's secrets."""
_SWITCHES = {
    "HF_HUB_OFFLINE": "1",  # nothing is downloaded
    "TOKENIZERS_PARALLELISM": "false",
    # llguidance masks through torch.compile, which would want a C++ compiler and 10 s to save 20 us a token.
    "TORCHDYNAMO_DISABLE": "1",
}
_KINDS: dict[str, type[BackendError]] = {"unsupported": Unsupported, "context": ContextOverflow}


class Died(Exception):
    """The worker is gone. final: it said that it cannot do this at all."""

    def __init__(self, message: str, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class _Job:
    """An answer somebody waits for."""

    __slots__ = ("_arrived", "_events", "closed", "number", "order")

    def __init__(self, number: int, order: bytes) -> None:
        self.number = number
        self.order = order
        self.closed = False
        # As long as the answer at most: whoever reads slowly is bounded by the order's tokens.
        self._events: list[Event | BackendError] = []
        self._arrived = asyncio.Event()

    def tell(self, event: Event | BackendError) -> None:
        if not self.closed:
            self._events.append(event)
            self._arrived.set()

    async def more(self) -> list[Event | BackendError]:
        """What has come since it was last asked; waits for something."""
        await self._arrived.wait()
        self._arrived.clear()
        events, self._events = self._events, []
        return events


class LocalWorker:
    """See the module. Lent by the composition root, which closes it; the backend that uses it starts and retires it."""

    def __init__(
        self, name: str, command: Sequence[str], *, waiting: int, threads: int | None = None, hang: float = HANG_SECONDS
    ) -> None:
        """name: of the model, for messages. command: starts the worker. waiting: answers that may wait.

        hang: seconds without a word from a worker that has work.
        """
        self.name = name
        self.command = tuple(command)
        self._threads = threads
        self._limit = waiting
        self._hang = hang
        self._waiting: dict[int, _Job] = {}
        self._asked = asyncio.Event()
        self._current: _Job | None = None
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready: Event = {}
        self._number = 0
        self._useful = False
        self._refused = False
        self._retired = False
        self._closed = False
        self._lost = asyncio.Event()
        self._news = asyncio.Event()
        self.trouble = "it was not started"
        """Why it does not run, when it does not."""
        self.restarts = 0

    @property
    def ready(self) -> bool:
        return bool(self._ready)

    @property
    def special(self) -> bool:
        """The tokenizer knows the envelope of tool calls as special tokens; False until it was ready once."""
        return bool(self._ready.get("special"))

    @property
    def busy(self) -> bool:
        """An answer is being made."""
        return self._current is not None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def waiting(self) -> int:
        """Answers in the queue, not counting the one that is being made."""
        return len(self._waiting)

    # -- life -----------------------------------------------------------------------------------------------------------------------

    def start(self, anew: bool = False) -> None:
        """See that the worker runs; returns before it is ready. anew: also one that has said that it cannot."""
        self._retired = False
        if self._closed or (self._task is not None and not self._task.done()) or (self._refused and not anew):
            return
        self._refused, self.trouble = False, "it is being started"
        # The one task that outlives its caller: the lifespan owns us, we own it, `aclose` cancels and awaits it.
        self._task = asyncio.get_running_loop().create_task(self._keep_running(), name=f"local {self.name}")

    def retire(self) -> None:
        """Nobody will ask any more: end when those who have asked are answered. `start` takes it back."""
        self._retired = True
        self._asked.set()

    async def wrong(self) -> None:
        """Waits until the worker is lost, or could not be started, and raises Broken with the reason."""
        self._lost.clear()
        await self._lost.wait()
        raise Broken(f"{self.name}: {self.trouble}")

    async def aclose(self) -> None:
        """End the worker; whoever still waits gets Broken. May be called twice."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._fail_all("it was closed")

    # -- asking ---------------------------------------------------------------------------------------------------------------------

    async def settled(self, seconds: float) -> None:
        """Waits until it is ready, or will not be; no longer than that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (self._ready or self._refused or self._closed):
                    self._news.clear()
                    await self._news.wait()

    async def answer(self, order: Event, seconds: float, live: bool) -> AsyncGenerator[Event, None]:
        """The events of one order. seconds: to the first of them, and to the end unless live. Closing it ends the work.

        Raises Overloaded, TimedOut, ContextOverflow, Unsupported, Unavailable, Broken.
        """
        now = asyncio.get_running_loop().time
        until: float | None = now() + seconds
        job = self._enter(order)
        try:
            while True:
                try:
                    async with asyncio.timeout_at(until):
                        events = await job.more()
                except TimeoutError as exc:
                    raise TimedOut(
                        f"{self.name}: no answer within {seconds:g} s", phase="first_byte" if live else "total"
                    ) from exc
                until = None if live else until
                for event in events:
                    if isinstance(event, BackendError):
                        raise event
                    if event["event"] == "end":
                        return
                    yield event
        finally:
            self._leave(job)

    def _enter(self, order: Event) -> _Job:
        if self._refused:
            raise Unavailable(f"{self.name}: {self.trouble}")
        if not self._ready or self._closed:
            raise Broken(f"{self.name}: the worker does not run: {self.trouble}")
        if len(self._waiting) >= self._limit:
            raise Overloaded(f"{self.name}: {len(self._waiting)} answers wait, no more may")
        self._number += 1
        job = _Job(self._number, _frame({**order, "job": self._number}))
        self._waiting[job.number] = job
        self._asked.set()
        return job

    def _leave(self, job: _Job) -> None:
        job.closed = True
        self._waiting.pop(job.number, None)
        if job is self._current and self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(_frame({"cancel": job.number}))

    # -- the worker's lives ---------------------------------------------------------------------------------------------------------

    async def _keep_running(self) -> None:
        failures = 0
        while not self._retired:
            self._useful = False
            try:
                await self._one_life()
            except Died as exc:
                self.trouble, self._refused = str(exc), exc.final
                self._fail_all(str(exc))
                self._lost.set()
                self._news.set()
                if exc.final:
                    return
                failures = 0 if self._useful else failures + 1
                self.restarts += 1
                await asyncio.sleep(BACKOFF[min(failures, len(BACKOFF) - 1)])

    async def _one_life(self) -> None:
        """From the start of a worker to its end. Raises Died; returns when it was retired."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command, stdin=PIPE, stdout=PIPE, env=_environment(self._threads), limit=1 << 20
            )
        except OSError as exc:
            raise Died(f"cannot be started: {exc.strerror or exc}", final=True) from exc
        self._process = process
        try:
            hello = await _read(process, START_SECONDS)
            if hello["event"] != "ready":
                raise Died(str(hello.get("message")), final=True)
            self._ready = hello
            self._news.set()
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(_watch(process))
                await self._serve(process)
                watch.cancel()
        except ExceptionGroup as group:
            first = group.exceptions[0]
            raise (first if isinstance(first, Died) else Died(f"the worker broke off: {first!r}")) from first
        finally:
            self._ready = {}
            self._process = None
            await end(process, STOP_SECONDS)

    async def _serve(self, process: Process) -> None:
        assert process.stdin is not None
        while True:
            while not self._waiting:
                if self._retired:
                    return
                self._asked.clear()
                await self._asked.wait()
            job = self._waiting.pop(next(iter(self._waiting)))
            self._current = job
            process.stdin.write(job.order)
            with suppress(ConnectionError):  # then `_watch` or `_read` says so
                await process.stdin.drain()
            while True:
                event = await _read(process, self._hang)
                self._useful = True
                if event["event"] == "failed":
                    job.tell(self._error(event))
                else:
                    job.tell(event)
                if event["event"] in ("end", "failed"):
                    break
            self._current = None

    def _error(self, event: Event) -> BackendError:
        kind = _KINDS.get(event["kind"], Broken)
        return kind(f"{self.name}: {event['message']}", detail=event["detail"])

    def _fail_all(self, why: str) -> None:
        for job in [*filter(None, [self._current]), *self._waiting.values()]:
            job.tell(Broken(f"{self.name}: the worker does not run: {why}"))
        self._current = None
        self._waiting.clear()


def _environment(threads: int | None) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    home = str(Path(worker.__file__).resolve().parent.parent)
    return {**kept, **_SWITCHES, "PYTHONPATH": home, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}


def _frame(value: Event) -> bytes:
    data = orjson.dumps(value)
    return worker.LENGTH.pack(len(data)) + data


async def _read(process: Process, seconds: float) -> Event:
    """One frame from the worker. Raises Died when none comes in time."""
    assert process.stdout is not None
    try:
        async with asyncio.timeout(seconds):
            (length,) = worker.LENGTH.unpack(await process.stdout.readexactly(worker.LENGTH.size))
            event: Event = json.loads(await process.stdout.readexactly(length))
            return event
    except asyncio.IncompleteReadError as exc:
        raise Died("the worker ended") from exc
    except ValueError as exc:
        raise Died("the worker said what is no frame") from exc
    except TimeoutError as exc:
        raise Died(f"the worker said nothing for {seconds:g} s") from exc


async def _watch(process: Process) -> None:
    raise Died(f"the worker ended with status {await process.wait()}")
