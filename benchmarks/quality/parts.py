"""The parts of the quality benchmark, and how their figures come together in one result.

A part is a module with GOALS (figure > what it should be) and `run(quick) -> Part`. Parts are measured at different times and on
different commits, so each keeps its own stamp in the result:

    {"benchmark": "quality", ..., "figures": {every part's}, "notes": {part: its notes},
     "parts": {part: {"commit", "date", "machine", "versions", "quick", "figures": [keys]}}}
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, cast

from msgspec import Struct

PARTS = {
    "snips": "benchmarks.quality.snips",
    "clinc": "benchmarks.quality.clinc",
    "banking": "benchmarks.quality.banking",
    "bfcl": "benchmarks.quality.bfcl",
    "escalated": "benchmarks.quality.escalated",
    "narrow": "benchmarks.quality.narrow",
    "jsonschema": "benchmarks.quality.json_schema",
}
"""Name > module, in the order in which they run."""
STAMP = ("commit", "date", "machine", "versions")


class NotRun(Exception):
    """This part cannot be measured here. The message says what it needs; its figures of before stay."""


class Part(Struct, frozen=True):
    """What one part found."""

    figures: Mapping[str, float]
    table: Sequence[Sequence[str]] = ()
    """For people: rows, the first is the heading."""
    notes: Mapping[str, Any] = {}
    plots: Mapping[str, bytes] = {}
    """File name > SVG."""


class Module(Protocol):
    GOALS: Mapping[str, str]
    run: Callable[[bool], Part]


def module(name: str) -> Module:
    """Raises KeyError for a part that there is not."""
    return cast(Module, import_module(PARTS[name]))


def merged(
    old: Mapping[str, Any] | None,
    new: Mapping[str, Any],
    quick: Mapping[str, bool],
    *,
    benchmark: str = "quality",
    known: Mapping[str, str] = PARTS,
) -> dict[str, Any]:
    """The result that is written. Pure.

    old: what is there, None for nothing. new: part > its own result (benchmarks.report.result). quick: part > was it a quick run.
    known: the parts that there are, in their order (`benchmarks.speed` has its own).
    A part that was run replaces all that it had said; figures of a part that no longer exists are dropped.
    """
    if not new:
        raise ValueError("no part was run")
    before = old or {}
    stamps = {name: stamp for name, stamp in before.get("parts", {}).items() if name in known}
    figures = {key: before["figures"][key] for stamp in stamps.values() for key in stamp["figures"]}
    notes = {name: before["notes"][name] for name in stamps if name in before.get("notes", {})}
    for name, found in new.items():
        for key in stamps.get(name, {}).get("figures", ()):
            del figures[key]
        if twice := figures.keys() & found["figures"].keys():
            raise ValueError(f"{name} says {', '.join(sorted(twice))}, which another part says too")
        figures |= found["figures"]
        notes[name] = found["notes"]
        stamps[name] = {at: found[at] for at in STAMP} | {"quick": quick[name], "figures": list(found["figures"])}
    last = list(new.values())[-1]
    order = [name for name in known if name in stamps]
    return {
        "benchmark": benchmark,
        **{at: last[at] for at in STAMP},
        "figures": {key: figures[key] for name in order for key in stamps[name]["figures"]},
        "notes": {name: notes[name] for name in order if name in notes},
        "parts": {name: stamps[name] for name in order},
    }
