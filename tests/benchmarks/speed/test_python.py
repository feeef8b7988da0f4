"""On which interpreter the gateways run: the fastest that Weir supports."""

import sys
from pathlib import Path

import pytest

from benchmarks.speed import _python


def _interpreter(folder: Path, name: str, says: str) -> Path:
    """A program that answers the probe."""
    folder.mkdir(exist_ok=True)
    place = folder / name
    place.write_text(f"#!/bin/sh\necho {says}\n")
    place.chmod(0o755)
    return place


def _fastest(monkeypatch: pytest.MonkeyPatch, folder: Path, own: str) -> tuple[Path, str]:
    monkeypatch.setattr(sys, "executable", str(_interpreter(folder / "own", "python", own)))
    monkeypatch.setenv("PATH", f"{folder / 'path'}:/bin:/usr/bin")
    return _python.fastest.__wrapped__()


def test_a_clearly_faster_interpreter_is_taken_and_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What needs less than CLEARLY of the time is taken; the note says which, and how much faster."""
    other = _interpreter(tmp_path / "path", "python3.14", "3 14 3.14.1 0.0000000001")
    place, said = _fastest(monkeypatch, tmp_path, "3 11 3.11.7 0.2")
    assert place == other
    assert said == "3.14.1: a short probe takes 0.00 of the time of 3.11.7, which ran the benchmark"


@pytest.mark.parametrize("says", ["2 7 2.7.18 0.0000000001", "nothing", "3 10 3.10.1 0.0000000001", "3 14 3.14.1 9"])
def test_one_that_is_old_or_broken_or_no_faster_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str
) -> None:
    """Then the gateways run on what runs the benchmark."""
    _interpreter(tmp_path / "path", "python3.14", says)
    place, said = _fastest(monkeypatch, tmp_path, "3 11 3.11.7 0.00000000011")
    assert place == Path(sys.executable)
    assert said == "3.11.7, and none here is clearly faster"


def test_the_probe_measures_a_real_interpreter() -> None:
    """This one: its version, and a time."""
    found = _python._seconds(Path(sys.executable))
    assert found is not None
    assert found[0] == ".".join(map(str, sys.version_info[:3]))
    assert 0 < found[1] < 60
