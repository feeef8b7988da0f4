"""A real vLLM (CPU build, `make vllm`) that serves one of our own models: `async with serving(model, log) as url: ...`."""

import asyncio
import os
import signal
import socket
import urllib.request
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from benchmarks import report
from benchmarks.quality.parts import NotRun

VLLM = report.ROOT / ".venv-vllm" / "bin" / "vllm"
START_SECONDS = 300.0
STOP_SECONDS = 20.0
OPTIONS = (
    "--dtype", "float32", "--max-model-len", "512", "--enforce-eager", "--max-num-seqs", "64",
    "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
    "--structured-outputs-config", '{"backend":"xgrammar","disable_any_whitespace":true}',
)  # fmt: skip


@asynccontextmanager
async def serving(model: Path, log: Path) -> AsyncIterator[str]:
    """Its URL without a path; the model goes by its folder's name. Ended with SIGTERM, however the block is left. Raises NotRun where
    vLLM is not installed."""
    if not VLLM.exists():
        raise NotRun("needs vLLM: make vllm")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environ = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("wb") as out:
        # A session of its own: the engine is several processes, and all of them must end.
        process = await asyncio.create_subprocess_exec(
            *(
                str(VLLM),
                "serve",
                str(model),
                "--served-model-name",
                model.name,
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                *OPTIONS,
            ),
            env=environ,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        await _healthy(url, process, log)
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _healthy(url: str, process: Process, log: Path) -> None:
    """Raises RuntimeError with the log's end when it does not come up."""
    with suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                with suppress(OSError):
                    await asyncio.to_thread(urllib.request.urlopen, f"{url}/health", timeout=2)
                    return
                await asyncio.sleep(0.5)
    raise RuntimeError(f"vLLM did not come up:\n{_end(log)}")


def _end(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]
