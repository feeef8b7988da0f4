"""The local backend on real torch, transformers and Outlines: a tiny model that knows nothing, held to whatever form is asked for."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Awaitable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from backends._local_order import order
from backends.local import Local, LocalConfig
from gateway.validators.fits_schema import misfit
from tests import setup
from tests.backends.test_local import calls_of, scores
from tests.backends.world import Resources, collect, text_of
from tests.serving import Served, serving
from tests.waiting import until
from wire.errors import BackendError, Broken, ContextOverflow, Overloaded, Unavailable, Unsupported
from wire.types import Call, Chunk, Constraint

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-local" / "bin" / "python"
pytestmark = pytest.mark.timeout(300)

INNER = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}, "unit": {"enum": ["C", "F", None]}},
    "required": ["unit"],
}
SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"enum": ["alpha", "beta", "gamma"]},
        "note": {"type": "string", "maxLength": 8},
        "count": {"type": "integer", "minimum": 0, "maximum": 50},
        "inner": INNER,
        "list": {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 3},
        "either": {"anyOf": [{"const": "x"}, {"type": "null"}]},
    },
    "required": ["label", "inner"],
}
PARAMETERS = {
    "type": "object",
    "properties": {"size": {"enum": ["S", "M"]}, "n": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["size"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "order_it", "parameters": PARAMETERS}},
    {"type": "function", "function": {"name": "stop"}},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ROOT / ".venv-local" / ".local").exists():
        reason = "needs torch, transformers and Outlines: make local"
        if setup.in_ci():
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("local") / "model"
    subprocess.run([PYTHON, ROOT / "tests" / "live" / "tiny_model.py", folder], check=True, capture_output=True)
    return folder


class Asked:
    """A backend in a loop of its own, so that the worker starts once for all tests."""

    def __init__(self, folder: Path) -> None:
        self.resources = Resources()
        self.runner = asyncio.Runner()
        config = LocalConfig(kind="local", model=folder, python=PYTHON, threads=1, queue=2, max_tokens=400)
        self.local = Local("small", config, self.resources)

    def run(self, work: Awaitable[Any]) -> Any:
        async def main() -> Any:
            async with asyncio.timeout(120):
                return await work

        return self.runner.run(main())

    def chunks(self, given: Call) -> list[Chunk]:
        found: list[Chunk] = self.run(collect(self.local, given))
        return found

    def many(self, given: list[Call]) -> list[list[Chunk]]:
        async def one_by_one() -> list[list[Chunk]]:
            return [await collect(self.local, call) for call in given]

        found: list[list[Chunk]] = self.run(one_by_one())
        return found


@pytest.fixture(scope="module")
def asked(model: Path) -> Iterator[Asked]:
    made = Asked(model)
    try:
        yield made
    finally:
        made.run(made.local.worker.aclose())
        made.runner.close()


def call(live: bool = False, constraint: Constraint | None = None, logprobs: bool = False, **body: Any) -> Call:
    body.setdefault("messages", [{"role": "user", "content": "which?"}])
    return Call(body=body, seconds=60, live=live, constraint=constraint, logprobs=logprobs)


def raw(chunks: list[Chunk]) -> str:
    """The text as the model wrote it, out of its log-probabilities."""
    return b"".join(bytes(entry["bytes"]) for entry in scores(chunks)).decode()


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint("schema", SCHEMA),
        Constraint(
            "schema",
            {"$defs": {"in": INNER}, "type": "array", "items": {"$ref": "#/$defs/in"}, "minItems": 1, "maxItems": 2},
        ),
        Constraint("choice", ["yes", "no", 'a "quoted" one', "ünïcode/€"]),
        Constraint("regex", r"[A-F0-9]{2}/[a-z]{1,5}(\.x)?"),
    ],
    ids=["schema", "refs", "choice", "regex"],
)
def test_every_answer_fits(asked: Asked, constraint: Constraint) -> None:
    """Fifty seeds of a model that knows nothing: every answer fits, and ends by itself; JSON is written without free white space."""
    answers = asked.many([call(constraint=constraint, seed=seed) for seed in range(50)])
    texts = [text_of(chunks) for chunks in answers]
    assert {chunks[-1].finish for chunks in answers} == {"stop"}
    assert [misfit(text, constraint) for text in texts] == [""] * 50
    assert len(set(texts)) > 1, "temperature 1 is not greedy"
    if constraint.kind == "schema":
        assert all(text == spaced(text) for text in texts)
        assert not constraint.value.get("properties") or any("note" in text for text in texts)
        assert not all("note" in text for text in texts), "an optional property is optional"


def spaced(text: str) -> str:
    """`text` as `, ` and `: ` separate it."""
    return json.dumps(json.loads(text), ensure_ascii=False)


def test_json_and_grammars(asked: Asked) -> None:
    """`json_object`, and a grammar in the spelling that vLLM takes."""
    ended = [
        c
        for c in asked.many([call(constraint=Constraint("json", None), seed=s, max_tokens=60) for s in range(20)])
        if c[-1].finish == "stop"
    ]
    assert ended
    assert all(isinstance(json.loads(text_of(chunks)), dict) for chunks in ended)
    grammar = Constraint("grammar", 'root ::= "(" inner ")"\ninner ::= "a" | "b" inner')
    assert set(text_of(asked.chunks(call(constraint=grammar, seed=1))).strip("()")) <= {"a", "b"}


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "order_it"}}], ids=["required", "named"]
)
def test_forced_calls(asked: Asked, choice: Any, live: bool) -> None:
    """Calls of the tools that there are, arguments that fit, nothing beside them; the raw text is in the log-probabilities."""
    given = [
        call(live, logprobs=True, tools=TOOLS, tool_choice=choice, parallel_tool_calls=False, seed=seed, max_tokens=300)
        for seed in range(50)
    ]
    names = set()
    for chunks in asked.many(given):
        assert chunks[-1].finish == ("tool_calls" if choice == "required" else "stop")
        ((name, arguments),) = calls_of(chunks)
        names.add(name)
        schema = PARAMETERS if name == "order_it" else {"maxProperties": 0}
        assert misfit(arguments, Constraint("schema", schema)) == ""
        assert text_of(chunks) == ""
        assert raw(chunks) == f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'
    assert names == ({"order_it", "stop"} if choice == "required" else {"order_it"})


def test_auto_is_text_or_calls(asked: Asked) -> None:
    """Left to itself it talks; what begins like a call is one. Under a schema beside tools it is one or the other."""
    assert text_of(asked.chunks(call(tools=TOOLS, seed=3, max_tokens=20)))
    both = [call(constraint=Constraint("schema", SCHEMA), tools=TOOLS, seed=seed, max_tokens=400) for seed in range(50)]
    seen = set()
    for chunks in asked.many(both):
        if chunks[-1].finish == "tool_calls":
            seen.add("call")
            assert all(name in ("order_it", "stop") for name, _ in calls_of(chunks))
        elif chunks[-1].finish == "stop":
            seen.add("answer")
            assert misfit(text_of(chunks), Constraint("schema", SCHEMA)) == ""
    assert seen == {"call", "answer"}


@pytest.mark.parametrize(
    "more",
    [
        {"constraint": Constraint("schema", SCHEMA)},
        {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False},
        {},
        {"n": 2, "temperature": 0.7, "top_p": 0.8},
        {"stop": ["a", "e"]},
    ],
    ids=["schema", "calls", "text", "choices", "stop"],
)
def test_stream_and_whole_are_the_same(asked: Asked, more: dict[str, Any]) -> None:
    """With one seed: text, calls, log-probabilities, finish and usage."""
    given = {"logprobs": True, "seed": 11, "max_tokens": 120, **more}
    live, whole = asked.many([call(live=True, **given), call(**given)])
    for index in range(more.get("n", 1)):
        one, other = ([chunk for chunk in chunks if chunk.choice == index] for chunks in (live, whole))
        assert len(other) == 1
        assert text_of(one) == text_of(other)
        assert calls_of(one) == calls_of(other)
        assert scores(one) == scores(other)
        assert one[-1].finish == other[-1].finish
    assert live[-1].usage == whole[-1].usage
    assert sum(chunk.usage is not None for chunk in live) == 1
    for text in more.get("stop", ()):
        assert text not in text_of(whole)


def test_sampling(asked: Asked) -> None:
    """One seed one answer; greedy at temperature 0, whatever the seed, and at top_p 0."""
    say: dict[str, Any] = {"max_tokens": 12}
    same = asked.many([call(seed=5, **say), call(seed=5, **say), call(seed=6, **say)])
    assert text_of(same[0]) == text_of(same[1]) != text_of(same[2])
    greedy = asked.many(
        [call(seed=5, temperature=0, **say), call(seed=6, temperature=0, **say), call(seed=7, top_p=0, **say)]
    )
    assert len({text_of(chunks) for chunks in greedy}) == 1
    fresh = asked.many([call(**say), call(**say)])
    assert text_of(fresh[0]) != text_of(fresh[1])


def test_log_probabilities(asked: Asked) -> None:
    """The alternatives are what was left by the grammar: the others are at -9999, and what is left sums up to one."""
    constraint = Constraint("choice", ["a", "b"])
    (chunk,) = asked.chunks(call(constraint=constraint, logprobs=True, top_logprobs=4, temperature=0))
    (entry,) = scores([chunk])
    assert entry["token"] == chunk.delta["content"]
    assert entry["top_logprobs"][0] == {key: entry[key] for key in ("token", "logprob", "bytes")}
    assert sorted(top["token"] for top in entry["top_logprobs"][:2]) == ["a", "b"]
    assert [top["logprob"] for top in entry["top_logprobs"][2:]] == [-9999.0, -9999.0]
    assert sum(2.718281828 ** top["logprob"] for top in entry["top_logprobs"][:2]) == pytest.approx(1, abs=1e-4)
    (free,) = asked.chunks(call(logprobs=True, max_tokens=5, seed=1))
    assert all(entry["top_logprobs"][-1]["logprob"] > -9999 for entry in scores([free]))


def test_the_end_of_its_tokens(asked: Asked) -> None:
    """An answer that is cut says so, and its calls are as far as they came."""
    (chunk,) = asked.chunks(call(constraint=Constraint("schema", SCHEMA), max_tokens=4))
    assert (chunk.finish, (chunk.usage or {})["completion_tokens"]) == ("length", 4)
    cut = asked.chunks(call(tools=TOOLS, tool_choice="required", max_tokens=45, seed=2))
    assert cut[-1].finish == "length"
    assert "<tool_call>" not in text_of(cut)


def test_what_is_too_long_or_too_odd(asked: Asked) -> None:
    """A prompt beyond the context, a form that the grammar cannot do: each in our words, and it goes on."""
    with pytest.raises(ContextOverflow, match="tokens"):
        asked.chunks(call(messages=[{"role": "user", "content": "word " * 3000}]))
    with pytest.raises(Unsupported, match="cannot be compiled") as caught:
        asked.chunks(call(constraint=Constraint("schema", {"not": {"type": "string"}})))
    assert "not" in caught.value.detail
    with pytest.raises(Unsupported, match="cannot be compiled"):
        asked.chunks(call(constraint=Constraint("regex", "(?=look)ahead")))
    assert text_of(asked.chunks(call(constraint=Constraint("choice", ["a"])))) == "a"


def test_giving_up_stops_the_generation(asked: Asked) -> None:
    """Closed in the middle, the worker is free after a token, not after a thousand; the queue is bounded meanwhile."""

    async def test() -> int:
        endless = call(live=True, constraint=Constraint("regex", "[a-z ]{1000000}"), max_tokens=100_000)
        seen = 0
        async with asyncio.TaskGroup() as tasks, aclosing(asked.local.stream(endless)) as chunks:
            async for _ in chunks:
                seen += 1
                if seen == 3:
                    waiting = [tasks.create_task(collect(asked.local, call(max_tokens=1))) for _ in range(2)]
                    await until(lambda: asked.local.worker.waiting == 2)
                    with pytest.raises(Overloaded):
                        await collect(asked.local, call())
                    break
            await chunks.aclose()
            await asyncio.wait(waiting)
        return seen

    assert asked.run(test()) == 3


def test_a_worker_that_is_killed(asked: Asked) -> None:
    """Whoever waited gets Broken; the next worker answers."""

    async def test() -> str:
        worker = asked.local.worker
        assert worker.pid
        async with asyncio.TaskGroup() as tasks:
            lost = tasks.create_task(
                _error(collect(asked.local, call(constraint=Constraint("regex", "[a-z]{1000000}"))))
            )
            await until(lambda: worker.busy)
            os.kill(worker.pid, signal.SIGKILL)
        assert isinstance(lost.result(), Broken)
        return text_of(await collect(asked.local, call(constraint=Constraint("choice", ["back"]))))

    assert asked.run(test()) == "back"


async def _error(work: Awaitable[Any]) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await work
    return caught.value


def test_a_folder_that_cannot_be_loaded(model: Path, tmp_path: Path) -> None:
    """Weights that are none are found by the worker; every call says what is wrong."""
    for file in model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes() if file.suffix != ".safetensors" else b"no weights")

    async def test() -> None:
        config = LocalConfig(kind="local", model=tmp_path, python=PYTHON)
        local = Local("small", config, Resources())
        try:
            assert "afetensor" in str(await _error(collect(local, call())))
            assert isinstance(await _error(collect(local, call())), Unavailable)
        finally:
            await local.worker.aclose()

    asyncio.run(test())


ACCEPTS = """
import json, sys, llguidance
known = llguidance.LLTokenizer("byte")
for grammar, text in json.load(sys.stdin):
    matcher = llguidance.LLMatcher(known, llguidance.grammar_from("lark", grammar))
    assert not matcher.get_error(), matcher.get_error()
    print(all(matcher.try_consume_tokens([byte]) for byte in text.encode()) and matcher.is_accepting())
