"""A model in a worker process of its own, for the event loop: a client that owns the process (`embed.worker`).

A text takes 1.3 ms (a short utterance) to 80 ms (256 word pieces) of a core: never in the event loop. One process, one
thread, one text at a time, because batches are no faster on one core and threads only fight for it. Two texts are on their
way at once, so that the worker does not idle while the loop is busy. The queue is bounded: who comes too late gets `Busy`
at once and goes the other way, instead of waiting for something that is slower than the alternative.

What the answers mean is the model's: `embed.minilm` reads vectors, `embed.tagger` calls.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from embed import worker
from embed.errors import Busy, EmbedError, WorkerDied
from embed.process import end

WAITING = 64
"""Texts that may wait, by default: about 0.1 s of work for short utterances."""
IN_FLIGHT = 2
HANG_SECONDS = 10.0
"""A worker that answers nothing for so long is ended and started anew."""
START_SECONDS = 30.0
BACKOFF = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before the first, second, ... restart in a row; then always the last."""

_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
"""All that the worker inherits: it has no use for the gateway's secrets."""


class _Job:
    """A text somebody waits for."""

    __slots__ = ("answer", "text")

    def __init__(self, text: str, answer: "asyncio.Future[bytes]") -> None:
        self.text = text
        self.answer = answer

    def fail(self, error: EmbedError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Worker(Protocol):
    """A model that answers texts: in a process of ours (`Client`), or of the supervisor's of several gateway workers."""

    digest: str
    """Of the model folder, as the process read it; "" before it was ready once."""

    @property
    def ready(self) -> bool:
        """Is it up at this moment?"""

    @property
    def started(self) -> bool:
        """Has it ever been ready, and was not closed? Until then callers do without it."""

    async def start(self) -> None:
        """Raises EmbedError."""

    async def close(self) -> None:
        """May be called twice."""

    async def ask(self, text: str) -> bytes:
        """What the model says of a text. Raises Busy, WorkerDied, EmbedError."""


class View:
    """What a worker says, read as what its model means. Whoever made the worker starts and closes it."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    @property
    def started(self) -> bool:
        """As `Worker.started`."""
        return self._worker.started

    @property
    def digest(self) -> str:
        """As `Worker.digest`."""
        return self._worker.digest


class Client:
    """`Worker`, with a process of its own. `start` and `close` belong to the application's lifespan."""

    def __init__(
        self, folder: Path, waiting: int = WAITING, hang: float = HANG_SECONDS, command: tuple[str, ...] = ()
    ) -> None:
        """folder: the model's, e.g. models/minilm-int8. command: another worker that speaks the same frames (tests).

        hang: seconds without an answer after which the worker is ended.
        """
        self._command = command or (sys.executable, "-m", "embed.worker", str(folder))
        self._name = f"{folder.name} worker"
        self._limit = waiting
        self._hang = hang
        self._waiting: dict[_Job, None] = {}  # a queue from which a caller who gives up can be taken out
        self._arrived = asyncio.Event()
        self._up = False
        self._closed = False
        self._trouble = "not started"
        self._task: asyncio.Task[None] | None = None
        self._answered = False  # has this worker ever been of use? Then the next restart comes fast.
        self.digest = ""
        """Of the model folder, as the worker read it; "" before it was ready once."""
        self.restarts = 0
        self.pid: int | None = None

    @property
    def ready(self) -> bool:
        return self._up

    @property
    def started(self) -> bool:
        """Has it ever been ready, and was not closed? Until then callers do without it."""
        return bool(self.digest) and not self._closed

    @property
    def waiting(self) -> int:
        """Texts in the queue, not counting those on their way."""
        return len(self._waiting)

    async def start(self) -> None:
        """Start the worker and wait until it is ready. Raises EmbedError when it cannot be."""
        if self._task is not None:
            raise EmbedError(f"the client of the {self._name} was started before")
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # The one task that outlives its caller: the lifespan owns us, we own it, `close` cancels and awaits it.
        self._task = asyncio.get_running_loop().create_task(self._keep_running(started), name=self._name)
        try:
            await started
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the worker; whoever still waits gets EmbedError. May be called twice."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._drop_waiting(EmbedError(f"the client of the {self._name} was closed"))

    async def ask(self, text: str) -> bytes:
        """The payload of the worker's answer. Raises Busy, WorkerDied, EmbedError.

        A caller who is cancelled leaves the queue; a text that is already on its way is computed for nobody.
        """
        if self._closed:
            raise EmbedError(f"the client of the {self._name} was closed")
        if not self._up:
            raise WorkerDied(f"the {self._name} is not running: {self._trouble}")
        if len(self._waiting) >= self._limit:
            raise Busy(f"{len(self._waiting)} texts wait for the {self._name}, no more may")
        job = _Job(text, asyncio.get_running_loop().create_future())
        self._waiting[job] = None
        self._arrived.set()
        try:
            return await job.answer
        finally:
            self._waiting.pop(job, None)

    async def _keep_running(self, started: "asyncio.Future[None]") -> None:
        failures = 0
        while True:
            try:
                await self._one_life(started)
            except EmbedError as exc:
                self._trouble = str(exc)
                if not started.done():
                    started.set_exception(exc)
                    return
            failures = 0 if self._answered else failures + 1
            self.restarts += 1
            await asyncio.sleep(BACKOFF[min(failures, len(BACKOFF) - 1)])

    async def _one_life(self, started: "asyncio.Future[None]") -> None:
        """From the start of a worker to its end. Raises EmbedError, always: a worker does not end by itself."""
        self._answered = False
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, env=_environment(), limit=1 << 20
            )
        except OSError as exc:
            raise EmbedError(f"the {self._name} cannot be started: {exc}") from exc
        self.pid = process.pid
        try:
            await self._hello(process)
            self._up = True
            if not started.done():
                started.set_result(None)
            await self._serve(process)
        finally:
            self._up = False
            self.pid = None
            await end(process, 1.0)

    async def _hello(self, process: Process) -> None:
        kind, payload = await self._frame(process, START_SECONDS)
        if kind != worker.READY:
            raise EmbedError(payload.decode("utf-8", "replace"))
        self.digest = payload.decode("ascii")

    async def _serve(self, process: Process) -> None:
        sent: asyncio.Queue[_Job] = asyncio.Queue()
        slots = asyncio.Semaphore(IN_FLIGHT)
        flying: set[_Job] = set()
        trouble = WorkerDied(f"the {self._name} was stopped")
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send(process, sent, slots, flying))
                tasks.create_task(self._receive(process, sent, slots, flying))
                tasks.create_task(self._watch(process))
        except ExceptionGroup as group:
            first = group.exceptions[0]
            trouble = first if isinstance(first, WorkerDied) else WorkerDied(f"the {self._name} broke off: {first!r}")
            raise trouble from first
        finally:
            self._up = False
            for job in flying:
                job.fail(WorkerDied(str(trouble)))
            self._drop_waiting(WorkerDied(str(trouble)))

    async def _send(
        self, process: Process, sent: "asyncio.Queue[_Job]", slots: asyncio.Semaphore, flying: set[_Job]
    ) -> None:
        assert process.stdin is not None
        while True:
            await slots.acquire()
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            job = next(iter(self._waiting))
            del self._waiting[job]
            flying.add(job)
            data = job.text.encode("utf-8", "replace")
            process.stdin.write(worker.QUESTION.pack(len(data)) + data)
            sent.put_nowait(job)
            await process.stdin.drain()

    async def _receive(
        self, process: Process, sent: "asyncio.Queue[_Job]", slots: asyncio.Semaphore, flying: set[_Job]
    ) -> None:
        while True:
            job = await sent.get()
            kind, payload = await self._frame(process, self._hang)
            self._answered = True
            flying.discard(job)
            slots.release()
            if kind != worker.ANSWER:
                job.fail(EmbedError(payload.decode("utf-8", "replace")))
            elif not job.answer.done():
                job.answer.set_result(payload)

    def _drop_waiting(self, error: EmbedError) -> None:
        for job in list(self._waiting):
            job.fail(error)
        self._waiting.clear()

    async def _frame(self, process: Process, seconds: float) -> tuple[int, bytes]:
        """One frame from the worker. Raises WorkerDied when none comes in time."""
        assert process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                length, kind = worker.HEAD.unpack(await process.stdout.readexactly(worker.HEAD.size))
                return kind, await process.stdout.readexactly(length)
        except asyncio.IncompleteReadError as exc:
            raise WorkerDied(f"the {self._name} ended") from exc
        except TimeoutError as exc:
            raise WorkerDied(f"the {self._name} did not answer for {seconds:g} s") from exc

    async def _watch(self, process: Process) -> None:
        raise WorkerDied(f"the {self._name} ended with status {await process.wait()}")


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    home = str(Path(worker.__file__).resolve().parent.parent)
    return {**kept, "PYTHONPATH": home, "OMP_NUM_THREADS": "1"}
