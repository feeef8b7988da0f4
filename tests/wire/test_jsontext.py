"""JSON as upstreams write it."""

from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.jsontext import parse

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(_json)
def test_round_trip(value: object) -> None:
    """What a strict writer wrote is read as it was."""
    assert parse(orjson.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a":"\\ud83d"}', {"a": "�"}),
        (b'{"\\ude00":[NaN,Infinity]}', {"�": [None, None]}),
        (b'"caf\xe9"', "caf�"),
        (b'["\\ud83d",12345678901234567890123]', ["�", 12345678901234567890123.0]),
    ],
)
def test_sloppy(text: bytes, value: object) -> None:
    """Half an emoji, NaN, wrong UTF-8 and endless integers are read, into a value that can be written again."""
    assert parse(text) == value
    orjson.dumps(parse(text))


@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    """Whatever is no JSON is a ValueError, nothing else."""
    with suppress(ValueError):
        orjson.dumps(parse(data))


@pytest.mark.parametrize("data", [b"", b"{", b"<html>", b"[" * 200_000])
def test_no_json(data: bytes) -> None:
    """No JSON is a ValueError, also when it is nested without end."""
    with pytest.raises(ValueError):
        parse(data)
