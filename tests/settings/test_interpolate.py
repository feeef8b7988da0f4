"""gateway/settings/interpolate.py"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.interpolate import escape, interpolate

ENV = {"HOME_URL": "http://x", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${HOME_URL}/v1", "http://x/v1"),
        ("${NONE:-a:-b}", "a:-b"),
        ("${NONE:-}", ""),
        ("${EMPTY}", ""),
        ("${EMPTY:-full}", "full"),
        ("${HOME_URL:-y}", "http://x"),
        ("${HOME_URL}${HOME_URL}", "http://xhttp://x"),
        ("$${HOME_URL}", "${HOME_URL}"),
        ("$$$$", "$$"),
        ("^[a-z]+$", "^[a-z]+$"),
        ("#/$defs/label", "#/$defs/label"),
        ("$HOME_URL", "$HOME_URL"),
    ],
)
def test_references_become_values(text: str, expected: str) -> None:
    """${NAME}, ${NAME:-default} and `$$` as documented; every other dollar sign stands for itself."""
    assert interpolate(text, ENV) == (expected, [])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("${NONE}", "the variable NONE is not set"),
        ("a ${HOME_URL", "without its `}`"),
        ("${1ST}", "the name of a variable"),
        ("${}", "the name of a variable"),
        ("${file:/etc/x}", "only where a secret is expected"),
    ],
)
def test_what_cannot_be_replaced_is_said(text: str, says: str) -> None:
    """A reference that leads nowhere is a mistake, never a silent empty string."""
    _, wrong = interpolate(text, ENV)
    assert len(wrong) == 1
    assert says in wrong[0]


def test_every_wrong_reference_is_named() -> None:
    """All of them at once."""
    _, wrong = interpolate("${A} ${B}", {})
    assert [("A" in wrong[0]), ("B" in wrong[1])] == [True, True]


@given(st.text())
def test_escaped_text_comes_back(text: str) -> None:
    """There is a way to write every string."""
    assert interpolate(escape(text), {"A": "1"}) == (text, [])


@given(st.text(alphabet="${}:-AB file\n"), st.dictionaries(st.sampled_from(["A", "B", "AB"]), st.text()))
def test_it_never_raises_and_only_complains_of_references(text: str, env: dict[str, str]) -> None:
    """Whatever stands there: a string and a list of complaints; without `${` and `$$` nothing happens at all."""
    value, wrong = interpolate(text, env)
    assert isinstance(value, str)
    if "${" not in text:
        assert wrong == []
    if "$" not in text:
        assert value == text


@given(st.text(), st.text(), st.text(min_size=1))
def test_a_value_is_not_interpolated_again(before: str, after: str, value: str) -> None:
    """What a variable holds is data: references in it are not followed."""
    text = f"{escape(before)}${{NAME}}{escape(after)}"
    assert interpolate(text, {"NAME": value, "OTHER": "x"}) == (before + value + after, [])
