"""From the tools of a request to what a tagger may call, and how its arguments are written. Pure.

Only tools are taken that are the tagger's own, name by name and slot by slot, with slots that are plain strings; whatever else a tool
says (a pattern, a list of choices, a field that the tagger does not know) is a difference, named in words. An answer is then valid by
construction, but for a slot that is required and that the utterance does not say.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from msgspec import Struct

from backends._form import ROOT, SILENT, resolved, some

_OBJECT = frozenset({"type", "properties", "required", "additionalProperties"})

_DEEPEST = 16
"""Branches within branches of a field's schema that are looked at."""


class Signature(Struct, frozen=True):
    """How the arguments of a function are written."""

    order: tuple[str, ...]
    """Its fields, as the schema has them."""
    null: frozenset[str] = frozenset()
    """Those that must be there and may be null, as OpenAI's strict tools say that a field is optional."""

    def arguments(self, values: Mapping[str, str]) -> str:
        """JSON text."""
        told = {name: values.get(name) for name in self.order if name in values or name in self.null}
        return orjson.dumps(told).decode()


class Plan(Struct, frozen=True):
    """What may be called."""

    signatures: Mapping[str, Signature]
    named: str = ""
    """The function that the request names; "": any of them."""
    differences: Sequence[str] = ()
    """Why this tagger cannot answer, in words. Nothing else counts then."""


def plan_of(tools: Any, choice: Any, functions: Mapping[str, Sequence[str]], *, auto: bool) -> Plan:
    """functions: function > its slots. auto: a request that leaves it to the model whether to call is answered with a call."""
    named, differences = _named(choice, auto)
    offered: dict[str, Any] = {}
    for tool in tools if isinstance(tools, list) else ():
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or name in offered:
            return Plan({}, "", [*differences, "a tool is no function, or there are two of one name"])
        offered[name] = function.get("parameters") if isinstance(function, dict) else None
    if missing := sorted(functions.keys() - offered.keys()):
        differences.append(f"{len(missing)} of its {len(functions)} functions are not offered: {some(missing)}")
    if unknown := sorted(offered.keys() - functions.keys()):
        differences.append(f"{len(unknown)} tools are unknown to it: {some(unknown)}")
    if named and named not in functions:
        differences.append(f"it has no function {named!r}")
    signatures = {
        name: _signature(name, offered[name], slots, differences)
        for name, slots in functions.items()
        if name in offered and (not named or name == named)
    }
    return Plan(signatures, named, differences)


def _named(choice: Any, auto: bool) -> tuple[str, list[str]]:
    if choice == "required" or (auto and choice in (None, "auto")):
        return "", []
    if isinstance(choice, dict) and choice.get("type") == "function" and isinstance(choice.get("function"), dict):
        name = choice["function"].get("name")
        if isinstance(name, str) and name:
            return name, []
    if choice in (None, "auto"):
        return "", ["it always calls, and the request leaves that open (tool_choice: required, or auto: true)"]
    return "", ["it always calls one function, and tool_choice says something else"]


def _signature(name: str, schema: Any, slots: Sequence[str], differences: list[str]) -> Signature:
    whole = resolved(schema, schema)
    whole = whole if isinstance(whole, dict) else {"not": {}}
    properties, required = whole.get("properties", {}), whole.get("required", [])
    told = isinstance(properties, dict) and isinstance(required, list) and all(isinstance(one, str) for one in required)
    if not told or whole.keys() - SILENT - ROOT - _OBJECT or whole.get("type", "object") != "object":
        differences.append(f"{name}: its parameters are no plain object")
        return Signature(())
    if missing := sorted(set(slots) - properties.keys()):
        differences.append(f"{name}: lacks {len(missing)} of the {len(slots)} slots: {some(missing)}")
    if unknown := sorted({*properties, *required} - set(slots)):
        differences.append(f"{name}: {len(unknown)} fields are unknown to it: {some(unknown)}")
    kinds = {slot: _kinds(part, schema) for slot, part in properties.items()}
    if narrow := sorted(slot for slot, found in kinds.items() if "string" not in found and slot in slots):
        differences.append(f"{name}: {some(narrow)} cannot hold every string")
    null = frozenset(slot for slot in required if "null" in kinds.get(slot, ()))
    return Signature(tuple(properties), null)


def _kinds(schema: Any, root: Any, depth: int = 0) -> set[str]:
    """JSON types of which a schema takes every value."""
    if depth > _DEEPEST:
        return set()
    schema = resolved(schema, root)
    keys = schema.keys() - SILENT if isinstance(schema, dict) else {"?"}
    if not keys:
        return {"string", "null"}
    if keys == {"type"}:
        kind = schema["type"]
        return (
            {kind}
            if isinstance(kind, str)
            else {one for one in kind if isinstance(one, str)}
            if isinstance(kind, list)
            else set()
        )
    if keys == {"anyOf"} and isinstance(schema["anyOf"], list):
        branches = [branch for branch in schema["anyOf"] if not (isinstance(branch, dict) and "anyOf" in branch)]
        return {kind for branch in branches for kind in _kinds(branch, root, depth + 1)}
    return set()
