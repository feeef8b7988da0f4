"""Waiting for what other threads and tasks do, with a deadline. Tests never sleep for a fixed time and hope, and never wait for one
thing and assert another."""

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE = 50.0
"""Seconds: longer than any wait that is to succeed, however slow the machine; shorter than the hangs of scripted servers and the limit
of a test."""


async def until(done: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Return when `done()` is true. Raises TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not done():  # noqa: ASYNC110 - what is awaited lies outside the loop and sets no event
            await asyncio.sleep(0.005)


def run(test: Callable[[], Awaitable[None]]) -> None:
    """A test to its end, which leaves no task behind."""

    async def main() -> None:
        before = asyncio.all_tasks()
        async with asyncio.timeout(2 * PATIENCE):
            await test()
        assert asyncio.all_tasks() == before, "close leaves no task behind"

    asyncio.run(main())
