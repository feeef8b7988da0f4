"""The cases of `weir test`: reading them, and comparing an answer with what was expected. Pure but for the file and the user's comparator.

A case is a line of JSON:

    {"request": {"messages": [...]}, "expected": ..., "also": [...], "name": "..."}

expected, and every other right answer in `also`: a text, any JSON value, or `{"tool_calls": [{"name": ..., "arguments": {...}}]}`. Compared
in canonical form (`gateway.canonical`): key order, spaces and spellings of numbers do not count.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson
from msgspec import Struct

from gateway.canonical import canonical
from wire.types import Json, ToolCall

KEYS = {"request", "expected", "also", "name"}
CALLS = "tool_calls"
ENOUGH = 0.5
"""A comparator's score from which a case has passed."""
SHOWN = 60
"""Characters of a value in a reason."""


class Case(Struct, frozen=True):
    name: str
    request: Json
    right: Sequence[Any]
    """Every answer that is right."""


class Said(Struct, frozen=True):
    """An answer, as a case sees it."""

    text: str = ""
    calls: Sequence[ToolCall] = ()
    message: Json = {}
    rung: str = ""


class Score(Struct, frozen=True):
    value: float
    """In [0, 1]."""
    why: str = ""

    @property
    def passed(self) -> bool:
        return self.value >= ENOUGH


Compare = Callable[[Any, Said], Score]
"""What was expected, what was said > how right that is. Never raises."""


