"""Work that is in nobody's way: after the answer went out, bounded, and dropped rather than waited for.

Shadowing and judging use it. The workers belong to the lifespan's task group (`run`); what is offered beyond `waiting` is refused, and who
offered it counts that.
"""

import asyncio
from collections.abc import Awaitable, Callable

Job = Callable[[], Awaitable[None]]


class OffPath:
    def __init__(
        self, workers: int = 4, waiting: int = 64, on_error: Callable[[Exception], None] | None = None
    ) -> None:
        self._workers = workers
        self._jobs: asyncio.Queue[Job] = asyncio.Queue(waiting)
        self._on_error = on_error

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return self._jobs.qsize()

    def offer(self, job: Job) -> bool:
        """False: too much is waiting already, the job is dropped."""
        try:
            self._jobs.put_nowait(job)
        except asyncio.QueueFull:
            return False
        return True

    async def run(self) -> None:
        """Until it is cancelled. A job that raises ends alone."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            job = await self._jobs.get()
            try:
                await job()
            except Exception as exc:
                if self._on_error is not None:
                    self._on_error(exc)
