"""Runs attempts side by side and hands out what happens to them, one event at a time.

Every attempt is a task of the TaskGroup that the surface owns for this request, so all of them end with the request: when the caller
leaves, the group is cancelled, each generator is closed, and closing it closes its upstream. The queue is bounded: an upstream that is
faster than the caller is not read any further (back-pressure).

An attempt that runs *alone* needs neither task nor queue: it is read by whoever waits for the next event, under a deadline (`Deadlines`:
one timer for all races). Measured for an answer of one chunk: 10 us instead of 24 (task, queue, an `asyncio.timeout` per event). It gets
its task as soon as a second attempt starts.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar

from msgspec import Struct, field

from wire.errors import BackendError, Broken
from wire.types import Chunk, Sink

T = TypeVar("T")


class Came(Struct, frozen=True):
    number: int
    chunks: Sequence[Chunk]


class Ended(Struct, frozen=True):
    number: int
    error: BackendError | None = None


class Alone(Struct, frozen=True):
    """The one attempt that runs, where it is read by whoever waits."""

    number: int
    source: AsyncGenerator[Chunk, None]
    step: Callable[..., Awaitable[Sequence[Chunk]]]
    """`source.step` (`backends._steps`), or its like where a backend has none, which takes no sink."""


class Deadlines:
    """When races have waited long enough: one timer for all of them. Nearly all are over before their time, so it is set about once for as
    long as a request may take, and not for each of them (0.7 us instead of 2.2). Of one loop."""

    def __init__(self) -> None:
        self.until: dict[Race, float] = {}
        """The races that wait, and until when in the loop's time. Whose attempt is over takes itself out."""
        self._timer: asyncio.TimerHandle | None = None
        self._at = math.inf

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running one when it is first asked for. (CPython 3.11 asks the kernel for the process's id each time: 0.2 us.)"""
        return asyncio.get_running_loop()

    def set(self, race: "Race", seconds: float) -> None:
        """`race.expire` is called in so many seconds unless it is set anew, or taken out of `until`."""
        until = self.until[race] = self.loop.time() + (seconds if seconds > 0 else 0)
        if until < self._at:
            self._arm(until)

    def _arm(self, until: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._at, self._timer = until, self.loop.call_at(until, self._tick)

    def _tick(self) -> None:
        self._at, self._timer = math.inf, None
        now = self.loop.time()
        for race in [race for race, until in self.until.items() if until <= now]:
            del self.until[race]
            race.expire()
        if self.until:
            self._arm(min(self.until.values()))


class Tasks(Protocol):
    """A task group, as far as a race knows it."""

    def create_task(self, coro: Coroutine[Any, Any, T], /) -> asyncio.Task[T]: ...


class Race(Struct, eq=False, dict=True):
    group: Tasks
    deadlines: Deadlines = field(default_factory=Deadlines)
    host: asyncio.Task[Any] | None = None
    """The one task that waits for its events, where that is known: else it is looked for each time."""
    size: int = 64
    """Events that wait, at most."""
    alone: Alone | None = None
    _tasks: dict[int, asyncio.Task[None]] = {}
    _unread: list[AsyncGenerator[Chunk, None]] = []
    """Sources that nobody reads any more, or not yet: `close` closes them. A task that is cancelled before its first turn never sees
    its own."""
    _reader: asyncio.Task[object] | None = None
    _expired: bool = False
    until: float = 0.0
    """The loop's time until which the attempt that runs alone may go on, where that is longer than its wait was given: a sink says so."""

    def start(self, number: int, chunks: AsyncGenerator[Chunk, None], *, alone: bool = False) -> None:
        """alone: it is only read while somebody waits for its next event, and `event` ends it when it comes to the end of its seconds.
        Whoever starts one so ends with `close`."""
        if alone and self.alone is None and not self._tasks:
            self.alone = Alone(number, chunks, getattr(chunks, "step", None) or partial(_step, chunks))
            return
        if self.alone is not None:
            first, self.alone = self.alone, None
            self.deadlines.until.pop(self, None)
            self._side_by_side(first.number, first.source)
        self._side_by_side(number, chunks)

    def _side_by_side(self, number: int, source: AsyncGenerator[Chunk, None]) -> None:
        self._unread.append(source)
        self._tasks[number] = self.group.create_task(self._run(number, source))

    def stop(self, number: int) -> None:
        """Ends the attempt; nothing of it comes out any more."""
        if self.alone is not None and self.alone.number == number:
            source = self.alone.source
            self.alone = None
            self._unread.append(source)
            self.group.create_task(_closed(source))
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
        return asyncio.Queue(self.size)

    @property
    def over(self) -> bool:
        """Nothing was left running: there is nothing to `close`."""
        return self.alone is None and not self._tasks and not self._unread

    async def close(self) -> None:
        """`stop_all`, also from a task that is being cancelled: a source that was alone has been closed when this returns."""
        self.deadlines.until.pop(self, None)
        alone, self.alone = self.alone, None
        if alone is not None:
            self._unread.append(alone.source)
        if self._tasks:
            self.stop_all()
        for source in self._unread:
            await _closed(source)

    async def event(self, seconds: float) -> Came | Ended | None:
        """The next event of an attempt that was not stopped, one chunk or its end; None after `seconds` without one."""
        if self.alone is not None:
            return await self._read(partial(_step, self.alone.source), seconds)
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

    def more(self, seconds: float, sink: Sink | None = None) -> Coroutine[Any, Any, Came | Ended | None]:
        """As `event`, of the one attempt that runs: all its chunks that came together, where its backend can say so (`backends._steps`).
        sink: gets them where they come, and whoever waits here is woken only for what it does not take. By `until` it gives more time."""
        alone = self.alone
        if alone is None:
            return self.event(seconds)
        return self._read(alone.step if sink is None else partial(alone.step, sink), seconds)

    def take_end(self) -> bool:
        """Has the attempt that runs alone come to its end with what `more` brought of it? Then that need not be asked for, and it is over
        here too."""
        if self.alone is None or not _over(self.alone.source):
            return False
        self.alone = None
        self.deadlines.until.pop(self, None)
        return True

    def rest(self, seconds: float, chunks: list[Chunk]) -> Coroutine[Any, Any, Came | Ended | None]:
        """The end of the attempt that runs `alone`; all that still comes of it goes into `chunks`. None after `seconds` without an end.
        For an answer that comes whole (6 us less than its chunk and its end as events)."""
        assert self.alone is not None
        return self._read(self.alone.step, seconds, chunks.extend)

    async def _read(
        self,
        ask: Callable[[], Awaitable[Sequence[Chunk]]],
        seconds: float,
        keep: Callable[[Sequence[Chunk]], None] | None = None,
    ) -> Came | Ended | None:
        """What `ask` brings of the attempt that runs alone, or its end. keep: is given it, and `ask` is asked until the end."""
        assert self.alone is not None
        number = self.alone.number
        reader = self._reader = self.host or asyncio.current_task(self.deadlines.loop)
        assert reader is not None
        if self.until:
            self.until = 0.0
        self.deadlines.set(self, seconds)
        found: Came | Ended | None = None
        try:
            if keep is None:
                found = Came(number, await ask())
            else:
                source = self.alone.source
                while not self._expired:  # a source may swallow that it was stopped
                    keep(await ask())
                    if _over(source):  # a second step costs 1 us
                        found = Ended(number)
                        break
        except StopAsyncIteration:
            found = Ended(number)
        except BackendError as exc:
            found = Ended(number, exc)
        except asyncio.CancelledError:
            if not self._expired:
                raise
        except Exception as exc:
            found = Ended(number, _broken(exc))
        finally:
            self._reader = None
        if self._expired:
            self._expired = False
            if reader.uncancel():  # the caller has left as well
                raise asyncio.CancelledError
            return None
        if isinstance(found, Ended):
            self.alone = None
            self.deadlines.until.pop(self, None)
        return found

    def expire(self) -> None:
        """The event that is waited for is late; where nobody waits, the next wait has a time of its own."""
        left = self.until - self.deadlines.loop.time()
        if self._reader is not None and left > 0:
            self.deadlines.set(self, left)
        elif self._reader is not None:
            self._expired = True
            self._reader.cancel()

    async def _run(self, number: int, source: AsyncGenerator[Chunk, None]) -> None:
        self._unread.remove(source)
        try:
            async with aclosing(source) as chunks:
                async for chunk in chunks:
                    await self._queue.put(Came(number, [chunk]))
            error = None
        except BackendError as exc:
            error = exc
        except Exception as exc:  # a backend that breaks its contract is a backend that did not answer
            error = _broken(exc)
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # stopped, and the backend raised something else on its way out
            return
        await self._queue.put(Ended(number, error))


async def _step(source: AsyncGenerator[Chunk, None], sink: Sink | None = None) -> Sequence[Chunk]:
    return [await anext(source)]


def _over(source: AsyncGenerator[Chunk, None]) -> bool:
    """Is it known that nothing more comes (`backends._steps`)?"""
    return getattr(source, "over", False) is True


def _broken(exc: Exception) -> Broken:
    return Broken(f"the backend raised {type(exc).__name__}")


async def _closed(source: AsyncGenerator[Chunk, None]) -> None:
    with suppress(Exception):  # whatever it raises on its way out, nobody waits for it
        await source.aclose()
