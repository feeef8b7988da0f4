"""OpenAI's subset of JSON Schema for `strict: true`. Pure. Source: OpenAI's structured-outputs guide (as of 2026), wire checklist 36.

A strict schema outside of the subset is a 400 at OpenAI, so it is one here, whichever rung would have answered: an agent that works through
Weir must also work without it. A schema that is not strict is never refused for being unusual.
"""

from collections.abc import Iterator
from typing import Any

MOST_PROPERTIES = 5000
DEEPEST = 10
MOST_ENUM = 1000
MOST_TEXT = 120_000
"""Characters of names, enum values and constants together."""

_NOT_SUPPORTED = (
    "allOf", "oneOf", "not", "dependentRequired", "dependentSchemas", "if", "then", "else", "patternProperties", "propertyNames",
    "unevaluatedProperties", "unevaluatedItems", "contains", "minContains", "maxContains", "uniqueItems", "prefixItems",
)  # fmt: skip
_INSIDE = ("properties", "$defs", "definitions")


def outside(schema: Any) -> str:
    """The first reason why `schema` is outside of the subset, with its place; "" when it is inside."""
    if not isinstance(schema, dict) or (schema.get("type") != "object" and "$ref" not in schema):
        return 'the root must be an object ("type": "object")'
    if "anyOf" in schema:
        return "the root must not be anyOf"
    properties = enums = text = 0
    for place, part, depth in _walk(schema, "", 1):
        if depth > DEEPEST:
            return f"{place or '/'} is nested deeper than {DEEPEST} levels"
        for keyword in _NOT_SUPPORTED:
            if keyword in part:
                return f"{place or '/'}: '{keyword}' is not supported"
        named = part.get("properties")
        if isinstance(named, dict) or part.get("type") == "object":
            reason = _object(part, named if isinstance(named, dict) else {})
            if reason:
                return f"{place or '/'}: {reason}"
            properties += len(named or ())
            text += sum(len(name) for name in named or ())
        values = part.get("enum")
        if isinstance(values, list):
            enums += len(values)
            text += sum(len(value) for value in values if isinstance(value, str))
        if isinstance(part.get("const"), str):
            text += len(part["const"])
    for count, most, what in (
        (properties, MOST_PROPERTIES, "properties"),
        (enums, MOST_ENUM, "enum values"),
        (text, MOST_TEXT, "characters of names, enum values and constants"),
    ):
        if count > most:
            return f"{count} {what}: at most {most} are supported"
    return ""


def _object(part: dict[str, Any], named: dict[str, Any]) -> str:
    if part.get("additionalProperties") is not False:
        return "'additionalProperties' must be false"
    required = part.get("required")
    missing = sorted(set(named) - set(required if isinstance(required, list) else ()))
    if missing:
        return f"'required' must name every property; missing: {', '.join(missing[:5])}"
    return ""


def _walk(part: Any, place: str, depth: int) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Every schema inside `part`, with its JSON pointer and its depth in objects and arrays. `$ref`s are not followed."""
    stack: list[tuple[str, Any, int]] = [(place, part, depth)]
    while stack:
        here, schema, level = stack.pop()
        if not isinstance(schema, dict):
            continue
        yield here, schema, level
        for keyword in _INSIDE:
            inner = schema.get(keyword)
            if isinstance(inner, dict):
                deeper = level + (keyword == "properties")
                stack += [(f"{here}/{keyword}/{name}", value, deeper) for name, value in inner.items()]
        stack.append((f"{here}/items", schema.get("items"), level + 1))
        alternatives = schema.get("anyOf")
        if isinstance(alternatives, list):
            stack += [(f"{here}/anyOf/{i}", value, level) for i, value in enumerate(alternatives)]
