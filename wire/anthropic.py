"""Anthropic's Messages wire: what its dialect and its backend share. Pure.

Source: Anthropic's API reference as of anthropic-python 2.11 (`types/`, and `lib/streaming/_messages.py` for how clients fold events).

Here: usage and stop reasons in both directions, whose a thinking signature is, and a message > its events > the same message.
Requests are in `wire.anthropic_request`, answers in `wire.anthropic_answer`.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from wire.hashing import short_hash
from wire.jsontext import parse
from wire.sse import encode
from wire.types import Json

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""stop_reason > finish_reason."""

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Status > error type; other 4xx are invalid_request_error, other 5xx api_error."""

INVALID_JSON = "INVALID_JSON"
"""The key under which arguments that are no JSON object travel as a tool's input (Anthropic's own advice for streamed input)."""

_TAG = "weir:"


# --- usage and stop reasons -------------------------------------------------------------------------------------------------------


def to_openai_usage(usage: Any) -> dict[str, Any]:
    """Anthropic counts cached input beside `input_tokens`; OpenAI's `prompt_tokens` hold everything that was read."""
    told: Json = usage if isinstance(usage, Mapping) else {}
    read, written = _count(told.get("cache_read_input_tokens")), _count(told.get("cache_creation_input_tokens"))
    prompt, output = _count(told.get("input_tokens")) + read + written, _count(told.get("output_tokens"))
    converted: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
    }
    details = told.get("output_tokens_details")
    if isinstance(details, Mapping) and "thinking_tokens" in details:
        converted["completion_tokens_details"] = {"reasoning_tokens": _count(details["thinking_tokens"])}
    return converted


def from_openai_usage(usage: Json | None) -> dict[str, Any]:
    """The way back: `input_tokens` without what was read from or written to a cache. Zeros for what is not said."""
    told: Json = usage or {}
    details = told.get("prompt_tokens_details")
    details = details if isinstance(details, Mapping) else {}
    prompt = _count(told.get("prompt_tokens"))
    read = min(prompt, _count(details.get("cached_tokens")))
    written = min(prompt - read, _count(details.get("cache_write_tokens")))
    return {
        "input_tokens": prompt - read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": _count(told.get("completion_tokens")),
    }


def stop_reason(finish: str | None, *, called: bool, refused: bool) -> str:
    """finish_reason > stop_reason. A forced tool ends with `stop` at OpenAI: the calls themselves tell."""
    if refused or finish == "content_filter":
        return "refusal"
    if finish == "length":
        return "max_tokens"
    return "tool_use" if called or finish in ("tool_calls", "function_call") else "end_turn"


def error_type(status: int) -> str:
    return ERROR_TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")


def error_body(kind: str, message: str, request_id: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id or None}


# --- whose thinking it is ---------------------------------------------------------------------------------------------------------
#
# A signature binds thinking to the model that wrote it; replayed into another it is an error at best. The block itself does not say
# whose it is, and Weir answers under one name with many models. So, without any memory: a signature of the model that the caller
# named goes out as it is, one of any other model goes out with that model's mark before it; and comes back to its own model only.


def claim(block: Json, model: str, asked: str) -> dict[str, Any]:
    """A thinking block on its way out: marked, unless the caller named `model` itself. Other blocks as they are."""
    key = _SECRET.get(str(block.get("type")))
    if key is None or not block.get(key) or model == asked:
        return dict(block)
    return {**block, key: f"{_TAG}{_owner(model)}:{block[key]}"}


def release(block: Json, model: str, asked: str) -> dict[str, Any] | None:
    """A thinking block on its way back up, as `model` wrote it; None when another model did, or nobody signed it."""
    key = _SECRET.get(str(block.get("type")))
    if key is None:
        return dict(block)
    secret = block.get(key)
    if not isinstance(secret, str) or not secret:
        return None
    if not secret.startswith(_TAG):
        return dict(block) if model == asked else None
    owner, _, rest = secret.removeprefix(_TAG).partition(":")
    return {**block, key: rest} if owner == _owner(model) else None


def is_ours(block: Json) -> bool:
    """A thinking block that only Weir can have written: marked, or unsigned. Anthropic itself would refuse it."""
    key = _SECRET.get(str(block.get("type")))
    if key is None:
        return False
    secret = block.get(key)
    return not isinstance(secret, str) or not secret or secret.startswith(_TAG)


