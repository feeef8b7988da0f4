"""One bench: the mock upstream, the gateways beside each other, and measuring them in turns.

Gateways run on one core (`taskset`), the load generator and the mock on another. CPU pinning is what makes "per core" a figure.
"""

import os
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson
import yaml
from msgspec import Struct, structs

from benchmarks.report import ROOT
from benchmarks.speed import _process, _requests, _tools
from benchmarks.speed.numbers import Row, read

KEY = "sk-test"
CONFIG = Path(__file__).parent / "weir.yaml"
READY_SECONDS = 180
DISTURBED = 0.15
"""Of one core: a round in which other processes took more is told in the notes."""


class Dead(RuntimeError):
    """A process that never gave an answer."""


class Target(Struct, frozen=True):
    """Somebody who answers chat completions. pid: its process, 0 for the mock itself (`direct`)."""

    name: str
    port: int
    pid: int = 0
    headers: tuple[str, ...] = ()
    """Further headers that it wants, "name: value"."""
    tls: bool = False
    started_s: float = 0.0
    """From its process's start to its first answer."""


class Bench:
    """See the file's head. Made by `bench()`."""

    def __init__(self, folder: Path, stack: ExitStack, *, shared_cores: bool = False) -> None:
        mine, theirs = _process.two_cores()
        both = f"{mine},{theirs}"
        self.gateway_core, self.load_core = (both, both) if shared_cores else (str(mine), str(theirs))
        self.folder = folder
        self.stack = stack
        self._numbers = 0
        self.disturbed: list[float] = []
        self.load = str(_tools.compiled("load"))
        self._taken: set[int] = set()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        port = self.free_port()
        self._mock = self.start([str(_tools.compiled("mock_upstream")), str(port)], self.load_core)
        self.direct = Target("direct", port)
        self.wait_for(self.direct, self._mock)

    @property
    def upstream(self) -> str:
        return f"http://127.0.0.1:{self.direct.port}/v1"

    def start(
        self, command: Sequence[str], core: str, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """A process that ends with the bench; its output goes to a file."""
        self._numbers += 1
        output = self.stack.enter_context((self.folder / f"{self._numbers}.log").open("wb"))
        process = _process.start(command, core, environ or {}, self.folder, output)
        self.stack.callback(_process.stop, process)
        self._processes[process.pid] = process
        return process

    def wait_for(
        self, target: Target, process: subprocess.Popen[bytes], began: float | None = None, model: str = "mock-j"
    ) -> Target:
        """`target` with its start-up time, once it has answered a request. Raises Dead."""
        began = time.perf_counter() if began is None else began
        body = _requests.chat(model)
        last = ""
        while time.perf_counter() - began < READY_SECONDS:
            try:
                status, last = post(target, body)
                if status == 200 and "chat.completion" in last:
                    took = time.perf_counter() - began
                    return structs.replace(target, pid=0 if target.name == "direct" else process.pid, started_s=took)
            except OSError as exc:
                last = str(exc)
            if process.poll() is not None:
                break
            time.sleep(0.005)
        raise Dead(f"{target.name} gave no answer: {last[:300]} {self._said()}")

    def _said(self) -> str:
        return (self.folder / f"{self._numbers}.log").read_bytes()[-500:].decode(errors="replace")

    def weir(
        self,
        name: str = "weir",
        *,
        change: Callable[[dict[str, Any]], None] = lambda table: None,
        words: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        upstream: str = "",
    ) -> Target:
        """Weir with `weir.yaml`, changed by `change`. Raises Dead."""
        table = yaml.safe_load(CONFIG.read_text())
        change(table)
        config = self.folder / f"{name}.yaml"
        config.write_text(yaml.safe_dump(table, sort_keys=False))
        port = self.free_port()
        given = {"UPSTREAM": upstream or self.upstream, "UPSTREAM_KEY": "sk-up", "STATE": str(self.folder / name)}
        command = [
            str(_tools.pythons().weir),
            "-m",
            "gateway.cli",
            "serve",
            "--config",
            str(config),
            "--port",
            str(port),
            *words,
        ]
        python = {"PYTHONPATH": str(ROOT)}
        began = time.perf_counter()
        process = self.start(command, self.gateway_core, {**given, **python, **(environ or {})})
        return self.wait_for(Target(name, port), process, began)

    def stop(self, target: Target) -> None:
        """End a gateway before the bench does: its core is wanted."""
        _process.stop(self._processes[target.pid])

    def measure(self, target: Target, body: bytes, *flags: str, command: Sequence[str] = ()) -> dict[str, float]:
        """One run of the generator against `target`. Raises ValueError when it printed no result."""
        place = self.folder / "body.json"
        place.write_bytes(body)
        words = [self.load, "-p", str(target.port), "-k", KEY, "-b", str(place), *flags]
        words += ["-T"] if target.tls else []
        for header in target.headers:
            words += ["-H", header]
        used, mock, busy = (
            _process.Cpu(target.pid or os.getpid()),
            _process.Cpu(self._mock.pid),
            _process.busy_seconds(),
        )
        before, began = os.times(), time.perf_counter()
        done = subprocess.run(
            ["taskset", "-c", self.load_core, *(command or words)], capture_output=True, text=True, check=False,
            env={**os.environ, "BODY_FILE": str(place), "API_KEY": KEY},
        )  # fmt: skip
        took, after = time.perf_counter() - began, os.times()
        row = read(done.stdout + done.stderr)
        load = after.children_user + after.children_system - before.children_user - before.children_system
        load += mock.seconds()
        gateway = used.seconds() if target.pid else 0.0
        other = max(0.0, _process.busy_seconds() - busy - load - gateway) / took
        self.disturbed.append(other)
        if target.pid:
            _process.at_rest(target.pid)
        return {**row, "cpu_s": gateway, "took_s": took, "load_share": load / took, "other_share": other}

    def free_port(self) -> int:
        while True:
            with socket.socket() as one:
                one.bind(("127.0.0.1", 0))
                port: int = one.getsockname()[1]
            if port not in self._taken:
                self._taken.add(port)
                return port

    def notes(self) -> dict[str, Any]:
        """How quiet the machine was."""
        worst = max(self.disturbed, default=0.0)
        loud = sum(share > DISTURBED for share in self.disturbed)
        return {
            "python": f"gateways on {_tools.pythons().said}",
            "cores": f"gateway on core {self.gateway_core}; load generator and mock upstream on core {self.load_core}",
            "others": f"other processes took at most {worst:.0%} of a core; more than {DISTURBED:.0%} in {loud} of "
            f"{len(self.disturbed)} measurements",
        }


@contextmanager
def bench(*, shared_cores: bool = False) -> Iterator[Bench]:
    """shared_cores: nothing is pinned to a core of its own. Raises NotRun."""
    with tempfile.TemporaryDirectory(prefix="weir-speed-") as folder, ExitStack() as stack:
        yield Bench(Path(folder), stack, shared_cores=shared_cores)


Rounds = dict[tuple[str, str], list[dict[str, float]]]


def interleaved(
    count: int, targets: Sequence[Target], tests: Mapping[str, Callable[[Target], dict[str, float]]]
) -> Rounds:
    """(target's name, test) > a row per round. Every round asks every target, so that what the machine does meanwhile meets all alike."""
    found: Rounds = {(target.name, test): [] for target in targets for test in tests}
    for _ in range(count):
        for test, run in tests.items():
            for target in targets:
                found[target.name, test].append(run(target))
    return found


def healthy(rows: Sequence[Row], what: str, *, may_shed: bool = False) -> None:
    """Raises ValueError when a request got no 200 (may_shed: or 503): figures of failing gateways are worthless."""
    for row in rows:
        wrong = {key: row[key] for key in ("shed", "other", "broken", "unanswered") if row.get(key)}
        if may_shed:
            wrong.pop("shed", None)
        if wrong or not row["requests"]:
            last = f", the last with status {row['other_status']}" if row.get("other_status") else ""
            raise ValueError(f"{what}: {wrong or 'nothing'} beside {row['requests']:.0f} answers{last}")


def records(folder: Path) -> list[dict[str, Any]]:
    """The Records in the newest file of a gateway's state folder; a line that is being written is left out."""
    lines = (folder / "records.jsonl").read_bytes().splitlines()
    return [orjson.loads(line) for line in lines if line.endswith(b"}")]


def post(target: Target, body: bytes) -> tuple[int, str]:
    """Status and body of its answer to a chat request. Raises OSError."""
    scheme = "https" if target.tls else "http"
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    headers |= dict(header.split(": ", 1) for header in target.headers)
    asked = urllib.request.Request(f"{scheme}://127.0.0.1:{target.port}/v1/chat/completions", body, headers)
    context = ssl._create_unverified_context() if target.tls else None
    try:
        with urllib.request.urlopen(asked, timeout=10, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.read().decode(errors="replace")
