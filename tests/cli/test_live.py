"""`weir check --live`: asks, tells, and fails where a rung cannot do what an enforced route needs of it."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway import cli
from gateway.cli.live import Seen, missing
from tests.backends.scripted_engine import ScriptedEngine
from tests.backends.upstream import upstream
from tests.waiting import PATIENCE

CONFIG = """
backends:
  small: {{kind: vllm, base_url: "{url}/v1", model: tiny, {small}}}
  big: {{kind: openai, base_url: "{cloud}/v1", model: tiny, cloud: true, price: {{input: 1, output: 2}}}}
router: {{use: {{kind: rules}}, default: one}}
routes:
  one: {{ladder: [small, big], mode: {mode}, {route}}}
models: {{weir: routed}}
server: {{state_dir: {folder}}}
"""
NOBODY = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine an engine may be late, and is none the worse for it."""
    monkeypatch.setattr("backends._vllm_fleet.ANSWER", (PATIENCE, PATIENCE))


@contextmanager
def there(engine: ScriptedEngine) -> Iterator[str]:
    """The engine in a thread of its own: the command runs a loop itself."""
    started, stop = threading.Event(), threading.Event()
    url = []

    async def main() -> None:
        async with upstream(engine) as server:
            url.append(server.url)
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    started.wait(60)
    try:
        yield url[0]
    finally:
        stop.set()
        thread.join(60)


Check = Callable[..., Result]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setenv("COLUMNS", "200")

    def run(
        url: str, *arguments: str, cloud: str = NOBODY, mode: str = "enforce", small: str = "", route: str = ""
    ) -> Result:
        path = tmp_path / "weir.yaml"
        text = CONFIG.format(url=url, cloud=cloud, mode=mode, small=small, route=route, folder=tmp_path / "var")
        path.write_text(text)
        command = ["check", "--config", str(path), "--live", *arguments]
        return CliRunner().invoke(cli.application(), command, catch_exceptions=False)

    return run


def told(result: Result) -> dict[str, Any]:
    return {seen["backend"]: seen for seen in json.loads(result.stdout)["live"]}


def test_all_is_well(check: Check) -> None:
    """What the engine is and what it enforces, in a table and as JSON; the cloud is not asked."""
    with there(ScriptedEngine()) as url:
        shown = check(url, route="choice: [a, b]")
        assert shown.exit_code == 0, shown.output
        assert "vLLM 0.32.0" in shown.stdout
        assert "tool_arguments" in shown.stdout
        seen = told(check(url, "--json"))
    assert seen["small"]["ledger"]["schema"] == "enforced"
    assert seen["small"]["facts"]["replicas"][0]["healthy"] is True
    assert seen["big"]["state"] == "not asked"


def test_a_constraint_that_is_ignored(check: Check) -> None:
    """Fails the route that needs it, by name, and no other: an observed route delivers nothing of it."""
    engine = ScriptedEngine()
    engine.obeys = False
    with there(engine) as url:
        shown = check(url, route="choice: [a, b]")
        assert shown.exit_code == 1
        assert "small on one: choice is ignored" in shown.stderr
        assert check(url).exit_code == 0, "a route without a constraint needs none"
        assert check(url, route="choice: [a, b]", mode="observe").exit_code == 0


def test_an_adapter_that_is_not_there(check: Check) -> None:
    """Is said, and nothing is loaded by a check."""
    engine = ScriptedEngine()
    with there(engine) as url:
        shown = check(url, small="adapter: intents, adapter_path: /nowhere")
        assert (shown.exit_code, engine.adapters) == (1, {})
        assert "adapter 'intents' is not loaded" in shown.stderr
        engine.adapters["intents"] = "/x"
        assert check(url, small="adapter: intents").exit_code == 0


def test_nobody_there(check: Check) -> None:
    """A rung of an enforced route that does not answer fails the check; the cloud only when it was asked."""
    shown = check(NOBODY)
    assert shown.exit_code == 1
    assert "no engine answers" in shown.stderr
    engine = ScriptedEngine()
    with there(engine) as url:
        assert check(url).exit_code == 0
        assert check(url, "--cloud").exit_code == 1
        before = engine.chats()
        assert check(url, "--cloud", cloud=url).exit_code == 0
        assert engine.bodies[-1]["max_tokens"] <= 16 or engine.bodies[before]["max_tokens"] <= 16


def test_unknown_is_no_fault() -> None:
    """What nobody could find out is not held against a rung."""
    seen = Seen("small", "answers", asked=True, answers=True)
    assert missing(seen, {"schema": "unknown", "choice": "refused"}, ["answers", "schema", "choice"]) == [
        "choice is refused"
    ]
