"""Reads a growing JSON document, piece by piece."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from gateway.validators.fits_schema import SchemaError, compile_schema
from gateway.validators.prefix.rules import Array, Object, Rules, Schema, integral, kind_of, whole
from gateway.validators.prefix.text import Text
from wire.types import Json

DEEPEST = 1024
"""Levels that orjson reads; a deeper document is none for any check here."""
_LONGEST = 1100
"""Characters of a number that are kept to compare it with limits: the longest one that a float64 needs has 1,076."""
_SPACE = re.compile(r"[ \t\n\r]*")
_SPELL = {
    "": {"-": "-", "0": "0", "1": "1"},
    "-": {"0": "0", "1": "1"},
    "0": {".": ".", "e": "e"},
    "1": {"0": "1", "1": "1", ".": ".", "e": "e"},
    ".": {"0": ".0", "1": ".0"},
    ".0": {"0": ".0", "1": ".0", "e": "e"},
    "e": {"-": "e-", "+": "e-", "0": "e0", "1": "e0"},
    "e-": {"0": "e0", "1": "e0"},
    "e0": {"0": "e0", "1": "e0"},
}
"""How far a number is > what may come next (1 stands for any digit but 0) > how far it is then."""
_WHOLE_NUMBER = ("0", "1", ".0", "e0")
_SIGN = {**dict.fromkeys("123456789", "1"), "E": "e"}
_KIND = {"{": "object", "[": "array", '"': "string", "t": "boolean", "f": "boolean", "n": "null", "-": "number"}
_KIND.update(dict.fromkeys("0123456789", "number"))
_WORDS = {"t": "true", "f": "false", "n": "null"}


class _Level:
    """An object or array that is still open."""

    __slots__ = ("array", "count", "missing", "object", "place")

    def __init__(self, kind: str, object_: Object | None, array: Array | None) -> None:
        self.object = object_
        self.array = array
        self.count = 0 if kind == "array" else -1
        """Items so far; -1 in an object."""
        self.place = ""
        self.missing = set(object_.required) if object_ else set()


class Prefix:
    """An incremental look at a document that is to fit `schema`: `feed` it as it comes.

    It says something only when no continuation can help, and then for certain: it permits whatever `fits_schema` would accept in the end.
    It knows JSON itself (RFC 8259, as orjson reads it), kinds of values, `properties`, `required`, `additionalProperties: false`, `enum`
    and `const`, lengths, counts and limits, `$ref` within the schema, and a union of which one branch admits the value. About the rest it
    says nothing. A schema that cannot be used at all says nothing either, as in `tool_arguments`.

    One thing is not looked ahead for: a document that names a key twice, where the first value breaks the schema and the last one, which
    counts, does not. Such a document is rejected at the first.

    Work is constant per character (with an `enum`: as many comparisons as halving its list takes), memory is bounded by the schema and by
    `DEEPEST`, whatever comes.
    """

    def __init__(self, schema: Json | None) -> None:
        """schema: None for any JSON."""
        self._rules = Rules(_usable(schema))
        self._levels: list[_Level] = []
        self._broken = ""
        self._read = 0
        """Characters before the piece that is being read."""
        self._step: Callable[[str, int], int] = self._value
        self._schema: Schema = self._rules.root
        """Of the place where a value is read or expected."""
        self._text = Text(None, None)
        self._word = ""
        self._spelled = ""
        self._number: list[str] = []
        self._digits = 0

    def feed(self, text: str) -> str:
        """The next characters. "" as long as a document that fits may still come of it, else why not: the place (in the schema's own
        words: other keys show as `*`) and the rule, never a value. Once broken it stays so."""
        at = 0
        while at < len(text) and not self._broken:
            at = self._step(text, at)
        self._read += len(text)
        return self._broken

    # --- states: each reads from `at` on and returns where it stopped -----------------------------------------------------------------

    def _value(self, text: str, at: int) -> int:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        if at == len(text):
            return at
        first = text[at]
        kind = _KIND.get(first)
        if kind is None:
            return self._no_json(at, "expected a value")
        if self._rules.root is not True and kind not in self._rules.kinds(self._schema):
            return self._say(f"{_article(kind)} is not allowed here")
        if kind in ("object", "array"):
            return self._open(kind, at)
        if kind == "string":
            self._text = self._value_text()
            self._step = self._in_string
            return at + 1
        if kind == "number":
            self._number, self._digits, self._spelled = [], 0, ""
            self._step = self._in_number
            return at
        self._word, self._digits = _WORDS[first], 0
        self._step = self._in_word
        return at

    def _open(self, kind: str, at: int) -> int:
        if len(self._levels) == DEEPEST:
            return self._say(f"nested deeper than {DEEPEST} levels")
        if kind == "object":
            self._levels.append(_Level(kind, self._rules.object(self._schema), None))
            self._step = self._first_key
        else:
            self._levels.append(_Level(kind, None, self._rules.array(self._schema)))
            self._step = self._first_item
        return at + 1

    def _first_item(self, text: str, at: int) -> int:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if at == len(text):
            return at
        if text[at] == "]":
            return self._close(at)
        return self._item(at)

    def _item(self, at: int) -> int:
        level = self._levels[-1]
        known = level.array
        if known is not None and known.most is not None and level.count >= known.most:
            level.place = ""
            return self._say(f"more than {known.most} items")
        level.place = str(level.count)
        self._schema = known.item(level.count) if known is not None else True
        level.count += 1
        self._step = self._value
        return at

    def _first_key(self, text: str, at: int) -> int:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if at < len(text) and text[at] == "}":
            return self._close(at)
        return self._key(text, at)

    def _key(self, text: str, at: int) -> int:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if at == len(text):
            return at
        if text[at] != '"':
            return self._no_json(at, "expected a key")
        known = self._levels[-1].object
        self._text = Text(known.known if known else [], None, open_=known is None or not known.closed)
        self._step = self._in_key
        return at + 1

    def _in_key(self, text: str, at: int) -> int:
        at, ended = self._text.read(text, at)
        level = self._levels[-1]
        if not self._text.broken and not ended:
            return at
        level.place = "*"
        if self._text.broken == "listed":
            return self._say("no such key is allowed")
        if self._text.broken:
            return self._no_json(at, self._text.broken)
        key = self._text.found
        self._schema = level.object.value(key) if level.object is not None else True
        if key is not None:
            level.place = key
            level.missing.discard(key)
        self._step = self._colon
        return at

    def _colon(self, text: str, at: int) -> int:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if at == len(text):
            return at
        if text[at] != ":":
            return self._no_json(at, "expected a colon")
        self._step = self._value
        return at + 1

    def _after(self, text: str, at: int) -> int:
        """Behind a value."""
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if at == len(text):
            return at
        if not self._levels:
            return self._no_json(at, "text behind the document")
        array = self._levels[-1].count >= 0
        if text[at] == ("]" if array else "}"):
            return self._close(at)
        if text[at] != ",":
            return self._no_json(at, "expected a comma or the end of the " + ("array" if array else "object"))
        if array:
            return self._item(at + 1)
        self._step = self._key
        return at + 1

    def _close(self, at: int) -> int:
        level = self._levels[-1]
        level.place = ""
        if level.missing:
            level.place = min(level.missing)
            return self._say("a required key is missing")
        if level.array is not None and level.array.least is not None and level.count < level.array.least:
            return self._say(f"fewer than {level.array.least} items")
        self._levels.pop()
        self._step = self._after
        return at + 1

    def _in_string(self, text: str, at: int) -> int:
        at, ended = self._text.read(text, at)
        if self._text.broken == "listed":
            return self._say("no allowed value begins like this")
        if self._text.broken == "long":
            return self._say(f"longer than {self._text.most} characters")
        if self._text.broken:
            return self._no_json(at, self._text.broken)
        if ended:
            least = whole(self._limits("string").get("minLength"))
            if least is not None and self._text.length < least:
                return self._say(f"shorter than {least} characters")
            self._step = self._after
        return at

    def _value_text(self) -> Text:
        limits = self._limits("string")
        return Text(self._rules.texts(limits) if limits else None, whole(limits.get("maxLength")))

    def _in_word(self, text: str, at: int) -> int:
        while at < len(text) and self._digits < len(self._word):
            if text[at] != self._word[self._digits]:
                return self._no_json(at, "expected a value")
            at += 1
            self._digits += 1
        if self._digits == len(self._word):
            value = {"true": True, "false": False}.get(self._word)
            if not self._listed(value):
                return self._say("not one of the allowed values")
            self._step = self._after
        return at

    def _in_number(self, text: str, at: int) -> int:
        begun = at
        while at < len(text):
            going_on = _SPELL[self._spelled].get(_SIGN.get(text[at], text[at]))
            if going_on is None:
                break
            self._spelled = going_on
            at += 1
        self._digits += at - begun
        if self._digits <= _LONGEST:
            self._number.append(text[begun:at])
        if at == len(text):
            return at
        if self._spelled not in _WHOLE_NUMBER or text[at] in "0123456789.eE+-":
            return self._no_json(at, "not a number")
        self._step = self._after
        return at if self._digits > _LONGEST else self._end_of_number("".join(self._number), at)

    def _end_of_number(self, digits: str, at: int) -> int:
        try:
            value = orjson.loads(digits)
        except orjson.JSONDecodeError:
            return self._say("a number that is too large")
        if rule := self._number_rule(value):
            return self._say(rule)
        return at

    def _number_rule(self, value: float) -> str:
        limits = self._limits("number")
        if not self._listed(value):
            return "not one of the allowed values"
        if integral(limits) and isinstance(value, float) and not value.is_integer():
            return "not a whole number"
        for keyword, told, sign, strict in _RANGE:
            limit = limits.get(keyword)
            if isinstance(limit, bool) or not isinstance(limit, (int, float)):
                continue
            # Both ways of comparing, as some validators see an integer as a float64: only what both reject is rejected.
            near, rough = sign * _compare(value, limit), sign * _compare(float(value), float(limit))
            if max(near, rough) < 0 or (strict and near == rough == 0):
                return told
        return ""

    # --- what the schema says ---------------------------------------------------------------------------------------------------------

    def _limits(self, kind: str) -> Mapping[str, Any]:
        """The schema's part about a scalar of `kind` at this place."""
        view = self._rules.view(self._schema, kind)
        return view if isinstance(view, Mapping) else {}

    def _listed(self, value: Any) -> bool:
        """Is `value`, no string, one that `enum` and `const` allow?"""
        limits = self._limits(kind_of(value))
        if "const" in limits and not _same(value, limits["const"]):
            return False
        values = limits.get("enum")
        return not isinstance(values, list) or any(_same(value, allowed) for allowed in values)

    # --- saying why -------------------------------------------------------------------------------------------------------------------

    def _no_json(self, at: int, told: str) -> int:
        self._broken = f"not one JSON document: {told} at character {self._read + at}"
        return at

    def _say(self, rule: str) -> int:
        place = "/".join(level.place for level in self._levels if level.place)
        self._broken = f"/{place}: {rule}"
        return 0


_RANGE = (
    ("minimum", "below the minimum", 1, False),
    ("maximum", "above the maximum", -1, False),
    ("exclusiveMinimum", "not above the exclusive minimum", 1, True),
    ("exclusiveMaximum", "not below the exclusive maximum", -1, True),
)


def _usable(schema: Json | None) -> Schema:
    if schema is None:
        return True
    try:
        compile_schema(schema)
    except (SchemaError, TypeError):  # TypeError: nested deeper than can be written
        return True
    return schema


def _compare(one: float, other: float) -> int:
    return (one > other) - (one < other)


def _same(one: Any, other: Any) -> bool:
    if kind_of(one) != kind_of(other):
        return False
    return bool(one == other or (kind_of(one) == "number" and float(one) == float(other)))


def _article(kind: str) -> str:
    return kind if kind == "null" else f"an {kind}" if kind[0] in "oa" else f"a {kind}"
