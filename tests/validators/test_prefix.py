"""`prefix`: a growing document is given up as soon as nothing can help it, and never sooner."""

import json
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.validators.fits_schema import SchemaError, compile_schema, misfit
from gateway.validators.prefix import Prefix
from gateway.validators.prefix.scanner import DEEPEST
from wire.types import Constraint

ORDER = {
    "type": "object",
    "properties": {
        "label": {"enum": ["red", "green", "green tea"]},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "note": {"type": "string", "minLength": 2, "maxLength": 4},
        "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
        "price": {"type": ["number", "null"]},
        "who": {"anyOf": [{"$ref": "#/$defs/Person"}, {"type": "null"}]},
        "kind": {"const": "a"},
        "fixed": {"enum": [1, True, None]},
        "pair": {"prefixItems": [{"type": "string"}], "items": False},
    },
    "required": ["label"],
    "additionalProperties": False,
    "$defs": {"Person": {"type": "object", "properties": {"name": {"type": "string"}}, "additionalProperties": False}},
}


def first_word(text: str, schema: Any) -> tuple[int, str]:
    """Characters read before something is said, and what; fed one by one."""
    prefix = Prefix(schema)
    for at, letter in enumerate(text):
        if said := prefix.feed(letter):
            return at, said
    return len(text), ""


# --- what it catches, and how early ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("", "x", "not one JSON document: expected a value at character 0"),
        ("", "[", "/: an array is not allowed here"),
        ("{", "1", "not one JSON document: expected a key at character 1"),
        ('{"la', "x", "/*: no such key is allowed"),
        ('{"label', "s", "/*: no such key is allowed"),
        ('{"', '"', "/*: no such key is allowed"),
        ('{"label"', "1", "not one JSON document: expected a colon at character 8"),
        ('{"label": ', "t", "/label: a boolean is not allowed here"),
        ('{"label": "gre', "y", "/label: no allowed value begins like this"),
        ('{"label": "gre', '"', "/label: no allowed value begins like this"),
        ('{"label": "\\u0072e', "\\u0065"[:6], "/label: no allowed value begins like this"),
        ('{"label": "red"', ":", "not one JSON document: expected a comma or the end of the object at character 15"),
        ('{"label": "red", ', "}", "not one JSON document: expected a key at character 17"),
        ('{"label": "red"} ', "{", "not one JSON document: text behind the document at character 17"),
        ('{"count": 1', "}", "/label: a required key is missing"),
        ('{"count": ', '"', "/count: a string is not allowed here"),
        ('{"count": 1.5', ",", "/count: not a whole number"),
        ('{"count": 10', " ", "/count: above the maximum"),
        ('{"count": 0', "}", "/count: below the minimum"),
        ('{"count": 0', "1", "not one JSON document: not a number at character 11"),
        ('{"count": -', "-", "not one JSON document: not a number at character 11"),
        ('{"count": 1.', "e", "not one JSON document: not a number at character 12"),
        ('{"price": 1e999', " ", "/price: a number that is too large"),
        ('{"price": n', "a", "not one JSON document: expected a value at character 11"),
        ('{"note": "abcd', "e", "/note: longer than 4 characters"),
        ('{"note": "a', '"', "/note: shorter than 2 characters"),
        ('{"note": "a\\', "x", "not one JSON document: an unknown escape at character 12"),
        ('{"note": "a\\u12', "g", "not one JSON document: an unknown escape at character 15"),
        ('{"note": "a', "\n", "not one JSON document: a control character or half of a character at character 11"),
        ('{"note": "\\ud83d', '"', "not one JSON document: half of a character at character 17"),
        ('{"note": "\\ude0', "0", "not one JSON document: half of a character at character 16"),
        ('{"tags": [', "1", "/tags/0: a number is not allowed here"),
        ('{"tags": [true, ', "n", "/tags/1: null is not allowed here"),
        ('{"tags": [true, false', ",", "/tags: more than 2 items"),
        ('{"tags": [', "]", "/tags: fewer than 1 items"),
        ('{"tags": [true', "}", "not one JSON document: expected a comma or the end of the array at character 14"),
        ('{"who": ', "[", "/who: an array is not allowed here"),
        ('{"who": {"na', "n", "/who/*: no such key is allowed"),
        ('{"who": {"name": ', "1", "/who/name: a number is not allowed here"),
        ('{"kind": "a', "a", "/kind: no allowed value begins like this"),
        ('{"fixed": 2', ",", "/fixed: not one of the allowed values"),
        ('{"fixed": fals', "e", "/fixed: not one of the allowed values"),
        ('{"pair": ["x"', ",", "/pair: more than 1 items"),
    ],
)  # fmt: skip
def test_the_first_character_that_breaks_it(good: str, bad: str, said: str) -> None:
    """Nothing is said while some completion fits; at the first character after which none does, the place and the rule are."""
    if len(bad) == 1:
        assert first_word(good + bad, ORDER) == (len(good), said)
    assert Prefix(ORDER).feed(good) == ""
    assert Prefix(ORDER).feed(good + bad + "and more") == said


