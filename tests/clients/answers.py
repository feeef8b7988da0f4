"""What the scripted models answer: decided from the request alone, so every run is the same. Pure.

tools       the tool that the user's words name, or that is forced; text after a tool's result
schema      a value that fits, with the numbers and the quoted words of the user's text in it
json_object the keys that the user's text puts in quotes
text        the user's own words; `repeat WORD COUNT SECONDS` > WORD, COUNT times, SECONDS apart; `wait SECONDS` > silence first
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import orjson

from backends._instance import instance

Json = Mapping[str, Any]

_REPEAT = re.compile(r"\brepeat (\S+) (\d{1,6}) ([\d.]{1,8})")
_WAIT = re.compile(r"\bwait ([\d.]{1,8})")
_QUOTED = re.compile(r"['\"`]([^'\"`]+)['\"`]")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "email": "ada@example.org",
    "uuid": "12345678-1234-4234-8234-123456789abc",
    "uri": "https://example.org/",
}


class Call(msgspec.Struct, frozen=True):
    """A tool call. custom: a tool that takes free text (`arguments`) instead of JSON."""

    name: str
    arguments: str
    custom: bool = False


class Answer(msgspec.Struct, frozen=True):
    pieces: Sequence[str] = ()
    """The text, in the pieces that a stream sends."""
    calls: Sequence[Call] = ()
    finish: str = "stop"
    wait: float = 0.0
    """Seconds before anything is sent."""
    pause: float = 0.0
    """Seconds before each piece."""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def answer(body: Json) -> Answer:
    """The answer to an OpenAI chat request."""
    messages = [message for message in body.get("messages") or () if isinstance(message, Mapping)]
    said = last_user_text(messages)
    calls = _calls(body, messages, said)
    if calls:
        named = isinstance(body.get("tool_choice"), Mapping)
        return Answer(calls=calls, finish="stop" if named else "tool_calls")
    wait = _WAIT.search(said)
    seconds = float(wait[1]) if wait else 0.0
    if repeat := _REPEAT.search(said):
        pieces = [repeat[1] + " "] * int(repeat[2])
        return Answer(pieces, wait=seconds, pause=float(repeat[3]))
    return _cut(_text(body, messages, said), body, seconds)


def last_user_text(messages: Sequence[Json]) -> str:
    for message in reversed(messages):
        if message.get("role") == "user":
            return _plain(message.get("content"))
    return ""


def fill(schema: Json, said: str) -> Any:
    """A value that fits `schema`, all properties given, with what `said` quotes and counts where it may stand."""
    root = schema
    quoted, numbers = iter(_QUOTED.findall(said)), iter(_NUMBER.findall(said))

    def value(part: Any, depth: int = 0) -> Any:
        if not isinstance(part, Mapping) or depth > 12:
            return instance(part)
        if "$ref" in part:
            return value(_lookup(str(part["$ref"]), root), depth + 1)
        for key in ("anyOf", "oneOf"):
            if part.get(key):
                return value(part[key][0], depth + 1)
        if "const" in part or part.get("enum") or "allOf" in part:
            return instance({**part, "$defs": root.get("$defs", {})})
        kind = part.get("type")
        kind = kind[0] if isinstance(kind, list) else kind
        if kind == "object" or "properties" in part:
            return {name: value(inner, depth + 1) for name, inner in part.get("properties", {}).items()}
        if kind == "array":
            return [value(part.get("items", {}), depth + 1) for _ in range(max(1, int(part.get("minItems", 1))))]
        if kind == "string":
            return _string(part, next(quoted, "text"))
        if kind in ("integer", "number") and (number := next(numbers, None)) is not None:
            return int(float(number)) if kind == "integer" else float(number)
        return instance(part)

    return value(schema)


def _string(part: Json, wanted: str) -> str:
    wanted = _FORMATS.get(str(part.get("format")), wanted)
    return wanted.ljust(int(part.get("minLength", 0)), "x")[: int(part.get("maxLength", len(wanted) + 256))]


def _lookup(reference: str, root: Json) -> Any:
    found: Any = root
    for name in filter(None, reference.removeprefix("#").split("/")):
        found = found.get(name, {}) if isinstance(found, Mapping) else {}
    return found


def _calls(body: Json, messages: Sequence[Json], said: str) -> Sequence[Call]:
    tools = [tool for tool in body.get("tools") or () if isinstance(tool, Mapping)]
    choice = body.get("tool_choice") or "auto"
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        choice = (choice.get("allowed_tools") or choice).get("mode", "auto")
    if not tools or choice == "none":
        return ()
    if isinstance(choice, Mapping):
        wanted = _name(choice)
        return [_call(tool, said) for tool in tools if _name(tool) == wanted]
    # Agents that write a tool's result as the user's words (smolagents) begin them so.
    answered = messages[-1:] and (messages[-1].get("role") in ("tool", "function") or said.startswith("Observation"))
    if answered:
        finals = [tool for tool in tools if _name(tool).startswith("final")]
        return [_call(tool, said) for tool in finals[:1]] if choice == "required" else ()
    matching = [tool for tool in tools if _matches(tool, said)] or tools[: 1 if choice == "required" else 0]
    if not matching:
        return ()
    if re.search(r"\bboth\b", said) and body.get("parallel_tool_calls") is not False:
        return [_call(tool, said) for tool in (matching * 2)[:2]]
    return [_call(matching[0], said)]


def _name(tool: Json) -> str:
    inner = tool.get("function") or tool.get("custom")
    return str((inner if isinstance(inner, Mapping) else tool).get("name", ""))


def _matches(tool: Json, said: str) -> bool:
    """One of the words of the tool's name is in the text."""
    words = set(re.findall(r"\w+", said.lower()))
    name = _name(tool).lower()
    return name in words or any(len(word) > 3 and word in words for word in name.split("_"))


def _call(tool: Json, said: str) -> Call:
    if isinstance(tool.get("custom"), Mapping):
        return Call(_name(tool), said, custom=True)
    function = tool.get("function") or {}
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    return Call(_name(tool), orjson.dumps(fill(schema, said)).decode())


def _text(body: Json, messages: Sequence[Json], said: str) -> str:
    form = body.get("response_format")
    form = form if isinstance(form, Mapping) else {}
    if form.get("type") == "json_schema":
        schema = (form.get("json_schema") or {}).get("schema") or {"type": "object"}
        return orjson.dumps(fill(schema, said)).decode()
    if form.get("type") == "json_object":
        return orjson.dumps(dict.fromkeys(_QUOTED.findall(said) or ["answer"], "text")).decode()
    if messages and messages[-1].get("role") in ("tool", "function"):
        return f"The tool said: {_plain(messages[-1].get('content'))}"
    return f"You said: {said}"


def _cut(text: str, body: Json, wait: float) -> Answer:
    """`text` as far as `stop` and the token limit let it, in pieces of a word each, or of part of a long one."""
    stops = body.get("stop") or ()
    for stop in [stops] if isinstance(stops, str) else stops:
        if isinstance(stop, str) and stop:
            text = text.partition(stop)[0]
    pieces = re.findall(r"\s*\S{1,12}|\s+$", text)
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if isinstance(limit, int) and limit < len(pieces):
        return Answer(pieces[:limit], finish="length", wait=wait)
    return Answer(pieces, wait=wait)


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "\n".join(str(part.get("text", "")) for part in parts if isinstance(part, Mapping))
