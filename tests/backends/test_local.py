"""The local backend without torch: what is asked of the worker, and what is made of its answers."""

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import _local_grammar as grammar
from backends._local_client import LocalWorker
from backends._local_hermes import Hermes
from backends._local_order import Order, order
from backends.base import BackendResources
from backends.local import Local, LocalConfig
from embed import manifest
from tests.backends.world import Resources, collect, text_of
from tests.contract.backend_case import Case
from wire.errors import Broken, Overloaded, TimedOut, Unsupported
from wire.types import Call, Chunk, Constraint

TOOLS = [
    {
        "type": "function",
        "function": {"name": "add", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}},
    },
    {"type": "function", "function": {"name": "stop"}},
]
CALLED = '<tool_call>\n{"name": "add", "arguments": {"x": 1, "y": {"z": "}\\"{"}}}\n</tool_call>'


class FakeWorker:
    """Says `tokens`, one event each when live; `how` as the contract's cases want it."""

    ready = True
    trouble = "it is being started"

    def __init__(self, tokens: list[str], how: str = "good", special: bool = False) -> None:
        self.special = special
        self.told: list[dict[str, Any]] = []
        self._tokens, self._how = tokens, how

    def start(self) -> None:
        """It runs."""

    async def settled(self, seconds: float) -> None:
        """It does."""

    async def answer(self, told: dict[str, Any], seconds: float, live: bool) -> AsyncGenerator[dict[str, Any], None]:
        self.told.append(told)
        if self._how == "full":
            raise Overloaded("full")
        if self._how == "broken":
            raise Broken("gone")
        if self._how == "slow":
            await asyncio.sleep(seconds)
            raise TimedOut("slow")
        for choice in range(told["n"]):
            tokens = [self._token(text, told["top"]) for text in self._tokens]
            for token in tokens if live else []:
                yield {"event": "tokens", "choice": choice, "tokens": [token]}
            if self._how == "stuck":
                await asyncio.sleep(3600)
            rest = [] if live else tokens
            yield {
                "event": "finish", "choice": choice, "tokens": rest, "finish": "stop", "kept": None, "prompt": 3, "completion": len(tokens)
            }  # fmt: skip

    def _token(self, text: str, top: int) -> list[Any]:
        data = text.encode().decode("latin-1")
        return [data, -0.5, [[data, -0.5], ["x", -9999.0]]] if top else [data]


class Lent(Resources):
    """Resources that lend `worker`, whatever the backend would have made."""

    def __init__(self, worker: Any) -> None:
        super().__init__()
        self._worker = worker

    def kept(self, key: Any, make: Callable[[], Any]) -> Any:
        return self._worker(make()) if callable(self._worker) else self._worker


@cache
def folder(name: str = "good") -> Path:
    """What looks like a Hugging Face folder from outside."""
    place = Path(tempfile.mkdtemp()) / name
    place.mkdir()
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        (place / file).write_text("{}")
    return place


def yaml(name: str = "good") -> dict[str, Any]:
    return {"model": folder(name), "python": sys.executable}


def _played(shared: BackendResources) -> BackendResources:
    """The contract's worker: its model folder's name says what it does."""

    def worker(made: LocalWorker) -> FakeWorker:
        how = Path(json.loads(made.command[-1])["model"]).name
        return FakeWorker(["hel", "lo"], how)

    return Lent(worker)


CASE = Case(
    good=lambda url: yaml(),
    failing=lambda url: [yaml("full"), yaml("broken")],
    slow=lambda url: yaml("slow"),
    stuck=lambda url: yaml("stuck"),
    asks_upstream=False,
    resources=_played,
)


def local(worker: Any, **config: Any) -> Local:
    return Local("small", LocalConfig(kind="local", **{**yaml(), **config}), Lent(worker))


def call(live: bool = False, constraint: Constraint | None = None, logprobs: bool = False, **body: Any) -> Call:
    body.setdefault("messages", [{"role": "user", "content": "hi"}])
    return Call(body=body, seconds=5, live=live, constraint=constraint, logprobs=logprobs)


def asked(given: Call, most: int = 100, special: bool = False) -> Order:
    return order(given, most, special)[0]


def answered(tokens: list[str], given: Call) -> list[Chunk]:
    return asyncio.run(collect(local(FakeWorker(tokens)), given))


