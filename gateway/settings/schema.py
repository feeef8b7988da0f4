"""The published JSON Schema of `weir.yaml` (`weir schema`), draft 2020-12, for editors and other tools.

It says what a file may look like; `weir check` says more: what names lead to, and what the pieces mean together.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.settings.model import Access, ModelSettings, Settings, UiSettings
from gateway.settings.typed import KINDED
from wire.kinds import kinds, load_kind

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_FOREIGN = {
    "type": "object",
    "description": "A kind from your own module: 'module:Class'. Its keys are checked by `weir check`.",
    "properties": {"kind": {"type": "string", "pattern": ":"}},
    "required": ["kind"],
}
_REFERENCE = {"type": "string", "pattern": r"\$\{", "description": "${NAME} or ${NAME:-default}"}
_INCLUDE = {
    "description": "Files whose tables are added to this one's, relative to this file's folder; globs are allowed.",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}


def json_schema() -> dict[str, Any]:
    """The schema of a whole file, with every shipped kind's own keys. Imports every shipped kind."""
    configs = {
        base: {kind: load_kind(package, kind).Config for kind in kinds(package)} for base, package in KINDED.items()
    }
    models = [
        Settings,
        Access,
        ModelSettings,
        UiSettings,
        *KINDED,
        *(config for of in configs.values() for config in of.values()),
    ]
    refs, whole = models_json_schema([(model, "validation") for model in dict.fromkeys(models)], by_alias=True)
    defs: dict[str, Any] = whole["$defs"]

    def name(model: type[BaseModel]) -> str:
        return str(refs[model, "validation"]["$ref"]).rpartition("/")[2]

    for base, of in configs.items():
        for kind, config in of.items():
            table = defs[name(config)]
            table["properties"] = {**table.get("properties", {}), "kind": {"const": kind}}
            table["required"] = ["kind", *(key for key in table.get("required", []) if key != "kind")]
        branches = [{"$ref": f"#/$defs/{name(config)}"} for config in of.values()]
        defs[name(base)] = {"description": f"One of the kinds in {KINDED[base]}/.", "oneOf": [*branches, _FOREIGN]}
    _words(defs, name(Access), {"const": "open"})
    _words(defs, name(ModelSettings), {"type": "string", "pattern": r"^(routed|route/.+|backend/.+)$"})
    _words(defs, name(UiSettings), {"enum": [True, False, "on", "off"]})
    top = defs.pop(name(Settings))
    for table in _tables([top, defs]):
        _may_refer(table)
    top["properties"] = {"include": _INCLUDE, **top["properties"]}
    for table in (top, *defs.values()):
        table.pop("title", None)
    # Only the main file is whole: an included one has some of the tables, so nothing is required when something is included.
    required = top.pop("required")
    return {
        "$schema": DIALECT,
        "title": "weir.yaml",
        **top,
        "if": {"not": {"required": ["include"]}},
        "then": {"required": required},
        "$defs": {**defs, "Reference": _REFERENCE},
    }


def _words(defs: dict[str, Any], name: str, word: dict[str, Any]) -> None:
    """A table that may also be written as a word."""
    defs[name] = {"description": defs[name].get("description", ""), "anyOf": [word, defs[name]]}


def _tables(node: Any) -> Iterator[dict[str, Any]]:
    """Every schema of an object in `node`, inner ones too."""
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict):
            yield node
        for child in node.values():
            yield from _tables(child)
    elif isinstance(node, list):
        for child in node:
            yield from _tables(child)


def _may_refer(table: dict[str, Any]) -> None:
    """A number, a boolean or a word out of a list may also be written as ${NAME}."""
    for key, schema in table["properties"].items():
        schema.pop("title", None)
        if "patternProperties" in schema:  # names have a form, and no other form is a name
            schema["additionalProperties"] = False
        plain = schema.get("type") in ("integer", "number", "boolean") or "enum" in schema
        if plain and "const" not in schema:
            outer = {word: schema.pop(word) for word in ("description", "default") if word in schema}
            table["properties"][key] = {**outer, "anyOf": [schema, {"$ref": "#/$defs/Reference"}]}
        elif "anyOf" in schema and any(one.get("type") in ("integer", "number", "boolean") for one in schema["anyOf"]):
            schema["anyOf"] = [*schema["anyOf"], {"$ref": "#/$defs/Reference"}]
