"""Waiting for what other threads and tasks do, with a deadline. Tests never sleep for a fixed time and hope."""

import asyncio
from collections.abc import Callable


async def until(done: Callable[[], bool], seconds: float = 10.0) -> None:
    """Return when `done()` is true. Raises TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not done():  # noqa: ASYNC110 - what is awaited lies outside the loop and sets no event
            await asyncio.sleep(0.005)
