"""The tagger backend: a call of the tools that were offered, in the words of the utterance; exact about tools, honest about the rest."""

import asyncio
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends._callable import plan_of
from backends.tagger import Tagger, TaggerConfig
from embed.errors import Busy, EmbedError, WorkerDied
from embed.onnx import MAX_CHARS
from embed.tagger import Found
from embed.tagger import Tagger as Client
from embed.tagging import Spec
from models.rebuild.folder import finish
from tests.backends.world import Resources, collect
from tests.contract.backend_case import Case
from tests.waiting import PATIENCE
from wire.errors import BackendError, Broken, ContextOverflow, Overloaded, TimedOut, Unsupported
from wire.types import Call, Chunk, Constraint

FUNCTIONS = {"book": ["place", "time"], "play": ["song"]}
TAGS = ["O", *(f"{kind}-{slot}" for slot in ("place", "song", "time") for kind in "BI")]
TEXT = "a table at Noon Café at noon"
FOUND = Found("book", {"time": (24, 28), "place": (11, 20)}, 0.75)


@cache
def folder() -> Path:
    """A tagger's folder without the model, which is the worker's affair."""
    place = Path(tempfile.mkdtemp()) / "toy"
    finish(place, {"tagger.json": msgspec.json.encode(Spec(functions=FUNCTIONS, tags=TAGS))}, {})
    return place


def digest() -> str:
    found: str = orjson.loads((folder() / "manifest.json").read_bytes())["digest"]
    return found


class Worker:
    """`embed.client.Worker` that says `found` after `seconds`, or raises `error`."""

    ready = started = True

    def __init__(self, found: Found = FOUND, error: Exception | None = None, seconds: float = 0.0) -> None:
        self._found, self._error, self._seconds = found, error, seconds
        self.digest = digest()
        self.asked: list[str] = []

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def ask(self, text: str) -> bytes:
        self.asked.append(text)
        await asyncio.sleep(self._seconds)
        if self._error:
            raise self._error
        return msgspec.json.encode(self._found)


class Lent(Resources):
    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    def tagger(self, folder: Path) -> Client:
        return Client(self._worker)


def tagger(worker: Worker | None = None, **config: Any) -> Tagger:
    return Tagger("toy", TaggerConfig(kind="tagger", specialist=folder(), **config), Lent(worker or Worker()))


def tool(name: str, slots: Sequence[str] = (), **parameters: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {slot: {"type": "string"} for slot in slots}, **parameters}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


BOOK, PLAY = tool("book", ["place", "time"]), tool("play", ["song"])
NAMED = {"type": "function", "function": {"name": "book"}}


def call(text: str = TEXT, tools: Any = (BOOK, PLAY), choice: Any = "required", **body: Any) -> Call:
    messages = [{"role": "system", "content": "Act."}, {"role": "user", "content": text}]
    told = {"messages": messages, "tools": list(tools), "tool_choice": choice, **body}
    return Call(body=told, seconds=PATIENCE, text=text)


def ask(backend: Tagger, asked: Call) -> list[Chunk]:
    return asyncio.run(collect(backend, asked))


class _Both(Lent):
    """A worker that answers, and for the folder's link named `slow` one that never does."""

    def tagger(self, folder: Path) -> Client:
        return Client(Worker(seconds=1e6)) if folder.name == "slow" else super().tagger(folder)


@cache
def slow() -> Path:
    place = folder().parent / "slow"
    place.symlink_to(folder())
    return place


CASE = Case(
    good=lambda url: {"specialist": folder()},
    slow=lambda url: {"specialist": slow()},
    asks_upstream=False,
    call=call(),
    finish="tool_calls",
    resources=lambda shared: _Both(Worker()),
)
"""For tests/contract. What it fails at depends on the request and the worker: tested below."""


def test_the_call() -> None:
    """One tool call of the offered tools: values letter by letter, in the schema's order of fields, with the model's probability."""
    worker = Worker()
    chunk, *rest = ask(tagger(worker), call())
    assert rest == []
    (made,) = chunk.delta["tool_calls"]
    assert (made["index"], made["type"], made["function"]["name"]) == (0, "function", "book")
    assert made["id"].startswith("call_")
    assert made["function"]["arguments"] == '{"place":"Noon Café","time":"noon"}'
    assert (chunk.delta["role"], chunk.finish, chunk.probability) == ("assistant", "tool_calls", 0.75)
    assert worker.asked == [f"\n{TEXT}"]


def test_the_order_is_the_schemas() -> None:
    """Fields stand as the offered tool has them, whatever order the model found them in."""
    turned = tool("book", ["time", "place"])
    made = ask(tagger(), call(tools=(PLAY, turned)))[0].delta["tool_calls"][0]
    assert made["function"]["arguments"] == '{"time":"noon","place":"Noon Café"}'


