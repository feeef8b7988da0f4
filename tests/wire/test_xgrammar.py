"""Schemas that xgrammar cannot enforce: the list is vLLM's own (`has_xgrammar_unsupported_json_features`)."""

from typing import Any

import pytest

from wire.xgrammar import MOST_PARTS, unsupported

_PLAIN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "a": {"type": "string", "minLength": 1, "maxLength": 5},
        "b": {"type": "string", "pattern": "^x"},
        "c": {"type": "string", "format": "date"},
        "d": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
        "e": {"anyOf": [{"type": "null"}, {"enum": ["x", {"not": "a schema"}]}]},
        "f": {"allOf": [{"type": "string"}]},
        "not": {"type": "string", "default": {"multipleOf": 2, "type": "number"}},
        "uniqueItems": {"type": "boolean"},
    },
    "required": ["a"],
    "additionalProperties": False,
    "$defs": {"if": {"type": "number"}},
}


def test_what_it_can() -> None:
    """Ordinary schemas, and names and data that look like keywords."""
    assert unsupported(_PLAIN) == ""
    assert unsupported({}) == ""
    assert unsupported(True) == ""


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"type": "number", "multipleOf": 3}, "multipleOf"),
        ({"type": ["integer", "null"], "multipleOf": 3}, "multipleOf"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "array", "contains": {"const": 1}}, "contains"),
        ({"type": "array", "minContains": 1}, "minContains"),
        ({"type": "string", "format": "phone"}, "an unknown format"),
        ({"type": "string", "pattern": "^x", "maxLength": 3}, "pattern or format beside a length"),
        ({"type": "string", "format": "date", "minLength": 3}, "pattern or format beside a length"),
        ({"type": "object", "propertyNames": {"pattern": "a", "maxLength": 2}}, "propertyNames with a length"),
        ({"type": "object", "propertyNames": {"pattern": "a"}, "properties": {}}, "propertyNames beside properties"),
        (
            {"type": "object", "propertyNames": {"pattern": "a"}, "unevaluatedProperties": False},
            "propertyNames beside unevaluatedProperties",
        ),
        ({"type": "object", "patternProperties": {"a": {}}, "properties": {}}, "patternProperties beside others"),
        ({"type": "object", "patternProperties": {"a": {}, "b": {}}}, "patternProperties beside others"),
        ({"allOf": [{"type": "string"}, {"enum": ["a"]}]}, "allOf of several schemas"),
        ({"not": {"type": "null"}}, "not"),
        ({"if": {"const": 1}, "then": {}}, "if"),
    ],
)
def test_what_it_cannot(part: dict[str, Any], reason: str) -> None:
    """Found wherever it stands, with its place."""
    assert unsupported(part) == f"/: {reason}"
    deep = {"type": "object", "properties": {"x": {"anyOf": [{"type": "null"}, {"type": "array", "items": part}]}}}
    assert unsupported(deep) == f"/properties/x/anyOf/1/items: {reason}"
    assert unsupported({"$ref": "#/$defs/p", "$defs": {"p": part}}) == f"/$defs/p: {reason}"


def test_a_huge_schema() -> None:
    """Nobody walks through any number of parts."""
    assert unsupported({"anyOf": [{}] * (MOST_PARTS + 10)}) == "the schema is too large"
