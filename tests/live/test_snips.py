"""The specialist of our own, served: behind a real vLLM, and in process by `kind: local`; under its tools, with log-probabilities."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Resources, build
from gateway.aside import ask, twin
from gateway.calibrate.labelled import read
from gateway.confidence import Evidence
from gateway.confidence.features import features
from gateway.confidence.tokens import answer
from gateway.settings.load import load
from models.rebuild.snips import FOLDER, data
from tests import setup
from tests.live import engine

ROOT = Path(__file__).parents[2]
COUNT = 70
"""Of the 700 that calibrate and test: ten an intent."""
LEAST = 0.65
"""Exact match; 80 % of all 700 (`python -m benchmarks.quality snips`), less three standard deviations of 70."""
PYTHON = ROOT / ".venv-local" / "bin" / "python"
CONFIG = """
backends:
  snips: {backend}
  large: {{kind: openai, base_url: "http://127.0.0.1:9/v1", model: none}}
router: {{use: {{kind: rules}}, default: snips}}
routes:
  snips: {{ladder: [snips, large], mode: enforce}}
models: {{weir: routed}}
"""
pytestmark = pytest.mark.timeout(400)


def needs(there: bool, what: str) -> None:
    if not there:
        if setup.in_ci():
            pytest.fail(what)
        pytest.skip(what)


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    needs(engine.there(), "needs vLLM: make vllm")
    with engine.running(
        tmp_path_factory.mktemp("vllm"), "snips", (*engine.OPTIONS, "--dtype", "float32"), FOLDER
    ) as url:
        yield url


def test_behind_vllm(vllm: str, tmp_path: Path) -> None:
    """It calls the right function with the right arguments, and its tokens say how sure it was."""
    backend = f'{{kind: vllm, base_url: "{vllm}/v1", model: snips, timeout: 60, probe: false}}'
    check(tmp_path, backend)


def test_in_process(tmp_path: Path) -> None:
    """The same without vLLM."""
    needs((ROOT / ".venv-local" / ".local").exists(), "needs torch, transformers and Outlines: make local")
    check(tmp_path, f'{{kind: local, model: "{FOLDER}", python: "{PYTHON}", timeout: 60}}')


def check(folder: Path, backend: str) -> None:
    config = folder / "weir.yaml"
    config.write_text(CONFIG.format(backend=backend))
    utterances = data.splits()["validate"][::10]
    attempts = asyncio.run(said(config, utterances))
    right = sum(call == (u.intent, data.arguments(u)) for (call, _), u in zip(attempts, utterances, strict=True))
    assert len(utterances) == COUNT
    assert right >= LEAST * COUNT
    for _, evidence in attempts:
        found = answer(evidence.draft, evidence.constraint)
        assert found is not None
        assert found.raw.startswith(b"<tool_call>")
        assert features(evidence) is not None


async def said(config: Path, utterances: tuple[data.Utterance, ...]) -> list[tuple[tuple[str, Any], Evidence]]:
    """(call, evidence) for each, asked as the line asks, four at a time."""
    loaded = load(config)
    resources = Resources(loaded.folder)
    made = build(loaded, resources)
    cases = read(b"\n".join(json.dumps(data.labelled(u)).encode() for u in utterances), name="snips", model="weir")
    found: dict[int, tuple[tuple[str, Any], Evidence]] = {}
    todo = iter(enumerate(cases))
    await resources.open()

    async def work() -> None:
        for at, case in todo:
            story = twin(made, case.asked, f"s-{at}", made.routes["snips"])
            attempt = await ask(story, made.rungs["snips"])
            assert attempt.error is None
            (draft,) = attempt.gate.fold.drafts()
            (call,) = draft.tool_calls
            tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in data.tools()}
            evidence = Evidence(draft, None, tools, case.asked.body["messages"])
            found[at] = (call.name, json.loads(call.arguments)), evidence

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(work())
    finally:
        await resources.close()
    return [found[at] for at in range(len(cases))]
