"""The small value that fits a schema."""

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends._instance import instance

_leaves = st.sampled_from(
    [
        {"type": "string"}, {"type": "string", "minLength": 3}, {"enum": ["a", "b"]}, {"const": 7}, {"type": "boolean"},
        {"type": "null"}, {"type": "integer", "minimum": 3}, {"type": "integer", "exclusiveMinimum": 3, "maximum": 9},
        {"type": "number", "maximum": -1}, {"type": "number", "minimum": -5, "maximum": 5}, {"type": ["string", "null"]}, {},
        {"type": "integer", "exclusiveMaximum": 0}, {"$ref": "#/$defs/label"},
    ]
)  # fmt: skip
_schemas = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.builds(
            lambda some: {
                "type": "object",
                "properties": some,
                "required": sorted(some),
                "additionalProperties": False,
            },
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        ),
        st.builds(lambda item, least: {"type": "array", "items": item, "minItems": least}, inner, st.integers(0, 2)),
        st.builds(lambda some: {"anyOf": some}, st.lists(inner, min_size=1, max_size=2)),
        st.builds(lambda one: {"allOf": [one]}, inner),
    ),
    max_leaves=5,
)


@given(_schemas)
def test_fits(schema: dict[str, Any]) -> None:
    """For the keywords it understands, what it gives is valid."""
    schema = {**schema, "$defs": {"label": {"enum": ["x", "y"]}}}
    assert jsonschema_rs.validator_for(schema).is_valid(instance(schema))


def test_first() -> None:
    """The first label, and nothing optional."""
    schema = {
        "type": "object",
        "properties": {"intent": {"enum": ["greet", "leave"]}, "note": {"type": "string"}},
        "required": ["intent"],
    }
    assert instance(schema) == {"intent": "greet"}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/none"},
        {"$ref": "https://example.com/schema"},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"allOf": [{"$ref": "#"}]},
    ],
)
def test_endless(schema: dict[str, Any]) -> None:
    """A schema without a finite value, or with a reference out of itself, is a ValueError: no loop, no network."""
    with pytest.raises(ValueError):
        instance(schema)
