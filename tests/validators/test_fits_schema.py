"""`fits_schema`: truth tables, what a detail may say, and schemas that mean harm."""

import socket
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.validators.base import PASS, Ask, Verdict
from gateway.validators.fits_schema import FitsSchema, SchemaError, compile_constraint, compile_schema, misfit
from wire.types import Constraint, Draft, ToolCall

CHECK = FitsSchema(FitsSchema.Config.model_validate({"kind": "fits_schema"}))
LAX = FitsSchema(FitsSchema.Config.model_validate({"kind": "fits_schema", "formats": False}))
CANARY = "xyzzy-canary"

LABEL = {
    "type": "object",
    "properties": {"label": {"enum": ["a", "b"]}},
    "required": ["label"],
    "additionalProperties": False,
}


def schema(value: Any) -> Constraint:
    return Constraint("schema", value)


def check(text: str, wanted: Constraint, finish: str | None = "stop") -> Verdict:
    return CHECK.check(Draft(text=text, finish=finish), Ask(constraint=wanted))


# --- truth tables -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted", "fits"),
    [
        ('{"label": "a"}', schema(LABEL), True),
        (' {"label": "b"}\n', schema(LABEL), True),
        ('{"label": "c"}', schema(LABEL), False),
        ('{"label": "a", "why": "x"}', schema(LABEL), False),
        ("{}", schema(LABEL), False),
        ("", schema(LABEL), False),
        ('```json\n{"label": "a"}\n```', schema(LABEL), False),
        ('{"label": "a"} Hope this helps!', schema(LABEL), False),
        ('{"label": "a"}{"label": "a"}', schema(LABEL), False),
        ("{'label': 'a'}", schema(LABEL), False),
        ('{"label": "c", "label": "a"}', schema(LABEL), True),  # the last one counts, as for every client
        ("NaN", schema({}), False),
        ("Infinity", schema({}), False),
        ("1e999", schema({}), False),
        ('"\\ud800"', schema({}), False),
        ("null", schema(True), True),
        ("null", schema(False), False),
        ("1", schema({"type": "integer"}), True),
        ("1.0", schema({"type": "integer"}), True),
        ("true", schema({"type": "integer"}), False),
        ('{"a": {"a": {}}}', schema({"type": "object", "additionalProperties": {"$ref": "#"}}), True),
        ('{"a": {"a": 1}}', schema({"type": "object", "additionalProperties": {"$ref": "#"}}), False),
        ('{"a": 1}', schema({"unevaluatedProperties": False}), False),
        ('"2024-02-30"', schema({"format": "date"}), False),
        ('"2024-02-29"', schema({"format": "date"}), True),
        ("{}", Constraint("json", None), True),
        ("[]", Constraint("json", None), False),
        ("{", Constraint("json", None), False),
        ("yes", Constraint("choice", ["yes", "no"]), True),
        (" no\n", Constraint("choice", ["yes", "no"]), True),
        ("maybe", Constraint("choice", ["yes", "no"]), False),
        ("", Constraint("choice", ["yes", "no"]), False),
        ("ab12", Constraint("regex", r"[a-z]+\d{2}"), True),
        ("ab12\n", Constraint("regex", r"[a-z]+\d{2}"), False),
        ("xab12", Constraint("regex", r"ab\d{2}"), False),
        ("b", Constraint("regex", "a|b"), True),
        ("ab", Constraint("regex", "a|b"), False),
        ("anything", Constraint("grammar", "root ::= x"), True),
    ],
)  # fmt: skip
def test_what_fits(text: str, wanted: Constraint, fits: bool) -> None:
    """One JSON document that is valid under the whole schema, a choice, all of the regex; grammars are not checked."""
    verdict = check(text, wanted)
    assert verdict.passed is fits
    assert verdict.reason == (None if fits else "schema")


@pytest.mark.parametrize(
    "draft",
    [
        Draft(text="no json"),
        Draft(text='{"label": '),
        Draft(tool_calls=(ToolCall("c", "f", "{}"),), finish="tool_calls"),
        Draft(refusal="no", finish="stop"),
        Draft(text="half", finish="content_filter"),
    ],
)
def test_what_is_not_judged(draft: Draft) -> None:
    """A growing answer, calls, refusals and filtered answers are not judged by their form; nor is anything without a constraint."""
    assert CHECK.check(draft, Ask(constraint=schema(LABEL))) == PASS
    assert CHECK.check(Draft(text="no json", finish="stop"), Ask()) == PASS


