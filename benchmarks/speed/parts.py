"""The parts of the speed benchmark. How their figures come together is `benchmarks.quality.parts.merged`, the same for both."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

from benchmarks.quality import parts as together
from benchmarks.quality.parts import Module

PARTS = {
    "full": "benchmarks.speed.full",
    "open2000": "benchmarks.speed.open_loop",
    "bodies": "benchmarks.speed.bodies",
    "gated": "benchmarks.speed.gated",
    "embed": "benchmarks.speed.embedded",
    "escalating": "benchmarks.speed.escalating",
    "stream": "benchmarks.speed.streams",
    "memory": "benchmarks.speed.memory",
    "workers": "benchmarks.speed.workers",
    "load": "benchmarks.speed.curve",
    "flame": "benchmarks.speed.flame",
}
"""Name > module, in the order in which they run."""


def module(name: str) -> Module:
    """Raises KeyError for a part that there is not."""
    return cast(Module, import_module(PARTS[name]))


def merged(old: Mapping[str, Any] | None, new: Mapping[str, Any], quick: Mapping[str, bool]) -> dict[str, Any]:
    """The result that is written: as `benchmarks.quality.parts.merged`. Pure."""
    return together.merged(old, new, quick, benchmark="speed", known=PARTS)
