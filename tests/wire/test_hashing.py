"""Canonical JSON and short hashes."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.hashing import canonical, portion, short_hash

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), inner, max_size=3),
)  # fmt: skip


def reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(values)
def test_canonical_says_the_same(value: Any) -> None:
    """It is JSON of the same value, in any order of keys the same bytes, without spaces between."""
    data = canonical(value)
    assert orjson.loads(data) == value
    assert canonical(reordered(value)) == data
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert len(data) <= len(text.encode())


def kinds(value: Any) -> Any:
    """`value` with its types: JSON's true is not its 1."""
    if isinstance(value, dict):
        return {key: kinds(inner) for key, inner in value.items()}
    return [kinds(inner) for inner in value] if isinstance(value, list) else (type(value), value)


@given(values, values)
def test_different_values_have_different_bytes(one: Any, other: Any) -> None:
    """Equal bytes mean equal values: `1`, `true` and `"1"` are three."""
    assert (canonical(one) == canonical(other)) == (kinds(one) == kinds(other))


@pytest.mark.parametrize("nothing", [None, "", [], {}, (), b""])
def test_nothing_has_no_hash(nothing: Any) -> None:
    """ "" stands for nothing."""
    assert short_hash(nothing) == ""


@pytest.mark.parametrize("something", [False, 0, 0.0, " ", [None], {"a": None}, b"0", True])
def test_something_has_one(something: Any) -> None:
    """False and 0 are something. 16 hex digits."""
    assert len(short_hash(something)) == 16
    assert int(short_hash(something), 16) >= 0


def test_a_hash_that_never_changes() -> None:
    """Configurations and Records name tasks by it: SHA-256 over the canonical JSON, the first 16 digits."""
    assert short_hash({"b": [1, "é"], "a": None}) == "f8f17faab95c0248"
    assert short_hash({"a": None, "b": [1, "é"]}) == "f8f17faab95c0248"
    assert short_hash(b"abc") == "ba7816bf8f01cfea"


@given(st.lists(st.text(), max_size=3))
def test_a_portion_is_a_share_and_always_the_same(parts: list[str]) -> None:
    """In [0, 1), also of text that is no UTF-8."""
    assert 0 <= portion(*parts) < 1
    assert portion(*parts) == portion(*parts)


def test_portions_are_even() -> None:
    """A share of many names is about that share."""
    found = [portion("x", str(number)) for number in range(4000)]
    for share in (0.05, 0.3, 0.8):
        assert abs(sum(one < share for one in found) / 4000 - share) < 0.025
