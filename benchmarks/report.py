"""What every benchmark does with its figures: a table for people, `benchmarks/results/NAME.json` for everybody else.

    {"benchmark": NAME, "commit": ..., "date": ..., "machine": {...}, "versions": {...}, "figures": {key: number, ...}, "notes": {...}}

The unit stands in the key where there is one (`_ms`, `_us`, `_mib`, `_s`); shares are in [0, 1].
"""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("weir", "numpy", "onnxruntime", "tokenizers", "uvicorn", "uvloop", "msgspec", "orjson", "openai")


def result(
    name: str,
    figures: Mapping[str, float],
    *,
    notes: Mapping[str, Any] | None = None,
    packages: tuple[str, ...] = PACKAGES,
) -> dict[str, Any]:
    """The result's table. Raises ValueError for a figure that is no finite number: JSON would make it null."""
    for key, value in figures.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
            raise ValueError(f"{key}: {value!r} is no figure")
    return {
        "benchmark": name,
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(packages),
        "figures": {key: _rounded(value) for key, value in figures.items()},
        "notes": dict(notes or {}),
    }


def write(found: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write `NAME.json` in one step: a benchmark that is broken off leaves the old one. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{found['benchmark']}.json"
    draft = path.with_suffix(".json.new")
    draft.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    draft.replace(path)
    return path


def show(found: Mapping[str, Any], goals: Mapping[str, str] | None = None) -> None:
    """The figures as a table on stdout; `goals`: key > what it should be."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    goals = goals or {}
    table = Table(title=f"{found['benchmark']} ({found['commit']})", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("goal")
    for key, value in found["figures"].items():
        table.add_row(key, f"{value:,.4f}" if isinstance(value, float) else f"{value:,}", goals.get(key, ""))
    console = Console(markup=False, highlight=False, emoji=False)
    console.print(table)
    for name, note in found["notes"].items():
        if isinstance(note, str | int | float):
            console.print(f"  {name}: {note}", style="dim")


def finish(found: Mapping[str, Any], goals: Mapping[str, str] | None = None) -> None:
    """Show and write."""
    show(found, goals)
    path = write(found)
    print(f"  written: {path.relative_to(ROOT)}")


def commit() -> str:
    """The commit's short hash, with a `+` when the working tree differs from it; "" outside of a repository."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "") if head else ""
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    """CPU model, cores that this process may use, memory in MiB, operating system."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_mib": _memory_mib(),
        "system": f"{platform.system()} {platform.release()}",
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _memory_mib() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (AttributeError, OSError, ValueError):
        return 0


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Of Python and of `packages`, as far as they are installed."""
    found = {"python": sys.version.split()[0]}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _rounded(value: float) -> float:
    """Six significant digits: more is noise, and diffs of committed results stay readable."""
    return value if isinstance(value, int) else float(f"{value:.6g}")
