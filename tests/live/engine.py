"""A real vLLM on the CPU with a tiny model, for the tests that need one. Started once per test session, ended by its process id."""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv-vllm" / "bin"
START_SECONDS = 240
OPTIONS = (
    "--enforce-eager", "--max-model-len", "1024", "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
    # One backend, pinned: `auto` latches whichever the first schema needs.
    "--structured-outputs-config", '{"backend":"xgrammar","disable_any_whitespace":true}',
    "--enable-lora", "--max-lora-rank", "8", "--max-loras", "2",
)  # fmt: skip


def there() -> bool:
    """`make vllm` has been run here."""
    return (BIN / "vllm").exists() and (ROOT / ".venv-vllm" / ".vllm").exists()


@contextmanager
def running(
    folder: Path, name: str = "tiny", options: tuple[str, ...] = OPTIONS, model: Path | None = None
) -> Iterator[str]:
    """The engine's URL. Its log stands in `folder`. model: default, a tiny one that knows nothing."""
    if model is None:
        model = folder / "model"
        script = ROOT / "tests" / "live" / "tiny_model.py"
        subprocess.run([BIN / "python", script, model], check=True, capture_output=True)
    port = free_port()
    environ = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    }
    command: list[str | Path] = [
        BIN / "vllm",
        "serve",
        model,
        "--served-model-name",
        name,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        *options,
    ]
    with (folder / "vllm.log").open("wb") as log:
        # A session of its own: the engine is several processes, and all of them must end.
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, folder / "vllm.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def adapter(folder: Path, seed: int) -> Path:
    """A real LoRA for the tiny model, random by `seed`."""
    script = ROOT / "tests" / "live" / "tiny_model.py"
    subprocess.run([BIN / "python", script, folder, str(seed)], check=True, capture_output=True)
    return folder


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"vLLM ended while starting:\n{log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError(f"vLLM was not up after {START_SECONDS} s:\n{log.read_text()[-3000:]}")