def calls_of(chunks: list[Chunk]) -> list[tuple[str, str]]:
    """Tool calls, folded as a client folds them."""
    found: list[list[str]] = []
    for chunk in chunks:
        for part in chunk.delta.get("tool_calls", ()):
            function = part["function"]
            if part["index"] == len(found):
                assert part["id"]
                assert part["type"] == "function"
                found.append([function["name"], function["arguments"]])
            else:
                assert "name" not in function
                found[part["index"]][1] += function["arguments"]
    return [(name, arguments) for name, arguments in found]


def scores(chunks: list[Chunk]) -> list[Any]:
    return [entry for chunk in chunks if chunk.logprobs for entry in chunk.logprobs["content"]]


def pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


# --- the folder -------------------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    """What is wrong with the model folder is said with the field's name, and what a folder should hold."""
    with pytest.raises(ValueError, match="model: there is no folder"):
        local(None, model=tmp_path / "none")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"model: .* has no weights .* and no tokenizer"):
        local(None, model=tmp_path)


def test_the_digest_is_the_models(tmp_path: Path) -> None:
    """With a manifest it is the manifest's, and a file that is another one is refused; without, it changes with the files."""
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / file).write_text(file)
    before = local(None, model=tmp_path).digest
    (tmp_path / "model.safetensors").write_text("other weights")
    assert local(None, model=tmp_path).digest != before
    files = {"model.safetensors": manifest.sha256(b"other weights")}
    told = {"name": "m", "files": files, "digest": manifest.digest_of(files)}
    (tmp_path / "manifest.json").write_bytes(orjson.dumps(told))
    assert local(None, model=tmp_path).digest == told["digest"]
    (tmp_path / "model.safetensors").write_text("edited by hand")
    with pytest.raises(ValueError, match=r"model: .*model\.safetensors is not the file"):
        local(None, model=tmp_path)


def test_an_interpreter_without_the_extra() -> None:
    """Without torch here, and without an interpreter that has it, the configuration says what to install."""
    with pytest.raises(ValueError, match=r"extra \[local\].*make local"):
        local(lambda made: made, python=None)
    with pytest.raises(ValueError, match=r"python: there is no .*make local"):
        local(lambda made: made, python=Path("no/such/python"))


# --- the order --------------------------------------------------------------------------------------------------------------------


def test_sampling_is_respected() -> None:
    """What the caller says of sampling reaches the worker; limits hold; null is the default."""
    told = asked(call(temperature=0.3, top_p=0.9, seed=7, max_tokens=20, n=2, stop="x", presence_penalty=0.5))
    assert (told.temperature, told.top_p, told.seed, told.max_tokens, told.n) == (0.3, 0.9, 7, 20, 2)
    assert (told.stop, told.presence_penalty) == (("x",), 0.5)
    told = asked(call(temperature=None, top_p=None, max_tokens=None, stop=["", "y"], max_completion_tokens=10_000))
    assert (told.temperature, told.top_p, told.seed, told.max_tokens, told.stop) == (1.0, 1.0, None, 100, ("y",))
    assert asked(call(top_p=0)).temperature == 0


def test_logprobs_have_two_alternatives_at_least() -> None:
    """None unless they are wanted; otherwise two, or as many as were asked for."""
    assert asked(call(top_logprobs=5)).top == 0
    assert asked(call(logprobs=True)).top == 2
    assert asked(call(logprobs=True, top_logprobs=5)).top == 5


def test_messages_are_what_templates_take() -> None:
    """One system message, text as strings, arguments of earlier calls as objects."""
    earlier = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}}
    given = [
        {"role": "developer", "content": "one"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "system", "content": "two"},
        {"role": "assistant", "content": None, "tool_calls": [earlier]},
    ]
    told = asked(call(messages=given)).messages
    assert [(m["role"], m["content"]) for m in told] == [("system", "one\n\ntwo"), ("user", "a\nb"), ("assistant", "")]
    assert told[2]["tool_calls"][0]["function"]["arguments"] == {"x": 1}


