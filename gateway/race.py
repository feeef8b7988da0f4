"""Runs attempts side by side and hands out what happens to them, one event at a time.

Every attempt is a task of the TaskGroup that the surface owns for this request, so all of them end with the request: when the caller
leaves, the group is cancelled, each generator is closed, and closing it closes its upstream. The queue is bounded: an upstream that is
faster than the caller is not read any further (back-pressure).

An attempt that runs *alone* needs neither task nor queue: it is read by whoever waits for the next event, under one timer for all its
events. Measured for an answer of one chunk: 10 us instead of 24 (task, queue, an `asyncio.timeout` per event). It gets its task as soon
as a second attempt starts.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing, suppress
from functools import cached_property

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
        self._size = size
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._alone: tuple[int, AsyncGenerator[Chunk, None]] | None = None
        self._stopped: list[AsyncGenerator[Chunk, None]] = []
        self._reader: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0
        self._expired = False

    def start(self, number: int, chunks: AsyncGenerator[Chunk, None], *, alone: bool = False) -> None:
        """alone: it is only read while somebody waits for its next event, and `event` ends it when it comes to the end of its seconds.
        Whoever starts one so ends with `close`."""
        if alone and self._alone is None and not self._tasks:
            self._alone = number, chunks
            return
        if self._alone is not None:
            first, source = self._alone
            self._alone = None
            self._tasks[first] = self._group.create_task(self._run(first, source))
        self._tasks[number] = self._group.create_task(self._run(number, chunks))

    def stop(self, number: int) -> None:
        """Ends the attempt; nothing of it comes out any more."""
        if self._alone is not None and self._alone[0] == number:
            source = self._alone[1]
            self._alone = None
            self._stopped.append(source)
            self._group.create_task(_closed(source))
            return
        task = self._tasks.pop(number, None)
        if task is not None:
            task.cancel()

    def stop_all(self) -> None:
        """Ends every attempt. Whoever stops reading events while attempts may still run calls it: one that waits for room in the queue
        would keep the task group open for ever."""
        for number in list(self._tasks):
            self.stop(number)

    @cached_property
    def _queue(self) -> "asyncio.Queue[Came | Ended]":
        """Only where attempts run side by side (2 us)."""
        return asyncio.Queue(self._size)

    @property
    def alone(self) -> bool:
        """One attempt runs, and is read by whoever waits."""
        return self._alone is not None

    async def close(self) -> None:
        """`stop_all`, also from a task that is being cancelled: a source that was alone has been closed when this returns."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        alone, self._alone = self._alone, None
        if alone is not None:
            self._stopped.append(alone[1])
        self.stop_all()
        for source in self._stopped:
            await _closed(source)

    async def event(self, seconds: float) -> Came | Ended | None:
        """The next event of an attempt that was not stopped; None after `seconds` without one."""
        if self._alone is not None:
            return await self._read(anext(self._alone[1]), seconds)
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

    async def rest(self, seconds: float, chunks: list[Chunk]) -> Ended | None:
        """The end of the attempt that runs `alone`; all that still comes of it goes into `chunks`. None after `seconds` without an end.
        For an answer that comes whole (6 us less than its chunk and its end as events)."""
        assert self._alone is not None
        end = await self._read(self._drained(self._alone[1], chunks), seconds)
        assert not isinstance(end, Came)
        return end

    async def _drained(self, source: AsyncGenerator[Chunk, None], chunks: list[Chunk]) -> None:
        async for chunk in source:
            chunks.append(chunk)
            if self._expired:  # it has swallowed that it was stopped
                return

    async def _read(self, reading: Awaitable[Chunk | None], seconds: float) -> Came | Ended | None:
        """What `reading` brings of the attempt that runs alone; no chunk is its end."""
        assert self._alone is not None
        number = self._alone[0]
        reader = self._reader = asyncio.current_task()
        assert reader is not None
        self._watch(seconds)
        event: Came | Ended | None = None
        try:
            chunk = await reading
            event = Ended(number) if chunk is None else Came(number, chunk)
        except StopAsyncIteration:
            event = Ended(number)
        except BackendError as exc:
            event = Ended(number, exc)
        except asyncio.CancelledError:
            if not self._expired:
                raise
        except Exception as exc:
            event = Ended(number, _broken(exc))
        finally:
            self._reader = None
        if self._expired:
            self._expired = False
            if reader.uncancel():  # the caller has left as well
                raise asyncio.CancelledError
            return None
        if isinstance(event, Ended):
            self._alone = None
        return event

    def _watch(self, seconds: float) -> None:
        """One timer for all events: a later end only overwrites `_until`, and a timer that fires early sets itself again."""
        loop = asyncio.get_running_loop()
        self._until = loop.time() + max(seconds, 0)
        if self._timer is None or self._until < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(self._until, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._reader is None:
            return  # the next wait sets it again
        if loop.time() < self._until:
            self._timer = loop.call_at(self._until, self._tick, loop)
        else:
            self._expired = True
            self._reader.cancel()

    async def _run(self, number: int, source: AsyncGenerator[Chunk, None]) -> None:
        try:
            async with aclosing(source) as chunks:
                async for chunk in chunks:
                    await self._queue.put(Came(number, chunk))
            error = None
        except BackendError as exc:
            error = exc
        except Exception as exc:  # a backend that breaks its contract is a backend that did not answer
            error = _broken(exc)
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # stopped, and the backend raised something else on its way out
            return
        await self._queue.put(Ended(number, error))


def _broken(exc: Exception) -> Broken:
    return Broken(f"the backend raised {type(exc).__name__}")


async def _closed(source: AsyncGenerator[Chunk, None]) -> None:
    with suppress(Exception):  # whatever it raises on its way out, nobody waits for it
        await source.aclose()