@pytest.mark.parametrize(
    ("text", "reason"), [('{"label": ', "truncated"), ("no json", "truncated"), ('{"label": "a"}', None)]
)
def test_a_truncated_answer(text: str, reason: str | None) -> None:
    """One that the token limit cut never passes for its form, but the reason is the cut: the top rung's goes out as it is."""
    assert check(text, schema(LABEL), "length").reason == reason


def test_formats_can_be_annotations() -> None:
    """`formats: false`: `format` asserts nothing."""
    draft = Draft(text='"no date"', finish="stop")
    assert not CHECK.check(draft, Ask(constraint=schema({"format": "date"}))).passed
    assert LAX.check(draft, Ask(constraint=schema({"format": "date"}))).passed


@given(st.dictionaries(st.sampled_from(["label", "why"]), st.sampled_from(["a", "b", "c"])), st.integers(0, 40))
def test_no_beginning_is_judged(document: dict[str, str], cut: int) -> None:
    """A growing draft passes, whatever the whole will be; only the end gives a verdict."""
    text = orjson.dumps(document).decode()
    assert check(text[:cut], schema(LABEL), None) == PASS
    assert check(text, schema(LABEL)).passed == (list(document) == ["label"] and document["label"] in "ab")


# --- what a detail says -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted", "detail"),
    [
        ('{"label": "c"}', LABEL, "/label: breaks the schema at /properties/label/enum"),
        ("{}", LABEL, "/: breaks the schema at /required"),
        (
            '{"items": [1, "x"]}',
            {"properties": {"items": {"items": {"type": "integer"}}}},
            "/items/1: breaks the schema at /properties/items/items/type",
        ),
        ("{", LABEL, "not one JSON document"),
    ],
)
def test_a_detail_names_place_and_rule(text: str, wanted: Any, detail: str) -> None:
    """For people: where in the answer, and which rule of the schema."""
    assert detail in check(text, schema(wanted)).detail


PLACES: list[Any] = [
    {"additionalProperties": {"type": "integer"}},
    {"additionalProperties": False},
    {"properties": {"known": {"additionalProperties": {"maximum": 1}}}, "additionalProperties": {"items": False}},
    {"patternProperties": {"x": {"type": "integer"}}},
    {"propertyNames": {"maxLength": 2}},
    {"unevaluatedProperties": False},
    {"anyOf": [{"type": "integer"}, {"additionalProperties": {"const": 1}}]},
    {"$ref": "#/$defs/node", "$defs": {"node": {"additionalProperties": {"$ref": "#/$defs/node"}, "maxProperties": 1}}},
    {"items": {"enum": [1]}},
    {"const": 1},
    {"not": {}},
    {"uniqueItems": True, "type": "array"},
    {"type": "string", "pattern": "^a$", "maxLength": 3},
    {"format": "email", "type": "string"},
    LABEL,
]
documents = st.recursive(
    st.integers(0, 3) | st.just(CANARY) | st.none(),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([CANARY, f"{CANARY}2", "known", "label"]), inner, max_size=2)
    ),
    max_leaves=6,
)  # fmt: skip


@given(st.sampled_from(PLACES), documents)
def test_a_detail_never_quotes_the_answer(wanted: Any, document: Any) -> None:
    """Neither values nor keys that the model chose: places outside of the schema's own property names show as `*`."""
    assert CANARY not in check(orjson.dumps(document).decode(), schema(wanted)).detail


@pytest.mark.parametrize(
    "wanted", [Constraint("choice", ["a"]), Constraint("regex", "a"), Constraint("json", None), schema(LABEL)]
)
def test_no_kind_of_constraint_quotes_the_answer(wanted: Constraint) -> None:
    """Choices, regular expressions and text that is no JSON: the detail names the rule only."""
    verdict = check(CANARY, wanted)
    assert verdict.opinion == "fail"
    assert CANARY not in verdict.detail


def test_a_key_that_the_model_chose_is_a_star() -> None:
    """Records keep details: a key of a free-form object is answer text."""
    wanted = {"properties": {"notes": {"additionalProperties": {"type": "integer"}}}}
    verdict = check(orjson.dumps({"notes": {CANARY: "x"}}).decode(), schema(wanted))
    assert verdict.detail.startswith("/notes/*: ")


