"""The `vllm` rung on a real vLLM (CPU build, a tiny model that knows nothing): what scripted upstreams only claim."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests import setup
from tests.backends.upstream import upstream
from tests.checklist.tools import TOOL, call, calls, choices, text
from tests.line.world import CONFIG, SCHEMA, World, asks, says
from tests.live import engine
from tests.serving import serving

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not engine.there():
        reason = "needs vLLM's CPU build: make vllm"
        if setup.in_ci():
            pytest.fail(reason)
        pytest.skip(reason)
    with engine.running(tmp_path_factory.mktemp("vllm")) as url:
        yield url


def _check(folder: Path, url: str, run: Any, cloud: str = "from the cloud", **message: Any) -> None:
    async def go() -> None:
        async with upstream(says(cloud, **message)) as upper:
            config = CONFIG.format(small=url, cloud=upper.url, routes="", server="", more="", deadline="60").replace(
                "model: slm, timeout: 2", "model: tiny, timeout: 50"
            )
            async with serving(config, folder) as served:
                served.client.timeout = 90
                await run(World(served, upper, upper))

    asyncio.run(go())


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_is_enforced(vllm: str, tmp_path: Path, stream: bool) -> None:
    """A model that knows nothing still answers under the schema: constrained, checked, accepted."""

    async def run(w: World) -> None:
        response = await w.served.chat(asks(stream=stream, max_tokens=60, temperature=0))
        assert orjson.loads(text(response))["label"] in ("a", "b")
        record = w.served.record(response)
        assert (record.outcome, record.served) == ("accepted", "small")
        assert record.attempts[0].tokens.output > 0

    _check(tmp_path, vllm, run)


def test_point_17_roles_on_vllm(vllm: str, tmp_path: Path) -> None:
    """developer, several system messages, consecutive roles and part lists pass a real chat template."""
    messages = [
        {"role": "developer", "content": "one"},
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "user", "content": "b"},
        {"role": "system", "content": "two"},
    ]

    async def run(w: World) -> None:
        response = await w.served.chat(asks(messages=messages, max_tokens=60))
        assert w.served.record(response).served == "small"

    _check(tmp_path, vllm, run)


def test_point_16_oddities_on_vllm(vllm: str, tmp_path: Path) -> None:
    """tools: [], top_p 0, nulls and stream_options without stream are no 400 on a real vLLM."""

    async def run(w: World) -> None:
        odd: dict[str, Any] = {
            "tools": [],
            "top_p": 0,
            "temperature": None,
            "stop": None,
            "stream_options": None,
            "user": None,
        }
        response = await w.served.chat(asks(max_tokens=60, **odd))
        assert w.served.record(response).served == "small"

    _check(tmp_path, vllm, run)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "add"}}], ids=["required", "named"]
)
def test_point_28_forced_calls_on_vllm(vllm: str, tmp_path: Path, choice: Any, stream: bool) -> None:
    """A forced call comes from the grammar: arguments that fit, from a model that knows nothing."""

    async def run(w: World) -> None:
        body = asks(
            tools=[TOOL], tool_choice=choice, stream=stream, max_tokens=200, temperature=0, model="route/tooled"
        )
        del body["response_format"]
        response = await w.served.chat(body)
        told = (
            calls(response)
            if stream
            else [c["function"] for c in response.json()["choices"][0]["message"]["tool_calls"]]
        )
        assert told[0]["name"] == "add"
        assert isinstance(orjson.loads(told[0]["arguments"])["x"], int)
        # A random model may run out of tokens inside a number: then, and only then, the cloud has answered.
        record = w.served.record(response)
        assert record.served == "small" or record.escalation in ("truncated", "tool_arguments")

    _check(tmp_path, vllm, run, cloud="", finish="tool_calls", tool_calls=[{"index": 0, **call()}])


def test_point_37_the_grammar_backend(vllm: str, tmp_path: Path) -> None:
    """A schema that xgrammar cannot do, after and before ones that it can: a valid answer every time."""
    exotic = {**SCHEMA, "properties": {"label": {"type": "number", "multipleOf": 3}}}

    async def run(w: World) -> None:
        good = asks(max_tokens=60, temperature=0)
        odd = asks(
            max_tokens=60, response_format={"type": "json_schema", "json_schema": {"name": "label", "schema": exotic}}
        )
        for body, served in ((good, "small"), (odd, "cloud"), (good, "small")):
            response = await w.served.chat(body)
            record = w.served.record(response)
            assert (response.status_code, record.served) == (200, served)
            assert served == "small" or record.escalation == "unsupported"

    _check(tmp_path, vllm, run, cloud='{"label":9}')


def test_context_overflow_on_vllm(vllm: str, tmp_path: Path) -> None:
    """vLLM's own words for a prompt that is too long are understood, and the larger model is asked."""

    async def run(w: World) -> None:
        response = await w.served.chat(asks(messages=[{"role": "user", "content": "word " * 3000}]))
        assert w.served.record(response).escalation == "context_overflow"

    _check(tmp_path, vllm, run, cloud='{"label":"a"}')


def test_choices_are_kept_apart(vllm: str, tmp_path: Path) -> None:
    """n = 2 on a real engine: two answers, both under the schema."""

    async def run(w: World) -> None:
        response = await w.served.chat(asks(n=2, max_tokens=60, stream=True))
        for index in (0, 1):
            assert orjson.loads(text(response, index))["label"] in ("a", "b")
            assert [c["finish_reason"] for c in choices(response, index)].count("stop") == 1

    _check(tmp_path, vllm, run)
