"""Configurations for tests, written down as text so that lines can be counted."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

from gateway.settings.load import Loaded, load
from gateway.settings.mistakes import ConfigError, Mistake

KINDS = "tests.settings.kinds"

GOOD = f"""\
backends:
  slm:
    kind: {KINDS}:Local
  cloud:
    kind: {KINDS}:Cloud
    api_key: ${{WEIR_TEST_KEY}}
    cloud: true
    price: {{input: 1, output: 2}}
router:
  use: {{kind: rules}}
  default: general
routes:
  small:
    match: {{schema_name: intent}}
    ladder: [slm, cloud]
    accept: {{risk: 0.01}}
    mode: enforce
  general:
    ladder: [cloud]
models:
  weir: routed
"""
"""Valid; one warning (WEIR_TEST_KEY) unless the variable is set. Tests add to its end or replace lines of it."""


def wrote(folder: Path, text: str, name: str = "weir.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text), "utf-8")
    return path


def read(folder: Path, text: str, env: Mapping[str, str] | None = None) -> Loaded:
    return load(wrote(folder, text), {} if env is None else env)


def attempt(path: Path, env: Mapping[str, str] | None = None) -> tuple[Loaded | None, ConfigError | None]:
    """What came of loading `path`: one of the two."""
    try:
        return load(path, {} if env is None else env), None
    except ConfigError as exc:
        return None, exc


def found(folder: Path, text: str, env: Mapping[str, str] | None = None) -> list[Mistake]:
    """Every mistake and warning in `text`."""
    loaded, error = attempt(wrote(folder, text), env)
    return list(loaded.warnings if loaded else error.mistakes if error else ())


def told(folder: Path, text: str, env: Mapping[str, str] | None = None) -> list[str]:
    """Every mistake in `text` (no warnings) as `LINE: where: message`."""
    mistakes = [mistake for mistake in found(folder, text, env) if mistake.severity == "error"]
    return [str(mistake).removeprefix(f"{folder}/").removeprefix("weir.yaml:") for mistake in mistakes]


def warned(folder: Path, text: str) -> list[str]:
    """Every warning in `text` as `LINE: where: message`, but for the unset WEIR_TEST_KEY."""
    warnings = [mistake for mistake in found(folder, text) if mistake.severity == "warning"]
    lines = [str(warning).removeprefix(f"{folder}/weir.yaml:") for warning in warnings]
    return [line for line in lines if "WEIR_TEST_KEY" not in line]


def swap(old: str, new: str, text: str = GOOD) -> str:
    """`text` with one line (or part of one) replaced; the test is wrong when it is not there exactly once."""
    assert text.count(old) == 1, (old, text.count(old))
    return text.replace(old, new)