# --- schemas that mean harm -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef", "$schema", "$id"])
def test_a_remote_reference_is_never_fetched(keyword: str) -> None:
    """It raises SchemaError, and a server that listens at the address hears nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        wanted: dict[str, Any] = {keyword: url} if keyword != "$id" else {"$id": url, "$ref": "other.json"}
        for value in (wanted, {"properties": {"a": {"items": wanted}}} if keyword != "$schema" else wanted):
            with pytest.raises(SchemaError):
                compile_schema(value)
            with pytest.raises(SchemaError):
                misfit("{}", schema(value))
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_remote_reference_says_so() -> None:
    """The caller reads why: a $ref points outside, and nothing is fetched."""
    with pytest.raises(SchemaError, match=r"\$ref points outside of the schema, and nothing is ever fetched"):
        compile_schema({"$ref": "https://example.com/schema.json"})


@pytest.mark.parametrize(
    "value",
    [
        {"$ref": "file:///etc/passwd"},
        {"$ref": "other.json"},
        {"$ref": "#/nowhere"},
        {"type": "nonsense"},
        {"properties": []},
        {"pattern": "["},
        {"pattern": "(a{1000}){1000}"},
        {"pattern": "a{99999999}"},
        {"pattern": "(" * 5000},
        {"$schema": "http://json-schema.org/draft-99/schema#"},
        [],
        "string",
        None,
    ],
)
def test_an_unusable_schema_is_an_error(value: Any) -> None:
    """Found when it is compiled, with a reason: files, broken pointers, broken or oversized patterns, no schema at all."""
    with pytest.raises(SchemaError, match=r"\w"):
        compile_schema(value)


@pytest.mark.parametrize(
    "wanted",
    [
        schema({"pattern": "^(a+)+$"}),
        schema({"pattern": r"^(?=.)(a+)+$"}),
        schema({"pattern": r"^(([a-z])+.)+[A-Z]([a-z])+$"}),
        schema({"pattern": r"(?=(a+)+$)b"}),
        schema({"allOf": [{"pattern": r"^(?!.*z)(a|aa)+$"}] * 20}),
        Constraint("regex", "(a+)+"),
        Constraint("regex", "(?=.)(a|a)*"),
    ],
)
def test_a_regex_bomb_ends(wanted: Constraint) -> None:
    """Patterns that take others hours end with a verdict: does not fit."""
    text = "a" * 200 + "!"
    assert check(orjson.dumps(text).decode() if wanted.kind == "schema" else text, wanted).reason == "schema"


@pytest.mark.parametrize(
    "value",
    [
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"not": {"$ref": "#"}},
        {"$dynamicAnchor": "m", "anyOf": [{"$dynamicRef": "#m"}]},
    ],
)
def test_a_schema_that_is_its_own_reason_ends(value: Any) -> None:
    """Endless references are refused before anything is checked."""
    with pytest.raises(SchemaError):
        compile_schema(value)


def test_the_first_error_is_enough() -> None:
    """A schema with many ways to the same broken rule: one is told, the others are not looked for."""
    ways = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(7)}
    value = {"$ref": "#/$defs/d0", "$defs": {**ways, "d7": {"type": "integer"}}}
    assert check('"x"', schema(value)).reason == "schema"


@pytest.mark.parametrize("depth", [100, 600, 1000, 2000, 100_000])
@pytest.mark.parametrize(
    "value", [{"const": 5}, {"additionalProperties": {"$ref": "#"}, "items": {"$ref": "#"}, "type": "string"}]
)
def test_a_deep_answer_is_a_bad_answer(depth: int, value: Any) -> None:
    """However deep a model nests, the check gives a verdict and raises nothing."""
    for text in ('{"a":' * depth + "1" + "}" * depth, "[" * depth + "]" * depth):
        assert check(text, schema(value)).reason == "schema"


# --- compiling --------------------------------------------------------------------------------------------------------------------


def test_the_order_of_keys_does_not_matter() -> None:
    """Equal schemas are compiled once and judge alike."""
    other = dict(reversed(LABEL.items()))
    assert check('{"label": "c"}', schema(other)) == check('{"label": "c"}', schema(LABEL))


@pytest.mark.parametrize("wanted", [Constraint("regex", "("), Constraint("regex", "(?<=a+)b("), schema({"type": 5})])
def test_a_constraint_of_a_route_can_be_checked_beforehand(wanted: Constraint) -> None:
    """What no answer could be checked against is found when the configuration is read."""
    with pytest.raises(SchemaError):
        compile_constraint(wanted)


@pytest.mark.parametrize(
    "wanted",
    [Constraint("regex", r"[a-z]+(?=\d)\d"), schema(LABEL), Constraint("grammar", "?"), Constraint("json", None)],
)
def test_a_usable_constraint_compiles(wanted: Constraint) -> None:
    """Nothing is said against what can be checked, nor against what is not checked here."""
    compile_constraint(wanted)
