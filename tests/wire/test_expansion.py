"""Schemas that double the work with every level are known before they are used; those that people write are not mistaken for them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.validators.fits_schema import SchemaError, compile_schema
from tests.line.world import SCHEMA
from wire.expansion import too_wide

TREE: dict[str, Any] = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                "right": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                "more": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
        }
    },
    "$ref": "#/$defs/node",
}


def _doubled(keyword: str, levels: int) -> dict[str, Any]:
    definitions: dict[str, Any] = {"d0": {"type": "object"}}
    for level in range(1, levels + 1):
        below = {"$ref": f"#/$defs/d{level - 1}"}
        definitions[f"d{level}"] = {keyword: [below, dict(below)]}
    return {"$defs": definitions, "$ref": f"#/$defs/d{levels}"}


RECURSIVE = {"allOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]}
SPREAD = {
    "allOf": [
        {"properties": {"a": {"$ref": "#"}}},
        {"additionalProperties": {"$ref": "#"}},
        {"patternProperties": {"a": {"$ref": "#"}}},
    ]
}
LOOP = {"$ref": "#"}


@pytest.mark.parametrize(
    "schema", [_doubled("allOf", 23), _doubled("anyOf", 16), _doubled("oneOf", 12), RECURSIVE, SPREAD, LOOP]
)
def test_doubling(schema: Any) -> None:
    """Refused where the schema is compiled: for an answer's form and for a tool's parameters alike."""
    assert too_wide(schema)
    with pytest.raises(SchemaError, match="subschemas"):
        compile_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        SCHEMA,
        TREE,
        _doubled("anyOf", 4),
        {"anyOf": [{"const": i} for i in range(800)]},
        {
            "type": "object",
            "properties": {f"p{i}": {"$ref": "#/$defs/x"} for i in range(500)},
            "$defs": {"x": {"enum": [1]}},
        },
        {"$anchor": "top", "properties": {"next": {"$ref": "#top"}}},
        True,
    ],
)
def test_what_people_write(schema: Any) -> None:
    """Trees, lists, long unions and wide objects are no trouble."""
    assert not too_wide(schema)
    compile_schema(schema)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["#", "#/a", "#b", "http://x/y", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["$ref", "allOf", "items", "properties", "not", "a", "$anchor", "if"]), inner, max_size=4
        )
    ),
    max_leaves=20,
)


@given(_json)
def test_any_json(schema: Any) -> None:
    """Whatever stands in for a schema, there is an answer."""
    assert too_wide(schema) in (True, False)
