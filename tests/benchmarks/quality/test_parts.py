"""How the parts of the quality benchmark come together in one file."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from benchmarks import report
from benchmarks.quality import __main__ as command
from benchmarks.quality.parts import PARTS, NotRun, Part, merged


def result(commit: str, **figures: float) -> dict[str, Any]:
    told = {key.replace("_", ".", 1): value for key, value in figures.items()}
    stamp = {"commit": commit, "date": "2026-01-01", "machine": {}, "versions": {}}
    return {"benchmark": "quality", **stamp, "figures": told, "notes": {"of": commit}}


def test_every_part_has_a_module() -> None:
    """A name on the command line leads somewhere."""
    assert [name for name, place in PARTS.items() if find_spec(place) is None] == []


def test_a_part_that_was_not_run_keeps_its_figures_and_its_stamp() -> None:
    """Of two runs both count, each with its own commit; the order is the registry's, whoever ran first."""
    first = merged(None, {"bfcl": result("aaa", bfcl_wire_loss=0.0)}, {"bfcl": False})
    second = merged(first, {"clinc": result("bbb", clinc_auroc=0.9)}, {"clinc": True})
    assert second["figures"] == {"clinc.auroc": 0.9, "bfcl.wire_loss": 0.0}
    assert list(second["figures"]) == ["clinc.auroc", "bfcl.wire_loss"]
    assert {name: (at["commit"], at["quick"]) for name, at in second["parts"].items()} == {
        "clinc": ("bbb", True),
        "bfcl": ("aaa", False),
    }
    assert second["notes"] == {"clinc": {"of": "bbb"}, "bfcl": {"of": "aaa"}}
    assert second["commit"] == "bbb"


def test_a_part_that_was_run_again_says_everything_anew() -> None:
    """A figure that it no longer has is gone."""
    first = merged(None, {"bfcl": result("aaa", bfcl_wire_loss=0.5, bfcl_old=1)}, {"bfcl": False})
    again = merged(first, {"bfcl": result("bbb", bfcl_wire_loss=0.0)}, {"bfcl": False})
    assert again["figures"] == {"bfcl.wire_loss": 0.0}


def test_two_parts_cannot_say_the_same() -> None:
    """Else one would silently replace the other."""
    first = merged(None, {"bfcl": result("aaa", bfcl_wire_loss=0.5)}, {"bfcl": False})
    with pytest.raises(ValueError, match=r"bfcl\.wire_loss"):
        merged(first, {"clinc": result("bbb", bfcl_wire_loss=0.0)}, {"clinc": False})


def test_a_part_that_is_no_more_is_dropped() -> None:
    """Its figures cannot be measured again."""
    stamp = {"commit": "x", "date": "", "machine": {}, "versions": {}, "quick": False, "figures": ["gone.x"]}
    old = {"figures": {"gone.x": 1}, "notes": {"gone": {}}, "parts": {"gone": stamp}}
    assert list(merged(old, {"bfcl": result("aaa", bfcl_n=1)}, {"bfcl": False})["figures"]) == ["bfcl.n"]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A part that fails or cannot run takes nothing from the others: they are written, and the status says that one failed."""

    def fails(quick: bool) -> Part:
        raise RuntimeError("broken")

    def needs(quick: bool) -> Part:
        raise NotRun("a server")

    def works(quick: bool) -> Part:
        return Part({"bfcl.n": 2 if quick else 3}, [("what", "n"), ("x", "2")], plots={"quality-bfcl.svg": b"<svg/>"})

    modules: Mapping[str, Any] = {"snips": needs, "clinc": fails, "bfcl": works}
    monkeypatch.setattr(command, "module", lambda name: SimpleNamespace(GOALS={}, run=modules[name]))
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(report.write, "__defaults__", (tmp_path,))
    assert command.main(["bfcl", "snips", "clinc", "--quick"]) == 1
    written = orjson.loads((tmp_path / "quality.json").read_bytes())
    assert written["figures"] == {"bfcl.n": 2}
    assert written["parts"]["bfcl"]["quick"] is True
    assert (tmp_path / "quality-bfcl.svg").read_bytes() == b"<svg/>"
    told = capsys.readouterr().out
    assert "snips: not run: a server" in told
    assert "failed: clinc" in told
    assert command.main(["bfcl"]) == 0
    with pytest.raises(SystemExit):
        command.main(["nothing"])
