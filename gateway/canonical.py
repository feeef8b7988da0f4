"""An answer > a string that is equal for answers that mean the same. Pure.

Two models that agree rarely agree byte for byte: keys come in another order, 1.0 stands for 1, a default is written out. Votes and
comparisons count these strings, never the bytes. Where it is unclear whether two spellings mean the same they stay different: a lost
agreement costs one escalation, a false one a wrong answer.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from wire.types import Json, ToolCall

DEPTH = 100
"""JSON nested deeper than this is compared as text. A fixed bound: what the interpreter could follow depends on who calls."""
HOPS = 16
"""So many `$ref` in a row are followed."""

_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_PLAIN = 20
"""Powers of ten up to this are written out: 100, not 1e2."""
_NONE: Json = {}


def canonical(
    text: str, calls: Sequence[ToolCall], *, schema: Json | None = None, tools: Mapping[str, Json | None] = _NONE
) -> str:
    """Equal strings mean equal answers. Never raises on what a model said.

    schema: of `text`, where the answer is JSON. tools: name > the schema of its parameters.

    - JSON: key order, white space between tokens and the spelling of numbers do not count (1.0 is 1, 1e2 is 100, without going through
      a float); a property that is not required and holds its schema's `default` is as good as absent, null among them only where the
      default is null. Strings are compared exactly.
    - Calls: a multiset; ids and the text beside calls do not count. No arguments are `{}`.
    - Text that is no JSON (no schema, and begins with neither a brace nor a bracket): NFC, white space collapsed. What should be JSON
      and is not stands for itself, stripped.
    """
    if calls:
        said = sorted([call.kind, call.name, _arguments(call, tools.get(call.name))] for call in calls)
        return "\n" + json.dumps(said)  # no text begins with a line break, so none can pass for calls
    stripped = text.strip()
    if schema is not None or stripped.startswith(("{", "[")):
        return _json(stripped, schema)
    return " ".join(unicodedata.normalize("NFC", stripped).split())


def _arguments(call: ToolCall, schema: Json | None) -> str:
    text = call.arguments.strip()
    return text if call.kind == "custom" else _json(text or "{}", schema)


def _json(text: str, schema: Json | None) -> str:
    try:
        value = json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_refuse)
        return _write(value, Shape(schema, schema), 0)
    except (ValueError, RecursionError):
        return text


class _Number(str):
    """A number as it is spelled: no digit is lost to a float."""

    __slots__ = ()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


class Shape:
    """A schema inside of its root, its references followed. Anything may stand where a schema should: then it says nothing."""

    __slots__ = ("here", "root")

    def __init__(self, here: Any, root: Any) -> None:
        self.root = root
        for _ in range(HOPS):
            ref = here.get("$ref") if isinstance(here, Mapping) else None
            if not isinstance(ref, str) or not ref.startswith("#"):
                break
            here = {**_pointed(root, ref), **{k: v for k, v in here.items() if k != "$ref"}}
        self.here: Mapping[str, Any] = here if isinstance(here, Mapping) else _NONE

    def part(self, keyword: str) -> "Shape":
        """The branch that speaks of objects (`properties`) or arrays (`items`): this one, or the only such one of its alternatives."""
        if keyword in self.here:
            return self
        found = []
        for name in ("allOf", "anyOf", "oneOf"):
            branches = self.here.get(name)
            for branch in branches if isinstance(branches, list | tuple) else ():
                made = Shape(branch, self.root)
                if keyword in made.here:
                    found.append(made)
        return found[0] if len(found) == 1 else self

    def below(self, keyword: str, key: str | None = None) -> "Shape":
        """The schema that stands under `keyword`, and there under `key`."""
        inner = self.here.get(keyword)
        if key is not None:
            inner = inner.get(key) if isinstance(inner, Mapping) else None
        return Shape(inner, self.root)

    def optional(self, key: str) -> bool:
        required = self.here.get("required")
        return not isinstance(required, list | tuple) or key not in required


def _pointed(root: Any, ref: str) -> Mapping[str, Any]:
    found = root
    for step in ref[1:].split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else _NONE


def _write(value: Any, schema: Shape, depth: int) -> str:
    if depth > DEPTH:
        raise RecursionError
    if isinstance(value, dict):
        return _object(value, schema.part("properties"), depth)
    if isinstance(value, list):
        items = schema.part("items").below("items")
        return "[" + ",".join(_write(item, items, depth + 1) for item in value) + "]"
    if isinstance(value, _Number):
        return _number(value)
    if isinstance(value, str | bool | None):
        return json.dumps(value)
    if isinstance(value, int | float):  # a schema's own numbers
        return _number(repr(value))
    raise ValueError(f"{type(value).__name__} is not JSON")


def _object(value: dict[Any, Any], schema: Shape, depth: int) -> str:
    members = []
    for key in sorted(map(str, value)):
        inner = schema.below("properties", key)
        written = _write(value[key], inner, depth + 1)
        if schema.optional(key) and "default" in inner.here and written == _default(inner, depth):
            continue
        members.append(f"{json.dumps(key)}:{written}")
    return "{" + ",".join(members) + "}"


def _default(schema: Shape, depth: int) -> str | None:
    try:
        return _write(schema.here["default"], schema, depth + 1)
    except (ValueError, KeyError):  # not JSON: equal to nothing
        return None


def _number(text: str) -> str:
    """Digits without zeros at either end, times a power of ten."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text} is not a number of JSON")
    sign, whole, fraction, power = match[1], match[2], match[3] or "", match[4] or "0"
    if len(power.lstrip("+-0")) > 18:
        return text  # such a number is compared by its spelling
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return "0"
    short = digits.rstrip("0")
    exponent = int(power) - len(fraction) + len(digits) - len(short)
    if 0 <= exponent <= _PLAIN:
        return sign + short + "0" * exponent
    return f"{sign}{short}e{exponent}"
