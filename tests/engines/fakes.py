"""Planned processes that run `fake_vllm.py`, and looks at what became of them."""

import os
import sys
from pathlib import Path
from typing import Any

from gateway.engines.plan import Process
from tests.ports import free_port

FAKE = Path(__file__).with_name("fake_vllm.py")


def fake(folder: Path, how: str = "", name: str = "base", port: int = 0, **more: Any) -> Process:
    """A process that behaves as `how` says (see `fake_vllm.py`) and notes it in `folder`."""
    port = port or free_port()
    given: dict[str, Any] = {
        "argv": (sys.executable, "-I", "-S", str(FAKE), "serve", "m", "--port", str(port)),
        "devices": (),
        "start_seconds": 90.0,
        "stop_seconds": 5.0,
        **more,
    }
    env = {"FAKE": how, "FAKE_DIR": str(folder)}
    url = f"http://127.0.0.1:{port}"
    return Process(name=name, engine=name, env=env, port=port, url=url, memory="", **given)


def notes(folder: Path) -> list[str]:
    """What the fakes noted, in order: `PORT WORD`."""
    try:
        return (folder / "notes").read_text().splitlines()
    except FileNotFoundError:
        return []


def pids(folder: Path) -> list[int]:
    """Of every engine process that ever started, their children too."""
    return [int(line.split()[2]) for line in notes(folder) if line.split()[1] == "pid"]


def alive(pid: int) -> bool:
    """Runs, and is no zombie that waits for init."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc").exists()


def gone(folder: Path) -> bool:
    """Something ran, and nothing does any more."""
    started = pids(folder)
    return bool(started) and not any(map(alive, started))
