"""A bounded queue with one thread behind it: for what must be written, and must never be waited for.

Why a thread and not a task: a disk or a pipe that hangs would hang the loop's default executor with it, and with that the
shutdown. This thread is a daemon: `close` gives it a deadline and then leaves it behind. Why it is not woken for every
item: it would then fight the loop for the interpreter at every request, and write every line by itself. The producer appends to
a deque and looks at a flag that is usually set already (measured: 0.07 us an item; `queue.Queue.put` 0.87 us); the thread gathers for
`every` seconds and writes a batch: it is woken 10 times a second at most, where a wake for every item cost 16 us each (2,000 a second).
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

BATCH = 512
"""Most items handed to `write` at once."""


class Backlog(Generic[T]):
    """`put` never waits; `write(batch)` runs in the thread.

    limit: most items that wait. every: seconds of gathering before a batch is written. An exception of `write` counts its
    batch as `lost` and changes nothing else.
    """

    def __init__(self, write: Callable[[list[T]], None], *, limit: int, name: str, every: float = 0.1) -> None:
        self.lost = 0
        """Items that `write` raised for. Written by the thread only."""
        self.running = False
        self._write = write
        self._limit = limit
        self._every = every
        self._queue: deque[T] = deque()
        self._pending = threading.Event()
        self._closing = threading.Event()
        # What the two events say, for who puts: asking an event is a call.
        self._awake = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._done: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, item: T) -> bool:
        """False: full or closed, the item was not taken. Any thread may put (several may overshoot the limit by one each)."""
        if self._closed or len(self._queue) >= self._limit:
            return False
        self._queue.append(item)
        if not self._awake:
            self._awake = True
            self._pending.set()
        return True

    def put_all(self, items: Sequence[T]) -> int:
        """`put` each, in order. Returns how many were not taken."""
        room = 0 if self._closed else max(0, self._limit - len(self._queue))
        self._queue.extend(items if len(items) <= room else items[:room])
        if room and not self._awake:
            self._awake = True
            self._pending.set()
        return max(0, len(items) - room)

    def start(self) -> None:
        """Start the thread, inside a running loop. Raises RuntimeError the second time: a backlog lives once."""
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        self._thread.start()
        self.running = True

    async def close(self, seconds: float = 5.0) -> int:
        """Take nothing more, write what waits, for at most `seconds`. Returns how many items were left unwritten."""
        self._closed, self.running = True, False
        self._closing.set()
        self._pending.set()
        if self._done is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._done.wait()
        return len(self._queue)

    def _run(self) -> None:
        while True:
            self._pending.wait()
            self._closing.wait(self._every)
            # Both before the queue is emptied, in this order: whoever puts meanwhile sets them again, so that nothing is left behind.
            self._pending.clear()
            self._awake = False
            # What waits now, and not what comes while that is written: a busy loop puts an item during every write, and the thread would
            # go on one by one, taking the interpreter from the loop several times a request.
            for _ in range(-(-len(self._queue) // BATCH)):
                self._hand_over()
            if self._closing.is_set() and not self._queue:
                break
        assert self._loop is not None
        assert self._done is not None
        with contextlib.suppress(RuntimeError):  # the loop has gone: nobody waits any more
            self._loop.call_soon_threadsafe(self._done.set)

    def _hand_over(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
        try:
            self._write(batch)
        except Exception:  # the thread outlives whatever a sink does
            self.lost += len(batch)
