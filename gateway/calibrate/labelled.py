"""Labelled requests, one JSON object a line.

    {"request": {chat body}, "expected": ..., "also": [...], "llm": ..., "comparator": "module:function"}

expected: the right answer: a text; a JSON value; or calls, `[{"name": ..., "arguments": {...}}]`. also: other right answers. llm: what the
rung above would have said, or true/false whether that is right; absent: unknown, and then it counts as right. comparator: a function
`(expected, answer) -> bool` where equality in canonical form is not what "right" means; calls are given to it as a list like the one
above, everything else as a text. part: fit or test, where somebody else has split the data.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal

import orjson
from msgspec import Struct

from gateway.canonical import canonical
from gateway.dialects import chat
from gateway.dialects.base import Caller
from wire.errors import BadRequest
from wire.types import Asked, Constraint, Draft, Json, ToolCall

KEYS = ("request", "expected", "also", "llm", "comparator", "part")
Part = Literal["", "fit", "test"]
Comparator = Callable[[Any, Any], bool]


class LabelledError(ValueError):
    """Lines that cannot be used. Every mistake is in the message, with its line and field."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class Case(Struct, frozen=True):
    """One labelled request."""

    asked: Asked
    expected: Any
    also: Sequence[Any] = ()
    llm: Any = None
    """An answer, a bool, or None: unknown."""
    comparator: str = ""
    part: Part = ""
    source: Json = {}
    """The line, decoded."""


def read(data: bytes, *, name: str, model: str, comparator: str = "", part: Part = "") -> list[Case]:
    """name: of the file, for messages. model: asked for where a request names none. comparator, part: of lines that name none. Raises
    LabelledError with every line that cannot be used."""
    cases: list[Case] = []
    mistakes: list[str] = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        wrong: list[str] = []
        case = _case(line, model, comparator, part, wrong)
        mistakes += [f"{name}:{number}: {what}" for what in wrong]
        if case is not None:
            cases.append(case)
    if not cases and not mistakes:
        mistakes.append(f"{name}: has no line")
    if mistakes:
        raise LabelledError(mistakes)
    return cases


def _case(line: bytes, model: str, comparator: str, part: Part, wrong: list[str]) -> Case | None:
    """None, and why in `wrong`."""
    try:
        table = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        wrong.append(f"is no JSON: {exc.msg} (column {exc.colno})")
        return None
    if not isinstance(table, dict):
        wrong.append("must be a JSON object with `request` and `expected`")
        return None
    wrong += [f"{key}: unknown; there are {', '.join(KEYS)}" for key in table if key not in KEYS]
    asked = _asked(table.get("request"), model, wrong)
    if "expected" not in table:
        wrong.append("expected: is missing")
    also = table.get("also", [])
    if not isinstance(also, list):
        wrong.append("also: must be a list of other right answers")
    named = table.get("comparator") or comparator
    if not isinstance(named, str):
        wrong.append("comparator: must be a text, module:function")
    elif named:
        wrong += _unloadable(named)
    given = table.get("part", part)
    if given not in ("", "fit", "test"):
        wrong.append("part: must be fit or test")
    if wrong or asked is None:
        return None
    return Case(asked, table["expected"], also, table.get("llm"), named, given, table)


def _asked(request: Any, model: str, wrong: list[str]) -> Asked | None:
    if not isinstance(request, dict):
        wrong.append("request: must be the body of a chat completion")
        return None
    body = {**request, "model": request.get("model") or model, "stream": False}
    body.pop("stream_options", None)
    try:
        return chat.understand(body, b"", Caller())
    except BadRequest as exc:
        field = f".{exc.param}" if exc.param and exc.param != "body" else ""
        wrong.append(f"request{field}: {exc.message}")
        return None


def _unloadable(named: str) -> list[str]:
    try:
        comparator_of(named)
    except ValueError as exc:
        return [f"comparator: {exc}"]
    return []


def comparator_of(named: str) -> Comparator:
    """`module:function`, imported. Raises ValueError."""
    module, _, function = named.partition(":")
    try:
        found = getattr(import_module(module), function)
    except Exception as exc:  # whatever happens in somebody's module
        raise ValueError(f"{named!r} cannot be imported: {type(exc).__name__}: {exc}") from exc
    if not callable(found):
        raise ValueError(f"{named!r} is no function")
    compare: Comparator = found
    return compare


# --- right or wrong ---------------------------------------------------------------------------------------------------------------


def right(case: Case, draft: Draft, constraint: Constraint | None, tools: Mapping[str, Json | None]) -> bool:
    """Is this answer one of the right ones?"""
    return any(_same(case, wanted, draft.text, draft.tool_calls, constraint, tools) for wanted in _wanted(case))


def llm_right(case: Case, constraint: Constraint | None, tools: Mapping[str, Json | None]) -> bool | None:
    """Would the rung above have been right? None: the line does not say."""
    if case.llm is None or isinstance(case.llm, bool):
        return case.llm
    text, calls = said(case.llm)
    return any(_same(case, wanted, text, calls, constraint, tools) for wanted in _wanted(case))


def _wanted(case: Case) -> Iterable[Any]:
    yield case.expected
    yield from case.also


def _same(
    case: Case,
    wanted: Any,
    text: str,
    calls: Sequence[ToolCall],
    constraint: Constraint | None,
    tools: Mapping[str, Json | None],
) -> bool:
    if case.comparator:
        return bool(comparator_of(case.comparator)(wanted, _plain(text, calls)))
    schema = constraint.value if constraint is not None and constraint.kind == "schema" else None
    meant, made = said(wanted)
    if bool(made) != bool(calls):
        return False
    return canonical(text, calls, schema=schema, tools=tools) == canonical(meant, made, schema=schema, tools=tools)


def said(answer: Any) -> tuple[str, tuple[ToolCall, ...]]:
    """An answer as it is written in a line > text and calls."""
    if isinstance(answer, str):
        return answer, ()
    if isinstance(answer, list) and answer and all(_is_call(one) for one in answer):
        return "", tuple(ToolCall("", call["name"], _arguments(call["arguments"])) for call in answer)
    return orjson.dumps(answer).decode(), ()


def _is_call(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"name", "arguments"} and isinstance(value["name"], str)


def _arguments(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _plain(text: str, calls: Sequence[ToolCall]) -> Any:
    if not calls:
        return text
    return [{"name": call.name, "arguments": _decoded(call.arguments)} for call in calls]


def _decoded(text: str) -> Any:
    try:
        return orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return text
