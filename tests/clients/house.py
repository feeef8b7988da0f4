"""A scripted upstream and gateways in front of it, as processes of their own: `with house() as running: running.url("enforce")`."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 60.0
MODES = ("enforce", "observe")

CONFIG = """
backends:
  small: {{kind: vllm, base_url: "{upstream}/small/v1", model: slm, timeout: 30}}
  cloud: {{kind: openai, base_url: "{upstream}/cloud/v1", model: big, cloud: true, timeout: 60,
           price: {{input: 1, cached_input: 0.1, output: 4}}}}
router:
  use: {{kind: rules}}
  default: general
routes:
  general: {{ladder: [small, cloud], mode: {mode}}}
  direct: {{ladder: [cloud], mode: {mode}}}
models:
  weir: {{use: routed}}
  gpt-*: {{use: routed, through: cloud}}
  claude-*: {{use: routed, through: cloud}}
embeddings:
  text-embedding-*: {{kind: openai, base_url: "{upstream}/cloud/v1"}}
telemetry: {{records: 200}}
limits: {{in_flight: 2048}}
"""


class House:
    """Running processes. `upstream` and the URLs have no path."""

    def __init__(self, upstream: str, gateways: Mapping[str, str], folder: Path) -> None:
        self.upstream = upstream
        self.folder = folder
        self._gateways = gateways

    def url(self, mode: str) -> str:
        """Of the gateway in this mode; `bare`: of the scripted cloud itself."""
        return f"{self.upstream}/cloud" if mode == "bare" else self._gateways[mode]


@contextmanager
def house(*, modes: tuple[str, ...] = MODES, broken: str = "") -> Iterator[House]:
    """Everything that is started is ended, by its own handle. Raises RuntimeError when something does not start."""
    started: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="weir-clients-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            upstream = _upstream(folder, broken, started)
            gateways = {mode: _gateway(folder, mode, upstream, started) for mode in modes}
            yield House(upstream, gateways, folder)
        finally:
            for process in reversed(started):
                process.terminate()
            for process in reversed(started):
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _upstream(folder: Path, broken: str, started: list[subprocess.Popen[bytes]]) -> str:
    told = folder / "upstream.out"
    command = [sys.executable, "-m", "tests.clients.upstream", "--broken", broken]
    started.append(_start(command, told))
    port = _wait(lambda: told.read_text().partition("\n")[0], started[-1], told)
    return f"http://127.0.0.1:{port}"


def _gateway(folder: Path, mode: str, upstream: str, started: list[subprocess.Popen[bytes]]) -> str:
    home = folder / mode
    home.mkdir()
    config = home / "weir.yaml"
    config.write_text(CONFIG.format(upstream=upstream, mode=mode))
    told = home / "gateway.out"
    command = [sys.executable, "-m", "gateway.cli", "serve", "--config", str(config), "--port", "0"]
    started.append(_start(command, told, home))
    return _wait(lambda: _listening(told), started[-1], told)


def _start(command: list[str], told: Path, cwd: Path = ROOT) -> "subprocess.Popen[bytes]":
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with told.open("wb") as out:
        return subprocess.Popen(
            command, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )


def _listening(told: Path) -> str:
    for line in told.read_text().splitlines():
        if '"listening"' in line:
            return str(json.loads(line)["url"])
    return ""


def _wait(found: Callable[[], str], process: "subprocess.Popen[bytes]", told: Path) -> str:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if value := found():
            return str(value)
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"did not start: {told.read_text()[-2000:]}")
