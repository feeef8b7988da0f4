"""What a JSON Schema says about one place of a document, as far as that can be said without looking at the rest.

Every keyword of a schema is a condition of its own that must hold (JSON Schema Core 2020-12, 7.6), so a keyword that is not understood
here is left out: what remains permits more, never less. The three exceptions are minded: `items` depends on `prefixItems`,
`additionalProperties` on `properties` and `patternProperties`, and up to draft 7 a `$ref` silences what stands beside it.
Of `anyOf` and `oneOf` only one thing is read: which kinds of values some branch admits, and, where only one branch admits a kind, that
branch (`anyOf: [{$ref: ...}, {type: null}]`, as pydantic writes an optional field).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from wire.pointer import follow

Schema = Any
"""A JSON object, or a boolean."""

KINDS = frozenset({"object", "array", "string", "number", "boolean", "null"})
_HOPS = 16
"""`$ref`s and single branches that are followed in a row, so that a circle ends."""
_DEPTH = 32
"""Branches within branches that are looked into."""
_ABOUT = {
    "object": frozenset({"properties", "additionalProperties", "required"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems"}),
    "string": frozenset({"enum", "const", "minLength", "maxLength"}),
    "number": frozenset({"enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "boolean": frozenset({"enum", "const"}),
    "null": frozenset({"enum", "const"}),
}
_2020 = "https://json-schema.org/draft/2020-12/schema"


class Object:
    """What is said about an object."""

    __slots__ = ("closed", "known", "names", "other", "required")

    def __init__(self, schema: Mapping[str, Any]) -> None:
        names = schema.get("properties")
        self.names: Mapping[str, Schema] = names if isinstance(names, Mapping) else {}
        """Key > schema."""
        beside = schema.get("additionalProperties", True)
        any_key = "patternProperties" in schema
        self.closed = beside is False and not any_key
        """No other key may stand here."""
        self.other: Schema = True if any_key else beside
        needed = schema.get("required")
        self.required = frozenset(key for key in needed if isinstance(key, str)) if _listed(needed) else frozenset()
        self.known = sorted({*self.names, *self.required})

    def value(self, key: str | None) -> Schema:
        """The schema of the value of `key`; None: a key that is not `known`."""
        return self.other if key is None else self.names.get(key, self.other)


class Array:
    """What is said about an array."""

    __slots__ = ("first", "least", "most", "rest")

    def __init__(self, schema: Mapping[str, Any], *, current: bool) -> None:
        first = schema.get("prefixItems") if current else None
        self.first: Sequence[Schema] = first if isinstance(first, list) else ()
        self.rest: Schema = schema.get("items", True)
        if isinstance(self.rest, list) or (not current and "prefixItems" in schema):
            self.rest = True
        self.least = whole(schema.get("minItems"))
        self.most = whole(schema.get("maxItems"))
        if self.rest is False:
            self.most = min(len(self.first), len(self.first) if self.most is None else self.most)

    def item(self, position: int) -> Schema:
        return self.first[position] if position < len(self.first) else self.rest


class Rules:
    """Reads one schema. What was read once is kept: a document of a million items reads the schema of an item once."""

    def __init__(self, root: Schema) -> None:
        self.root: Schema = root
        dialect = str(root.get("$schema", _2020)) if isinstance(root, Mapping) else _2020
        self._current = dialect.rstrip("#") == _2020
        # An `$id` further down changes what a reference means, a `$schema` what a keyword means; in draft 4 several mean something else.
        self._may_refer = not any(isinstance(inner.get("$id"), str) for inner in _inside(root))
        if "draft-04" in dialect or any(isinstance(inner.get("$schema"), str) for inner in _inside(root)):
            self.root = True
        self._kinds: dict[int, frozenset[str]] = {}
        self._views: dict[tuple[int, str], Schema] = {}
        self._objects: dict[int, Object] = {}
        self._arrays: dict[int, Array] = {}
        self._texts: dict[int, list[str] | None] = {}

    def kinds(self, schema: Schema, depth: int = 0) -> frozenset[str]:
        """Kinds of values that may stand where `schema` applies: of `KINDS`, an integer is a number."""
        known = self._kinds.get(id(schema))
        if known is not None:
            return known
        if schema is False:
            return frozenset()
        schema = self._followed(schema)
        if not isinstance(schema, Mapping) or depth > _DEPTH:
            return frozenset() if schema is False else KINDS
        self._kinds[id(schema)] = KINDS  # while it is looked at: a circle says nothing
        found = _typed(schema)
        if "const" in schema:
            found &= {kind_of(schema["const"])}
        if isinstance(schema.get("enum"), list):
            found &= {kind_of(value) for value in schema["enum"]}
        for keyword in ("anyOf", "oneOf"):
            if _listed(branches := schema.get(keyword)):
                found &= frozenset[str]().union(*(self.kinds(branch, depth + 1) for branch in branches))
        if _listed(parts := schema.get("allOf")):
            for part in parts:
                found &= self.kinds(part, depth + 1)
        self._kinds[id(schema)] = found
        return found

    def view(self, schema: Schema, kind: str) -> Schema:
        """The part of `schema` that says most about a value of `kind`: itself, else the only branch that admits such a value; True when
        nothing is said."""
        key = (id(schema), kind)
        if key not in self._views:
            self._views[key] = self._find_view(schema, kind)
        return self._views[key]

    def _find_view(self, schema: Schema, kind: str) -> Schema:
        for _ in range(_HOPS):
            schema = self._followed(schema)
            if not isinstance(schema, Mapping) or not _ABOUT[kind].isdisjoint(schema):
                return schema
            if kind == "number" and "type" in schema:
                return schema
            below = self._below(schema, kind)
            if below is None:
                return True
            schema = below
        return True

    def _below(self, schema: Mapping[str, Any], kind: str) -> Schema | None:
        """The one schema in a branch that a value of `kind` must fit."""
        for keyword in ("anyOf", "oneOf"):
            if _listed(branches := schema.get(keyword)):
                admitting = [branch for branch in branches if kind in self.kinds(branch)]
                if len(admitting) == 1:
                    return admitting[0]
        parts = schema.get("allOf")
        return parts[0] if _listed(parts) and len(parts) == 1 else None

    def object(self, schema: Schema) -> Object | None:
        view = self.view(schema, "object")
        if not isinstance(view, Mapping):
            return None
        if id(view) not in self._objects:
            self._objects[id(view)] = Object(view)
        return self._objects[id(view)]

    def array(self, schema: Schema) -> Array | None:
        view = self.view(schema, "array")
        if not isinstance(view, Mapping):
            return None
        if id(view) not in self._arrays:
            self._arrays[id(view)] = Array(view, current=self._current)
        return self._arrays[id(view)]

    def texts(self, schema: Mapping[str, Any]) -> list[str] | None:
        """The strings that may stand here, sorted; None: any."""
        if id(schema) not in self._texts:
            self._texts[id(schema)] = _texts(schema)
        return self._texts[id(schema)]

    def _followed(self, schema: Schema) -> Schema:
        """Where `$ref`s lead; True where that is not known."""
        for _ in range(_HOPS):
            if not isinstance(schema, Mapping) or "$ref" not in schema:
                return schema
            schema = self._lookup(schema["$ref"])
        return True

    def _lookup(self, reference: Any) -> Schema:
        """A JSON pointer within the document; True for every other reference."""
        if not self._may_refer or not isinstance(reference, str) or "%" in reference:
            return True
        if reference != "#" and not reference.startswith("#/"):
            return True
        return follow(reference, self.root, True)


def integral(schema: Mapping[str, Any]) -> bool:
    """Must a number here be a whole one?"""
    named = schema.get("type")
    return named == "integer" or (isinstance(named, list) and "integer" in named and "number" not in named)


def whole(value: Any) -> int | None:
    """A count as schemas write it (2 or 2.0); None when it is none."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def kind_of(value: Any) -> str:
    """Of a decoded JSON value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)):
        return "number"
    return "object" if isinstance(value, Mapping) else "array"


def _typed(schema: Mapping[str, Any]) -> frozenset[str]:
    named = schema.get("type")
    names = [named] if isinstance(named, str) else named
    if not _listed(names):
        return KINDS
    return frozenset("number" if name == "integer" else name for name in names)


def _texts(schema: Mapping[str, Any]) -> list[str] | None:
    if isinstance(schema.get("const"), str):
        return [schema["const"]]
    values = schema.get("enum")
    return sorted(value for value in values if isinstance(value, str)) if isinstance(values, list) else None


def _listed(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and bool(value)


def _inside(root: Schema) -> Iterator[Mapping[str, Any]]:
    """Every object within `root` that may be a schema, without `root` itself."""
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            if value is not root:
                yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