@pytest.mark.parametrize(
    "body",
    [
        {"n": 1000},
        {"audio": {"voice": "x"}},
        {"logit_bias": {"1": 5}},
        {"tools": [{"type": "custom", "custom": {"name": "c"}}]},
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "none"}}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    ],
)
def test_what_it_cannot_do(body: dict[str, Any]) -> None:
    """It is Unsupported before it waits for its turn, so the next rung is asked at once."""
    with pytest.raises(Unsupported):
        asked(call(**body))
    with pytest.raises(Unsupported):
        asked(Call(body={}, seconds=1, raw=b"{}"))


# --- the grammar ------------------------------------------------------------------------------------------------------------------


def test_objects_are_closed_and_tightly_written() -> None:
    """As vLLM's grammar: no property that is not named, no free white space; what is open by its own word stays open."""
    inner = {"type": "object", "properties": {"a": {"type": "string"}}}
    schema = {
        "properties": {
            "in": inner,
            "open": {**inner, "additionalProperties": True},
            "some": {"anyOf": [inner, {"type": "null"}]},
        }
    }
    told = grammar.closed(schema)
    assert told["additionalProperties"] is False
    assert told["properties"]["in"]["additionalProperties"] is False
    assert told["properties"]["open"]["additionalProperties"] is True
    assert told["properties"]["some"]["anyOf"][0]["additionalProperties"] is False
    merged = {"allOf": [inner, {"properties": {"b": {}}}]}
    assert grammar.closed(merged) == merged, "branches that must all fit may name each other's properties"
    rule = grammar.answer(Constraint("schema", {**schema, "x-guidance": {"whitespace_flexible": True}}))
    assert json.loads(rule.partition("%json ")[2])["x-guidance"]["whitespace_flexible"] is False


def test_a_schema_without_end_is_refused() -> None:
    """Nesting has a limit."""
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"items": deep}
    with pytest.raises(Unsupported, match="levels"):
        grammar.answer(Constraint("schema", deep))


@pytest.mark.parametrize(
    ("choice", "start", "tools"),
    [
        ("required", "start: call (", 2),
        ("auto", "start: TEXT | first", 2),
        ({"type": "function", "function": {"name": "add"}}, "start: call\n", 1),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"name": "stop"}]}},
            "start: call (",
            1,
        ),
    ],
)
def test_which_calls_are_allowed(choice: Any, start: str, tools: int) -> None:
    """required: one call or more; named: that one; auto: text, or calls; allowed_tools: of those only."""
    told = asked(call(tools=TOOLS, tool_choice=choice)).grammar
    assert told.startswith(start)
    assert told.count("%json") == tools


def test_which_calls_are_not_asked_for() -> None:
    """No grammar without a constraint; `none` leaves the constraint alone; one call at a time when that was wanted."""
    assert asked(call(tools=TOOLS, tool_choice="none")).grammar == ""
    assert "call" not in asked(call(constraint=Constraint("choice", ["a"]), tools=TOOLS, tool_choice="none")).grammar
    assert ")*" not in asked(call(tools=TOOLS, tool_choice="required", parallel_tool_calls=False)).grammar


def test_an_envelope_of_special_tokens() -> None:
    """A tokenizer that knows the envelope as special tokens cannot spell it in text: the grammar names them."""
    assert '"<tool_call>"' in asked(call(tools=TOOLS)).grammar
    assert '"<tool_call>"' not in asked(call(tools=TOOLS), special=True).grammar


# --- the answer -------------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 30))
def test_calls_in_any_pieces(size: int) -> None:
    """However the text is cut, the same calls come out, arguments to the letter."""
    reader = Hermes(iter(map(str, range(9))).__next__)
    deltas = [d for piece in pieces(f"so: {CALLED}\n{CALLED}", size) for d in reader.feed(piece)] + reader.close()
    assert "".join(d.get("content", "") for d in deltas) == "so: "
    assert calls_of([Chunk(delta=d) for d in deltas]) == [("add", '{"x": 1, "y": {"z": "}\\"{"}}')] * 2


@given(st.text("<tool_cal>ab\n", max_size=40).filter(lambda text: grammar.OPENS not in text), st.integers(1, 5))
def test_text_without_a_call(text: str, size: int) -> None:
    """Whatever only begins like an envelope is content."""
    reader = Hermes(iter(map(str, range(9))).__next__)
    deltas = [d for piece in pieces(text, size) for d in reader.feed(piece)] + reader.close()
    assert "".join(d["content"] for d in deltas) == text


