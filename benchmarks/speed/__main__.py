"""`python -m benchmarks.speed [full|open2000|bodies|gated|embed|escalating|stream|memory|workers|load|flame ...] [--quick]`

Without names, every part. Writes results/speed.json and the parts' plots beside it. Needs a quiet machine with two cores; what the
peers need is installed once (`.venv-peers/`, `.node-peers/`). A part that fails ends the run with status 1; what the others found is
written. `setup` as the only word sets up and measures nothing.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from benchmarks import report
from benchmarks.quality.__main__ import run_parts, show
from benchmarks.quality.parts import NotRun, Part
from benchmarks.speed import _peers, _tools
from benchmarks.speed.parts import PARTS, merged, module


def set_up() -> None:
    """Everything that is installed or compiled, before the clock starts; what cannot be had is told."""
    wanted: list[Callable[[], object]] = [
        lambda: _tools.compiled("load"),
        lambda: _tools.compiled("mock_upstream"),
        lambda: _tools.debian({**_tools.NGINX, **_tools.WRK}),
        _tools.pythons,
        _tools.litellm,
        _tools.portkey,
        _tools.py_spy,
    ]
    for one in wanted:
        try:
            one()
        except NotRun as exc:
            print(f"  not there: {exc}", flush=True)


def record(name: str, part: Part, goals: dict[str, str], quick: bool) -> None:
    """Show a part's figures, and write them at once: what comes after it may take long, or fail."""
    found = report.result(name, part.figures, notes=part.notes)
    found["versions"] |= {"python": _tools.pythons().said.partition(":")[0].partition(",")[0]}  # the gateways'
    found["versions"] |= _peers.versions() if name == "full" else {}
    show(part)
    report.show(found, goals)
    place = report.RESULTS / "speed.json"
    old: Any = orjson.loads(place.read_bytes()) if place.exists() else None
    report.write(merged(old, {name: found}, {name: quick}))
    for file, drawing in part.plots.items():
        Path(report.RESULTS / file).write_bytes(drawing)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description="Speed, part by part.")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of: {', '.join(PARTS)}; none: all; or `setup` alone")
    parser.add_argument("--quick", action="store_true", help="short runs of each part, in under five minutes")
    given = parser.parse_args(words)
    if unknown := sorted(set(given.parts) - PARTS.keys() - {"setup"}):
        parser.error(f"no part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that gateways and mock end with us
    set_up()
    if given.parts == ["setup"]:
        return 0
    return run_parts(given.parts, given.quick, PARTS, module, record)


if __name__ == "__main__":
    sys.exit(main())
