"""What an answer must look like, as one grammar in llguidance's Lark dialect. Pure.

Source: llguidance's docs/syntax.md and docs/json_schema.md. JSON is written as vLLM's xgrammar writes it without free white space: `, ` and
`: ` and nothing else, properties in the schema's order, and none that an object with `properties` does not name unless it says so.
A tool call is written in Hermes' format: `<tool_call>\\n{"name": "X", "arguments": {...}}\\n</tool_call>`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from wire.errors import Unsupported
from wire.types import Constraint, Json

OPENS, CLOSES = "<tool_call>", "</tool_call>"
_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_TEXT = "TEXT: /(.|\\n)*/"
_INNER = ("items", "additionalProperties", "unevaluatedProperties", "contains", "propertyNames")
_INNER_LISTS = ("anyOf", "oneOf", "prefixItems")
_INNER_TABLES = ("properties", "patternProperties", "$defs", "definitions")
_OPEN = ("additionalProperties", "unevaluatedProperties", "patternProperties")
_DEEPEST = 64


def answer(constraint: Constraint) -> str:
    """The grammar of an answer under `constraint`. Raises Unsupported."""
    if constraint.kind == "grammar":
        return str(constraint.value)
    return f"start: {_answer(constraint)}\n"


def calls(
    tools: Sequence[tuple[str, Any]], *, text: bool, several: bool, otherwise: Constraint | None = None, special: bool
) -> str:
    """The grammar of an answer in tool calls.

    tools: name and JSON Schema of the parameters (None: no parameters), each. text: the model may answer in text, or begin in it and then
    call. several: more than one call. otherwise: what an answer without a call must look like, in place of free text. special: the
    tokenizer knows the envelope as special tokens, which no text can spell. Raises Unsupported.
    """
    opens, closes = (OPENS, CLOSES) if special else (_quoted(OPENS), _quoted(CLOSES))
    more = f" ({_quoted(chr(10))} call)*" if several else ""
    rules = [f"call: {opens} body", "body: " + " | ".join(f"tool_{i}" for i in range(len(tools)))]
    for i, (name, schema) in enumerate(tools):
        head = _quoted('\n{"name": ' + json.dumps(name, ensure_ascii=False) + ', "arguments": ')
        rules.append(f"tool_{i}: {head} {_json(_parameters(name, schema))} {_quoted('}' + chr(10))} {closes}")
    if otherwise is not None and text:
        start = [f"start: call{more} | otherwise", f"otherwise: {_answer(otherwise)}"]
    elif not text:
        start = [f"start: call{more}"]
    elif special:
        start = [f"start: TEXT | TEXT call{more}", _TEXT]
    else:  # lazy: text ends where the envelope begins, so it cannot hold one that is no call
        start = [f"start: TEXT | first{more}", "first: opened body", f"opened[lazy]: TEXT {opens}", _TEXT]
    return "\n".join([*start, *rules]) + "\n"


def _answer(constraint: Constraint) -> str:
    if constraint.kind == "schema":
        return _json(constraint.value)
    if constraint.kind == "json":
        return _json({"type": "object"})
    if constraint.kind == "choice":
        return " | ".join(_quoted(str(item)) for item in constraint.value)
    if constraint.kind == "regex":
        return f"/{_slashed(str(constraint.value))}/"
    raise Unsupported("a grammar cannot stand beside tools", param="tools")


def _parameters(name: str, schema: Any) -> Any:
    if not schema:
        return {"type": "object", "properties": {}}
    if not isinstance(schema, Mapping):
        raise Unsupported(f"the parameters of {name} are no JSON Schema", param="tools")
    kind = schema.get("type")
    if kind not in (None, "object"):
        raise Unsupported(f"the parameters of {name} are no object", param="tools")
    return schema if kind else {**schema, "type": "object"}


def _json(schema: Any) -> str:
    if schema is True:
        schema = {}
    if not isinstance(schema, Mapping):
        raise Unsupported("the schema is no JSON Schema that an answer could fit")
    told = closed(schema)
    return "%json " + json.dumps({**told, "x-guidance": _SPACING}, ensure_ascii=False)


def closed(schema: Json) -> Json:
    """`schema` without room for properties that it does not name: what fits the result fits `schema`. With `allOf` it stays as it is,
    as branches may name each other's properties."""
    return schema if _merges(schema, 0) else _closed(schema, 0)


def _merges(value: Any, depth: int) -> bool:
    if depth > _DEEPEST:
        raise Unsupported(f"the schema is nested more than {_DEEPEST} levels deep")
    if isinstance(value, Mapping):
        if "allOf" in value or ("$ref" in value and "properties" in value):
            return True
        return any(_merges(item, depth + 1) for item in value.values())
    return isinstance(value, list) and any(_merges(item, depth + 1) for item in value)


def _closed(schema: Any, depth: int) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    told: dict[str, Any] = dict(schema)
    for key in _INNER:
        if key in told:
            told[key] = _closed(told[key], depth + 1)
    for key in _INNER_LISTS:
        if isinstance(told.get(key), list):
            told[key] = [_closed(item, depth + 1) for item in told[key]]
    for key in _INNER_TABLES:
        if isinstance(told.get(key), Mapping):
            told[key] = {name: _closed(item, depth + 1) for name, item in told[key].items()}
    beside = any(key in told for key in _INNER_LISTS[:2])  # the branches may name more
    if isinstance(told.get("properties"), Mapping) and not beside and not any(key in told for key in _OPEN):
        told["additionalProperties"] = False
    return told


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _slashed(pattern: str) -> str:
    """`pattern` between slashes: its own are escaped, line ends are spelled."""
    pattern = re.sub(r"(\\.)|/", lambda found: found[1] or r"\/", pattern, flags=re.DOTALL)
    return pattern.replace("\r", r"\r").replace("\n", r"\n")
