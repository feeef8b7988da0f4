"""The configuration that the demo writes."""

from pathlib import Path

import orjson

from gateway import money
from gateway.demo import setting, traffic
from gateway.demo.run import DATA
from gateway.demo.setting import CLOUD, GENERAL, INTENTS, SPECIALIST, Setting
from gateway.settings.load import Loaded, load

GIVEN = Setting(utterances=50, seed=3, speed=4.0)


def written(folder: Path) -> Loaded:
    data = traffic.load(DATA)
    items = traffic.sample(data, GIVEN.utterances, GIVEN.seed)
    return load(setting.write(folder, GIVEN, data, items), env={})


def test_the_configuration_is_one(tmp_path: Path) -> None:
    """What the demo writes passes the same check as a user's file; the one warning says what the stand-in is."""
    assert [warning.where for warning in written(tmp_path).warnings] == [f"backends.{CLOUD}.kind"]


def test_it_is_what_the_issue_says(tmp_path: Path) -> None:
    """A specialist with a promised risk below the stand-in, enforced; rules before embedding; gpt-* is routed."""
    settings = written(tmp_path).settings
    route = settings.routes[INTENTS]
    assert (route.ladder, route.mode, route.accept.risk) == ((SPECIALIST, CLOUD), "enforce", 0.01)
    assert settings.routes[GENERAL].ladder == (CLOUD,)
    assert [tier.kind for tier in settings.router.use.of] == ["rules", "embedding"]  # type: ignore[attr-defined]
    assert settings.backends[CLOUD].kind == "scripted"
    assert settings.backends[CLOUD].delay.median == 0.5  # type: ignore[attr-defined]
    assert settings.models["gpt-*"].use == "routed"
    assert settings.server.host == "127.0.0.1"


def test_everything_stays_in_the_folder(tmp_path: Path) -> None:
    """State and script of a demo lie in its own folder and go with it."""
    settings = written(tmp_path).settings
    assert settings.server.state_dir.is_relative_to(tmp_path)
    assert settings.backends[CLOUD].script.is_relative_to(tmp_path)  # type: ignore[attr-defined]


def test_labels_go_to_the_stand_in_only(tmp_path: Path) -> None:
    """No text of the sample stands in the configuration: only the script, which plays the LLM, knows them."""
    written(tmp_path)
    config = (tmp_path / setting.CONFIG).read_text()
    script = orjson.loads((tmp_path / setting.SCRIPT).read_bytes())
    items = traffic.sample(traffic.load(DATA), GIVEN.utterances, GIVEN.seed)
    assert set(script) == {item.text for item in items} | {setting.WARM.text}
    assert not [item.text for item in items if item.text in config]


def test_the_stand_in_counts_tokens_as_weir_estimates_them(tmp_path: Path) -> None:
    """Where the specialist answers nobody counts: both sides of the cost ratio must use the same ruler."""
    data = traffic.load(DATA)
    items = traffic.sample(data, 20, 1)
    said = setting.script(items, data.labels, 1)
    for item in items:
        usage = said[item.text]["usage"]
        used = money.estimate(traffic.body(item, data.labels), len(said[item.text]["content"]))
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (used.input, used.output)
        assert used.input > (500 if item.kind == "intent" else 20)
