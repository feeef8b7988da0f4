"""Bytes of a raw answer > what each byte is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.confidence.scan import KEY, OUTSIDE, STRUCTURE, VALUE, Path, Scanner, Segment

atoms: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    atoms | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
containers = st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=4), values, max_size=3)
noise = st.text(alphabet='ab<>/ \n:,"\\}]', max_size=8)


def scan(text: str) -> tuple[bytes, list[int], list[Segment]]:
    raw, scanner = text.encode(), Scanner(keep=True)
    return raw, [scanner.feed(byte) for byte in raw], scanner.segments


def leaves(value: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in leaves(inner, (*path, key))]
    if isinstance(value, list):
        return [found for at, inner in enumerate(value) for found in leaves(inner, (*path, at))]
    return [(path, value)]


@given(noise, containers, noise, st.booleans(), st.sampled_from([None, 2]))
def test_every_value_is_found_in_any_text(before: str, value: Any, after: str, ascii: bool, indent: int | None) -> None:
    """Each leaf once, in order, with its span: those bytes, decoded as JSON, are the value. Nothing outside is taken for a value."""
    raw, roles, segments = scan(before + json.dumps(value, ensure_ascii=ascii, indent=indent) + after)
    assert len(segments) == 1
    found = []
    for leaf in segments[0].leaves:
        quote = b'"' if leaf.kind == "string" else b""
        found.append((leaf.path, json.loads(quote + raw[leaf.start : leaf.end] + quote)))
        assert all(role == VALUE for role in roles[leaf.start : leaf.end + len(quote)])
    # A key with an escape is kept as it is spelled.
    assert [v for _, v in found] == [v for _, v in leaves(value)]
    if "\\" not in raw.decode():
        assert [p for p, _ in found] == [p for p, _ in leaves(value)]
    spans = sum(leaf.end - leaf.start + (leaf.kind == "string") for leaf in segments[0].leaves)
    assert roles.count(VALUE) == spans
    start, end = segments[0].start, segments[0].end
    assert all(role == OUTSIDE for role in roles[:start] + roles[end:])
    assert all(role != OUTSIDE for role in roles[start:end])


def test_roles() -> None:
    """Opening quotes, colons, commas, braces and white space are structure; keys are keys with their closing quote; a string's closing
    quote is its value."""
    _, roles, _ = scan('x{"a": "b", "c":[1,true]}')
    shown = "".join({OUTSIDE: ".", STRUCTURE: "s", KEY: "k", VALUE: "v"}[role] for role in roles)
    assert shown == ".sskksssvvssskkssvsvvvvss"


@pytest.mark.parametrize(
    "text",
    ["{foo}", "[TOOL_CALLS]", "{'a': 1}", '{"a" 1}', "{]", "[1 2]", '{"a": "b"', "[" * 1000, '{"a":1,}', '["a":1]'],
)
def test_what_is_no_json_is_passed_over(text: str) -> None:
    """Also in part; and what follows is found all the same, unless an open string or object swallowed it."""
    assert scan(text)[2] == []
    if text not in ('{"a": "b"', "[" * 1000):
        assert [leaf.path for segment in scan(text + ' {"x": 1}')[2] for leaf in segment.leaves] == [("x",)]


@given(st.binary(max_size=60))
def test_never_raises(data: bytes) -> None:
    """Whatever bytes come; and it stays small when it need not keep."""
    scanner = Scanner()
    for byte in data:
        assert scanner.feed(byte) in (OUTSIDE, STRUCTURE, KEY, VALUE)
    assert scanner.segments == []
