"""gateway/settings/document.py"""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings import document
from gateway.settings.document import read_document
from gateway.settings.mistakes import Place


def value(text: str) -> Any:
    found = read_document(text, "f")
    assert found.mistakes == []
    return found.table


def wrong(text: str) -> list[tuple[int, str]]:
    return [(mistake.line, mistake.message) for mistake in read_document(text, "f").mistakes]


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "Yes", "NO", "y", "1:30", "2024-01-01", "1_000", "0777x"])
def test_words_that_yaml_1_1_turns_into_something_else_stay_words(word: str) -> None:
    """Labels like `no`, times and dates are text, as in YAML 1.2."""
    assert value(f"a: [{word}]\n{word}: 1") == {"a": [word], word: 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("0x1f", 31),
        ("0o17", 15),
        ("010", 10),
        ("1.5", 1.5),
        ("1e-2", 0.01),
        (".5", 0.5),
        ('"12"', "12"),
        ("'true'", "true"),
        ("!!str 12", "12"),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_scalars_are_those_of_the_core_schema(text: str, expected: object) -> None:
    """YAML 1.2 core schema, chapter 10.3; a quoted scalar is text."""
    found = value(f"a: {text}")["a"]
    assert found == expected
    assert type(found) is type(expected)


def test_every_value_has_its_line() -> None:
    """A scalar is placed where it stands, a table or list where its key stands."""
    places = read_document("a:\n  b: 1\n  c:\n    - x\n    - {d: 2}\n  e:\n    y\n", "f").places
    lines = {where: place.line for where, place in places.items()}
    assert lines == {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "c"): 3,
        ("a", "c", 0): 4,
        ("a", "c", 1): 5,
        ("a", "c", 1, "d"): 5,
        ("a", "e"): 7,
    }
    assert places["a",] == Place("f", 1)


def test_a_key_written_twice_names_both_lines() -> None:
    """PyYAML would silently take the last one."""
    assert wrong("a: 1\nb:\n  c: 1\n  c: 2\n") == [(4, "the key 'c' is written twice, first on line 3")]


def test_merge_keys_fill_in_what_is_not_there() -> None:
    """`<<` works, with one table or several: own keys win, then the earlier table."""
    text = "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  <<: [*x, *y]\n  a: 0\n"
    assert value(text)["z"] == {"a": 0, "b": 1, "c": 2}
    assert value("x: &x {a: 1}\nz: {<<: *x}\n")["z"] == {"a": 1}


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", 3, "no YAML"),
        ("a: 1\n\tb: 2\n", 2, "no YAML"),
        ("a: *nope\n", 1, "nope"),
        ("a: 1\n---\nb: 2\n", 2, "no YAML"),
        ("a: 1\nb: \x00\n", 2, "control character"),
        ("- a\n- b\n", 1, "must be a table"),
        ("just text", 1, "must be a table"),
        ("a: 1\n? [b]\n: 2\n", 2, "a key must be a word"),
        ("a: 1\nb: !mine 2\n", 2, "tag !mine is not known"),
        ("a: 1\nb: !!python/object:os.system {}\n", 2, "is not known"),
        ("a: &a\n  b: *a\n", 1, "may not contain itself"),
        ("a: 1\nb: .inf\n", 2, "finite"),
        ("a: 1\nb: .nan\n", 2, "finite"),
        ("a: 1\nb: 99999999999999999999\n", 2, "64 bits"),
        ("a: 1\nb: " + "9" * 6000 + "\n", 2, "64 bits"),
        ("a: 1\nb: 1e999\n", 2, "finite"),
        ("a: 1\nb:\n  <<: 3\n", 3, "`<<` takes a table"),
        ("a: " + "[" * 3000 + "\n", 0, "nested too deeply"),
    ],
)
def test_what_is_no_configuration_is_a_mistake_with_a_line(text: str, line: int, says: str) -> None:
    """Never an exception, never somebody else's traceback."""
    found = wrong(text)
    assert [number for number, _ in found] == [line]
    assert says in found[0][1]


def test_an_alias_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Aliases count as often as they are used: nine lines cannot become a billion values."""
    monkeypatch.setattr(document, "MOST_NODES", 10_000)
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "aliases counted" in wrong("\n".join(lines))[0][1]


def test_an_empty_file_is_an_empty_table() -> None:
    """What is missing in it is said by those who miss it."""
    found = read_document("# nothing\n", "f")
    assert (found.table, found.mistakes) == ({}, [])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_json_is_read_as_what_it_is(table: dict[str, Any]) -> None:
    """Every JSON object, written as quoted YAML, comes back: types are not guessed anew."""
    text = yaml.dump(table, default_style='"', allow_unicode=False)
    found = read_document(text, "f")
    if found.mistakes == []:
        assert found.table == table
    else:  # PyYAML cannot read all that it writes
        with pytest.raises(yaml.YAMLError):
            yaml.safe_load(text)


@given(st.text(alphabet="abc:-[]{}&*!|>'\"#%@`,? \n\t<0123.e~yn\x00\ud800"))
def test_reading_never_raises(text: str) -> None:
    """Whatever a file holds, there is a table, and mistakes with lines inside the file."""
    found = read_document(text, "f")
    assert isinstance(found.table, dict)
    assert all(0 <= mistake.line <= len(text.splitlines()) + 2 for mistake in found.mistakes)
    assert all(place.line >= 1 for place in found.places.values())
    assert found.unread <= set(found.places) | {()}
