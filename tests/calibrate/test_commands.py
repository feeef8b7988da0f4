"""`weir calibrate` and `weir recalibrate` as a person types them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway import cli
from tests.calibrate.small import ASKED, asks
from tests.calibrate.world import config, lines, wrote

Weir = Callable[..., Result]


@pytest.fixture
def weir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weir:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("WEIR_CONFIG", str(tmp_path / "weir.yaml"))
    ASKED.clear()
    wrote(tmp_path)
    (tmp_path / "data.jsonl").write_bytes(lines(range(400)))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli.application(), list(arguments), catch_exceptions=False)

    return run


def test_calibrate_and_recalibrate(weir: Weir, tmp_path: Path) -> None:
    """The table, the file, the stored requests; then the same for a new model with one word."""
    done = weir("calibrate", "labels", "--data", "data.jsonl", "--risk", "0.05")
    assert done.exit_code == 0, done.output
    for part in (
        "200 / 200",
        "AUROC",
        "local share",
        "regret",
        "error among the accepted",
        "oracle share",
        "conformal",
    ):
        assert part in done.stdout
    assert "400 of 400" in done.stderr
    assert "note: for 200 of 200 requests nobody says what 'llm' would have answered" in done.stdout
    files = {path.name.split(".", 1)[-1] for path in (tmp_path / "calibration").iterdir()}
    assert files == {"json", "answers.jsonl", "labelled.jsonl"}
    assert weir("check").stdout.count("never sure") == 0

    again = weir("recalibrate")
    assert "has a calibration that holds" in again.stderr
    assert ASKED["one"] == 400

    wrote(tmp_path, model="next")
    assert "weir recalibrate labels" in weir("check").stderr
    new = weir("recalibrate", "--json")
    assert new.exit_code == 0, new.output
    told = json.loads(new.stdout)[0]
    assert (told["n"], told["n_fit"], told["risk"], told["confidence"]) == (200, 200, 0.05, 0.95)
    assert ASKED["next"] == 400
    assert len(list((tmp_path / "calibration").glob("labels@slm@*.json"))) == 2
    assert "weir recalibrate" not in weir("check").stderr


def test_recalibrate_what_is_to_come(weir: Weir, tmp_path: Path) -> None:
    """`--ask`: the next model is asked while the old one serves."""
    weir("calibrate", "labels", "--data", "data.jsonl")
    done = weir("recalibrate", "labels", "--rung", "slm", "--ask", "next")
    assert done.exit_code == 0, done.output
    assert ASKED["next"] == 400
    wrote(tmp_path, model="next")
    assert "weir recalibrate" not in weir("check").stderr


def test_check_says_what_a_route_does_meanwhile(weir: Weir, tmp_path: Path) -> None:
    """Not calibrated: shadow; one rung of several: that one; a canary with its share."""
    told = json.loads(weir("check", "--json").stdout)["routes"][0]
    assert (told["mode"], told["shadowed"]) == ("shadow", ["slm"])
    weir("calibrate", "labels", "--data", "data.jsonl")
    text = (
        config(more="canary: 0.25")
        .replace("[slm, llm]", "[second, slm, llm]")
        .replace("mode: enforce", "mode: canary", 1)
    )
    (tmp_path / "weir.yaml").write_text(text)
    assert "canary 25%, second in shadow" in weir("check").stdout


def test_a_route_without_a_risk_needs_the_option(weir: Weir, tmp_path: Path) -> None:
    """Else the route's own counts, and one that cannot be kept is said so."""
    text = config().replace("accept: {risk: 0.05}", "")
    (tmp_path / "weir.yaml").write_text(text)
    done = weir("calibrate", "labels", "--data", "data.jsonl")
    assert (done.exit_code, "--risk" in done.stderr) == (2, True)
    told = weir("calibrate", "labels", "--data", "data.jsonl", "--risk", "0.016", "--json")
    assert told.exit_code == 0, told.output
    hard = weir("calibrate", "labels", "--data", "data.jsonl", "--risk", "0.016")
    assert "cannot be kept" in hard.stdout or "threshold for a risk of 0.016" in hard.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["label"], 2, "no route named 'label' (did you mean 'labels'?)"),
        (["general"], 2, "the ladder of 'general' has one rung"),
        (["labels", "--rung", "llm"], 2, "no small rung 'llm' on the ladder of 'labels': there are slm"),
        (["labels", "--ask", "nxt"], 2, "no backend named 'nxt' (did you mean 'next'?)"),
        (["labels", "--risk", "0.001"], 1, "at least 2995 are needed"),
        (["labels", "--data", "none.jsonl"], 2, "none.jsonl: No such file"),
        (["labels", "--data", "weir.yaml"], 1, "weir.yaml:2: is no JSON"),
        (["labels", "--comparator", "os:nothing"], 1, "data.jsonl:1: comparator"),
    ],
)
def test_what_cannot_be_done_says_why(weir: Weir, arguments: list[str], code: int, why: str) -> None:
    """Before anything is asked."""
    if "--data" not in arguments:
        arguments = [*arguments, "--data", "data.jsonl"]
    done = weir("calibrate", *arguments)
    assert (done.exit_code, ASKED.total()) == (code, 0)
    assert why in done.stderr


def test_recalibrate_needs_something_stored(weir: Weir, tmp_path: Path) -> None:
    """It says how to begin."""
    for arguments in ([], ["labels"]):
        done = weir("recalibrate", *arguments)
        assert done.exit_code == 1
        assert "weir calibrate" in done.stderr


def test_fit_and_out(weir: Weir, tmp_path: Path) -> None:
    """A fitting file of its own, and another folder."""
    (tmp_path / "fit.jsonl").write_bytes(lines(range(1000, 1100)))
    done = weir("calibrate", "labels", "--data", "data.jsonl", "--fit", "fit.jsonl", "--out", "elsewhere", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)[0]
    assert (told["n"], told["n_fit"]) == (400, 100)
    assert Path(told["file"]).parent.name == "elsewhere"
    assert not (tmp_path / "calibration").exists()
    stored = [json.loads(line) for line in (tmp_path / "elsewhere" / "labels.labelled.jsonl").read_text().splitlines()]
    assert [line["part"] for line in stored].count("fit") == 100
    assert stored[0]["request"] == asks(1000)