"""


def test_what_a_grammar_of_calls_takes(model: Path) -> None:
    """Of text and calls, what a model that knows nothing never gets to: text before a call, several calls, an envelope that holds none."""

    def grammar(**more: Any) -> str:
        return order(call(tools=TOOLS, **more), 100, False)[0].grammar

    one = '<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>'
    other = '<tool_call>\n{"name": "order_it", "arguments": {"size": "M", "n": 3}}\n</tool_call>'
    cases = [
        (grammar(), "just < text", True),
        (grammar(), f"so: {one}", True),
        (grammar(), f"so: {one}\n{other}", True),
        (grammar(), "<tool_call>no", False),
        (grammar(), f"{one} and so on", False),
        (grammar(parallel_tool_calls=False), f"{one}\n{other}", False),
        (grammar(tool_choice="required"), f"{other}\n{one}", True),
        (grammar(tool_choice="required"), f"so: {one}", False),
        (grammar(tool_choice="required"), "", False),
        (grammar(tool_choice={"type": "function", "function": {"name": "stop"}}), one, True),
        (grammar(tool_choice={"type": "function", "function": {"name": "stop"}}), other, False),
        (grammar(tool_choice="required"), other.replace('"size": ', '"size":'), False),
        (grammar(constraint=Constraint("choice", ["a/b", 'c"'])), 'c"', True),
        (grammar(constraint=Constraint("regex", "[0-9]/x")), "7/x", True),
        (grammar(constraint=Constraint("regex", "[0-9]/x")), "text", False),
    ]
    given = json.dumps([(grammar, text) for grammar, text, _ in cases])
    done = subprocess.run([PYTHON, "-c", ACCEPTS], input=given, capture_output=True, text=True, check=True)
    assert [line == "True" for line in done.stdout.split()] == [taken for _, _, taken in cases]


SPECIAL = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer, model = AutoTokenizer.from_pretrained(sys.argv[1]), AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer.add_tokens(["<tool_call>", "</tool_call>"], special_tokens=True)
model.resize_token_embeddings(len(tokenizer))
tokenizer.save_pretrained(sys.argv[2])
model.save_pretrained(sys.argv[2])
"""


