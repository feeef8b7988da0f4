"""The parts, their result, and the names that the issue wants kept."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.speed import __main__ as command
from benchmarks.speed import embedded, flame, full, workers
from benchmarks.speed._bench import CONFIG
from benchmarks.speed.parts import PARTS, merged, module
from gateway.app import build
from gateway.settings.load import load

STAMP = {"commit": "abc", "date": "2026-01-01", "machine": {}, "versions": {}, "notes": {}}
KEPT = {
    "full.rps", "full.added_p50_ms", "full.added_p99_ms", "open2000.added_p50_ms", "open2000.added_p99_ms", "embed.rps",
    "escalating.ratio", "stream.paced_us_per_chunk", "stream.burst_us_per_chunk", "stream.ttft_added_p99_ms", "memory_mib",
    "start_s", "ratio.litellm", "ratio.portkey", "ratio.nginx", "workers2.ratio",
}  # fmt: skip


def found(**figures: float) -> dict[str, Any]:
    return {**STAMP, "figures": figures}


def test_every_name_that_is_kept_has_a_goal_in_one_part() -> None:
    """What the result is read for stands in exactly one part's goals."""
    goals = [goal for name in PARTS for goal in module(name).GOALS]
    assert set(goals) >= KEPT
    assert len(goals) == len(set(goals))


def test_a_part_that_was_not_run_keeps_its_figures() -> None:
    """And its stamp: the result says of each part when, where and how quickly it was measured."""
    old = merged(
        None, {"full": found(**{"full.rps": 1}), "memory": found(memory_mib=50)}, {"full": False, "memory": False}
    )
    new = merged(old, {"full": found(**{"full.rps": 2})}, {"full": True})
    assert new["benchmark"] == "speed"
    assert new["figures"] == {"full.rps": 2, "memory_mib": 50}
    assert {name: part["quick"] for name, part in new["parts"].items()} == {"full": True, "memory": False}


def test_a_peer_that_is_gone_leaves_no_old_figure() -> None:
    """A part replaces all that it had said: a ratio of another day beside today's figures would be a lie."""
    old = merged(None, {"full": found(**{"full.rps": 1, "ratio.portkey": 9})}, {"full": False})
    assert merged(old, {"full": found(**{"full.rps": 2})}, {"full": False})["figures"] == {"full.rps": 2}


def test_an_unknown_part_is_refused_before_anything_is_set_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the names that there are."""
    monkeypatch.setattr(command, "set_up", lambda: pytest.fail("set up"))
    with pytest.raises(SystemExit):
        command.main(["fulll"])
    assert "escalating" in capsys.readouterr().err


@pytest.mark.parametrize("change", [lambda table: None, embedded.embedding, workers.without_limits])
def test_the_measured_configurations_are_valid(change: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All features are on in weir.yaml, and every part's change of it builds."""
    for name, value in {"UPSTREAM": "http://127.0.0.1:9/v1", "UPSTREAM_KEY": "k", "STATE": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    table = yaml.safe_load(CONFIG.read_text())
    change(table)
    place = tmp_path / "weir.yaml"
    place.write_text(yaml.safe_dump(table, sort_keys=False))
    settings = build(load(place)).settings
    assert settings.access.keys
    assert settings.telemetry.log == "json"
    assert settings.telemetry.records > 0
    assert "fits_schema" in settings.routes["general"].accept.validators


def test_the_flame_graphs_title_names_no_place() -> None:
    """py-spy writes its own command line there."""
    svg = '<svg><text id="title" x="1">/some/where/py-spy record</text><text>serve (gateway/app.py:1)</text></svg>'
    assert flame.titled(svg) == (
        '<svg><text id="title" x="1">Weir under full load, all features on</text><text>serve (gateway/app.py:1)</text></svg>'
    )


def test_who_fails_is_named_with_what_happened() -> None:
    """A peer that refuses requests is fast at it: it gets no figure, and the notes say why."""
    good = {"requests": 9.0, "shed": 0.0}
    bad = {"requests": 5.0, "other": 4.0, "other_status": 500.0}
    rows = {("weir", "one"): [good], ("portkey", "one"): [good, bad], ("portkey", "saturated"): [good]}
    assert list(full.failing(rows)) == ["portkey"]
    assert "'other': 4.0" in full.failing(rows)["portkey"]
    assert "500" in full.failing(rows)["portkey"]