def test_once_broken_it_stays_broken() -> None:
    """Whatever comes later, the reason is the first one."""
    prefix = Prefix(ORDER)
    said = prefix.feed("[")
    assert said
    assert prefix.feed('{"label": "red"}') == said
    assert prefix.feed("") == said


def test_nothing_yet_is_fine() -> None:
    """No text and leading white space: it may still come."""
    prefix = Prefix(ORDER)
    assert [prefix.feed(piece) for piece in ("", " ", "\n\t", '{"label"')] == [""] * 4


def test_it_never_tells_a_value() -> None:
    """Keys and values are the answer: only the schema's own names and positions are told."""
    for text in ('{"secret": 1}', '{"label": "secret"}', '{"note": "secret"}', "secret", '{"who": {"secret": 1}}'):
        assert "secret" not in Prefix(ORDER).feed(text) != ""
    assert (
        Prefix({"additionalProperties": {"type": "string"}}).feed('{"secret": 1') == "/*: a number is not allowed here"
    )


# --- what it cannot tell ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"anyOf": [{"properties": {"a": {"type": "string"}}}, {"type": "object"}]}, '{"a": 1}'),
        ({"not": {"type": "string"}}, '"a'),
        ({"if": {"type": "string"}, "then": False}, '"a'),
        ({"pattern": "^b"}, '"a'),
        ({"properties": {"a": {"type": "string"}}, "patternProperties": {"b": {}}, "additionalProperties": False}, '{"b'),
        ({"patternProperties": {"^b": {"type": "string"}}, "additionalProperties": {"type": "null"}}, '{"bb": "x'),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$anchor": "x", "type": "string"}, "b": {"$ref": "#x"}}}, '"a'),
        ({"$defs": {"a b": {"type": "string"}}, "$ref": "#/$defs/a%20b"}, '"a'),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {"type": "integer"}},
             "properties": {"x": {"$ref": "#/definitions/a", "type": "string"}}},
            '{"x": 1}',
        ),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}], "additionalItems": False}, '["a"]'),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "prefixItems": [{"type": "string"}], "items": {"type": "null"}}, "[null"),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "const": 1}, '"a'),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 3, "exclusiveMaximum": True}, "2 "),
        ({"required": ["x"]}, '{"a": 1, "x": 2}'),
        ({"required": ["x"], "additionalProperties": {"type": "integer"}}, '{"x": 2}'),
        ({"type": "integer"}, "1.5e1 "),
        ({"type": "integer"}, "1.0 "),
        ({"enum": [1]}, "1.0 "),
        ({"const": {"a": 1}}, '{"a": 1}'),
        ({"maxLength": 1}, '"\\ud83d\\ude00"'),
        ({"allOf": [{"type": "string"}, {"maxLength": 2}]}, '"ab"'),
        ({"properties": {"id": {"type": "string"}, "$id": {"$ref": "#/properties/id"}}}, '{"$id": "a", "id": "b"}'),
        (None, '{"a": [1, "x", {"b": null}]} '),
        (True, "1 "),
    ],
)  # fmt: skip
def test_what_it_cannot_tell_it_lets_be(schema: Any, text: str) -> None:
    """Keywords that are not understood, and those that mean something else in older drafts, forbid nothing."""
    assert Prefix(schema).feed(text) == ""


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"type": "string", "properties": []},
        {"type": "string", "$ref": "https://example.com/a.json"},
        {"type": "string", "pattern": "("},
    ],
)
def test_a_schema_that_cannot_be_used_forbids_nothing(schema: Any) -> None:
    """No answer is checked against it in the end, so none is given up before; that it is JSON still holds."""
    with pytest.raises(SchemaError):
        compile_schema(schema)
    assert Prefix(schema).feed("1") == ""
    assert Prefix(schema).feed("x") != ""


