"""JSON Schema > the part of it that Anthropic's structured outputs take. Pure.

Source: anthropic-python 2.11, `lib/_parse/_transform.py`: other keywords move into the description, where the model may heed them.
Whatever is narrowed here stays true under the caller's schema, and that is what the answer is checked against; so nothing is lost.
"""

from collections.abc import Mapping
from typing import Any

import orjson

FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"},
)
_TYPES = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})
_DEEPEST = 64


class Inexpressible(ValueError):
    """This schema cannot be said in Anthropic's subset."""


def output_schema(schema: Any) -> dict[str, Any] | None:
    """`schema` in the subset; None when it cannot be said there (recursion, a part without a type, free-form objects)."""
    if not isinstance(schema, Mapping) or _recursive(schema):
        return None
    try:
        return _part(schema, 0)
    except Inexpressible:
        return None


def _part(schema: Any, depth: int) -> dict[str, Any]:
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        raise Inexpressible
    rest = dict(schema)
    rest.pop("$schema", None)
    told: dict[str, Any] = {}
    for name in ("$defs", "definitions"):
        if isinstance(defs := rest.pop(name, None), Mapping):
            told[name] = {key: _part(part, depth + 1) for key, part in defs.items()}
    if (ref := rest.pop("$ref", None)) is not None:
        if not isinstance(ref, str) or not ref.startswith("#/"):
            raise Inexpressible
        return {**told, "$ref": ref}
    told |= {key: rest.pop(key) for key in ("description", "title") if isinstance(rest.get(key), str)}
    told |= _core(rest, depth)
    rest.pop("type", None)
    if rest:
        # What is left cannot be enforced there; said in words it may still be heeded.
        said = ", ".join(f"{key}: {_text(value)}" for key, value in sorted(rest.items()))
        told["description"] = f"{told['description']}\n\n{{{said}}}" if "description" in told else f"{{{said}}}"
    return told


def _core(rest: dict[str, Any], depth: int) -> dict[str, Any]:
    """What gives a part its form; taken out of `rest`."""
    for key in ("enum", "const"):
        value = rest.get(key)
        values = value if key == "enum" and isinstance(value, list) else [value]
        if key in rest and values and all(item is None or isinstance(item, str | int | float) for item in values):
            return {key: rest.pop(key)}
    for key, said in (("anyOf", "anyOf"), ("oneOf", "anyOf"), ("allOf", "allOf")):
        if isinstance(branches := rest.pop(key, None), list) and branches:
            return {said: [_part(branch, depth + 1) for branch in branches]}
    kind = rest.get("type")
    if isinstance(kind, list) and kind:  # one of several types: as many branches, each with all that was said
        branches = [{**rest, "type": one} for one in kind]
        rest.clear()
        return {"anyOf": [_part(branch, depth + 1) for branch in branches]}
    if kind is None and isinstance(rest.get("properties"), Mapping):
        kind = "object"
    if kind not in _TYPES:
        raise Inexpressible
    if kind == "object":
        return _object(rest, depth)
    told: dict[str, Any] = {"type": kind}
    if kind == "array":
        if "items" in rest:
            told["items"] = _part(rest.pop("items"), depth + 1)
        if rest.get("minItems") in (0, 1):
            told["minItems"] = rest.pop("minItems")
    elif kind == "string" and isinstance(rest.get("format"), str) and rest["format"] in FORMATS:
        told["format"] = rest.pop("format")
    return told


def _object(rest: dict[str, Any], depth: int) -> dict[str, Any]:
    """Objects are closed there. One that lives from its free keys would come back empty: then better not said at all."""
    named = rest.pop("properties", None)
    named = named if isinstance(named, Mapping) else {}
    others = rest.pop("additionalProperties", None)
    if isinstance(others, Mapping) or "patternProperties" in rest or (not named and others is not False):
        raise Inexpressible
    told: dict[str, Any] = {
        "type": "object",
        "properties": {key: _part(part, depth + 1) for key, part in named.items()},
        "additionalProperties": False,
    }
    required = rest.pop("required", None)
    if isinstance(required, list):
        if not set(map(str, required)) <= set(named):
            raise Inexpressible
        told["required"] = required
    return told


def _recursive(schema: Mapping[str, Any]) -> bool:
    """Does any definition lead back to itself, or any reference elsewhere than to a definition?"""
    tables = [schema.get(name) for name in ("$defs", "definitions")]
    defs = {
        f"#/{name}/{key}": part
        for name, table in zip(("$defs", "definitions"), tables, strict=True)
        if isinstance(table, Mapping)
        for key, part in table.items()
    }
    if not _refs(schema) <= set(defs):
        return True  # to the root, or into the middle of something
    leads = {name: _refs(part) & set(defs) for name, part in defs.items()}
    for name in leads:
        seen: set[str] = set()
        ahead = set(leads[name])
        while ahead:
            if name in ahead:
                return True
            seen |= ahead
            ahead = {further for one in ahead for further in leads[one]} - seen
    return False


def _refs(value: Any) -> set[str]:
    found: set[str] = set()
    ahead = [value]
    while ahead:
        part = ahead.pop()
        if isinstance(part, Mapping):
            if isinstance(part.get("$ref"), str):
                found.add(part["$ref"])
            ahead.extend(part.values())
        elif isinstance(part, list):
            ahead.extend(part)
    return found


def _text(value: Any) -> str:
    try:
        return value if isinstance(value, str) else orjson.dumps(value).decode()
    except TypeError:
        return "..."
