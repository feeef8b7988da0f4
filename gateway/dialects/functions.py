"""`functions` and `function_call`, the predecessors of tools (2023): translated both ways, so that old agents work on every rung."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.dialects import fields
from wire.types import Json


def is_old(body: Json) -> bool:
    """Does `body` speak of functions only? Beside tools they are ignored, as OpenAI does."""
    if body.get("tools") is not None:
        return False
    return body.get("functions") is not None or body.get("function_call") is not None


def modern(body: Json) -> Json:
    """`body` with tools instead. A history in the old form becomes tool calls with ids of their own. Raises BadRequest."""
    told = {key: value for key, value in body.items() if key not in ("functions", "function_call")}
    functions = fields.items(body.get("functions") or [], "functions")
    told["tools"] = [
        {"type": "function", "function": fields.table(f, f"functions[{i}]")} for i, f in enumerate(functions)
    ]
    choice = body.get("function_call")
    if isinstance(choice, Mapping):
        told["tool_choice"] = {"type": "function", "function": dict(choice)}
    elif choice is not None:
        if choice not in ("none", "auto"):
            raise fields.reject("function_call", "'function_call' must be none, auto or an object with a name")
        told["tool_choice"] = choice
    if isinstance(body.get("messages"), list):
        told["messages"] = _history(body["messages"])
    return told


def _history(messages: Sequence[Any]) -> list[Any]:
    told: list[Any] = []
    number = 0
    for message in messages:
        call = message.get("function_call") if isinstance(message, Mapping) else None
        if isinstance(call, Mapping):
            number += 1
            rest = {key: value for key, value in message.items() if key != "function_call"}
            told.append({**rest, "tool_calls": [{"id": f"call_{number}", "type": "function", "function": dict(call)}]})
        elif isinstance(message, Mapping) and message.get("role") == "function":
            told.append({"role": "tool", "tool_call_id": f"call_{number}", "content": message.get("content") or ""})
        else:
            told.append(message)
    return told


def old_message(message: dict[str, Any]) -> dict[str, Any]:
    """An answer's message in the old form: its first call, as the old form knows no second."""
    calls = message.get("tool_calls")
    if not calls:
        return message
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**rest, "function_call": calls[0]["function"]}


def old_delta(delta: Json) -> Json:
    """A written delta in the old form."""
    calls = delta.get("tool_calls")
    if not calls:
        return delta
    rest = {key: value for key, value in delta.items() if key != "tool_calls"}
    first = next((call for call in calls if call["index"] == 0), None)
    return {**rest, "function_call": first["function"]} if first else rest
