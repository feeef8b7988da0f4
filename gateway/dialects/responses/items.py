"""Input items > chat messages.

What one turn of the assistant consists of (reasoning, text, calls) is one chat message, and the results of its calls stand directly
behind it, wherever among the items they stood: chat wants them there. Calls and results are paired by `call_id`, in their order where
a model used one twice.

Reasoning stands in no chat message: another model would read it as its own. Only a rung that speaks this API itself gets it, in
`Asked.native`.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.dialects import fields
from gateway.dialects.responses.tools import Placed, Tools
from wire.errors import BadRequest
from wire.types import Json

ROLES = ("user", "assistant", "system", "developer")
RESULTS = ("function_call_output", "custom_tool_call_output")
BRING_TOOLS = ("additional_tools", "tool_search_output")
"""Items that make tools known in the middle of a conversation: they join those of the request."""
IGNORED = (
    "reasoning", "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_list_tools", "mcp_call",
    "tool_search_call", "ghost_snapshot", *BRING_TOOLS,
)  # fmt: skip
"""Reasoning, and items that only tell what a hosted tool did on the way to text that stands beside them."""
NOT_HERE = (
    "computer_call", "computer_call_output", "local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output",
    "apply_patch_call", "apply_patch_call_output", "mcp_approval_request", "mcp_approval_response", "compaction", "compaction_trigger",
    "configuration_update", "program", "program_output",
)  # fmt: skip
"""Items of openai-python 3.52 that no chat message can say and that an answer would be wrong without."""


def is_reference(item: Json) -> bool:
    """An item that only names another one by its id. Its `type` may be missing."""
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "role" not in item and isinstance(item.get("id"), str))


def messages(items: Sequence[Placed], instructions: str | None, tools: Tools) -> list[dict[str, Any]]:
    """Chat messages. Raises BadRequest naming the item."""
    turns = _Turns(items, tools)
    if instructions:
        turns.messages.append({"role": "system", "content": instructions})
    for place, item in items:
        turns.add(place, item)
    return turns.end()


class _Turns:
    def __init__(self, items: Sequence[Placed], tools: Tools) -> None:
        self._tools = tools
        self.messages: list[dict[str, Any]] = []
        self._turn: dict[str, Any] | None = None
        """The assistant's turn that is being put together."""
        self._results: dict[str, deque[Any]] = {}
        for place, item in items:
            if item.get("type") in RESULTS:
                self._results.setdefault(_call_id(place, item), deque()).append(_result(place, item))

    def add(self, place: str, item: Json) -> None:
        kind = item.get("type")
        if kind in RESULTS:
            self._close()
        elif kind == "function_call":
            arguments = item.get("arguments")
            function = {"name": self._name(place, item), "arguments": arguments if isinstance(arguments, str) else "{}"}
            self._call({"id": _call_id(place, item), "type": "function", "function": function})
        elif kind == "custom_tool_call":
            text = item.get("input")
            custom = {"name": self._name(place, item), "input": text if isinstance(text, str) else ""}
            self._call({"id": _call_id(place, item), "type": "custom", "custom": custom})
        elif kind == "message" or (kind is None and "role" in item):
            self._message(place, item)
        elif kind in NOT_HERE:
            raise _unsupported(f"{place}.type", f"items of type '{kind}' cannot be told to the models here")
        elif kind not in IGNORED:
            raise _unknown(place, kind)

    def end(self) -> list[dict[str, Any]]:
        self._close()
        for call_id, left in self._results.items():
            if left:
                raise fields.reject("input", f"No tool call found for function call output with call_id {call_id}.")
        return self.messages

    def _message(self, place: str, item: Json) -> None:
        role = item.get("role")
        if role not in ROLES:
            raise fields.reject(f"{place}.role", f"'{place}.role' must be one of {', '.join(ROLES)}")
        content = _content(place, item.get("content"))
        if role != "assistant":
            self._close()
            self.messages.append({"role": role, "content": content})
            return
        if self._turn is not None and "tool_calls" not in self._turn and self._turn["content"] is not None:
            self._close()
        turn = self._open()
        turn["content"] = content if turn["content"] is None else _joined(turn["content"], content)

    def _name(self, place: str, item: Json) -> str:
        return self._tools.called(item.get("namespace"), _text(place, item, "name"))

    def _call(self, call: dict[str, Any]) -> None:
        self._open().setdefault("tool_calls", []).append(call)

    def _open(self) -> dict[str, Any]:
        if self._turn is None:
            self._turn = {"role": "assistant", "content": None}
        return self._turn

    def _close(self) -> None:
        """End the assistant's turn."""
        turn, self._turn = self._turn, None
        if turn is None:
            return
        self.messages.append(turn)
        for call in turn.get("tool_calls", ()):
            waiting = self._results.get(call["id"])
            if not waiting:
                raise fields.reject("input", f"No tool output found for function call {call['id']}.")
            self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": waiting.popleft()})


