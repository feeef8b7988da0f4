"""An answer > a string that is equal for answers that mean the same."""

import json
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.canonical import canonical
from wire.types import Json, ToolCall

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(max_size=5), values, max_size=4)


def call(arguments: Any, name: str = "f", id: str = "1", kind: str = "function") -> ToolCall:
    return ToolCall(id, name, arguments if isinstance(arguments, str) else json.dumps(arguments), kind)


def shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        chance.shuffle(keys)
        return {key: shuffled(value[key], chance) for key in keys}
    return [shuffled(item, chance) for item in value] if isinstance(value, list) else value


@given(objects, st.randoms(use_true_random=False), st.sampled_from([None, 1, 3]))
def test_key_order_and_white_space_do_not_count(
    value: dict[str, Any], chance: random.Random, indent: int | None
) -> None:
    """However the keys are ordered and the JSON is laid out, at any depth."""
    other = json.dumps(shuffled(value, chance), indent=indent, ensure_ascii=chance.random() < 0.5)
    assert canonical(other, ()) == canonical(json.dumps(value), ())
    assert canonical("", [call(other)]) == canonical("", [call(value)])


@given(objects, objects)
def test_equal_strings_mean_equal_answers(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two JSON answers have one string exactly when they are the same value, true and 1 being different ones."""

    def typed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: typed(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [typed(inner) for inner in value]
        return ("number", Decimal(repr(value))) if type(value) in (int, float) else value

    same = canonical(json.dumps(one), ()) == canonical(json.dumps(other), ())
    assert same == (typed(one) == typed(other))


@given(st.text() | values.map(json.dumps) | objects.map(json.dumps))
def test_idempotent(text: str) -> None:
    """What is canonical stays as it is, JSON or not."""
    once = canonical(text, ())
    assert canonical(once, ()) == once


SCHEMA = {
    "properties": {
        "unit": {"type": "string", "default": "celsius"},
        "days": {"type": "integer", "default": 1},
        "note": {"type": ["string", "null"]},
        "place": {"type": ["string", "null"], "default": None},
        "city": {"type": "string", "default": "Paris"},
        "options": {"$ref": "#/$defs/options"},
        "stops": {"type": "array", "items": {"$ref": "#/$defs/options"}},
        "maybe": {"anyOf": [{"$ref": "#/$defs/options"}, {"type": "null"}], "default": None},
    },
    "required": ["city"],
    "$defs": {"options": {"properties": {"loud": {"type": "boolean", "default": False}}}},
}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"city": "Rome"}', '{"city": "Rome", "unit": "celsius"}', True),
        ('{"city": "Rome"}', '{"city": "Rome", "days": 1.0}', True),
        ('{"city": "Rome"}', '{"city": "Rome", "days": 2}', False),
        ('{"city": "Paris"}', "{}", False),  # required: it has to be said
        ('{"city": "Rome", "place": null}', '{"city": "Rome"}', True),  # null is its default
        (
            '{"city": "Rome", "note": null}',
            '{"city": "Rome"}',
            False,
        ),  # null is allowed, but nobody says it means absent
        ('{"city": "Rome", "options": {"loud": false}}', '{"city": "Rome", "options": {}}', True),
        ('{"city": "Rome", "options": {}}', '{"city": "Rome"}', False),
        ('{"city": "Rome", "stops": [{"loud": false}, {}]}', '{"city": "Rome", "stops": [{}, {}]}', True),
        ('{"city": "Rome", "maybe": {"loud": false}}', '{"city": "Rome", "maybe": {}}', True),
        ('{"city": "Rome", "maybe": null}', '{"city": "Rome"}', True),
        ('{"city": "Rome", "days": true}', '{"city": "Rome"}', False),  # true is not 1
    ],
)
def test_defaults(one: str, other: str, same: bool) -> None:
    """An optional member that holds its default is as good as absent, in answers and in arguments."""
    assert (canonical(one, (), schema=SCHEMA) == canonical(other, (), schema=SCHEMA)) == same
    tools: dict[str, Json | None] = {"f": SCHEMA}
    assert (canonical("", [call(one)], tools=tools) == canonical("", [call(other)], tools=tools)) == same


@given(st.dictionaries(st.sampled_from(list(SCHEMA["properties"])), values, max_size=5))
def test_idempotent_under_a_schema(value: dict[str, Any]) -> None:
    """Dropping defaults makes no new ones."""
    once = canonical(json.dumps(value), (), schema=SCHEMA)
    assert canonical(once, (), schema=SCHEMA) == once


@pytest.mark.parametrize(
    "spellings",
    [
        ("1", "1.0", "1e0", "0.1e1", "10E-1", "1.000"),
        ("100", "1e2", "1E+2", "100.00"),
        ("0", "-0", "0.0", "-0e5"),
        ("0.1", "1e-1", "0.10"),
        ("9007199254740993",),  # 2^53 + 1: as a float it would be its neighbour
        ("9007199254740992",),
        ("1e400", "10e399"),
        ("-" + "7" * 5000,),
        ("1e99999999999999999999",),
        ("2e99999999999999999999",),
    ],
)
def test_numbers(spellings: tuple[str, ...]) -> None:
    """One value, one string, whatever its size; another value, another string."""
    written = {canonical(f'{{"n": {spelling}}}', ()) for spelling in spellings}
    assert len(written) == 1
    assert canonical('{"n": 9007199254740991}', ()) not in written


@given(
    st.lists(st.builds(call, objects, st.sampled_from("fgh"), st.text(max_size=3)), min_size=1, max_size=4), st.data()
)
def test_calls_are_a_multiset(calls: list[ToolCall], data: st.DataObject) -> None:
    """Parallel calls in any order, with any ids, with any text beside them; but one more or one less is another answer."""
    other = [ToolCall(data.draw(st.text(max_size=3)), c.name, c.arguments) for c in data.draw(st.permutations(calls))]
    assert canonical("hello", other) == canonical("", calls)
    assert canonical("", [*calls, calls[0]]) != canonical("", calls)


@given(st.text(), objects, st.sampled_from("fgh"))
def test_no_text_passes_for_a_call(text: str, arguments: dict[str, Any], name: str) -> None:
    """Nor does a call spelled as text."""
    made = canonical("", [call(arguments, name)])
    assert canonical(text, ()) != made
    assert canonical(made, ()) != made


def test_name_and_kind_count() -> None:
    """The same arguments to another tool are another call; a custom tool's input is no JSON, so its spelling counts."""
    assert canonical("", [call({}, "f")]) != canonical("", [call({}, "g")])
    assert canonical("", [call("")]) == canonical("", [call("{}")])
    assert canonical("", [call("1.0", kind="custom")]) != canonical("", [call("1", kind="custom")])


def test_free_text() -> None:
    """White space and Unicode normal form do not count in free text; inside of JSON strings they do."""
    assert canonical(" caf\u0065\u0301 \n au  lait", ()) == canonical("caf\u00e9 au lait", ())
    assert canonical('{"a": "x  y"}', ()) != canonical('{"a": "x y"}', ())
    assert canonical('{"a": "\u00e9"}', ()) != canonical('{"a": "e\u0301"}', ())
    assert canonical("1.0", ()) != canonical("1", ())  # no schema: perhaps a version
    assert canonical("1.0", (), schema={"type": "number"}) == canonical("1", (), schema={"type": "number"})


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"a": NaN}',
        "[" * 100_000,
        '{"a":' * 200 + "1" + "}" * 200,
        "[1,]",
        '{"a": "\ud800"}',
        "[-Infinity]",
        "\x00",
    ],
)
def test_what_is_no_json_stands_for_itself(text: str) -> None:
    """Nothing that a model says raises, however deep it nests."""
    assert canonical(f" {text}\n", ()) in (text, '{"a":"\\ud800"}')
    assert canonical("", [call(text)]) == canonical("", [call(text + " ")])


odd: Any = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.just("#") | st.just("#/$defs/a"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["properties", "items", "default", "$ref", "anyOf", "allOf", "required", "a", "$defs"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(odd.filter(lambda schema: isinstance(schema, dict)), objects)
def test_any_schema_is_taken(schema: dict[str, Any], value: dict[str, Any]) -> None:
    """References in a circle, members of the wrong type: it says nothing then, and never raises."""
    nested = {"a": value, **value}
    once = canonical(json.dumps(nested), (), schema=schema)
    assert canonical(json.dumps(nested, indent=1), (), schema=schema) == once
