"""The gateway of the demo: `weir serve` in a process of its own, so that client and server do not share an interpreter."""

import asyncio
import os
import signal
import sys
import time
import urllib.request
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import orjson
from msgspec import Struct

READY_SECONDS = 30.0
STOP_SECONDS = 15.0
LOOK = 0.005
"""Seconds between two looks at a starting gateway."""

COMMAND = (sys.executable, "-c", "from gateway.cli import main; main()", "serve")


class DidNotStart(Exception):
    """The gateway did not become ready. The message ends with the last lines of its log."""


class Server(Struct, frozen=True):
    url: str
    """Without `/v1`."""
    pid: int
    start_seconds: float
    """From the start of the process to the first 200 of /readyz."""

    async def get(self, path: str) -> bytes:
        """Raises OSError."""
        return await asyncio.to_thread(_get, self.url + path)


@asynccontextmanager
async def serving(config: Path, log: Path) -> AsyncIterator[Server]:
    """Serve `config` on a free port of 127.0.0.1; ended with SIGTERM, however the block is left. Raises DidNotStart."""
    started = time.perf_counter()
    with log.open("wb") as out:
        # A session of its own: Ctrl-C goes to us, and we end it.
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("--config", str(config), "--host", "127.0.0.1", "--port", "0"),
            stdin=DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        url = await _ready(process, log)
        yield Server(url, process.pid, time.perf_counter() - started)
    finally:
        await _stop(process)


async def _ready(process: Process, log: Path) -> str:
    url = ""
    try:
        async with asyncio.timeout(READY_SECONDS):
            while process.returncode is None:
                url = url or _listening(log)
                if url:
                    with suppress(OSError):
                        await asyncio.to_thread(_get, f"{url}/readyz")
                        return url
                await asyncio.sleep(LOOK)
        why = f"the gateway ended with status {process.returncode}"
    except TimeoutError:
        why = f"the gateway was not ready after {READY_SECONDS:g} s"
    raise DidNotStart("\n".join((why, *_tail(log))))


def _listening(log: Path) -> str:
    """The address in the log's `listening` event; "" before it is there."""
    for line in log.read_bytes().splitlines(keepends=True):
        if b'"listening"' in line and line.endswith(b"\n"):
            with suppress(orjson.JSONDecodeError):
                return str(orjson.loads(line)["url"])
    return ""


def _tail(log: Path, lines: int = 8) -> list[str]:
    return log.read_text("utf-8", "replace").splitlines()[-lines:]


def _get(url: str) -> bytes:
    # No proxy of the environment: it is our own machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as response:
        data: bytes = response.read()
        return data


async def _stop(process: Process) -> None:
    """SIGTERM, and when that is not enough the axe for it and what it started."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
