"""How often a schema makes a validator look at the same place. Pure.

Validators have no step limit. A schema of a few lines whose branches all lead to the same `$ref` doubles the work with every level
(measured: 23 levels of doubled allOf 0.23 s, 16 levels of doubled anyOf 4.5 s, each further level twice as long), in the event loop,
on behalf of whoever sent it. Depth and size do not show that. What does is the number of subschemas that apply to one place of a
document, followed from the root to its properties and items: a handful for schemas that people write; for these it doubles.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from wire.pointer import follow

MOST = 1024
"""Subschemas that may apply to one place: more than the longest union that people write, less than what takes a validator a millisecond."""
_VISITS = 50_000
"""Subschemas that are looked at, about 30 ms. A schema that takes more to judge is not one that people write."""
_IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
_IN_PLACE = ("not", "if", "then", "else")
_EVERY_ITEM = ("items", "prefixItems", "contains", "unevaluatedItems", "additionalItems")
_EVERY_NAME = ("additionalProperties", "patternProperties", "unevaluatedProperties")

Applied = Counter[int]
"""id of a subschema > how often it applies."""


def too_wide(schema: Any) -> bool:
    """Do more than MOST subschemas apply to one place of some document?"""
    known: dict[int, Any] = {}
    try:
        first = _in_place(Counter({_key(schema, known): 1}), schema, known)
        waiting, seen = [first], {frozenset(first.items())}
        visits = 0
        while waiting:
            applied = waiting.pop(0)
            for children in _children(applied, known):
                wider = _in_place(children, schema, known)
                visits += 1 + len(wider)
                if visits > _VISITS:
                    raise OverflowError
                mark = frozenset(wider.items())
                if wider and mark not in seen:
                    seen.add(mark)
                    waiting.append(wider)
    except OverflowError:
        return True
    return False


def _key(schema: Any, known: dict[int, Any]) -> int:
    known[id(schema)] = schema
    return id(schema)


def _in_place(applied: Applied, root: Any, known: dict[int, Any]) -> Applied:
    """`applied` and all that applies to the same place because of it. Raises OverflowError when that is too much."""
    total: Applied = Counter()
    waiting = list(applied.items())
    while waiting:
        key, times = waiting.pop()
        total[key] += times
        if total.total() > MOST:
            raise OverflowError
        waiting.extend((_key(inner, known), times) for inner in _same_place(known[key], root))
    return total


def _same_place(schema: Any, root: Any) -> Iterator[Any]:
    if not isinstance(schema, dict):
        return
    for keyword in _IN_PLACE_LISTS:
        if isinstance(schema.get(keyword), list):
            yield from schema[keyword]
    for keyword in _IN_PLACE:
        if isinstance(schema.get(keyword), dict):
            yield schema[keyword]
    if isinstance(schema.get("dependentSchemas"), dict):
        yield from schema["dependentSchemas"].values()
    for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
        if isinstance(schema.get(keyword), str) and (target := _lookup(schema[keyword], root)) is not None:
            yield target


def _children(applied: Applied, known: dict[int, Any]) -> Iterator[Applied]:
    """What applies to each child: every named property, and any item."""
    named: dict[str, Applied] = {}
    anywhere: Applied = Counter()
    items: Applied = Counter()
    for key, times in applied.items():
        schema = known[key]
        if not isinstance(schema, dict):
            continue
        for keyword in _EVERY_ITEM:
            for inner in _several(schema.get(keyword)):
                items[_key(inner, known)] += times
        for keyword in _EVERY_NAME:
            value = schema.get(keyword)
            for inner in (
                value.values() if keyword == "patternProperties" and isinstance(value, dict) else _several(value)
            ):
                anywhere[_key(inner, known)] += times
        properties = schema.get("properties")
        for name, inner in properties.items() if isinstance(properties, dict) else ():
            named.setdefault(name, Counter())[_key(inner, known)] += times
    yield items
    yield anywhere
    for applied_there in named.values():
        yield applied_there + anywhere


def _several(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [inner for inner in value if isinstance(inner, dict)]
    return [value] if isinstance(value, dict) else []


def _lookup(reference: str, root: Any) -> Any:
    """What a reference within the document means: "#", a JSON pointer, or an anchor; None for any other."""
    if not reference.startswith("#"):
        return None
    if reference[1:2] not in ("", "/"):
        return next((s for s in _all(root) if reference[1:] in (s.get("$anchor"), s.get("$dynamicAnchor"))), None)
    return follow(reference, root, None)


def _all(root: Any) -> Iterator[dict[str, Any]]:
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
