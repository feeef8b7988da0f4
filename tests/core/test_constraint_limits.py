"""Which schemas are refused at the door."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.setup import Setup
from gateway.surface.models import check_constraint, deeper
from wire.errors import BadRequest
from wire.types import Asked, Constraint, Query

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


def check(value: Any, *, kind: Any = "schema") -> None:
    limits = SimpleNamespace(schema_bytes=1000, schema_depth=8)
    setup = cast(Setup, SimpleNamespace(settings=SimpleNamespace(limits=limits)))
    check_constraint(Asked(Query("", "m"), {}, constraint=Constraint(kind, value)), setup, PARAM)


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


def test_what_may_pass() -> None:
    """A schema within the limits, any other constraint, and none."""
    check(nested(8))
    check(None, kind="json")
    check_constraint(Asked(Query("", "m"), {}), cast(Setup, None), PARAM)
