"""Runs attempts side by side and hands out what happens to them, one event at a time.

Every attempt is a task of the TaskGroup that the surface owns for this request, so all of them end with the request: when the caller
leaves, the group is cancelled, each generator is closed, and closing it closes its upstream. The queue is bounded: an upstream that is
faster than the caller is not read any further (back-pressure).
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from msgspec import Struct

from wire.errors import BackendError, Broken
from wire.types import Chunk


class Came(Struct, frozen=True):
    number: int
    chunk: Chunk


class Ended(Struct, frozen=True):
    number: int
    error: BackendError | None = None


class Race:
    def __init__(self, group: asyncio.TaskGroup, size: int = 64) -> None:
        self._group = group
        self._queue: asyncio.Queue[Came | Ended] = asyncio.Queue(size)
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def start(self, number: int, chunks: AsyncGenerator[Chunk, None]) -> None:
        self._tasks[number] = self._group.create_task(self._run(number, chunks))

    def stop(self, number: int) -> None:
        """Ends the attempt; nothing of it comes out any more."""
        task = self._tasks.pop(number, None)
        if task is not None:
            task.cancel()

    def stop_all(self) -> None:
        """Ends every attempt. Whoever stops reading events while attempts may still run calls it: one that waits for room in the queue
        would keep the task group open for ever."""
        for number in list(self._tasks):
            self.stop(number)

    async def event(self, seconds: float) -> Came | Ended | None:
        """The next event of an attempt that was not stopped; None after `seconds` without one."""
        try:
            async with asyncio.timeout(max(seconds, 0)):
                while True:
                    event = await self._queue.get()
                    if event.number in self._tasks:
                        if isinstance(event, Ended):
                            self._tasks.pop(event.number)
                        return event
        except TimeoutError:
            return None

    async def _run(self, number: int, source: AsyncGenerator[Chunk, None]) -> None:
        try:
            async with aclosing(source) as chunks:
                async for chunk in chunks:
                    await self._queue.put(Came(number, chunk))
            error = None
        except BackendError as exc:
            error = exc
        except Exception as exc:  # a backend that breaks its contract is a backend that did not answer
            error = Broken(f"the backend raised {type(exc).__name__}")
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # stopped, and the backend raised something else on its way out
            return
        await self._queue.put(Ended(number, error))
