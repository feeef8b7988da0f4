"""The response object, whole and as a stream of events.

Both are made by the same `Output`: what a client puts together from the events is what it gets without `stream`. Every event has a
`type`, which its `event:` line repeats, and a `sequence_number` from 0 on; there is no [DONE]. An answer that breaks after its first byte
ends with `response.failed`: clients that wait for `response.completed` raise then.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from gateway.dialects.base import Stamp
from gateway.dialects.responses.output import Output
from gateway.fold import Fold
from wire.errors import WeirError
from wire.openai import tokens
from wire.types import EMPTY, Asked, Chunk, Json

CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""finish_reason > reason of an incomplete response."""
RENAMED = (
    ("response_format.json_schema", "text.format"),
    ("response_format", "text.format"),
    ("max_completion_tokens", "max_output_tokens"),
    ("max_tokens", "max_output_tokens"),
    ("reasoning_effort", "reasoning.effort"),
    ("verbosity", "text.verbosity"),
    ("messages", "input"),
)
"""Chat's fields, as an upstream names them in its errors > ours."""


def whole(asked: Asked, stamp: Stamp, answer: Fold) -> bytes:
    """A response."""
    output = Output(stamp.id, _nobody, logprobs=asked.wants.logprobs, names=asked.echo.get("names", EMPTY))
    for index, message, finish, logprobs in answer.messages():
        if index == 0:
            calls = [{**call, "index": at} for at, call in enumerate(message.get("tool_calls") or ())]
            if calls and logprobs:
                logprobs = {"content": _covering(logprobs["content"], message.get("content") or "")}
            output.feed(Chunk(delta={**message, "tool_calls": calls}, finish=finish, logprobs=logprobs))
    return orjson.dumps(_finished(asked, stamp, output, answer.usage, answer.extra))


def error(error: WeirError) -> bytes:
    """An error's body, before the first byte."""
    body = error.body()
    renamed = _renamed(error.param)
    if error.param and renamed != error.param:
        body["error"].update(param=renamed, message=error.message.replace(error.param, str(renamed)))
    return orjson.dumps(body)


def writer(asked: Asked, stamp: Stamp) -> "Writer":
    return Writer(asked, stamp)


class Writer:
    """Chunks > events."""

    def __init__(self, asked: Asked, stamp: Stamp) -> None:
        self._asked = asked
        self._stamp = stamp
        self._output = Output(stamp.id, self._tell, logprobs=asked.wants.logprobs, names=asked.echo.get("names", EMPTY))
        self._usage: Json | None = None
        self._extra: dict[str, Any] = {}
        self._told: list[bytes] = []
        self._number = 0
        self.response: Json | None = None
        """The whole response, once `end` was called."""

    def feed(self, chunk: Chunk) -> bytes:
        self._usage = chunk.usage if chunk.usage is not None else self._usage
        self._extra.update(chunk.extra or {})
        self._begin()
        if chunk.choice == 0:  # this API knows one answer only
            self._output.feed(chunk)
        return self._taken()

    def end(self) -> bytes:
        self._begin()
        self.response = _finished(self._asked, self._stamp, self._output, self._usage, self._extra)
        self._tell(f"response.{self.response['status']}", {"response": self.response})
        return self._taken()

    def error(self, error: WeirError) -> bytes:
        self._begin()
        why = {"code": "rate_limit_exceeded" if error.status == 429 else "server_error", "message": error.message}
        failed = _response(self._asked, self._stamp, "failed", self._output.torn(), self._extra)
        self._tell("response.failed", {"response": {**failed, "error": why}})
        return self._taken()

    def _begin(self) -> None:
        if not self._number:
            begun = _response(self._asked, self._stamp, "in_progress", [], {})
            self._tell("response.created", {"response": begun})
            self._tell("response.in_progress", {"response": begun})

    def _tell(self, kind: str, fields: dict[str, Any]) -> None:
        event = orjson.dumps({"type": kind, "sequence_number": self._number, **fields})
        self._told.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), event))
        self._number += 1

    def _taken(self) -> bytes:
        told, self._told = b"".join(self._told), []
        return told


