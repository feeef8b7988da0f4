"""The interpreter that the gateways run on: the fastest of this machine, by a short measurement.

A Python built with profile-guided and link-time optimisation, as distributions and container images ship it, takes 15 % less CPU a
request than the same version built without, as version managers build it by default. A figure per core that depends on who compiled
Python would say little; so this is measured, told beside the figures, and the peers written in Python run on the same.
"""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.quality.parts import NotRun

OLDEST = (3, 11)
ROUNDS = 3
CLEARLY = 0.95
"""Another interpreter than the one that runs the benchmark is taken only when it needs less than this share of the time."""

# What a request is made of: calls, attributes, small objects, strings. Prints version and seconds, for CPython as everybody runs it.
PROBE = """
import platform, sys, time
if sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)(): sys.exit("not this one")
class Thing:
    __slots__ = ("name", "count")
    def __init__(self, name): self.name = name; self.count = 0
    def add(self, table):
        self.count += len(self.name); table[self.name] = table.get(self.name, 0) + self.count
        return self.count > 3
def work(rounds):
    found = 0
    for i in range(rounds):
        table = {}
        for name in ("a", "bb", "ccc"):
            thing = Thing(name)
            if thing.add(table) and thing.add(table): found += 1
        text = "-".join([f"{k}={v}" for k, v in table.items()])
        found += text.count("c")
    return found
work(20000)
best = 9.0
for _ in range(5):
    began = time.process_time(); work(40000); best = min(best, time.process_time() - began)
print(sys.version_info[0], sys.version_info[1], platform.python_version(), best)
"""


@functools.cache
def fastest() -> tuple[Path, str]:
    """An interpreter, and what is to be said of it. Raises NotRun."""
    own = Path(sys.executable)
    found = {place: taken for place in [own, *_others()] if (taken := _seconds(place)) is not None}
    if own not in found:
        raise NotRun(f"{own.name} cannot be measured")
    for _ in range(ROUNDS - 1):
        for place, (version, least) in list(found.items()):
            again = _seconds(place)
            found[place] = (version, min(least, again[1]) if again else least)
    best = min(found, key=lambda place: found[place][1])
    share = found[best][1] / found[own][1]
    if share >= CLEARLY:
        return own, f"{found[own][0]}, and none here is clearly faster"
    return (
        best,
        f"{found[best][0]}: a short probe takes {share:.2f} of the time of {found[own][0]}, which ran the benchmark",
    )


def _others() -> list[Path]:
    names = ["python3", *(f"python3.{minor}" for minor in range(OLDEST[1], 20))]
    folders = [*os.get_exec_path(), "/usr/local/bin", "/usr/bin"]
    found: dict[Path, Path] = {Path(sys.executable).resolve(): Path(sys.executable)}
    for name in names:
        for folder in folders:
            if place := shutil.which(name, path=folder):
                found.setdefault(Path(place).resolve(), Path(place))
    return list(found.values())[1:]


def _seconds(interpreter: Path) -> tuple[str, float] | None:
    """Its version, and how long it takes; None: it is too old, or does not start."""
    try:
        said = subprocess.run([interpreter, "-c", PROBE], capture_output=True, text=True, timeout=60, check=True)
        major, minor, version, seconds = said.stdout.split()
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return (version, float(seconds)) if (int(major), int(minor)) >= OLDEST else None


def making(interpreter: Path, folder: Path, words: Sequence[str]) -> Sequence[Sequence[str]]:
    """Commands that make an environment of `interpreter` in `folder` with what `pip install` is told in `words`."""
    python = str(folder / "bin/python")
    if interpreter == Path(sys.executable):
        return [str(interpreter), "-m", "venv", "--clear", str(folder)], [python, *_INSTALL, *words]
    # Distributions may keep `ensurepip` back, so our own pip installs.
    return (
        [str(interpreter), "-m", "venv", "--without-pip", "--clear", str(folder)],
        [sys.executable, "-m", "pip", "--python", python, *_INSTALL[2:], *words],
    )


_INSTALL = ("-m", "pip", "install", "--quiet")
