"""The encoder backend: valid by construction, exact about labels, honest about what it cannot do."""

import asyncio
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends._form import fill, form_of, slots
from backends.base import BackendResources
from backends.encoder import Encoder, EncoderConfig
from embed.errors import Busy, EmbedError, WorkerDied
from embed.static import StaticTable
from tests.backends.world import Resources, collect, text_of
from tests.contract.backend_case import Case
from tests.embed.toy import LABELS, STATIC, TEXTS, specialist
from tests.waiting import PATIENCE
from wire.errors import BackendError, Broken, Overloaded, TimedOut, Unsupported
from wire.types import Call, Chunk, Constraint

SURE, UNSURE = TEXTS[0], "hm"


class FakeMiniLM:
    """Answers with one row per layer, after `seconds`, or raises `error`."""

    started = True
    digest = "fake"

    def __init__(self, label: str = "weather", error: Exception | None = None, seconds: float = 0.0) -> None:
        self._row, self._error, self._seconds = np.eye(4, dtype=np.float32)[LABELS.index(label)], error, seconds
        self.asked: list[str] = []

    async def layers(self, text: str) -> Any:
        self.asked.append(text)
        await asyncio.sleep(self._seconds)
        if self._error:
            raise self._error
        return np.stack([0 * self._row, self._row])


@cache
def table() -> StaticTable:
    return StaticTable.load(STATIC)


@cache
def toy(pointers: tuple[str, ...] = ("/intent",), sure: float = 0.7) -> Path:
    anchors = table().encode_many(list(TEXTS))
    return specialist(Path(tempfile.mkdtemp()) / "models", anchors, sure, pointers)


class Lent(Resources):
    """Resources with the shipped table and a fake MiniLM."""

    def __init__(self, minilm: Any = None) -> None:
        super().__init__()
        self._minilm = minilm

    def static_table(self, folder: Path) -> StaticTable:
        return table()

    def minilm(self, folder: Path) -> Any:
        return self._minilm


def encoder(minilm: Any = None, folder: Path | None = None, **config: Any) -> Encoder:
    return Encoder("toy", EncoderConfig(kind="encoder", specialist=folder or toy(), **config), Lent(minilm))


def schema(labels: Any = LABELS, **more: Any) -> dict[str, Any]:
    properties = {"intent": {"type": "string", "enum": list(labels)}, **more}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def call(text: str = SURE, constraint: Any = None, seconds: float = PATIENCE, **body: Any) -> Call:
    asked = Constraint("schema", schema()) if constraint is None else constraint
    body = {"messages": [{"role": "system", "content": "Classify."}, {"role": "user", "content": text}], **body}
    return Call(body=body, seconds=seconds, constraint=asked, text=text)


def ask(backend: Encoder, asked: Call) -> list[Chunk]:
    return asyncio.run(collect(backend, asked))


def _lent(shared: BackendResources) -> BackendResources:
    return Lent(FakeMiniLM(seconds=1e6))


CASE = Case(
    good=lambda url: {"specialist": toy()},
    slow=lambda url: {"specialist": toy(sure=1.0)},  # a table that is never sure, and a MiniLM that never answers
    asks_upstream=False,
    call=call(),
    resources=_lent,
)
"""For tests/contract. What it fails at depends on the request, not on its configuration: tested below."""


def test_sure_table_answers() -> None:
    """Where the table is sure MiniLM is not asked; the answer is JSON that fits, with a probability and its tier."""
    minilm = FakeMiniLM()
    chunk, *rest = ask(encoder(minilm), call())
    assert rest == []
    assert orjson.loads(chunk.delta["content"]) == {"intent": "balance"}
    assert (chunk.finish, chunk.meta) == ("stop", {"tier": "static"})
    assert chunk.probability is not None
    assert 0.7 < chunk.probability <= 1.0
    assert minilm.asked == []


