"""A configuration with a small model of known errors, and `weir calibrate` without the command line."""

import asyncio
from pathlib import Path
from typing import Any

import orjson

from gateway.app import Resources, build
from gateway.calibrate.labelled import read
from gateway.calibrate.run import Done, Task, calibrate
from gateway.settings.load import load
from gateway.setup import Setup
from tests.calibrate.small import case

KIND = "tests.calibrate.small"
CONFIG = """
backends:
  slm: {{kind: "{kind}:Small", model: {model}{slm}}}
  second: {{kind: "{kind}:Small", model: second{second}}}
  next: {{kind: "{kind}:Small", model: next}}
  llm: {{kind: "{kind}:Top", model: top}}
router: {{use: {{kind: rules}}, default: general}}
routes:
  labels:
    match: {{schema_name: label}}
    ladder: [slm, llm]
    accept: {{risk: 0.05{accept}}}
    mode: enforce
    {more}
  general: {{ladder: [llm], mode: enforce}}
models: {{weir: routed}}
"""


def config(*, model: str = "one", slm: str = "", second: str = "", accept: str = "", more: str = "") -> str:
    return CONFIG.format(kind=KIND, model=model, slm=slm, second=second, accept=accept, more=more)


def wrote(folder: Path, **parts: str) -> Path:
    path = folder / "weir.yaml"
    path.write_text(config(**parts))
    return path


def built(path: Path) -> Setup:
    loaded = load(path)
    return build(loaded, Resources(loaded.folder))


def lines(numbers: range, **more: Any) -> bytes:
    return b"\n".join(orjson.dumps(case(number, **more)) for number in numbers)


def task(path: Path, numbers: range = range(1000), **more: Any) -> Task:
    """One of the rung `slm`."""
    cases = more.pop("cases", None) or read(lines(numbers), name="data", model="weir")
    given: dict[str, Any] = {"risk": 0.05, "confidence": 0.95, "folder": path.parent / "calibration", **more}
    return Task(built(path), "labels", "slm", cases, **given)


def run(task: Task) -> Done:
    return asyncio.run(calibrate(task))


def table(done: Done) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(done.path.read_bytes())
    return found