def _covering(entries: Sequence[Json], text: str) -> list[Json]:
    """The log-probabilities of `text`: those of the calls behind it follow in the same list."""
    covered, size = 0, len(text.encode("utf-8", "surrogatepass"))
    taken: list[Json] = []
    for entry in entries:
        if covered >= size:
            break
        taken.append(entry)
        covered += len(entry.get("bytes") or str(entry.get("token") or "").encode("utf-8", "surrogatepass"))
    return taken


def _nobody(kind: str, fields: dict[str, Any]) -> None:
    """Nobody listens: the answer is told whole."""


def _finished(asked: Asked, stamp: Stamp, output: Output, usage: Json | None, extra: Json) -> dict[str, Any]:
    cut = CUT.get(output.finish or "")
    items = output.end(cut=cut is not None)
    response = _response(asked, stamp, "incomplete" if cut else "completed", items, extra)
    response["incomplete_details"] = {"reason": cut} if cut else None
    response["usage"] = _usage(usage or {})  # clients (AI SDK) want one also when nobody counted
    return response


def _response(asked: Asked, stamp: Stamp, status: str, output: list[Json], extra: Json) -> dict[str, Any]:
    """The response object. Fields that the request left out have the values that they mean."""
    echo = asked.echo

    def told(key: str, otherwise: Any = None) -> Any:
        value = echo.get(key)
        return otherwise if value is None else value

    reasoning, text = told("reasoning", {}), told("text", {})
    return {
        "id": f"resp_{stamp.id}",
        "object": "response",
        "created_at": stamp.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": told("instructions"),
        "max_output_tokens": told("max_output_tokens"),
        "max_tool_calls": told("max_tool_calls"),
        "metadata": told("metadata", {}),
        "model": stamp.model,
        "output": output,
        "parallel_tool_calls": told("parallel_tool_calls", True),
        "previous_response_id": told("previous_response_id"),
        "prompt_cache_key": told("prompt_cache_key"),
        "reasoning": {"effort": None, "summary": None, **reasoning},
        "safety_identifier": told("safety_identifier"),
        "service_tier": extra.get("service_tier") or told("service_tier", "default"),
        "store": told("store", True),
        "temperature": told("temperature", 1.0),
        "text": {**text, "format": text.get("format") or {"type": "text"}},
        "tool_choice": told("tool_choice", "auto"),
        "tools": [_tool(tool) for tool in told("tools", [])],
        "top_logprobs": told("top_logprobs", 0),
        "top_p": told("top_p", 1.0),
        "truncation": told("truncation", "disabled"),
        **({"user": echo["user"]} if echo.get("user") is not None else {}),
    }


def _tool(tool: Json) -> Json:
    """With the keys that clients require of a function."""
    if tool.get("type", "function") != "function":
        return tool
    return {"type": "function", "description": None, "parameters": None, "strict": None, **tool}


def _usage(usage: Json) -> dict[str, Any]:
    counted = tokens(usage)
    return {
        "input_tokens": counted.input,
        "input_tokens_details": {
            "cached_tokens": counted.cached_input,
            "cache_write_tokens": _detail(usage, "prompt_tokens_details", "cache_write_tokens"),
        },
        "output_tokens": counted.output,
        "output_tokens_details": {
            "reasoning_tokens": _detail(usage, "completion_tokens_details", "reasoning_tokens"),
        },
        "total_tokens": counted.input + counted.output,
    }


def _detail(usage: Json, table: str, key: str) -> int:
    details = usage.get(table)
    value = details.get(key) if isinstance(details, dict) else None
    return value if type(value) is int and value >= 0 else 0


def _renamed(param: str | None) -> str | None:
    if param is None:
        return None
    for theirs, ours in RENAMED:
        if param == theirs or param.startswith((f"{theirs}.", f"{theirs}[")):
            # Positions among messages are not those of the input's items.
            return ours if theirs == "messages" else ours + param[len(theirs) :]
    return param
