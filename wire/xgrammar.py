"""Which JSON Schemas the grammar engine xgrammar cannot enforce. Pure.

Source: vLLM 0.32, `v1/structured_output/backend_xgrammar.py` (`has_xgrammar_unsupported_json_features`), xgrammar 0.2.8. A
`response_format` with such a schema is a 400. The arguments of a *strict tool* are not looked at there: what xgrammar does not know
it leaves out in silence. So who sends strict tools must ask here first.
"""

from collections.abc import Iterator, Mapping
from typing import Any

FORMATS = frozenset(
    {
        "email", "date", "time", "date-time", "duration", "ipv4", "ipv6", "hostname", "uuid", "uri", "uri-reference", "uri-template",
        "json-pointer", "relative-json-pointer",
    }
)  # fmt: skip
"""Formats of strings that it knows."""
MOST_PARTS = 20_000
_ARRAYS = ("uniqueItems", "contains", "minContains", "maxContains")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords whose value maps names to schemas: the names are no keywords."""
_DATA = ("enum", "const", "default", "examples", "required", "dependentRequired")
"""Keywords whose value is no schema."""


def unsupported(schema: Any) -> str:
    """The first keyword that xgrammar would refuse or leave out, with its JSON pointer; "" when it can do all of `schema`.

    A schema of more than 20,000 parts is called too large.
    """
    for count, (place, part) in enumerate(_parts(schema)):
        if count > MOST_PARTS:
            return "the schema is too large"
        reason = _number(part) or _array(part) or _string(part) or _object(part)
        if not reason and isinstance(part.get("allOf"), list) and len(part["allOf"]) > 1:
            reason = "allOf of several schemas"
        if not reason and ("not" in part or "if" in part):
            reason = "not" if "not" in part else "if"
        if reason:
            return f"{place or '/'}: {reason}"
    return ""


def _parts(schema: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema inside `schema`, itself first."""
    stack: list[tuple[str, Any]] = [("", schema)]
    while stack:
        place, part = stack.pop()
        if not isinstance(part, Mapping):
            continue
        yield place, part
        for key, value in part.items():
            if key in _DATA:
                continue
            if key in _NAMED and isinstance(value, Mapping):
                stack += [(f"{place}/{key}/{name}", inner) for name, inner in value.items()]
            elif isinstance(value, list):
                stack += [(f"{place}/{key}/{at}", inner) for at, inner in enumerate(value)]
            else:
                stack.append((f"{place}/{key}", value))


def _is(part: Mapping[str, Any], *kinds: str) -> bool:
    told = part.get("type")
    return any(kind in kinds for kind in (told if isinstance(told, list) else [told]) if isinstance(kind, str))


def _number(part: Mapping[str, Any]) -> str:
    return "multipleOf" if "multipleOf" in part and _is(part, "integer", "number") else ""


def _array(part: Mapping[str, Any]) -> str:
    return next((key for key in _ARRAYS if key in part), "") if _is(part, "array") else ""


def _string(part: Mapping[str, Any]) -> str:
    if not _is(part, "string"):
        return ""
    told = part.get("format")
    if told is not None and told not in FORMATS:
        return "an unknown format"
    return "pattern or format beside a length" if _shaped(part) else ""


def _object(part: Mapping[str, Any]) -> str:
    if not _is(part, "object"):
        return ""
    names = part.get("propertyNames")
    if names is not None:
        if isinstance(names, Mapping) and _shaped(names):
            return "propertyNames with a length"
        if any(key in part for key in ("patternProperties", "properties")):
            return "propertyNames beside properties"
        if part.get("unevaluatedProperties", True) is not True:
            return "propertyNames beside unevaluatedProperties"
    patterns = part.get("patternProperties")
    if isinstance(patterns, Mapping) and ("properties" in part or len(patterns) > 1):
        return "patternProperties beside others"
    return ""


def _shaped(part: Mapping[str, Any]) -> bool:
    return ("pattern" in part or "format" in part) and ("minLength" in part or "maxLength" in part)
