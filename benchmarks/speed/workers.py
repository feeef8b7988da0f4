"""Two workers: does a request still cost the same? 2 x CPU per request with one worker / with two, ideally 2.

On a machine with two cores the load generator shares them, so requests per second would say nothing; CPU per request does.
Gateways, generator and mock may all run on both cores.
"""

import subprocess
import sys
from typing import Any

from benchmarks.quality.parts import NotRun, Part
from benchmarks.report import ROOT
from benchmarks.speed import _requests
from benchmarks.speed._bench import Target, bench, healthy, interleaved
from benchmarks.speed.numbers import middle, middle_cpu_us

GOALS = {"workers2.ratio": ">= 1.8"}


def without_limits(table: dict[str, Any]) -> None:
    """Limits of several workers need Redis; what is compared here is the way of a request."""
    for key in table["access"]["keys"]:
        key.pop("rate", None)


def run(quick: bool) -> Part:
    _needs_workers()
    seconds, count = (1.5, 3) if quick else (5.0, 3)
    body = _requests.chat("mock-j")
    with bench(shared_cores=True) as here:
        one = here.weir("one", change=without_limits)
        two = here.weir("two", change=without_limits, words=("--workers", "2"))

        def closed(target: Target) -> dict[str, float]:
            return here.measure(target, body, "-c", "64", "-t", str(seconds))

        for target in (one, two):
            closed(target)
        found = interleaved(count, [one, two], {"closed": closed})
        notes = here.notes()
    for (name, _), rows in found.items():
        healthy(rows, name)
    with_one, with_two = middle_cpu_us(found["one", "closed"]), middle_cpu_us(found["two", "closed"])
    figures = {
        "workers2.ratio": 2 * with_one / with_two,
        "workers2.cpu_us_one": with_one,
        "workers2.cpu_us_two": with_two,
        "workers2.rps_one": middle(found["one", "closed"], "rps"),
        "workers2.rps_two": middle(found["two", "closed"], "rps"),
    }
    return Part(figures, notes={**notes, "workers2": "everything on both cores; CPU of the whole tree of processes"})


def _needs_workers() -> None:
    """Raises NotRun."""
    said = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "serve", "--help"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    if "--workers" not in said.stdout:
        raise NotRun("`weir serve` has no --workers")