def test_circles_end() -> None:
    """A schema that refers to itself is followed as deep as the document goes, and no further."""
    tree: Any = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "additionalProperties": False,
    }
    assert Prefix(tree).feed('{"next": ' * 200 + "null" + "}" * 200) == ""
    assert Prefix(tree).feed('{"next": ' * 200 + "1").endswith("/next: a number is not allowed here")
    around: Any = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "items": {"$ref": "#/$defs/a"}}
    assert Prefix(around).feed("[1]") == ""


def test_a_long_chain_of_references_ends() -> None:
    """A thousand references in a row are no reason to fail, nor to forbid anything."""
    chain: dict[str, Any] = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"type": "null"}]} for n in range(1000)}
    schema = {"$ref": "#/$defs/d0", "$defs": {**chain, "d1000": {"type": "string"}}}
    assert Prefix(schema).feed('"a"') == ""


# --- in any pieces, of any size ----------------------------------------------------------------------------------------------------------

names = st.sampled_from(["a", "ab", "b", "$id", "é", "~/"])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([1.0, 1.5, 0.5, -0.0, 1e2, 2**53, 2.0**53, 2**53 + 1, 10**18]),
    st.sampled_from(["", "a", "ab", "b", "é", "😀", 'q"\\\n', "abc"]),
)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)
counts = st.integers(0, 3) | st.sampled_from([2.0])
TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"]
limits = st.integers(-2, 2) | st.sampled_from([0.5, 2**53, 2.0**53])


