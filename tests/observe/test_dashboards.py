"""deploy/grafana: what is committed is what the generator writes, and panels stand beside each other."""

import importlib.util
import json
from types import ModuleType

import pytest

from tests.observe.prometheus import BOARDS, ROOT


@pytest.fixture
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "deploy" / "grafana" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_dashboards_are_the_generated_ones(generator: ModuleType) -> None:
    """No more and no fewer: `python deploy/grafana/generate.py` has been run."""
    assert {path.name: path.read_text() for path in BOARDS.glob("*.json")} == generator.written()


def test_no_two_panels_stand_in_one_place() -> None:
    """On the grid of 24 columns, of every dashboard; and every panel has an id of its own."""
    for path in BOARDS.glob("*.json"):
        panels = json.loads(path.read_text())["panels"]
        taken = [
            (x, y)
            for place in (panel["gridPos"] for panel in panels)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(taken) == len(set(taken)), path.name
        assert all(0 <= x < 24 for x, _ in taken)
        assert len({panel["id"] for panel in panels}) == len(panels)
