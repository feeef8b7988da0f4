"""What several workers cannot do, as findings of the whole configuration."""

import pickle
from pathlib import Path

import pytest

from gateway.app import read
from gateway.settings.load import load
from gateway.settings.mistakes import ConfigError

CONFIG = """
backends: {{one: {{kind: openai, model: m, price: {{input: 1}}}}}}
router: {{use: {{kind: rules}}, default: r}}
routes: {{r: {{match: {{model: "a*"}}, ladder: [one]}}}}
models: {{weir: routed}}
access: {{keys: [{{name: app, hash: "sha256:{hash}", rate: {{per_minute: 60}}}}]}}
{more}
"""


def written(folder: Path, more: str) -> Path:
    path = folder / "weir.yaml"
    path.write_text(CONFIG.format(hash="0" * 64, more=more))
    return path


def test_one_worker_shares_nothing(tmp_path: Path) -> None:
    """Nothing is said of one."""
    assert not [told for told in load(written(tmp_path, "")).warnings if "workers" in told.message]


def test_a_store_in_memory_is_refused(tmp_path: Path) -> None:
    """As a worker would not find what another has kept; the field and the ways out are named, from the file and from the option."""
    with pytest.raises(
        ConfigError, match=r"responses.store: `memory` is each process's own.*all 3 workers.*store: redis"
    ):
        load(written(tmp_path, "server: {workers: 3}"))
    with pytest.raises(ConfigError, match=r"all 4 workers"):
        read(written(tmp_path, ""), {"workers": 4})


def test_a_rate_is_warned_of(tmp_path: Path) -> None:
    """Each worker counts by itself: said once, with the number to write instead."""
    off = 'responses: {store: "off"}\n'
    path = written(tmp_path, off + "server: {workers: 3}")
    (told,) = load(path).warnings
    assert (told.where, told.severity) == ("access.keys.0.rate", "warning")
    assert "per_minute: 20" in told.message
    assert read(path, {"workers": 3}).warnings == (told,)
    (told,) = read(written(tmp_path, off), {"workers": 2}).warnings
    assert "per_minute: 30" in told.message


def test_a_configuration_travels(tmp_path: Path) -> None:
    """To other processes, as a whole: what is compiled of its rules is compiled there."""
    loaded = load(written(tmp_path, ""))
    there = pickle.loads(pickle.dumps(loaded))
    assert there.settings == loaded.settings
    assert there.digest == loaded.digest
    assert there.settings.routes["r"].match.tests.keys() == {"model"}
