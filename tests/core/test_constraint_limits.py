"""Which schemas are refused at the door."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.setup import Edge
from gateway.surface import schema
from gateway.surface.schema import check_constraint, deeper
from wire.errors import BadRequest
from wire.types import Constraint

PARAM = "response_format.json_schema.schema"


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels - 1):
        value = {"items": value}
    return value


@pytest.mark.parametrize(
    ("value", "levels"),
    [(1, 0), ("x", 0), ({}, 1), ([], 1), ({"a": 1}, 1), ({"a": {}}, 2), ([[], [[]]], 3), (nested(9), 9)],
)
def test_deeper(value: Any, levels: int) -> None:
    """Levels are containers within each other: as many are not deeper than as many, one fewer are."""
    assert not deeper(value, levels)
    assert not deeper(value, levels + 3)
    if levels:
        assert deeper(value, levels - 1)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


containers = st.recursive(
    st.none() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
)


@given(containers, st.integers(0, 6))
def test_deeper_is_depth(value: Any, levels: int) -> None:
    """As a recursive count would say, which a hostile schema would break."""
    assert deeper(value, levels) is (depth(value) > levels)


def check(value: Any, *, kind: Any = "schema", strict: bool = False, size: int = 1000, depth: int = 8) -> None:
    limits = SimpleNamespace(schema_bytes=size, schema_depth=depth)
    check_constraint(Constraint(kind, value, strict), cast(Edge, limits), PARAM)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"description": "x" * 1000}, "larger than 1000 bytes"),
        (nested(9), "deeper than 8 levels"),
        ({"type": 5}, "not a valid JSON Schema"),
        ({"properties": {"a": {"$ref": "https://example.com/a.json"}}}, "outside of the schema"),
        ({"pattern": "["}, "not a valid JSON Schema"),
    ],
)
def test_a_schema_that_no_one_could_check(value: Any, why: str) -> None:
    """Too large, too deep, not usable or remote: 400 with the place of the schema."""
    with pytest.raises(BadRequest, match=why) as caught:
        check(value)
    assert caught.value.param == PARAM


def test_what_is_remembered_to_be_well_is_so_for_its_limits_only() -> None:
    """A schema that passed is refused all the same where less is allowed: after a reload, or when it shall be strict."""
    check(nested(8))
    for narrower in ({"depth": 7}, {"size": 20}, {"strict": True}):
        for _ in range(2):
            with pytest.raises(BadRequest):
                check(nested(8), **narrower)
    check(nested(8))


def test_what_is_remembered_is_bounded() -> None:
    """A caller who sends ever new schemas fills no memory, and each of them is still looked at."""
    for number in range(2 * schema._MOST_KEPT):
        check({"title": str(number)})
    assert len(schema._well) == schema._MOST_KEPT
    with pytest.raises(BadRequest):
        check({"type": 5})


def test_what_may_pass() -> None:
    """A schema within the limits, and any other constraint."""
    check(nested(8))
    check(None, kind="json")