def test_a_named_function() -> None:
    """The function that the request names is the only one that is looked for; such an answer ends with `stop`, as OpenAI's do."""
    worker = Worker()
    (chunk,) = ask(tagger(worker), call(choice=NAMED))
    assert worker.asked == [f"book\n{TEXT}"]
    assert chunk.finish == "stop"


def test_several_choices() -> None:
    """n answers are n times the same call, each with an id of its own."""
    found = ask(tagger(), call(n=3))
    assert [chunk.choice for chunk in found] == [0, 1, 2]
    assert len({chunk.delta["tool_calls"][0]["id"] for chunk in found}) == 3


def test_strict_tools() -> None:
    """OpenAI's strict tools require every field and let it be null: what the utterance does not say is null there."""
    optional = {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "Time"}
    strict = tool("book", required=["place", "time"], additionalProperties=False)
    strict["function"]["parameters"]["properties"] = {"place": {"type": ["string", "null"]}, "time": optional}
    worker = Worker(Found("book", {"place": (11, 20)}, 0.5))
    made = ask(tagger(worker), call(tools=(strict, PLAY)))[0].delta["tool_calls"][0]
    assert made["function"]["arguments"] == '{"place":"Noon Café","time":null}'


def _described(**field: Any) -> dict[str, Any]:
    return tool("play", properties={"song": field})


@pytest.mark.parametrize(
    ("tools", "choice", "why"),
    [
        ((), "required", "no tools are offered"),
        ((BOOK,), "required", "1 of its 2 functions are not offered: 'play'"),
        ((BOOK, PLAY, tool("fly")), "required", "1 tools are unknown to it: 'fly'"),
        ((BOOK, PLAY, PLAY), "required", "two of one name"),
        ((BOOK, PLAY, {"type": "custom", "custom": {"name": "x"}}), "required", "a tool is no function"),
        ((BOOK, tool("play")), "required", "play: lacks 1 of the 1 slots: 'song'"),
        ((BOOK, tool("play", ["song", "artist"])), "required", "play: 1 fields are unknown to it: 'artist'"),
        ((BOOK, tool("play", ["song"], required=["artist"])), "required", "unknown to it: 'artist'"),
        ((BOOK, _described(type="string", enum=["a"])), "required", "play: 'song' cannot hold every string"),
        ((BOOK, _described(type="integer")), "required", "cannot hold every string"),
        ((BOOK, _described(anyOf=[{"type": "string", "maxLength": 3}, {"type": "null"}])), "required", "cannot hold"),
        ((BOOK, tool("play", ["song"], minProperties=1)), "required", "play: its parameters are no plain object"),
        ((BOOK, {"type": "function", "function": {"name": "play", "parameters": 3}}), "required", "no plain object"),
        ((BOOK, PLAY), "auto", "leaves that open"),
        ((BOOK, PLAY), None, "leaves that open"),
        ((BOOK, PLAY), "none", "tool_choice says something else"),
        ((BOOK, PLAY), {"type": "allowed_tools", "allowed_tools": {}}, "tool_choice says something else"),
        ((BOOK, PLAY, tool("fly")), {"type": "function", "function": {"name": "fly"}}, "it has no function 'fly'"),
    ],
)
def test_other_tools_are_unsupported(tools: Any, choice: Any, why: str) -> None:
    """Tools that are not exactly its own, and a choice that is no demand for a call, are refused with the difference in words."""
    with pytest.raises(Unsupported, match=why):
        ask(tagger(), call(tools=tools, choice=choice))


def test_auto() -> None:
    """`auto: true` answers requests that leave open whether to call, also those that say nothing of it; `none` it never does."""
    for choice in ("auto", None):
        assert ask(tagger(auto=True), call(choice=choice))[0].finish == "tool_calls"
    with pytest.raises(Unsupported):
        ask(tagger(auto=True), call(choice="none"))


@pytest.mark.parametrize(
    "asked",
    [
        call(messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]),
        call(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
        call(text=" "),
        msgspec.structs.replace(call(), raw=b"{}"),
        msgspec.structs.replace(call(), constraint=Constraint("json", None)),
    ],
    ids=["turns", "image", "no text", "raw", "constraint"],
)
def test_other_requests_are_unsupported(asked: Call) -> None:
    """More than one text, other than text, or an answer that is to be text: not for a tagger."""
    worker = Worker()
    with pytest.raises(Unsupported):
        ask(tagger(worker), asked)
    assert worker.asked == []


def test_last_turn() -> None:
    """`turns: last` reads the last user message of a conversation."""
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "?"},
        {"role": "user", "content": TEXT},
    ]
    assert ask(tagger(turns="last"), call(messages=turns))[0].finish == "tool_calls"