class Unusable(Exception):
    """The cases or the comparator cannot be used. `mistakes`: all of them, each with its place."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


# --- reading --------------------------------------------------------------------------------------------------------------------------


def read(path: Path) -> list[Case]:
    """The cases in `path`, one a line, empty lines aside. Raises Unusable with every line that is none."""
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise Unusable([f"{path}: {exc.strerror or 'cannot be read'}"]) from exc
    cases: list[Case] = []
    mistakes: list[str] = []
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as exc:
            mistakes.append(f"{path}:{number}: is not JSON: {exc.msg} (column {exc.colno})")
            continue
        wrong = _wrong(value)
        mistakes += [f"{path}:{number}: {what}" for what in wrong]
        if not wrong:
            right = [value["expected"], *value.get("also", ())]
            cases.append(Case(str(value.get("name") or f"line {number}"), value["request"], right))
    if not cases and not mistakes:
        mistakes.append(f"{path}: holds no case")
    if mistakes:
        raise Unusable(mistakes)
    return cases


def _wrong(value: Any) -> list[str]:
    if not isinstance(value, dict):
        return ["a case is a JSON object"]
    found = [f"unknown key {key!r}: a case has {', '.join(sorted(KEYS))}" for key in sorted(value.keys() - KEYS)]
    request = value.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("messages"), list):
        found.append("`request` is a chat request: an object with `messages`")
    if "expected" not in value:
        found.append('`expected` is missing: a text, a JSON value or {"tool_calls": [...]}')
    if not isinstance(value.get("also", []), list):
        found.append("`also` is a list of further right answers")
    if not isinstance(value.get("name", ""), str):
        found.append("`name` is a text")
    for right in [value.get("expected"), *_list(value.get("also"))]:
        if _calls(right) is not None and not all(_call(call) for call in right[CALLS]):
            found.append('a call is {"name": ..., "arguments": {...}}')
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _calls(right: Any) -> list[Any] | None:
    """The calls that are expected; None when something else is."""
    if isinstance(right, dict) and list(right) == [CALLS] and isinstance(right[CALLS], list):
        return list(right[CALLS])
    return None


def _call(value: Any) -> ToolCall | None:
    """`{"name", "arguments"}`, or that under `function` as OpenAI writes it."""
    made = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(made, dict) or not isinstance(made.get("name"), str):
        return None
    arguments = made.get("arguments", {})
    return ToolCall("", made["name"], arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode())


# --- comparing ------------------------------------------------------------------------------------------------------------------------


def same(schema: Json | None, tools: Mapping[str, Json | None]) -> Compare:
    """Equal in canonical form, under the schema and the tools of the request."""

    def compare(expected: Any, said: Said) -> Score:
        calls = _calls(expected)
        if calls is not None:
            wanted = canonical("", [call for call in map(_call, calls) if call is not None], tools=tools)
        elif isinstance(expected, str):
            wanted = canonical(expected, ())
        else:
            wanted = canonical(orjson.dumps(expected).decode(), (), schema=schema)
        kind = schema if not isinstance(expected, str) else None
        got = canonical(said.text, said.calls, schema=kind, tools=tools)
        if got == wanted or (calls == [] and not said.calls):
            return Score(1.0)
        return Score(0.0, f"expected {_short(wanted)}, got {_short(got)}")

    return compare


def of_request(request: Json, imposed: Json | None = None) -> Compare:
    """`same` for a request. imposed: the schema that its route imposes."""
    form = request.get("response_format")
    named = form.get("json_schema") if isinstance(form, dict) else None
    schema = named.get("schema") if isinstance(named, dict) else imposed
    tools: dict[str, Json | None] = {}
    for tool in request.get("tools") or ():
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            tools[function["name"]] = function.get("parameters")
    return same(schema if isinstance(schema, dict) else None, tools)


def comparator(name: str, folder: Path) -> Compare:
    """`module:function` of the user's: f(expected, answer) -> bool, a score in [0, 1], or one of them with a reason.

    answer: a dict with `text`, `json` (None when it is none), `calls`, `message` and `rung`. Modules are looked for in `folder` too. What
    it raises while it compares is a failed case. Raises Unusable when it cannot be loaded.
    """
    module, colon, function = name.partition(":")
    if not colon or not module or not function:
        raise Unusable([f"--comparator is MODULE:FUNCTION, not {name!r}"])
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        judge = getattr(import_module(module), function)
    except Exception as exc:  # a module of the user's: whatever it raises while it is imported
        raise Unusable([f"--comparator {name}: cannot be loaded: {exc!r}"]) from exc
    if not callable(judge):
        raise Unusable([f"--comparator {name}: is no function"])

    def compare(expected: Any, said: Said) -> Score:
        try:
            return _score(judge(expected, _told(said)))
        except Exception as exc:
            return Score(0.0, f"the comparator raised {type(exc).__name__}: {_short(str(exc))}")

    return compare


def best(case: Case, said: Said, compare: Compare) -> Score:
    """The score against the right answer that it comes nearest to; the reason is about the first one."""
    scores = [compare(right, said) for right in case.right]
    top = max(scores, key=lambda score: score.value)
    return top if top.passed else Score(top.value, scores[0].why)


def _score(value: Any) -> Score:
    why = ""
    if isinstance(value, tuple) and len(value) == 2:
        value, why = value[0], str(value[1])
    if isinstance(value, bool):
        return Score(float(value), "" if value else why or "the comparator said no")
    if isinstance(value, (int, float)) and not math.isnan(value) and 0 <= value <= 1:
        return Score(float(value), why or ("" if value >= ENOUGH else f"the comparator gave {value:.3g}"))
    return Score(
        0.0, f"the comparator returned {_short(repr(value))}: a bool, a score from 0 to 1, or one with a reason"
    )


def _told(said: Said) -> dict[str, Any]:
    calls = []
    for call in said.calls:
        arguments: Any = call.arguments
        with suppress(orjson.JSONDecodeError):
            arguments = orjson.loads(call.arguments or "{}")
        calls.append({"name": call.name, "arguments": arguments})
    document: Any = None
    with suppress(orjson.JSONDecodeError):
        document = orjson.loads(said.text)
    return {"text": said.text, "json": document, "calls": calls, "message": dict(said.message), "rung": said.rung}


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