def test_unsure_table_asks_minilm() -> None:
    """A table that is unsure passes the text on to MiniLM, whose answer and probability count."""
    minilm = FakeMiniLM("weather")
    chunk = ask(encoder(minilm), call(UNSURE))[0]
    assert orjson.loads(chunk.delta["content"]) == {"intent": "weather"}
    assert chunk.meta == {"tier": "minilm"}
    assert minilm.asked == [UNSURE]


def test_without_minilm() -> None:
    """Switched off, or not up yet: the table's answer with its own, low probability."""
    off = FakeMiniLM()
    off.started = False
    for minilm in (None, off):
        chunk = ask(encoder(minilm), call(UNSURE))[0]
        assert chunk.meta == {"tier": "static"}
        assert chunk.probability is not None
        assert chunk.probability < 0.7


@pytest.mark.parametrize(
    ("error", "expected"), [(Busy("full"), Overloaded), (WorkerDied("gone"), Broken), (EmbedError("bad"), Broken)]
)
def test_minilm_fails(error: Exception, expected: type[BackendError]) -> None:
    """A full queue is overload and a dead worker is a backend error: never a guess of the table passed off as sure."""
    with pytest.raises(expected):
        ask(encoder(FakeMiniLM(error=error)), call(UNSURE))


def test_minilm_is_late() -> None:
    """The call's seconds rule, whatever the worker's own limits say."""
    with pytest.raises(TimedOut):
        ask(encoder(FakeMiniLM(seconds=60)), call(UNSURE, seconds=0.05))


def test_wrong_encoder() -> None:
    """Heads never read vectors of another encoder than theirs."""
    other = FakeMiniLM()
    other.digest = "another"
    with pytest.raises(Broken, match="trained on minilm-int8"):
        ask(encoder(other), call(UNSURE))


@pytest.mark.parametrize(
    ("constraint", "why"),
    [
        (Constraint("schema", schema(LABELS[:-1])), "lacks 1 of the specialist's 4 labels: 'weather'"),
        (Constraint("schema", schema((*LABELS, "news"))), "1 labels are unknown to the specialist: 'news'"),
        (Constraint("schema", schema(note={"type": "string"})), "/note: the specialist knows no labels"),
        (Constraint("schema", {"type": "object", "properties": {"a": {"const": 1}}}), "none of '/intent'"),
        (Constraint("schema", {**schema(), "minProperties": 2}), "the answer"),
        (Constraint("schema", schema() | {"required": ["intent", "ghost"]}), "/ghost: required, but not described"),
        (Constraint("choice", list(LABELS[1:])), "not the labels"),
        (Constraint("regex", "a|b"), "a regex is not a list of labels"),
        (Constraint("json", None), "a json is not"),
    ],
)
def test_other_labels_are_unsupported(constraint: Constraint, why: str) -> None:
    """Another label set, or more than labels, is refused with the difference in words; nothing is renormalised."""
    with pytest.raises(Unsupported, match=why):
        ask(encoder(), call(constraint=constraint))


@pytest.mark.parametrize(
    "asked",
    [
        call(
            messages=[
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": SURE},
            ]
        ),
        call(messages=[{"role": "user", "content": "a"}, {"role": "user", "content": SURE}]),
        call(
            messages=[
                {"role": "user", "content": [{"type": "text", "text": SURE}, {"type": "image_url", "image_url": {}}]}
            ]
        ),
        call(tools=[{"type": "function"}]),
        call(text=" "),
        Call(body={}, seconds=1, text=SURE),
        Call(body={}, seconds=1, text=SURE, constraint=Constraint("schema", schema()), raw=b"{}"),
    ],
    ids=["turns", "users", "image", "tools", "no text", "no constraint", "raw"],
)
def test_other_requests_are_unsupported(asked: Call) -> None:
    """What the specialist was not made for is Unsupported, never renormalised to fit."""
    with pytest.raises(Unsupported):
        ask(encoder(), asked)


