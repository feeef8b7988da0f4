"""The wire contract in numbers: the checklist, real clients, generated requests, streams, and clients that leave.

    python -m benchmarks.wire [--quick]

Needs the clients' environments (`python -m tests.clients.setup`). The models are scripted and stand on this machine, so what is
measured is the gateway. Times are seen from a client: the same stream is asked for by turns of the scripted model itself and through
the gateway (a route with the top rung only, whose text is never held), and the gateway's percentile less the bare one is what it adds.
Clients are counted in `enforce` and in `observe`; `docs/compatibility.md` is written from the same run.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import _streams, report
from gateway.demo.account import percentile
from tests.clients import suites
from tests.clients.house import House, house
from tests.clients.suites import Counts, Suite

DOCUMENT = report.ROOT / "docs" / "compatibility.md"
CHECKLIST = report.ROOT / "tests"
"""Wherever below it tests are named `test_point_NN`."""
POINTS = 62
STREAMS = 200
PIECES, PAUSE = 10, 0.01
POINT = re.compile(r"\btest_point_(\d+)")
GOALS = {
    "checklist.passed": "= checklist.total",
    "clients.passed": "= clients.total",
    "langchain.passed": ">= 43",
    "schemathesis.server_errors": "0",
    "streams.crosstalk": "0",
    "disconnect.leaked": "0",
}


class Row(NamedTuple):
    suite: Suite
    mode: str
    counts: Counts


def checklist(folder: Path = CHECKLIST) -> tuple[set[int], set[int]]:
    """(points all of whose tests passed, points with any test). A point without a test has not passed."""
    if not folder.exists():
        return set(), set()
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-k", "test_point_", f"--junitxml={out}", str(folder)]
        subprocess.run(command, cwd=report.ROOT, stdout=subprocess.DEVNULL, timeout=900, check=False)
        return points(out.read_text()) if out.exists() else (set(), set())


def points(junit: str) -> tuple[set[int], set[int]]:
    """`checklist` of a JUnit report; a skipped test counts as none."""
    states: dict[int, set[bool]] = defaultdict(set)
    for name, outcome in suites.outcomes(junit):
        if (found := POINT.search(name)) and outcome != "skipped":
            states[int(found[1])].add(outcome == "passed")
    return {point for point, seen in states.items() if seen == {True}}, set(states)


def clients(running: House) -> tuple[list[Row], list[Suite]]:
    """(what ran, what could not for want of its environment)."""
    rows, missing = [], []
    for suite in suites.SUITES:
        if suite.lacks():
            missing.append(suite)
            continue
        for mode in suite.modes:
            counts = suites.run(suite, running, mode)
            print(f"  {suite.name} ({mode}): {counts.passed}/{counts.total} in {counts.seconds:.0f} s", flush=True)
            rows.append(Row(suite, mode, counts))
    return rows, missing


def counted(rows: Sequence[Row]) -> dict[str, float]:
    """Figures of the client suites. Generated requests are not tests of a client: they count only for server errors."""
    tests = [row for row in rows if row.suite.package != "schemathesis"]
    made = [row for row in rows if row.suite.package == "schemathesis"]
    chain = [row.counts.passed for row in rows if row.suite.name == "langchain-chat"]
    return {
        "clients.passed": sum(row.counts.passed for row in tests),
        "clients.total": sum(row.counts.total for row in tests),
        "langchain.passed": sum(chain),
        "schemathesis.requests": sum(row.counts.total for row in made),
        "schemathesis.answered": sum(row.counts.answered for row in made),
        "schemathesis.server_errors": sum(row.counts.server_errors for row in made),
        "schemathesis.failures": sum(len(row.counts.failures) for row in made),
    }


async def streams(running: House, count: int) -> tuple[dict[str, float], dict[str, Any]]:
    """(figures, notes) of crosstalk, times and leavers."""
    url = running.url("enforce")
    bare = _streams.ENDPOINTS["chat"]
    by_turns = {
        "bare": (running.url("bare"), bare),
        "enforce": (url, _streams.DIRECT),
        "observe": (running.url("observe"), bare),
    }
    times = await _streams.interleaved(by_turns, count, PIECES, PAUSE)
    mixed = await _streams.crosstalk(url, STREAMS)
    left = await _streams.leaked(url, running.upstream)
    base, through, watched = times["bare"], times["enforce"], times["observe"]
    jitter = {name: [abs(gap - 1000 * PAUSE) for gap in seen.gaps] for name, seen in times.items()}
    figures = {
        "streams.count": STREAMS,
        "streams.crosstalk": mixed,
        "ttft.bare_p50_ms": percentile(base.first, 0.5),
        "ttft.added_p50_ms": percentile(through.first, 0.5) - percentile(base.first, 0.5),
        "ttft.added_p99_ms": percentile(through.first, 0.99) - percentile(base.first, 0.99),
        "ttft.observe_added_p50_ms": percentile(watched.first, 0.5) - percentile(base.first, 0.5),
        "ttft.observe_added_p99_ms": percentile(watched.first, 0.99) - percentile(base.first, 0.99),
        "jitter.added_p50_ms": percentile(jitter["enforce"], 0.5) - percentile(jitter["bare"], 0.5),
        "jitter.added_p99_ms": percentile(jitter["enforce"], 0.99) - percentile(jitter["bare"], 0.99),
        "disconnect.leaked": sum(left.values()),
    }
    told = f"{count} streams by turns, {PIECES} pieces {1000 * PAUSE:.0f} ms apart, a new connection each"
    return figures, {
        "ttft": told,
        "disconnect": f"{_streams.LEAVERS} clients in each of: {', '.join(left)}",
        "leaked": left,
    }


def document(rows: Sequence[Row], missing: Sequence[Suite], commit: str) -> str:
    """The compatibility table in Markdown."""
    lines = [
        "# Compatibility",
        "",
        f"Written by `make bench-wire` (commit {commit or 'unknown'}); do not edit. Each client runs its own tests, or ours in its own",
        "process, against a real gateway. In `enforce` a small model answers first, sometimes with the stream faults of real servers",
        "and sometimes wrongly, so the same counts prove repair and escalation; in `observe` requests go through unchanged.",
        "Tests that a client's suite skips by itself are in brackets.",
        "",
        "| client | version | API | mode | passed / total | notes |",
        "|---|---|---|---|---|---|",
    ]
    for suite, mode, counts in rows:
        skipped = f" ({counts.skipped})" if counts.skipped else ""
        cells = [
            suite.client,
            suite.version(),
            suite.api,
            mode,
            f"{counts.passed} / {counts.total}{skipped}",
            suite.note,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *[f"Not run: {suite.client} ({suite.api}): needs {', '.join(suite.lacks())}." for suite in missing]]
    return "\n".join(lines).rstrip() + "\n"


def measure(*, quick: bool = False) -> tuple[dict[str, float], dict[str, Any], str]:
    """(figures, notes, the compatibility table)."""
    with house() as running:
        timed, notes = asyncio.run(streams(running, 100 if quick else 500))
        rows, missing = clients(running)
    passed, tested = checklist()
    lacking = sorted(set(range(1, POINTS + 1)) - tested)
    figures = {"checklist.passed": len(passed), "checklist.total": POINTS, **counted(rows), **timed}
    failed = {f"{row.suite.name} {row.mode}": list(row.counts.failures) for row in rows if row.counts.failures}
    told: Mapping[str, Any] = {
        **notes,
        "checklist.without_a_test": lacking,
        "checklist.failed": sorted(tested - passed),
        "clients.seconds": {f"{row.suite.name} {row.mode}": round(row.counts.seconds, 1) for row in rows},
        "clients.failed": failed,
        "clients.not_run": [suite.name for suite in missing],
    }
    return figures, dict(told), document(rows, missing, report.commit())


def main() -> None:
    parser = argparse.ArgumentParser(description="The wire contract in numbers.")
    parser.add_argument(
        "--quick", action="store_true", help="a fifth of the timed streams; everything else is the same"
    )
    figures, notes, table = measure(quick=parser.parse_args().quick)
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(table)
    report.finish(report.result("wire", figures, notes=notes), GOALS)
    print(f"  written: {DOCUMENT.relative_to(report.ROOT)}")


if __name__ == "__main__":
    main()