@pytest.mark.parametrize(
    ("error", "expected"), [(Busy("full"), Overloaded), (WorkerDied("gone"), Broken), (EmbedError("bad"), Broken)]
)
def test_the_worker_fails(error: Exception, expected: type[BackendError]) -> None:
    """A full queue is overload, a dead worker a backend error."""
    with pytest.raises(expected, match=str(error)):
        ask(tagger(Worker(error=error)), call())


def test_the_worker_is_late() -> None:
    """The call's seconds rule, whatever the worker's own limits say."""
    with pytest.raises(TimedOut):
        ask(tagger(Worker(seconds=60)), msgspec.structs.replace(call(), seconds=0.05))


def test_too_long() -> None:
    """A text that the model would have to be cut for is no text for it: what stands behind the cut may be a value."""
    with pytest.raises(ContextOverflow, match="300 word pieces"):
        ask(tagger(Worker(Found("", {}, 0.0, pieces=300))), call())
    worker = Worker()
    with pytest.raises(ContextOverflow, match=f"{MAX_CHARS + 1} characters"):
        ask(tagger(worker), call("x" * (MAX_CHARS + 1)))
    assert worker.asked == []


def test_no_words() -> None:
    """A text in which there is nothing to read makes no call, however the caller demands one."""
    with pytest.raises(Unsupported, match="no words"):
        ask(tagger(Worker(Found("", {}, 0.0))), call("\u200b"))


def test_what_it_answers_to_is_part_of_its_digest() -> None:
    """A calibration measured one way of reading requests: another is another model to it, the default is the folder's own digest."""
    plain = tagger().digest
    others = {tagger(turns="last").digest, tagger(auto=True).digest, tagger(turns="last", auto=True).digest}
    assert len({plain, *others}) == 4
    assert ask(tagger(turns="last"), call())[0].finish == "tool_calls"


def test_another_version() -> None:
    """A worker that still runs what the folder held before is not believed: its calibration is another's."""
    worker = Worker()
    worker.digest = "another"
    with pytest.raises(Broken, match="another version"):
        ask(tagger(worker), call())


def test_bad_folder(tmp_path: Path) -> None:
    """A folder that holds no tagger is refused when the configuration is loaded, by name."""
    with pytest.raises(EmbedError, match=r"manifest\.json"):
        Tagger("toy", TaggerConfig(kind="tagger", specialist=tmp_path), Lent(Worker()))
    finish(tmp_path, {"tagger.json": b'{"functions": {"f": ["s"]}, "tags": ["O"]}'}, {})
    with pytest.raises(EmbedError, match=r"tagger\.json: tags"):
        Tagger("toy", TaggerConfig(kind="tagger", specialist=tmp_path), Lent(Worker()))
    finish(tmp_path, {"other.json": b"{}"}, {})
    with pytest.raises(EmbedError, match=r"lists no file 'tagger\.json'"):
        Tagger("toy", TaggerConfig(kind="tagger", specialist=tmp_path), Lent(Worker()))


def test_a_routes_own_schema() -> None:
    """`weir check` says of a route with a schema that a tagger cannot answer it."""
    assert tagger().check_schema({"type": "object"})


_FIELD = st.one_of(
    st.sampled_from([{}, {"type": "string"}, {"type": ["null", "string"]}, {"title": "t", "type": "string"}]),
    st.sampled_from([{"enum": ["a"]}, {"type": "string", "pattern": "^a"}, {"not": {}}, {"type": "null"}, True]),
)
_SCHEMA = st.fixed_dictionaries(
    {"properties": st.dictionaries(st.sampled_from(["song", "artist"]), _FIELD, max_size=2)},
    optional={
        "type": st.sampled_from(["object", "string"]),
        "required": st.lists(st.sampled_from(["song", "artist"]), unique=True),
        "additionalProperties": st.booleans(),
        "maxProperties": st.integers(0, 2),
    },
)


@given(_SCHEMA, st.text(max_size=5), st.booleans())
def test_what_is_written_fits(schema: dict[str, Any], value: str, said: bool) -> None:
    """Whatever tool is taken, the arguments are valid under it, but for a required field that was not said and cannot be null."""
    tools = [{"type": "function", "function": {"name": "play", "parameters": schema}}]
    plan = plan_of(tools, "required", {"play": ["song"]}, auto=False)
    if not plan.differences:
        told = orjson.loads(plan.signatures["play"].arguments({"song": value} if said else {}))
        assert said == (told.get("song") == value)
        if said or "song" not in schema.get("required", ()) or "song" in told:
            jsonschema_rs.validate(schema, told)
