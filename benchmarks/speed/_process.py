"""Processes: which core they run on, what they cost, when they are at rest. Linux only (/proc)."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from benchmarks.quality.parts import NotRun

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def two_cores() -> tuple[int, int]:
    """The gateway's core, and the one of load generator and upstream. Raises NotRun on a machine with one."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2 or not Path("/proc/self/smaps_rollup").exists():
        raise NotRun("needs Linux and two cores: one for the gateway, one for the load")
    return cores[-1], cores[0]


def start(
    command: Sequence[str], core: str, environ: Mapping[str, str], cwd: Path, output: BinaryIO
) -> subprocess.Popen[bytes]:
    """Start it in a session of its own, on these cores ("1", or "0,1")."""
    return subprocess.Popen(
        ["taskset", "-c", core, *command], env={**os.environ, **environ}, cwd=cwd, stdout=output, stderr=output,
        stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def stop(process: subprocess.Popen[bytes], seconds: float = 10) -> None:
    """SIGTERM, then SIGKILL for what is left of its tree."""
    if process.poll() is not None:
        return
    children = tree(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    for pid in children:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                todo += [int(child) for child in (task / "children").read_text().split()]
    return found


class Cpu:
    """CPU time of a tree of processes since this was made. Per thread in ns: the ticks of /proc/PID/stat are 10 ms long."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = _threads(pid)

    def seconds(self) -> float:
        """Of threads that are still there, or are new. One that came and went in between is not seen."""
        return sum(ns - self._before.get(thread, 0) for thread, ns in _threads(self._pid).items()) / 1e9


def _threads(pid: int) -> dict[tuple[int, str], int]:
    found = {}
    for one in tree(pid):
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                with suppress(OSError, ValueError):
                    found[one, task.name] = int((task / "schedstat").read_text().split()[0])
    return found


def pss_mib(pid: int) -> float:
    """Memory of the tree, MiB: shared pages count in proportion (PSS), so that together they count once."""
    total = 0
    for one in tree(pid):
        with suppress(OSError):
            if found := re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{one}/smaps_rollup").read_text(), re.M):
                total += int(found[1])
    return total / 1024


def busy_seconds() -> float:
    """CPU time that all cores have spent on anything, since the machine started."""
    values = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(values) - values[3] - values[4]) / _TICKS


def at_rest(pid: int, seconds: float = 15) -> None:
    """Return when the tree is idle (work that a load run left behind is done), or after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        used = Cpu(pid)
        time.sleep(0.2)
        if used.seconds() <= 0.02:
            return