def test_an_envelope_of_special_tokens(model: Path, tmp_path: Path) -> None:
    """A tokenizer that cannot spell the envelope in text uses its own tokens for it, and the raw text is the same."""
    subprocess.run([PYTHON, "-c", SPECIAL, model, tmp_path], check=True, capture_output=True)
    other = Asked(tmp_path)
    try:
        (chunk,) = other.chunks(call(logprobs=True, tools=TOOLS[1:], tool_choice="required", parallel_tool_calls=False))
        assert calls_of([chunk]) == [("stop", "{}")]
        assert raw([chunk]) == '<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>'
        assert scores([chunk])[0]["token"] == "<tool_call>"
    finally:
        other.run(other.local.worker.aclose())
        other.runner.close()


CONFIG = """
backends:
  small: {{kind: local, model: "{model}", python: "{python}", threads: 1, timeout: 20}}
  cloud: {{kind: scripted, default: '{{"label": "a"}}', cloud: true, price: {{input: 1, output: 2}}}}
router: {{use: {{kind: rules}}, default: labels}}
routes:
  labels: {{ladder: [small, cloud], mode: enforce}}
models: {{weir: {{use: routed}}}}
{more}
"""


def test_through_the_gateway(model: Path, tmp_path: Path) -> None:
    """A request is answered by the local model under its schema, streamed or not; a reload that changes nothing keeps the worker, one that
    drops the backend ends it."""
    schema = {
        "type": "object",
        "properties": {"label": {"enum": ["a", "b"]}},
        "required": ["label"],
        "additionalProperties": False,
    }
    body = {
        "model": "weir",
        "messages": [{"role": "user", "content": "which?"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "label", "schema": schema}},
    }

    async def answer(served: Served, small: bool = True) -> None:
        for stream in (False, True):
            response = await served.chat({**body, "stream": stream})
            assert response.status_code == 200
            assert served.record(response).served == ("small" if small else "cloud")

    async def test() -> None:
        config = CONFIG.format(model=model, python=PYTHON, more="")
        async with serving(config, tmp_path, tend=True) as served:
            worker = served.app.live.setup.backends["small"].worker  # type: ignore[attr-defined]
            await until(lambda: worker.ready, 60)
            await answer(served)
            before = worker.pid
            served.config.write_text(config + "# edited\n")
            assert await served.app.reload()
            await answer(served)
            assert worker.pid == before
            kept = config.replace("ladder: [small, cloud]", "ladder: [cloud]").split("  small: ")
            served.config.write_text(kept[0] + kept[1].partition("\n")[2])
            assert await served.app.reload()
            await until(lambda: worker.pid is None)
            await answer(served, small=False)

    asyncio.run(test())
