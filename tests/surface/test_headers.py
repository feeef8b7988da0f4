"""Header lines: whatever stands in the values, one line each."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.surface.headers import head_lines

names = st.from_regex(re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,12}"), fullmatch=True).filter(
    lambda n: n != "transfer-encoding"
)


@given(st.dictionaries(names, st.text(max_size=20), max_size=8))
def test_a_value_cannot_leave_its_line(headers: dict[str, str]) -> None:
    """Whatever stands in the values: one line each, with its name, without control characters but tabs."""
    lines = head_lines(headers).split(b"\r\n")
    assert lines.pop() == b""
    assert [line.split(b": ", 1)[0].decode() for line in lines] == list(headers)
    assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", b"".join(lines))


@given(st.dictionaries(names, st.from_regex(re.compile(r"[ -~\xa1-\xac\xae-\xff\t]*"), fullmatch=True), max_size=8))
def test_a_plain_value_stays_as_it_is(headers: dict[str, str]) -> None:
    """Latin-1 without control characters."""
    text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    assert head_lines(headers) == text.encode("latin-1")


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "ä", "a\x00", "transfer-encoding", "Content-Length"])
def test_no_header(name: str) -> None:
    """ValueError: what is no name, or is the framing's own."""
    with pytest.raises(ValueError, match="cannot have"):
        head_lines({"x-a": "b", name: "c"})


def test_names_are_told_in_lower_case() -> None:
    """However whoever gave them wrote them."""
    assert head_lines({"X-A%": "B"}) == b"x-a%: B\r\n"
