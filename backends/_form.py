"""From a JSON Schema to the form of its answer: which parts are fixed, and which a specialist fills in. Pure.

Only schemas are taken of which every valid filling can be built from constants and labels; whatever else a schema says
(a pattern, a minimum, a choice between branches) is a difference, named in words. An answer is then valid by construction.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from msgspec import Struct


class Const(Struct, frozen=True):
    """A part that has only one valid value."""

    value: Any


class Slot(Struct, frozen=True):
    """A part that is one of the specialist's labels."""

    pointer: str


class Parts(Struct, frozen=True):
    """An object: its properties, in the schema's order."""

    members: "Mapping[str, Const | Slot | Parts]"


Form = Const | Slot | Parts

SILENT = frozenset({"title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly"})
"""Keywords that allow and forbid nothing."""
ROOT = frozenset({"$schema", "$id", "$defs", "definitions"})
_LABEL = frozenset({"type", "enum"})
_OBJECT = frozenset({"type", "properties", "required", "additionalProperties"})
_DEEPEST = 16


def form_of(schema: Any, labels: Mapping[str, frozenset[str]]) -> tuple[Form | None, list[str]]:
    """The form of `schema`'s answers, or None and what stands in the way.

    labels: JSON pointer > the labels that the specialist knows there. A schema that names none of the pointers has nothing
    for the specialist to say, which is a difference too.
    """
    differences: list[str] = []
    form = _form(schema, schema, "", labels, differences, 0)
    if not differences and not slots(form):
        differences.append(f"the schema has none of {', '.join(map(repr, labels))}")
    return (None, differences) if differences else (form, [])


def slots(form: Form | None) -> list[str]:
    """The pointers that have to be filled in."""
    if isinstance(form, Parts):
        return [pointer for member in form.members.values() for pointer in slots(member)]
    return [form.pointer] if isinstance(form, Slot) else []


def fill(form: Form, chosen: Mapping[str, str]) -> str:
    """The answer as JSON text. chosen: pointer > label."""
    return orjson.dumps(_value(form, chosen)).decode()


def _value(form: Form, chosen: Mapping[str, str]) -> Any:
    if isinstance(form, Parts):
        return {name: _value(member, chosen) for name, member in form.members.items()}
    return chosen[form.pointer] if isinstance(form, Slot) else form.value


def _form(
    schema: Any, root: Any, at: str, labels: Mapping[str, frozenset[str]], differences: list[str], depth: int
) -> Form | None:
    here = at or "the answer"
    schema = resolved(schema, root)
    if not isinstance(schema, dict) or depth > _DEEPEST:
        differences.append(f"{here}: no schema that can be followed")
        return None
    keys = schema.keys() - SILENT - (ROOT if not at else frozenset())
    if at in labels:
        differences += _label_differences(schema, keys, here, labels[at])
        return Slot(at)
    if "const" in schema and keys <= {"const", "type"}:
        if not _typed(schema["const"], schema.get("type")):
            differences.append(f"{here}: its const is not of its type")
        return Const(schema["const"])
    if "properties" in schema and keys <= _OBJECT and schema.get("type", "object") == "object":
        return _parts(schema, root, at, labels, differences, depth)
    differences.append(f"{here}: the specialist knows no labels for it")
    return None


def _parts(
    schema: dict[str, Any], root: Any, at: str, labels: Mapping[str, frozenset[str]], differences: list[str], depth: int
) -> Form | None:
    properties, required = schema["properties"], schema.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        differences.append(f"{at or 'the answer'}: no schema that can be followed")
        return None
    members: dict[str, Const | Slot | Parts] = {}
    for name, part in properties.items():
        pointer = f"{at}/{name.replace('~', '~0').replace('/', '~1')}"
        troubles: list[str] = []
        member = _form(part, root, pointer, labels, troubles, depth + 1)
        known = any(label == pointer or label.startswith(f"{pointer}/") for label in labels)
        if troubles and (known or name in required):
            differences += troubles
        elif not troubles and member is not None:
            members[name] = member  # an optional part of which nothing is known is left out
    for name in required:
        if name not in properties:
            differences.append(f"{at}/{name}: required, but not described")
    return Parts(members)


def _label_differences(schema: dict[str, Any], keys: set[str], here: str, known: frozenset[str]) -> list[str]:
    wanted = schema.get("enum")
    if not isinstance(wanted, list) or not all(isinstance(label, str) for label in wanted):
        return [f"{here}: no list of labels (enum of strings)"]
    found = []
    if missing := sorted(known - set(wanted)):
        found.append(f"{here}: lacks {len(missing)} of the specialist's {len(known)} labels: {some(missing)}")
    if unknown := sorted(set(wanted) - known):
        found.append(f"{here}: {len(unknown)} labels are unknown to the specialist: {some(unknown)}")
    more = sorted(keys - _LABEL) + (["type"] if schema.get("type", "string") != "string" else [])
    if more:
        found.append(f"{here}: more is asked of a label than to be one: {some(more)}")
    return found


def some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")


def _typed(value: Any, wanted: Any) -> bool:
    """Is `value` of the JSON type `wanted`?"""
    names: dict[str, tuple[type, ...]] = {
        "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "null": (type(None),),
        "object": (dict,), "array": (list,),
    }  # fmt: skip
    if wanted is None:
        return True
    if isinstance(value, bool) and wanted != "boolean":
        return False
    return isinstance(wanted, str) and isinstance(value, names.get(wanted, ()))


def resolved(schema: Any, root: Any) -> Any:
    """Follow a local `$ref` that stands alone (as pydantic writes enums). None when it leads nowhere."""
    for _ in range(_DEEPEST):
        if not (isinstance(schema, dict) and "$ref" in schema):
            return schema
        target = schema["$ref"]
        if schema.keys() - SILENT - {"$ref"} or not isinstance(target, str) or not target.startswith("#/"):
            return None
        found: Any = root
        for step in target[2:].split("/"):
            step = step.replace("~1", "/").replace("~0", "~")
            found = found.get(step) if isinstance(found, dict) else None
        schema = found
    return None
