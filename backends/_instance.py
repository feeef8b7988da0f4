"""A small value that fits a JSON Schema: what `scripted` answers when it knows no better. Pure."""

from collections.abc import Mapping
from typing import Any

_DEEPEST = 32


def instance(schema: Any) -> Any:
    """The first `const`, `enum` value or alternative everywhere, and nothing optional.

    Understands types, enum, const, default, $ref within the document, anyOf, oneOf, allOf, properties, required, items and the
    bounds of strings, numbers and arrays; not patterns, formats and `not`. Raises ValueError for a recursion without an end.
    """
    return _value(schema, schema, 0)


def _value(schema: Any, root: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError("the schema demands an endless value")
    if not isinstance(schema, Mapping):
        return {}
    if "$ref" in schema:
        return _value(_lookup(str(schema["$ref"]), root), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if schema.get("allOf"):
        rest = {key: value for key, value in schema.items() if key != "allOf"}
        return _value(_merged([rest, *schema["allOf"]], root, depth), root, depth + 1)
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return _value(schema[key][0], root, depth + 1)
    if "default" in schema:
        return schema["default"]
    return _of_type(schema, root, depth)


def _of_type(schema: Mapping[str, Any], root: Any, depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    if kind == "array" or (kind is None and "items" in schema):
        prefix = schema.get("prefixItems", ())
        count = max(int(schema.get("minItems", 0)), 0)
        items = [*prefix, *([schema.get("items", {})] * count)]
        return [_value(item, root, depth + 1) for item in items[:count]]
    if kind == "string":
        return "x" * int(schema.get("minLength", 0))
    if kind in ("integer", "number"):
        return _number(schema, kind)
    if kind == "boolean":
        return False
    if kind == "null":
        return None
    properties = schema.get("properties", {})
    return {name: _value(properties.get(name, {}), root, depth + 1) for name in schema.get("required", ())}


def _number(schema: Mapping[str, Any], kind: str) -> Any:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None and (high is None or high > 0 or (high == 0 and "maximum" in schema)):
        return 0
    step = 1 if kind == "integer" else 0.5
    if low is not None:
        if low < 0 and (high is None or high > 0):
            return 0
        return low if "minimum" in schema else low + step
    return high if "maximum" in schema else high - step


def _merged(parts: list[Any], root: Any, depth: int) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for part in parts:
        if not isinstance(part, Mapping):
            continue
        if "$ref" in part and depth < _DEEPEST:
            part = _merged([_lookup(str(part["$ref"]), root)], root, depth + 1)
        merged = {
            **merged,
            **part,
            "properties": {**merged.get("properties", {}), **part.get("properties", {})},
            "required": [*merged.get("required", ()), *part.get("required", ())],
        }
    return merged


def _lookup(reference: str, root: Any) -> Any:
    """What a JSON pointer within the document names. Raises ValueError."""
    if not reference.startswith("#"):
        raise ValueError("a reference out of the schema is not followed")
    found = root
    for part in filter(None, reference[1:].split("/")):
        name = part.replace("~1", "/").replace("~0", "~")
        try:
            found = found[int(name)] if isinstance(found, list) else found[name]
        except (KeyError, IndexError, TypeError, ValueError) as exc:
            raise ValueError("a reference leads nowhere") from exc
    return found
