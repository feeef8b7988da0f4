"""The `vllm` rung on a real vLLM (CPU build, a tiny model that knows nothing): what scripted upstreams only claim."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from msgspec import Struct

from backends.http.client import AiohttpClient
from backends.vllm import Vllm, VllmConfig
from gateway.fold import Fold
from tests import setup
from tests.backends.upstream import upstream
from tests.backends.world import Resources
from tests.checklist.tools import TOOL, call, calls, choices, text
from tests.line.world import CONFIG, SCHEMA, World, asks, says
from tests.live import engine
from tests.serving import serving
from tests.waiting import until
from wire.types import Call, Chunk, Constraint

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
            empty = {"routes": "", "server": "", "more": "", "backends": ""}
            config = CONFIG.format(small=url, cloud=upper.url, deadline="60", **empty).replace(
                "model: slm, timeout: 40", "model: tiny, timeout: 50"
            )
            async with serving(config, folder) as served:
                served.client.timeout = 90
                await run(World(served, upper, upper, upper))

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


# -- what the real server does, that others build on ----------------------------------------------------------------

ARGUMENTS: dict[str, Any] = {
    "type": "object",
    "properties": {"kind": {"enum": ["qx", "vz"]}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["kind", "n"],
    "additionalProperties": False,
}
PICK = {"type": "function", "function": {"name": "pick", "parameters": ARGUMENTS}}
NAMED = {"type": "function", "function": {"name": "pick"}}
WORD = {
    "type": "json_schema",
    "json_schema": {
        "name": "word",
        "schema": {
            "type": "object",
            "properties": {"word": {"type": "string", "pattern": "^[a-z]{8}$"}},
            "required": ["word"],
            "additionalProperties": False,
        },
    },
}


class Said(Struct):
    text: str
    calls: list[tuple[str, str]]
    finish: str
    raw: str
    """The tokens of the log-probabilities, joined."""
    masked: bool

    @classmethod
    def of(cls, chunks: list[Chunk]) -> "Said":
        fold = Fold()
        for chunk in chunks:
            fold.add(chunk)
        (draft,) = fold.drafts()
        return cls(
            text=draft.text,
            calls=[(call.name, call.arguments) for call in draft.tool_calls],
            finish=str(draft.finish),
            raw="".join(token["token"] for token in draft.logprobs),
            masked=any(other["logprob"] <= -9999 for token in draft.logprobs for other in token["top_logprobs"]),
        )


def _ask(url: str, body: dict[str, Any], *, live: bool, constraint: Constraint | None = None, **config: Any) -> Said:
    """What the backend itself gets, its chunks put together."""

    async def go() -> Said:
        client = AiohttpClient(limit=8)
        await client.open()
        resources = Resources(client)
        try:
            backend = Vllm(
                "small", VllmConfig(kind="vllm", base_url=f"{url}/v1", model="tiny", timeout=60, **config), resources
            )
            told = {"messages": [{"role": "user", "content": "Write a poem."}], "temperature": 1.0, **body}
            call = Call(body=told, seconds=60, live=live, logprobs=True, constraint=constraint)
            return Said.of([chunk async for chunk in backend.stream(call)])
        finally:
            await resources.control.close()
            await client.close()

    return asyncio.run(go())


@pytest.mark.parametrize("live", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_tokens_of_a_tool_call(vllm: str, choice: Any, live: bool) -> None:
    """The log-probabilities are those of the raw text, `<tool_call>` and end token included; the arguments are its JSON written anew.

    The tool was sent without `strict`: its arguments fit all the same, as the backend makes it strict."""
    for seed in range(12):
        body = {"tools": [PICK], "tool_choice": choice, "parallel_tool_calls": False, "max_tokens": 300, "seed": seed}
        said = _ask(vllm, body, live=live)
        if said.finish != "length":
            break
    ((name, arguments),) = said.calls
    assert name == "pick"
    value = orjson.loads(arguments)
    assert value["kind"] in ("qx", "vz")
    assert 0 <= value["n"] <= 9
    found = re.fullmatch(
        r"<tool_call>\n?\{\"name\": \"pick\", \"arguments\": (.*)\}\n?</tool_call><\|im_end\|>", said.raw, re.DOTALL
    )
    assert found is not None, said.raw
    assert orjson.loads(found[1]) == value
    assert said.masked
    assert said.finish == ("tool_calls" if choice == "required" else "stop")


def test_a_tool_that_is_not_strict(vllm: str) -> None:
    """Why tools are made strict: vLLM 0.32 binds the envelope of other ones only, and a model that knows nothing fills in anything."""
    fitting = 0
    for seed in range(6):
        body = {"tools": [PICK], "tool_choice": "required", "max_tokens": 100, "seed": seed}
        said = _ask(vllm, body, live=False, strict_tools=False)
        fitting += any(arguments.startswith('{"kind"') for _, arguments in said.calls)
    assert fitting == 0


def test_a_tool_that_xgrammar_cannot_do(vllm: str) -> None:
    """It is sent without `strict`, and answered: free arguments for the validator, no 400 and no half of a grammar."""
    odd = {**ARGUMENTS, "properties": {**ARGUMENTS["properties"], "n": {"type": "integer", "multipleOf": 7}}}
    body = {"tools": [{"type": "function", "function": {"name": "pick", "parameters": odd}}], "tool_choice": "required"}
    assert _ask(vllm, {**body, "max_tokens": 40, "seed": 1}, live=False).raw.startswith("<tool_call>")


@pytest.mark.parametrize("live", [False, True], ids=["whole", "stream"])
def test_tokens_of_a_schema(vllm: str, live: bool) -> None:
    """Tokens joined are the answer and the end token; forced ones can be told by the mask's floor."""
    constraint = Constraint("schema", ARGUMENTS, strict=True)
    said = _ask(vllm, {"max_tokens": 100, "seed": 3}, live=live, constraint=constraint)
    assert said.raw == f"{said.text}<|im_end|>"
    assert orjson.loads(said.text)["kind"] in ("qx", "vz")
    assert said.masked