@pytest.mark.parametrize("size", [1, 7, 400])
def test_stream_and_whole_say_the_same(size: int) -> None:
    """A stream folds to the whole answer; its finish reason and usage come last."""
    given_: dict[str, Any] = {"tools": TOOLS, "tool_choice": "required", "logprobs": True}
    live = answered(pieces(CALLED, size), call(live=True, **given_))
    (whole,) = answered(pieces(CALLED, size), call(**given_))
    assert calls_of(live) == calls_of([whole]) == [("add", '{"x": 1, "y": {"z": "}\\"{"}}')]
    assert live[-1].finish == whole.finish == "tool_calls"
    assert live[-1].usage == whole.usage
    assert [chunk.delta.get("role") for chunk in live] == ["assistant", *[None] * (len(live) - 1)]
    assert scores(live) == scores([whole])
    assert b"".join(bytes(entry["bytes"]) for entry in scores(live)).decode() == CALLED


def test_a_named_call_ends_with_stop() -> None:
    """As OpenAI's and vLLM's do."""
    (whole,) = answered([CALLED], call(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "add"}}))
    assert whole.finish == "stop"
    assert calls_of([whole])


@pytest.mark.parametrize("live", [False, True])
def test_letters_of_several_tokens(live: bool) -> None:
    """A letter that is cut between tokens is whole in the text, and its bytes are in the log-probabilities."""
    data = "grün €".encode()
    events: list[dict[str, Any]] = [
        {"event": "tokens", "choice": 0, "tokens": [[chr(byte), -1.0, [[chr(byte), -1.0], ["x", -9999.0]]]]}
        for byte in data
    ]
    end = {
        "event": "finish",
        "choice": 0,
        "tokens": [],
        "finish": "stop",
        "kept": None,
        "prompt": 1,
        "completion": len(data),
    }

    chunks = asyncio.run(
        collect(
            local(Said([*events, end] if live else [{**end, "tokens": [e["tokens"][0] for e in events]}])),
            call(live, logprobs=True),
        )
    )
    assert text_of(chunks) == "grün €"
    entries = scores(chunks)
    assert bytes(byte for entry in entries for byte in entry["bytes"]) == data
    assert entries[0]["top_logprobs"][1]["logprob"] == -9999.0


class Said(FakeWorker):
    """Says these events."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        super().__init__([])
        self._events = events

    async def answer(self, told: dict[str, Any], seconds: float, live: bool) -> AsyncGenerator[dict[str, Any], None]:
        for event in self._events:
            yield event


@pytest.mark.parametrize("live", [False, True])
def test_a_stop_string_is_not_said(live: bool) -> None:
    """Not even its beginning, when the answer comes in pieces."""
    tokens: Iterator[str] = iter(["on", "e EN", "D", " two"])
    events = [{"event": "tokens", "choice": 0, "tokens": [[next(tokens)]]} for _ in range(2)] if live else []
    last = [[next(tokens)]] if live else [["on"], ["e EN"], ["D"]]
    end = {"event": "finish", "choice": 0, "tokens": last, "finish": "stop", "kept": 4, "prompt": 1, "completion": 3}
    chunks = asyncio.run(collect(local(Said([*events, end])), call(live, stop=["END"])))
    assert text_of(chunks) == "one "
    assert chunks[-1].finish == "stop"


@pytest.mark.parametrize("live", [False, True])
def test_choices_are_kept_apart(live: bool) -> None:
    """n answers, each with its role and end; usage once, of all of them."""
    chunks = answered(["a", "b"], call(live, n=3))
    assert [chunk.choice for chunk in chunks if chunk.finish] == [0, 1, 2]
    assert [chunk.choice for chunk in chunks if chunk.delta.get("role")] == [0, 1, 2]
    assert [chunk.usage for chunk in chunks if chunk.usage] == [
        {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}
    ]


def test_a_worker_that_is_still_used_stays() -> None:
    """A reload that changes nothing about the model keeps its worker; the last backend that goes retires it."""

    class Retired:
        special = False
        retired = 0

        def retire(self) -> None:
            self.retired += 1

    worker = Retired()
    before, after = local(worker), local(worker)
    asyncio.run(before.retire([after]))
    assert worker.retired == 0
    asyncio.run(after.retire([local(Retired())]))
    assert worker.retired == 1
