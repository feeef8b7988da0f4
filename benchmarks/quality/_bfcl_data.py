"""BFCL's single-turn function calling as requests and right answers. Pure, but for reading data/bfcl_v4.

BFCL writes parameter types as its languages have them; its own handlers convert them for OpenAI's API, and so do we: dict > object,
float > number (`format: float`), tuple > array, any > string. Names lose their dots. The ground truth lists allowed values of every
argument: the first is taken; where it is "", the argument may be left out, and is.
"""

import gzip
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from msgspec import Struct

from benchmarks.report import ROOT

FOLDER = ROOT / "data" / "bfcl_v4"
CATEGORIES = ("simple_python", "multiple", "parallel", "parallel_multiple", "irrelevance")
TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}
"""BFCL's type > JSON Schema's; the other types that occur are JSON Schema's own."""


class Spoken(Struct, frozen=True):
    """An answer: calls (name, arguments) in their order, and text ("" where there is none)."""

    calls: tuple[tuple[str, Any], ...] = ()
    text: str = ""

    def canonical(self) -> bytes:
        """The same bytes for the same answer, however its JSON was written."""
        return orjson.dumps([self.calls, self.text], option=orjson.OPT_SORT_KEYS)


class Item(Struct, frozen=True):
    """One request, and what the oracle answers."""

    id: str
    category: str
    text: str
    tools: Sequence[Mapping[str, Any]]
    """{name, description, parameters} each; parameters as JSON Schema."""
    answer: Spoken

    @property
    def key(self) -> bytes:
        """What both sides know it by: no two items share text and tools."""
        return key(self.text, self.tools)


def key(text: str, tools: Sequence[Mapping[str, Any]]) -> bytes:
    """Of a request: its text, and the tools as they were sent, to the last description."""
    return orjson.dumps([text, list(tools)], option=orjson.OPT_SORT_KEYS)


def items() -> list[Item]:
    """All 1,240, category by category. Raises OSError."""
    return [item for category in CATEGORIES for item in _category(category)]


def _category(category: str) -> Iterator[Item]:
    truths = {}
    if category != "irrelevance":
        truths = {row["id"]: row["ground_truth"] for row in _rows(f"possible_answer/BFCL_v4_{category}.json.gz")}
    for row in _rows(f"BFCL_v4_{category}.json.gz"):
        ((message,),) = row["question"]
        text = message["content"]
        tools = [converted(function) for function in row["function"]]
        if row["id"] in truths:
            calls = [(name, arguments) for call in truths[row["id"]] for name, arguments in call.items()]
            answer = Spoken(tuple((plain(name), first(arguments)) for name, arguments in calls))
        else:  # no function fits: a text, with all the characters that the question has
            answer = Spoken((), f"None of my tools answers that.\n> {text}\n– “sorry” ✓")
        yield Item(row["id"], category, text, tools, answer)


def _rows(name: str) -> Iterator[Any]:
    for line in gzip.decompress((FOLDER / name).read_bytes()).splitlines():
        if line.strip():
            yield orjson.loads(line)


def plain(name: str) -> str:
    """A function's name as providers allow it."""
    return name.replace(".", "_")


def converted(function: Mapping[str, Any]) -> dict[str, Any]:
    """A BFCL function as name, description and a JSON Schema of its parameters."""
    return {
        "name": plain(function["name"]),
        "description": function["description"],
        "parameters": schema(function["parameters"]),
    }


def schema(parameters: Any) -> Any:
    """BFCL's parameters as JSON Schema, all the way down."""
    if not isinstance(parameters, dict):
        return parameters
    found: dict[str, Any] = {}
    for keyword, value in parameters.items():
        if keyword == "properties" and isinstance(value, dict):
            found[keyword] = {name: schema(inner) for name, inner in value.items()}
        elif keyword == "items":
            found[keyword] = schema(value)
        elif keyword == "type" and isinstance(value, str):
            found[keyword] = TYPES.get(value, value)
            if value == "float":
                found["format"] = "float"
        else:
            found[keyword] = value
    return found


def first(allowed: Mapping[str, Any]) -> dict[str, Any]:
    """Argument > its first allowed value, without those that may be left out. Objects within list allowed values again."""
    return {name: _value(values[0]) for name, values in allowed.items() if values and values[0] != ""}


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return first(value)
    if isinstance(value, list):
        return [_value(inner) for inner in value]
    return value