def test_auto(vllm: str) -> None:
    """`auto` with a strict tool: text stays text, and its tokens are its own. Characters of several tokens are whole in the last one."""
    said = _ask(vllm, {"tools": [PICK], "tool_choice": "auto", "max_tokens": 30, "seed": 5}, live=False)
    valid = said.text.replace("\ufffd", "")
    assert [c for c in said.raw.removesuffix("<|im_end|>") if c in valid] == list(valid)
    assert said.finish in ("stop", "length")


@pytest.mark.parametrize(
    ("constraint", "form"),
    [
        (Constraint("choice", ["qzz1", "vk0"]), "qzz1|vk0"),
        (Constraint("regex", "[A-F]{4}-[0-9]{3}"), "[A-F]{4}-[0-9]{3}"),
        (Constraint("grammar", 'root ::= "ab" | "cd"'), "ab|cd"),
    ],
    ids=["choice", "regex", "grammar"],
)
def test_structured_outputs(vllm: str, constraint: Constraint, form: str) -> None:
    """What `response_format` cannot say goes as `structured_outputs`, and holds."""
    assert re.fullmatch(form, _ask(vllm, {"max_tokens": 40, "seed": 2}, live=True, constraint=constraint).text)


# -- adapters and the probe -----------------------------------------------------------------------------------------

TENDED = """
backends:
  small: {{kind: vllm, base_url: "{url}/v1", model: tiny, look: 0.3, timeout: 60}}
  one: {{kind: vllm, base_url: "{url}/v1", model: tiny, adapter: one, adapter_path: {one}, look: 0.3, timeout: 60}}
  {two}
  big: {{kind: openai, base_url: "{cloud}/v1", model: big, cloud: true, price: {{input: 1, output: 2}}}}
router: {{use: {{kind: rules}}, default: small}}
routes:
  small: {{ladder: [small, big], mode: enforce}}
  one: {{ladder: [one, big], mode: enforce}}
  {route}
models: {{weir: routed}}
"""
TWO = (
    "two: {{kind: vllm, base_url: '{url}/v1', model: tiny, adapter: two, adapter_path: {two}, look: 0.3, timeout: 60}}"
)


def test_adapters_and_probe(vllm: str, tmp_path: Path) -> None:
    """Two real LoRA adapters on one engine: loaded, probed, each with its own answers and digest; new weights are loaded in place and are
    another model; what the configuration drops is unloaded; the gauge says what the engine enforces."""
    one, two = engine.adapter(tmp_path / "one", 1), engine.adapter(tmp_path / "two", 2)

    async def go() -> None:
        async with upstream(says("from the cloud")) as upper:
            config = TENDED.format(
                url=vllm,
                cloud=upper.url,
                one=one,
                two=TWO.format(url=vllm, two=two),
                route="two: {ladder: [two, big], mode: enforce}",
            )
            async with serving(config, tmp_path, tend=True) as served:
                served.client.timeout = 90
                rungs = ("small", "one", "two")

                async def known() -> dict[str, Any]:
                    told = (await served.client.get("/readyz")).json()["backends"]
                    return {name: told[name] for name in told if name in rungs}

                def series(rung: str, name: str) -> float:
                    return served.metric(f'weir_capability{{backend="{rung}",capability="{name}"}}')

                def probed(*names: str) -> bool:
                    return all(series(name, "masked") == 1 and series(name, "tool_arguments") == 1 for name in names)

                await until(lambda: probed(*rungs), 150)
                told = await known()
                assert all(fact["available"] for fact in told.values())
                assert len({fact["facts"]["digest"] for fact in told.values()}) == 3
                sure = ("answers", "stream", "schema", "choice", "regex", "tool_required", "tool_named", "tool_auto")
                assert all(series(name, what) == 1 for name in rungs for what in (*sure, "logprobs"))
                assert series("one", "adapter") == 1

                async def answer(rung: str) -> str:
                    message = {"role": "user", "content": "hello there"}
                    body = {"model": f"route/{rung}", "messages": [message], "max_tokens": 80, "temperature": 0}
                    response = await served.chat({**body, "response_format": WORD})
                    assert served.record(response).served == rung
                    return str(response.json()["choices"][0]["message"]["content"])

                texts = {rung: await answer(rung) for rung in rungs}
                assert len(set(texts.values())) == 3

                changed: Any = served.app.live.setup.backends["one"]
                before = changed.digest
                engine.adapter(one, 7)
                await until(lambda: changed.digest not in ("", before), 60)
                await until(lambda: not changed.unready, 60)
                assert await answer("one") not in texts.values()

                served.config.write_text(TENDED.format(url=vllm, cloud=upper.url, one=one, two="", route=""))
                async with httpx.AsyncClient(timeout=60) as client:

                    async def loaded() -> set[str]:
                        cards = (await client.get(f"{vllm}/v1/models")).json()["data"]
                        return {card["id"] for card in cards}

                    async with asyncio.timeout(60):
                        while await loaded() != {"tiny", "one"}:  # noqa: ASYNC110 - the engine lies outside the loop
                            await asyncio.sleep(0.2)

    asyncio.run(go())
