"""One engine as a process of Weir's: started in a keeper, asked whether it is well, ended. No stray tasks, no client library."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from backends._secret import Secret
from gateway.engines.plan import Process
from gateway.settings.model import Settings

LOG_BYTES = 20 * 2**20
"""Of NAME.log; there is one older one beside it."""
KEEPER = Path(__file__).with_name("keeper.py")
_KILL_SECONDS = 10.0
"""Seconds beyond `stop_seconds` that the keeper gets before it is killed itself."""


class Running:
    """A keeper and the engine in it."""

    def __init__(self, keeper: asyncio.subprocess.Process, process: Process) -> None:
        self._keeper = keeper
        self._stop_seconds = process.stop_seconds

    @property
    def pid(self) -> int:
        """The keeper's; the engine is its child."""
        return self._keeper.pid

    async def wait(self, seconds: float | None = None) -> int | None:
        """The engine's exit status (see `keeper`), None when it still runs after `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._keeper.wait()
        return None

    async def stop(self) -> int:
        """End the engine and wait until nothing of it is left; its exit status. SIGTERM, then SIGKILL after `stop_seconds`."""
        with suppress(ProcessLookupError):
            self._keeper.terminate()
        code = await self.wait(self._stop_seconds + _KILL_SECONDS)
        if code is None:  # it hangs in the system: the engine gets its SIGTERM from the kernel then
            with suppress(ProcessLookupError):
                self._keeper.kill()
            code = await self._keeper.wait()
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
        return code


async def start(process: Process, log: Path, environ: Mapping[str, str]) -> Running:
    """Start `process` in a keeper. log: its folder is made. environ: what it inherits. Raises OSError."""
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    keeper = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(KEEPER)),
        *("--log", str(log), "--bytes", str(LOG_BYTES), "--grace", str(process.stop_seconds), "--", *process.argv),
        stdin=PIPE,
        stdout=DEVNULL,
        stderr=DEVNULL,
        env={**environ, **process.env},
        start_new_session=True,  # Ctrl-C is for Weir, which drains first
    )
    return Running(keeper, process)


def inherited(settings: Settings, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What of Weir's environment engines get: all but the keys that the configuration names (an engine runs a model's code, and other
    backends' keys are none of its affair), and a key that vLLM would ask its callers for."""
    kept_back = {*_secrets(settings), "VLLM_API_KEY"}
    return {name: value for name, value in environ.items() if name not in kept_back}


def _secrets(value: Any) -> Iterator[str]:
    """Variables that secrets in `value` refer to."""
    if isinstance(value, Secret):
        yield value.source.removeprefix("${").removesuffix("}")
    elif isinstance(value, BaseModel):
        for field in type(value).model_fields:
            yield from _secrets(getattr(value, field))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _secrets(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets(item)


async def healthy(port: int, seconds: float) -> bool:
    """Does GET /health on this port answer 200 within `seconds`?"""
    return (await _asked(port, seconds)).startswith((b"HTTP/1.0 200", b"HTTP/1.1 200"))


async def listening(port: int, seconds: float = 1.0) -> bool:
    """Does anybody accept connections there?"""
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _asked(port: int, seconds: float) -> bytes:
    """The first line of the answer; b"" when there is none. A line of HTTP is not worth a client."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
            return await reader.readline()
    except (OSError, TimeoutError, ValueError):
        return b""
    finally:
        if writer is not None:
            writer.close()
