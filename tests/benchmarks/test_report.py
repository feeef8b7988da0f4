"""How benchmarks write their results."""

from pathlib import Path

import orjson
import pytest

from benchmarks import report


def test_a_result_has_the_form_of_the_design() -> None:
    """benchmark, commit, date, machine, versions, figures: in this form every result can be compared with any other."""
    found = report.result("x", {"a_ms": 1.23456789, "count": 3})
    assert list(found) == ["benchmark", "commit", "date", "machine", "versions", "figures", "notes"]
    assert found["figures"] == {"a_ms": 1.23457, "count": 3}
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["cpu"]
    assert found["versions"]["python"].startswith("3.")
    assert found["date"].endswith("+00:00")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), True, None, "1"])
def test_a_figure_is_a_number(wrong: float) -> None:
    """What JSON cannot hold, or is no measurement, is refused and named."""
    with pytest.raises(ValueError, match="broken"):
        report.result("x", {"broken": wrong})


def test_a_result_is_written_whole(tmp_path: Path) -> None:
    """The file replaces the old one in one step and nothing else stays behind; what was written is what was found."""
    found = report.result("x", {"a": 1.0}, notes={"said": "so"})
    path = report.write(found, tmp_path / "results")
    assert orjson.loads(path.read_bytes()) == found
    report.write(report.result("x", {"a": 2.0}), tmp_path / "results")
    assert orjson.loads(path.read_bytes())["figures"] == {"a": 2.0}
    assert [entry.name for entry in path.parent.iterdir()] == ["x.json"]


def test_missing_packages_have_no_version() -> None:
    """A package that is not installed is left out."""
    assert "no-such-package" not in report.versions(("no-such-package", "numpy"))
    assert "numpy" in report.versions(("no-such-package", "numpy"))


def test_the_table_shows_figures_and_goals(capsys: pytest.CaptureFixture[str]) -> None:
    """People see every figure, its goal, and the notes."""
    report.show(report.result("x", {"a_ms": 0.25}, notes={"how": "once"}), {"a_ms": "< 0.3"})
    text = capsys.readouterr().out
    for expected in ("a_ms", "0.2500", "< 0.3", "how: once"):
        assert expected in text
