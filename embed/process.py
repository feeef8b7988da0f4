"""Ending a worker process that reads orders from its standard input until that ends."""

import asyncio
from asyncio.subprocess import Process
from contextlib import suppress


async def end(process: Process, seconds: float) -> None:
    """End of input, `seconds` to go, then the axe; afterwards no transport is left open."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    with suppress(ConnectionError):
        await process.stdin.wait_closed()
