"""Looks at the machine for `plan`: folders, adapters, programs, devices. Blocks: call it off the loop."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from gateway.engines.plan import Adapter, Facts
from gateway.settings.engines import loaded_later
from gateway.settings.model import Settings

_SMI = ("nvidia-smi", "--query-gpu=index,memory.total", "--format=csv,noheader,nounits")
_SMI_SECONDS = 10.0
_MADE = Path(".venv-vllm/bin/vllm")
"""What `make vllm` makes."""


def look(settings: Settings, resolve: Callable[[Path], Path], environ: Mapping[str, str] = os.environ) -> Facts:
    """What the plan of `settings` asks about. resolve: a path as written > where it is meant. Raises nothing."""
    own = [engine for engine in settings.engines.values() if engine.url is None]
    models = {engine.model: resolve(Path(engine.model).expanduser()) for engine in own}
    loras = [path for engine in own for path in engine.adapters.values()]
    loras += [path for name in settings.engines for path in loaded_later(settings, name).values()]
    adapters = {path: resolve(Path(path).expanduser()) for path in loras}
    commands = {engine.command for engine in own}
    programs = {command: _program(command, resolve, environ) for command in commands}
    return Facts(
        folders={name: str(path.resolve()) for name, path in models.items() if path.is_dir()},
        adapters={name: Adapter(str(path.resolve()), _rank(path)) for name, path in adapters.items() if path.is_dir()},
        programs={command: program for command, program in programs.items() if program},
        gpus=_gpus() if any(engine.device == "gpu" for engine in own) else {},
        memory=_memory(),
        posix=os.name == "posix",
    )


def _program(command: tuple[str, ...], resolve: Callable[[Path], Path], environ: Mapping[str, str]) -> str:
    path = environ.get("PATH", os.defpath)
    if not command:
        beside = Path(sys.executable).parent / "vllm"
        found = shutil.which(beside) or shutil.which("vllm", path=path) or shutil.which(resolve(_MADE))
    elif "/" in command[0]:
        found = shutil.which(resolve(Path(command[0]).expanduser()))
    else:
        found = shutil.which(command[0], path=path)
    return os.path.abspath(found) if found else ""


def _rank(folder: Path) -> int | None:
    """`r` of a PEFT adapter, or the largest of its `rank_pattern`."""
    with suppress(OSError, ValueError, AttributeError):
        told = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        ranks = [told.get("r"), *(told.get("rank_pattern") or {}).values()]
        return max((rank for rank in ranks if type(rank) is int and rank > 0), default=None)
    return None


def _gpus() -> dict[int, int]:
    """Number > bytes; {} without an NVIDIA driver."""
    found: dict[int, int] = {}
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        done = subprocess.run(_SMI, capture_output=True, text=True, timeout=_SMI_SECONDS, check=True)
        for line in done.stdout.splitlines():
            index, _, mib = line.partition(",")
            found[int(index)] = int(mib) * 2**20
    return found


def _memory() -> int:
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0
