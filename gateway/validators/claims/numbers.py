"""Numbers as values: however they are written, equal ones are equal."""

import re
from collections.abc import Iterator

from msgspec import Struct

LONGEST = 40
"""Digits of a number that is compared as a value; a longer one is compared as it stands."""

_TOKEN = re.compile(
    r"""
      (?P<pointed>  \d{1,3}(?:\.\d{3}){1,8}(?:,\d++)?(?!\.?\d) )
    | (?P<verbatim> \d{1,4}(?:[-/]\d{1,4}){2}(?!\d) | \d{1,4}[/:]\d{1,4}(?::\d{1,2})?(?!\d) | \d++(?:\.\d++){2,8} )
    | (?P<english>  \d{1,3}(?:,\d{3}){1,8}(?:\.\d++)?(?!\d) )
    | (?P<spaced>   \d{1,3}(?:[ '’_\u00a0\u202f]\d{3}){1,8}(?:[.,]\d++)?(?!\d) )
    | (?P<plain>    \d++(?:\.\d++)? )
    """,
    re.X,
)
_ITEM = re.compile(r"^[ \t]*(?:[-*•>+]+[ \t]+)?\d{1,3}[.)](?=[ \t])", re.M)
_COMMA = re.compile(r"(?<!,)(\d+),(\d{1,2})(?![\d,])")
_SCALE = re.compile(
    r"[ \u00a0-]?(?:(thousand|million|billion|trillion)s?\b|(%|percent\b|per\ cent\b))|([kmb]|bn|mn)\b", re.I
)
_PLACES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12, "k": 3, "m": 6, "mn": 6, "b": 9, "bn": 9}
_WORDS = {
    "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "ten": "10", "eleven": "11", "twelve": "12",
}  # fmt: skip
_WORD = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b", re.I)


class Number(Struct, frozen=True):
    """One number of a text."""

    values: frozenset[str]
    """Each value that it may mean, in one spelling: 1.000 may be 1 and 1000."""
    parts: tuple[str, ...] = ()
    """The numbers in it: of `12 345`, and of a date."""
    several: bool = False
    """It may as well be those: `12 345`."""


def numbers(text: str, *, listed: bool = False) -> Iterator[Number]:
    """Every number of `text`, in order. Signs do not count: a hyphen may be anything. listed: without those that number a list."""
    if listed:
        text = _ITEM.sub("", text)
    at = 0
    while found := _TOKEN.search(text, at):
        comma = _COMMA.match(text, found.start()) if found.lastgroup == "plain" else None
        at = comma.end() if comma else found.end()
        scale = _SCALE.match(text, at)
        if found.lastgroup == "verbatim":
            parts = [plain(part) for part in re.split(r"\D", found[0])]
            yield Number(frozenset({re.sub(r"\d+", lambda part: plain(part[0]), found[0])}), tuple(parts))
            continue
        read = [f"{comma[1]}.{comma[2]}"] if comma else _readings(found[0], str(found.lastgroup))
        values = frozenset(_scaled([plain(text) for text in read], scale))
        parts = [plain(part) for part in found[0].split(" ")] if " " in found[0] else []
        yield Number(values, tuple(parts), bool(parts))


def known(text: str) -> set[str]:
    """The values in `text`, and those written as words up to twelve."""
    found: set[str] = set()
    for number in numbers(text):
        found |= number.values
        found.update(number.parts)
    found.update(_WORDS[word.lower()] for word in _WORD.findall(text))
    return found


def _readings(text: str, form: str) -> list[str]:
    """As decimal fractions with a point."""
    if len(text) > LONGEST or form == "plain":
        return [text]
    if form == "english":
        return [text.replace(",", "")]
    if form == "spaced":
        return [re.sub("[ '’_\u00a0\u202f]", "", text).replace(",", ".")]
    grouped = text.replace(".", "").replace(",", ".")
    return [grouped, text] if text.count(".") == 1 and "," not in text else [grouped]


def _scaled(values: list[str], scale: re.Match[str] | None) -> Iterator[str]:
    """With the word behind the number: `1.2 million` is 1200000; `5m` may be metres; 45 % is 45 and 0.45."""
    word = str(scale[1] or scale[3] or "").lower() if scale is not None else ""
    for value in values:
        if scale is None or not scale[1]:
            yield value
        if word:
            yield shifted(value, _PLACES[word])
        elif scale is not None:
            yield shifted(value, -2)


def plain(text: str) -> str:
    """`text`, digits and perhaps a point, without the zeros that say nothing."""
    whole, _, part = text.partition(".")
    part = part.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{part}" if part else "")


def shifted(value: str, places: int) -> str:
    """`value` times ten to the power of `places`."""
    whole, _, part = value.partition(".")
    if places < 0:
        padded = whole.rjust(1 - places, "0")
        return plain(f"{padded[:places]}.{padded[places:]}{part}")
    padded = part.ljust(places, "0")
    return plain(f"{whole}{padded[:places]}.{padded[places:]}")