_SECRET = {"thinking": "signature", "redacted_thinking": "data"}


def _owner(model: str) -> str:
    return short_hash(model)[:8]


# --- a message and its events -----------------------------------------------------------------------------------------------------


def sse(event: Json) -> bytes:
    """One event as it is sent: its type is also the `event:` line."""
    return encode(orjson.dumps(event), str(event["type"]))


def events(message: Json) -> list[dict[str, Any]]:
    """The events that a whole message would have come as, without message_stop."""
    usage = message.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    start = {
        **message,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**usage, "output_tokens": 0},
    }
    start.pop("stop_details", None)
    found: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(message.get("content") or ()):
        found += block_events(index, block)
    ending: dict[str, Any] = {
        "stop_reason": message.get("stop_reason"),
        "stop_sequence": message.get("stop_sequence"),
    }
    ending |= {key: message[key] for key in ("stop_details", "container") if message.get(key) is not None}
    found.append({"type": "message_delta", "delta": ending, "usage": dict(usage)})
    return found


def block_events(index: int, block: Json) -> list[dict[str, Any]]:
    """The events of one content block."""
    kind = block.get("type")
    deltas: list[dict[str, Any]] = []
    shell = dict(block)
    if kind == "text":
        deltas += [{"type": "citations_delta", "citation": citation} for citation in block.get("citations") or ()]
        deltas.append({"type": "text_delta", "text": block.get("text") or ""})
        shell["text"] = ""
        if block.get("citations"):
            shell["citations"] = []
    elif kind == "thinking":
        if block.get("thinking"):
            deltas.append({"type": "thinking_delta", "thinking": block["thinking"]})
        deltas.append({"type": "signature_delta", "signature": block.get("signature") or ""})
        shell |= {"thinking": "", "signature": ""}
    elif isinstance(block.get("input"), Mapping):
        deltas.append({"type": "input_json_delta", "partial_json": orjson.dumps(block["input"]).decode()})
        shell["input"] = {}
    place: dict[str, Any] = {"index": index}
    return [
        {"type": "content_block_start", **place, "content_block": shell},
        *({"type": "content_block_delta", **place, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", **place},
    ]


class Message:
    """Events > the message that they make, as far as it has come. Unknown events and deltas are taken as well as they can be."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {}
        self._content: dict[int, dict[str, Any]] = {}
        self._inputs: dict[int, list[str]] = {}

    def add(self, event: Json) -> None:
        kind = event.get("type")
        if kind == "message":
            self.value = dict(event)
            self._content = {at: dict(block) for at, block in enumerate(event.get("content") or ())}
        elif kind == "message_start":
            self.value = dict(event.get("message") or {})
        elif kind == "content_block_start":
            self._content[event["index"]] = dict(event.get("content_block") or {})
        elif kind == "content_block_delta":
            self._delta(event["index"], event.get("delta") or {})
        elif kind == "message_delta":
            self.value.update(event.get("delta") or {})
            # Cumulative counts: they stand in for those of the start, which survive where nothing is said.
            told = {key: value for key, value in (event.get("usage") or {}).items() if value is not None}
            self.value["usage"] = {**(self.value.get("usage") or {}), **told}

    def whole(self) -> dict[str, Any]:
        return {**self.value, "content": [self._block(at, block) for at, block in sorted(self._content.items())]}

    def _delta(self, index: int, delta: Json) -> None:
        block = self._content.setdefault(index, {})
        for key, value in delta.items():
            if key == "partial_json":
                self._inputs.setdefault(index, []).append(value)
            elif key == "citation":
                block["citations"] = [*(block.get("citations") or ()), value]
            elif key == "signature":
                block[key] = value
            elif key != "type":
                block[key] = block[key] + value if isinstance(value, str) and isinstance(block.get(key), str) else value

    def _block(self, index: int, block: dict[str, Any]) -> dict[str, Any]:
        pieces = "".join(self._inputs.get(index, ()))
        return {**block, "input": tool_input(pieces)} if pieces else block


def tool_input(arguments: str) -> dict[str, Any]:
    """Arguments, JSON text, as the object that Anthropic wants. What is no object is kept under INVALID_JSON."""
    if not arguments.strip():
        return {}
    try:
        value = parse(arguments.encode("utf-8", "replace"))
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {INVALID_JSON: arguments}


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53 else 0
