"""An answer > a message, whole or as events. Pure.

From a rung that speaks Anthropic's wire the message is that rung's own, with our id and the name that the caller asked for. From any
other it is made of the chat answer: thinking, then text, then calls. A stream of that is written block by block: only one block can be
open, so what belongs to another call, or comes after the first one, waits until that one is complete.

Reasoning of other models is shown only to a caller who asked for thinking, unsigned; it comes back as reasoning of ours
(`blocks`), and Anthropic never sees it.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway import money
from gateway.dialects.base import Stamp
from gateway.fold import CallNumbers, Fold
from wire import anthropic
from wire.errors import WeirError
from wire.types import Asked, Chunk, Json

id_header = "request-id"
"""Where Anthropic's clients look for the request's id."""

STOP = {"type": "message_stop"}
PING = {"type": "ping"}
REASONING = ("reasoning_content", "reasoning")


def status(error: WeirError) -> int:
    """As Anthropic says it: overloaded is 529 there."""
    return 529 if error.status == 503 and error.code in ("overloaded", "upstream_overloaded") else error.status


def error(error: WeirError) -> bytes:
    return orjson.dumps(_error(error))


def _error(error: WeirError) -> dict[str, Any]:
    return anthropic.error_body(anthropic.error_type(status(error)), error.message, error.request_id)


def whole(asked: Asked, stamp: Stamp, answer: Fold) -> bytes:
    """A message."""
    return orjson.dumps(_message(asked, stamp, answer))


def writer(asked: Asked, stamp: Stamp) -> "Writer":
    return Writer(asked, stamp)


def _message(asked: Asked, stamp: Stamp, answer: Fold) -> dict[str, Any]:
    if answer.native:
        folded = anthropic.Message()
        for event in answer.native:
            folded.add(event)
        return {**folded.whole(), **_named(stamp)}
    message: dict[str, Any] = {}
    finish: str | None = None
    for index, told, ended, _ in answer.messages():
        if index == 0:
            message, finish = told, ended
    calls = [call for call in message.get("tool_calls") or () if call.get("type") == "function"]
    content: list[dict[str, Any]] = []
    if _shows_thinking(asked) and (thinking := _reasoning(message)):
        content.append({"type": "thinking", "thinking": thinking, "signature": ""})
    if text := (message.get("content") or "") + (message.get("refusal") or ""):
        content.append({"type": "text", "text": text})
    content += [
        _use(_id(call.get("id"), stamp, at), call["function"]["name"], call["function"]["arguments"])
        for at, call in enumerate(calls)
    ]
    reason = anthropic.stop_reason(finish, called=bool(calls), refused=bool(message.get("refusal")))
    return {
        **_blank(stamp),
        "content": content,
        "stop_reason": reason,
        "usage": anthropic.from_openai_usage(answer.usage),
    }


class _Call:
    __slots__ = ("id", "name", "pieces")

    def __init__(self) -> None:
        self.id = self.name = ""
        self.pieces: list[str] = []


class Writer:
    """Chunks > events, each with its `event:` line."""

    def __init__(self, asked: Asked, stamp: Stamp) -> None:
        self._asked = asked
        self._stamp = stamp
        self._started = False
        self._native = False
        self._shows = _shows_thinking(asked)
        self._usage: Json | None = None
        self._finish: str | None = None
        self._refused = False
        self._count = 0
        """Blocks that were begun."""
        self._open = ""
        """The open block: thinking, text, or "" for none of these two."""
        self._numbers = CallNumbers()
        self._calls: dict[int, _Call] = {}
        """In the order in which they came."""
        self._streamed: int | None = None
        """The call whose block is open."""
        self._late: list[tuple[str, str]] = []
        """(kind, text) that came after the first call."""

    def feed(self, chunk: Chunk) -> bytes:
        if chunk.native is not None:
            return self._own(chunk.native)
        if chunk.choice:
            return b""
        self._usage = chunk.usage if chunk.usage is not None else self._usage
        self._finish = chunk.finish or self._finish
        if not chunk.delta and chunk.finish is None:
            return b""
        events = self._begin()
        if self._shows:
            events += self._text("thinking", _reasoning(chunk.delta))
        for key in ("content", "refusal"):
            text = chunk.delta.get(key)
            self._refused = self._refused or (key == "refusal" and bool(text))
            events += self._text("text", text)
        calls = chunk.delta.get("tool_calls")
        for place, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, Mapping) and call.get("type") in (None, "function"):
                events += self._call(place, call)
        return _written(events)

    def end(self) -> bytes:
        if self._native:
            return _written([STOP])
        events = [*self._begin(), *self._close()]
        if self._streamed is not None:
            events += self._close_call(self._calls[self._streamed])
        for index, call in self._calls.items():
            if index != self._streamed:
                events += self._block(self._use_of(index, call))
        for kind, text in self._late:
            events += self._block({"type": kind, **({"text": text} if kind == "text" else {"thinking": text})})
        reason = anthropic.stop_reason(self._finish, called=bool(self._calls), refused=self._refused)
        events.append(
            {
                "type": "message_delta",
                "delta": {"stop_reason": reason, "stop_sequence": None},
                "usage": anthropic.from_openai_usage(self._usage),
            }
        )
        return _written([*events, STOP])

    def error(self, error: WeirError) -> bytes:
        return _written([_error(error)])

    # -- from a rung of the same wire -----------------------------------------------------------------------------------------------

    def _own(self, event: Json) -> bytes:
        """Its events as they are, under our id and name; message_stop waits for `end`, when the Record has been told."""
        kind = event.get("type")
        self._native = True
        if kind == "message":
            first, *rest = anthropic.events(event)
            return _written([self._start(first), PING, *rest])
        if kind == "message_start":
            return _written([self._start(event)])
        return b"" if kind == "message_stop" else _written([event])

    def _start(self, event: Json) -> dict[str, Any]:
        return {**event, "message": {**(event.get("message") or {}), **_named(self._stamp)}}

    # -- from any other -------------------------------------------------------------------------------------------------------------

    def _begin(self) -> list[dict[str, Any]]:
        if self._started:
            return []
        self._started = True
        # Nobody has counted yet, unless the whole answer was held; message_delta says it again, counted.
        usage = anthropic.from_openai_usage(self._usage)
        if self._usage is None:
            usage["input_tokens"] = money.estimate(self._asked.body).input
        message = {**_blank(self._stamp), "usage": {**usage, "output_tokens": 0}}
        return [{"type": "message_start", "message": message}, PING]

    def _text(self, kind: str, text: Any) -> list[dict[str, Any]]:
        if not isinstance(text, str) or not text:
            return []
        if self._calls:
            if self._late and self._late[-1][0] == kind:
                self._late[-1] = kind, self._late[-1][1] + text
            else:
                self._late.append((kind, text))
            return []
        events: list[dict[str, Any]] = []
        if self._open != kind:
            events += self._close()
            self._open = kind
            shell = {"text": ""} if kind == "text" else {"thinking": "", "signature": ""}
            events.append(self._opening({"type": kind, **shell}))
        key = "text" if kind == "text" else "thinking"
        return [*events, self._delta({"type": f"{key}_delta", key: text})]

    def _call(self, place: int, call: Json) -> list[dict[str, Any]]:
        index = self._numbers(call, place)
        events: list[dict[str, Any]] = []
        if index not in self._calls:
            self._calls[index] = _Call()
            events += self._close()
        mine = self._calls[index]
        function = call.get("function")
        function = function if isinstance(function, Mapping) else {}
        mine.id = mine.id or str(call.get("id") or "")
        mine.name = mine.name or str(function.get("name") or "")
        piece = function.get("arguments")
        piece = piece if isinstance(piece, str) else ""
        if piece:
            mine.pieces.append(piece)
        if self._streamed is None and mine.name:
            self._streamed = index
            piece = "".join(mine.pieces)
            events.append(self._opening(_use(self._id_of(index, mine), mine.name, "")))
        if self._streamed == index and piece:
            events.append(self._delta({"type": "input_json_delta", "partial_json": piece}))
        return events

    def _close(self) -> list[dict[str, Any]]:
        if not self._open:
            return []
        self._open = ""
        return [self._closing()]

    def _close_call(self, call: _Call) -> list[dict[str, Any]]:
        # "{}", never nothing: clients parse the input of a tool without any.
        silent = not "".join(call.pieces).strip()
        empty = [self._delta({"type": "input_json_delta", "partial_json": "{}"})] if silent else []
        return [*empty, self._closing()]

    def _block(self, block: Json) -> list[dict[str, Any]]:
        self._count += 1
        return anthropic.block_events(self._count - 1, block)

    def _opening(self, block: Json) -> dict[str, Any]:
        self._count += 1
        return {"type": "content_block_start", "index": self._count - 1, "content_block": block}

    def _delta(self, delta: Json) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._count - 1, "delta": delta}

    def _closing(self) -> dict[str, Any]:
        return {"type": "content_block_stop", "index": self._count - 1}

    def _use_of(self, index: int, call: _Call) -> dict[str, Any]:
        return _use(self._id_of(index, call), call.name, "".join(call.pieces))

    def _id_of(self, index: int, call: _Call) -> str:
        return _id(call.id, self._stamp, index)


def _named(stamp: Stamp) -> dict[str, Any]:
    return {"id": f"msg_{stamp.id}", "type": "message", "model": stamp.model}


def _blank(stamp: Stamp) -> dict[str, Any]:
    return {**_named(stamp), "role": "assistant", "content": [], "stop_reason": None, "stop_sequence": None}


def _use(name_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": name_id, "name": name, "input": anthropic.tool_input(arguments)}


def _id(given: Any, stamp: Stamp, place: int) -> str:
    return str(given) if given else f"toolu_{stamp.id}_{place}"


def _reasoning(message: Json) -> str:
    """One of the two names: some servers send both."""
    found = (message.get(key) for key in REASONING)
    return next((text for text in found if isinstance(text, str) and text), "")


def _shows_thinking(asked: Asked) -> bool:
    thinking = (asked.native or {}).get("thinking")
    return isinstance(thinking, Mapping) and thinking.get("type") not in (None, "disabled")


def _written(events: list[dict[str, Any]] | list[Json]) -> bytes:
    return b"".join(anthropic.sse(event) for event in events)
