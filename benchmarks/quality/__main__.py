"""`python -m benchmarks.quality [snips|clinc|banking|bfcl|escalated|narrow|jsonschema ...] [--quick]`: without names, every part.

Writes results/quality.json and the parts' plots beside it. A part that fails ends the run with status 1; what the others found is written.
"""

import argparse
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson

from benchmarks import report
from benchmarks.quality.parts import PARTS, Module, NotRun, Part, merged, module


def show(part: Part) -> None:
    """The part's table, on stdout."""
    if not part.table:
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    head, *rows = part.table
    table = Table(box=box.SIMPLE_HEAD)
    for i, title in enumerate(head):
        table.add_column(title, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False, emoji=False).print(table)


def record(name: str, part: Part, goals: dict[str, str], quick: bool) -> None:
    """Show a part's figures, and write them at once: what comes after it may take long, or fail."""
    found = report.result(name, part.figures, notes=part.notes)
    show(part)
    report.show(found, goals)
    place = report.RESULTS / "quality.json"
    old: Any = orjson.loads(place.read_bytes()) if place.exists() else None
    report.write(merged(old, {name: found}, {name: quick}))
    for file, drawing in part.plots.items():
        (report.RESULTS / file).write_bytes(drawing)


Record = Callable[[str, Part, dict[str, str], bool], None]


def run_parts(
    wanted: Sequence[str], quick: bool, known: Iterable[str], module: Callable[[str], Module], record: Record
) -> int:
    """Measure the parts of `known` that are wanted (none: all), in that order, and record each. The exit status: 1 when one failed."""
    failed = []
    for name in known:
        if wanted and name not in wanted:
            continue
        try:
            part = module(name)
            record(name, part.run(quick), dict(part.GOALS), quick)
        except NotRun as exc:
            print(f"  {name}: not run: {exc}")
        except Exception:
            traceback.print_exc()
            failed.append(name)
    if failed:
        print(f"  failed: {', '.join(failed)}")
    return 1 if failed else 0


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description="Quality, part by part.")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of: {', '.join(PARTS)}; none: all")
    parser.add_argument("--quick", action="store_true", help="a sample of each part, in under a minute")
    given = parser.parse_args(words)
    if unknown := sorted(set(given.parts) - PARTS.keys()):
        parser.error(f"no part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return run_parts(given.parts, given.quick, PARTS, module, record)


if __name__ == "__main__":
    sys.exit(main())