def _joined(first: Any, second: Any) -> list[Any]:
    return [part for content in (first, second) for part in _as_parts(content)]


def _as_parts(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _result(place: str, item: Json) -> Any:
    output = item.get("output")
    if output is None:
        raise fields.reject(f"{place}.output", f"'{place}.output' is missing")
    return _content(f"{place}.output", output, inner="")


def _content(place: str, value: Any, inner: str = ".content") -> Any:
    """Chat content: a string, also for a single part of text; else parts."""
    if isinstance(value, str):
        return value
    if value is None:
        raise fields.reject(f"{place}{inner}", f"'{place}{inner}' is missing")
    given = fields.items(value, f"{place}{inner}")
    parts = [_part(f"{place}{inner}[{at}]", part) for at, part in enumerate(given)]
    if not parts:
        return ""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _part(place: str, value: Any) -> dict[str, Any]:
    part = fields.table(value, place)
    kind = part.get("type")
    if kind in ("input_text", "output_text", "text", "summary_text"):
        return {"type": "text", "text": _text(place, part, "text")}
    if kind == "refusal":
        return {
            "type": "text",
            "text": _text(place, part, "refusal"),
        }  # as said: not every chat template knows refusals
    if kind == "input_image":
        return _image(place, part)
    if kind == "input_file":
        return _file(place, part)
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": fields.table(part.get("input_audio"), f"{place}.input_audio")}
    raise _unknown(place, kind)


def _image(place: str, part: Json) -> dict[str, Any]:
    url = part.get("image_url")
    if isinstance(url, Mapping):  # as chat writes it
        url = url.get("url")
    if not isinstance(url, str) or not url:
        if part.get("file_id"):
            raise _unsupported(
                f"{place}.file_id", "images by file_id cannot be read here: send an image_url or a data URL"
            )
        raise fields.reject(f"{place}.image_url", f"'{place}.image_url' must be a URL or a data URL")
    image = {"url": url}
    if isinstance(part.get("detail"), str):
        image["detail"] = part["detail"]
    return {"type": "image_url", "image_url": image}


def _file(place: str, part: Json) -> dict[str, Any]:
    if part.get("file_url"):
        raise _unsupported(f"{place}.file_url", "files by URL cannot be read here: send their content as file_data")
    file = {key: part[key] for key in ("file_data", "file_id", "filename") if isinstance(part.get(key), str)}
    if "file_data" not in file and "file_id" not in file:
        raise fields.reject(f"{place}.file_data", f"'{place}' needs file_data or file_id")
    return {"type": "file", "file": file}


def _text(place: str, table: Json, key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str):
        raise fields.reject(f"{place}.{key}", f"'{place}.{key}' must be a string, not {fields.kind(value)}")
    return value


def _call_id(place: str, item: Json) -> str:
    value = item.get("call_id")
    if not isinstance(value, str) or not value:
        raise fields.reject(f"{place}.call_id", f"'{place}.call_id' must be a non-empty string")
    return value


def _unsupported(param: str, message: str) -> BadRequest:
    return fields.reject(param, message, code="unsupported_parameter")


def _unknown(place: str, kind: Any) -> BadRequest:
    known = f"'{kind}' is not known here" if isinstance(kind, str) else "is missing"
    return fields.reject(f"{place}.type", f"'{place}.type' {known}")


def placed(items: Sequence[Any], at: str) -> Iterator[Placed]:
    for index, item in enumerate(items):
        place = f"{at}[{index}]"
        yield place, fields.table(item, place)