def test_last_turn() -> None:
    """`turns: last` reads the last user message of a conversation."""
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": SURE},
    ]
    assert "balance" in text_of(ask(encoder(turns="last"), call(messages=turns)))


def test_choice_and_several() -> None:
    """A choice is answered with the bare label, in whatever order it was given; n answers are n times the same."""
    found = ask(encoder(), call(constraint=Constraint("choice", list(reversed(LABELS))), n=2))
    assert [(c.choice, c.delta["content"], c.finish) for c in found] == [(0, "balance", "stop"), (1, "balance", "stop")]


def test_several_pointers() -> None:
    """Several labels in one answer: its probability is not above that of its parts together."""
    wanted = {
        "type": "object",
        "properties": {
            "kind": {"const": "route"},
            "to": {"type": "object", "properties": {"a/b": {"$ref": "#/$defs/Label"}}, "required": ["a/b"]},
            "intent": {"$ref": "#/$defs/Label", "description": "what"},
            "note": {"type": "string"},
        },
        "required": ["kind", "to", "intent"],
        "$defs": {"Label": {"type": "string", "enum": list(LABELS), "title": "Label"}},
    }
    backend = encoder(folder=toy(("/intent", "/to/a~1b")))
    chunk = ask(backend, call(constraint=Constraint("schema", wanted)))[0]
    assert chunk.delta["content"] == '{"kind":"route","to":{"a/b":"balance"},"intent":"balance"}'
    single = ask(backend, call())[0].probability
    assert single is not None
    assert chunk.probability == pytest.approx(2 * single - 1)


def test_check_schema_names_every_difference() -> None:
    """`weir check` prints these: each names the place and some of the labels."""
    assert encoder().check_schema(schema()) == []
    assert encoder().check_schema(schema(reversed(LABELS))) == []
    assert len(encoder().check_schema(schema(("balance", "news"), note={"type": "string"}))) == 3
    assert encoder().check_schema("no schema")


def test_bad_folder(tmp_path: Path) -> None:
    """A folder that holds no specialist is refused when the configuration is loaded, by name."""
    with pytest.raises(EmbedError, match=r"manifest\.json"):
        encoder(folder=tmp_path)


# --- valid by construction --------------------------------------------------------------------------------------------------------

_NAMES = st.text('ab/~ "é', min_size=1, max_size=3)
_LEAVES = st.one_of(
    st.just({"type": "string", "enum": list(LABELS)}),
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=3)).map(lambda v: {"const": v}),
    st.just({"type": "number", "minimum": 3}),
)


def _object(parts: dict[str, Any], required: float) -> dict[str, Any]:
    names = list(parts)[: round(required * len(parts))]
    return {"type": "object", "properties": parts, "required": names, "additionalProperties": False}


_SCHEMAS = st.recursive(
    _LEAVES, lambda inner: st.builds(_object, st.dictionaries(_NAMES, inner, max_size=3), st.floats(0, 1)), max_leaves=8
)


def _pointers(tree: Any, at: str = "") -> list[str]:
    if "enum" in tree:
        return [at]
    members = tree.get("properties", {}).items()
    return [p for name, part in members for p in _pointers(part, f"{at}/{name.replace('~', '~0').replace('/', '~1')}")]


@given(_SCHEMAS, st.data())
def test_what_is_built_fits(wanted: dict[str, Any], data: st.DataObject) -> None:
    """Whatever form is accepted, every filling of it with labels is valid under the schema; else there is a difference."""
    labels = {pointer: frozenset(LABELS) for pointer in _pointers(wanted)}
    form, differences = form_of(wanted, labels)
    assert (form is None) == bool(differences)
    if form is not None:
        chosen = {pointer: data.draw(st.sampled_from(LABELS)) for pointer in slots(form)}
        assert set(chosen) == set(labels)
        jsonschema_rs.validate(wanted, orjson.loads(fill(form, chosen)))