def widened(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Schemas built of `inner` ones: every keyword that is read here and several that are not."""
    optional = {
        "type": st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), min_size=1, max_size=5, unique=True),
        "enum": st.lists(documents, min_size=1, max_size=4, unique_by=repr),
        "const": documents,
        "properties": st.dictionaries(names, inner, max_size=3),
        "required": st.lists(names, max_size=2, unique=True),
        "additionalProperties": st.just(False) | inner,
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$"]), inner, max_size=1),
        "items": inner,
        "prefixItems": st.lists(inner, min_size=1, max_size=2),
        "minItems": counts,
        "maxItems": counts,
        "minLength": counts,
        "maxLength": counts,
        "minimum": limits,
        "maximum": limits,
        "exclusiveMinimum": limits,
        "exclusiveMaximum": limits,
        "anyOf": st.lists(inner, min_size=1, max_size=3),
        "oneOf": st.lists(inner, min_size=1, max_size=2),
        "allOf": st.lists(inner, min_size=1, max_size=2),
        "not": inner,
        "if": inner,
        "then": inner,
        "$ref": st.sampled_from(["#", "#/$defs/a", "#/$defs/b", "#/properties/a", "#/anyOf/0", "#/$defs/~0~1"]),
        "$id": st.sampled_from(["https://example.com/x", "x"]),
        "$schema": st.sampled_from(
            [
                "https://json-schema.org/draft/2020-12/schema",
                "https://json-schema.org/draft/2019-09/schema",
                "http://json-schema.org/draft-07/schema#",
                "http://json-schema.org/draft-06/schema#",
                "http://json-schema.org/draft-04/schema#",
            ]
        ),
    }
    return st.sets(st.sampled_from(sorted(optional)), min_size=1, max_size=3).flatmap(
        lambda keys: st.fixed_dictionaries({key: optional[key] for key in sorted(keys)})
    )


small: st.SearchStrategy[Any] = st.recursive(st.booleans() | st.just({}), widened, max_leaves=4)
schemas = st.builds(
    lambda schema, a, b: {**schema, "$defs": {"a": a, "b": b, "~/": b}} if isinstance(schema, dict) else schema,
    widened(small),
    small,
    small,
)
written = st.builds(
    lambda value, indent, escaped: json.dumps(value, indent=indent, ensure_ascii=escaped),
    documents,
    st.sampled_from([None, 1]),
    st.booleans(),
)


def usable(schema: Any) -> bool:
    try:
        compile_schema(schema)
    except SchemaError:
        return False
    return True


@settings(max_examples=1500, deadline=None)
@given(schema=schemas, text=written, cuts=st.lists(st.integers(0, 60), max_size=5))
def test_no_false_alarm(schema: Any, text: str, cuts: list[int]) -> None:
    """A document that the one judge of schemas accepts is never given up, whatever the schema and however it was cut into pieces."""
    assume(usable(schema))
    broken = misfit(text, Constraint("schema", schema))
    prefix, at = Prefix(schema), 0
    for cut in [*sorted(cuts), len(text)]:
        said = prefix.feed(text[at:cut])
        at = max(at, cut)
    said = said or prefix.feed(" ")
    assert not said or broken, said


@settings(max_examples=300, deadline=None)
@given(schema=schemas, text=written)
def test_the_pieces_do_not_matter(schema: Any, text: str) -> None:
    """One by one or all at once: the same is said, so nothing depends on how an upstream cuts its stream."""
    assert first_word(text, schema)[1] == Prefix(schema).feed(text)


@settings(max_examples=500)
@given(st.text('{}[]":,.0123456789eE+-truefalsn\\u \n\x00d8é', max_size=12) | st.text(max_size=8))
def test_it_reads_json_as_the_judge_does(text: str) -> None:
    """Without a schema: what becomes JSON is never given up, and what was given up never becomes JSON."""
    prefix = Prefix(None)
    said = prefix.feed(text) or prefix.feed(" ")
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return
    assert said == ""


TAILS = ["", "0", '"', '":0', '"":0', ":0", "rue", "ue", "e", "alse", "lse", "se", "ull", "ll", "l", 'n"', '0"', '00"', '000"',
    '0000"', '\\udc00"', 'udc00"', 'dc00"', 'c00"', 'n":0', '0":0', '00":0', '000":0',
     '0000":0', '\\udc00":0', 'udc00":0', 'dc00":0', 'c00":0']  # fmt: skip
"""One of these ends any beginning of a scalar or of a key."""


def completed(text: str) -> bool:
    """Is there a way to end `text` so that it is JSON?"""
    for tail in TAILS:
        whole, closing, inside, escaped = text + tail, "", False, False
        for letter in whole:
            if inside:
                inside = escaped or letter != '"'
                escaped = letter == "\\" and not escaped
            elif letter == '"':
                inside = True
            elif letter in "[{":
                closing = ("]" if letter == "[" else "}") + closing
            elif letter in "]}":
                closing = closing[1:]
        try:
            orjson.loads(whole + closing)
        except orjson.JSONDecodeError:
            continue
        return True
    return False


@settings(max_examples=500, deadline=None)
@given(
    st.text('{}[]":,.0123eE+-truefalsn\\u \n\x00d8', max_size=10)
    | st.builds(
        lambda text, at, letter: text[:at] + letter, written, st.integers(0, 30), st.sampled_from('{}[]":,x0.e-\\')
    )
)
def test_what_is_not_given_up_can_still_become_json(text: str) -> None:
    """It says something at the very first character that no JSON has there: whatever it lets be has a completion."""
    if Prefix(None).feed(text) == "":
        assert completed(text)


def test_deep_nesting_has_an_end() -> None:
    """As deep as the reader of the whole document goes, and no deeper: no stack overflows, and memory is bounded."""
    assert Prefix(None).feed("[" * DEEPEST + "]" * DEEPEST) == ""
    orjson.loads("[" * DEEPEST + "]" * DEEPEST)
    assert "nested deeper" in Prefix(None).feed('{"a":' * (DEEPEST + 1))
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1))
    assert "nested deeper" in Prefix(None).feed("[" * 1_000_000)


@pytest.mark.parametrize("piece", ["a", "1", " ", '"b": 1, ', "0, "])
def test_memory_does_not_grow_with_the_document(piece: str) -> None:
    """An answer that never ends costs no more memory than a short one: strings, numbers, space, keys and items."""
    start = {"a": '["', "1": "[1", " ": " ", '"b": 1, ': "{", "0, ": "["}[piece]
    prefix = Prefix({"properties": {"abc": {}}})
    assert prefix.feed(start) == ""
    tracemalloc.start()
    try:
        for _ in range(20_000):
            assert prefix.feed(piece) == ""
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 100_000
