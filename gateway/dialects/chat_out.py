"""OpenAI chat completions, the way out: an answer > a chat.completion, or the events of a stream.

The stream is written by the rules that all clients agree on: the role once, in the first chunk of a choice; a call's id, type and name
once, in its first delta, with indices 0..k; finish_reason once, alone in the last chunk of its choice; usage once, last, with
`choices: []`, and only when it was asked for; id, created and model the same throughout. Whatever an upstream did differently is
mended here (openai-python and openai-node concatenate every repeated string: "assistantassistant").
"""

from collections.abc import Mapping
from typing import Any

import orjson
from msgspec import Struct

from gateway.dialects import functions
from gateway.dialects.base import Stamp
from gateway.fold import CallNumbers, Fold
from wire.errors import WeirError
from wire.types import Asked, Chunk, Json

REASONING = ("reasoning_content", "reasoning")
DONE = b"data: [DONE]\n\n"
NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def whole(asked: Asked, stamp: Stamp, answer: Fold) -> bytes:
    """A chat.completion."""
    messages = answer.messages() or [(0, {"role": "assistant", "content": "", "refusal": None}, None, None)]
    choices = []
    for index, message, finish, logprobs in messages:
        calls = message.get("tool_calls")
        if calls:
            message = _with_ids(message, stamp)
        if "reasoning_content" in message or "reasoning" in message:
            message = one_reasoning(message, stamp.reasoning)
        if asked.wants.functions:
            message = functions.old_message(message)
        choices.append(
            {
                "index": index,
                "message": message,
                "logprobs": _logprobs(logprobs, asked) if logprobs else None,
                "finish_reason": finish_reason(finish, bool(calls), asked) if calls or finish != "stop" else finish,
            }
        )
    return orjson.dumps(
        {
            **answer.extra,
            "id": f"chatcmpl-{stamp.id}",
            "object": "chat.completion",
            "created": stamp.created,
            "model": stamp.model,
            "choices": choices,
            "usage": answer.usage or NO_USAGE,
        }
    )


def one_reasoning(part: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A message or delta with its reasoning in the field `name` only. Upstreams say `reasoning`, `reasoning_content`, or both at
    once, and a client that reads both would double it."""
    told = {key: value for key, value in part.items() if key not in REASONING}
    said = next((part[key] for key in REASONING if part.get(key)), None)
    return {**told, name: said} if said is not None else told


def _with_ids(message: dict[str, Any], stamp: Stamp) -> dict[str, Any]:
    calls = message["tool_calls"]
    if all(call["id"] for call in calls):
        return message
    named = [{**call, "id": call["id"] or _call_id(stamp, place)} for place, call in enumerate(calls)]
    return {**message, "tool_calls": named}


def _call_id(stamp: Stamp, place: int) -> str:
    """For a call that its upstream gave none: a tool's result must be able to name what it answers."""
    return f"call_{stamp.id[-12:]}_{place}"


def _logprobs(logprobs: Json | None, asked: Asked) -> Json | None:
    """With both keys, as clients expect them; None unless they were asked for."""
    return {"content": None, "refusal": None, **logprobs} if logprobs and asked.wants.logprobs else None


def finish_reason(finish: str | None, called: bool, asked: Asked) -> str:
    """What OpenAI would say: `length` wins; calls end with `tool_calls`, but with `stop` when one named tool was forced."""
    if finish not in (None, "stop", "tool_calls"):
        return str(finish)
    if not called:
        return "stop"
    if asked.wants.functions:
        return "function_call"
    choice = asked.body.get("tool_choice")
    forced = isinstance(choice, Mapping) and choice.get("type") == "function"
    return "stop" if forced else "tool_calls"


def error(error: WeirError) -> bytes:
    return orjson.dumps(error.body())


def writer(asked: Asked, stamp: Stamp) -> "Writer":
    return Writer(asked, stamp)


class _Choice(Struct, eq=False):
    finish: str | None = None
    calls: CallNumbers | None = None
    """Once a call has come."""
    named: set[int] = set()
    argued: set[int] = set()
    """Calls (our index) that have arguments by now."""


class Writer:
    """Chunks > chat.completion.chunk events."""

    def __init__(self, asked: Asked, stamp: Stamp) -> None:
        self._asked = asked
        self._stamp = stamp
        self._base: dict[str, Any] = {
            "id": f"chatcmpl-{stamp.id}",
            "object": "chat.completion.chunk",
            "created": stamp.created,
            "model": stamp.model,
        }
        if asked.wants.usage:
            self._base["usage"] = None
        self._choices: dict[int, _Choice] = {}
        self._usage: Json | None = None
        self._extra: dict[str, Any] = {}
        """Words beside the choices (system_fingerprint): in every event from here on, as clients keep what the last one says."""
        self._once: dict[str, Any] = {}
        """Other values beside the choices: with the next event."""
        self._frames: dict[tuple[int, str], tuple[bytes, bytes]] = {}
        """Of a choice and a key of its deltas: the event before and behind the text, while the words beside the choices stay."""

    def feed(self, chunk: Chunk) -> bytes:
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.extra:
            self._beside(chunk.extra)
        delta = chunk.delta
        if len(delta) == 1 and not self._once and chunk.finish is None and not chunk.logprobs:
            for key, text in delta.items():  # more of a text, as most chunks are: 0.5 us instead of 1.8
                frame = self._frames.get((chunk.choice, key)) or self._frame(chunk.choice, key)
                if frame is not None and type(text) is str and text:
                    return frame[0] + orjson.dumps(text) + frame[1]
        if not delta and chunk.finish is None and not chunk.logprobs:
            return b""
        out = []
        for index in (*range(min(chunk.choice, self._asked.wants.n)), chunk.choice):
            if index not in self._choices:  # clients index into a list: lower choices must come first
                out.append(self._open(index))
        choice = self._choices[chunk.choice]
        mended = self._delta(delta, choice) if delta else {}
        calls = mended.pop("tool_calls", None)
        logprobs = _logprobs(chunk.logprobs, self._asked) if chunk.logprobs else None
        if mended or logprobs:
            out.append(self._event(chunk.choice, mended, None, logprobs))
        if calls:  # apart from the text: some clients (AutoGen) read only one of the two in a delta
            out.append(self._event(chunk.choice, {"tool_calls": calls}, None, None))
        if chunk.finish is not None:
            choice.finish = chunk.finish
        return b"".join(out)

    def end(self) -> bytes:
        out = [self._open(0)] if not self._choices else []
        for index, choice in sorted(self._choices.items()):
            called = choice.calls is not None
            if choice.calls is not None:
                # "{}", never "": every client parses the arguments of a tool without any.
                silent = sorted(set(range(len(choice.calls))) - choice.argued)
                for ours in silent:
                    arguments = {"tool_calls": [{"index": ours, "function": {"arguments": "{}"}}]}
                    out.append(self._event(index, arguments, None, None))
            out.append(self._event(index, {}, finish_reason(choice.finish, called, self._asked), None))
        if self._asked.wants.usage:
            out.append(_sse({**self._extra, **self._base, "choices": [], "usage": self._usage or NO_USAGE}))
        out.append(DONE)
        return b"".join(out)

    def error(self, error: WeirError) -> bytes:
        return _sse(error.body())

    def _beside(self, extra: Json) -> None:
        for key, value in extra.items():
            if not isinstance(value, str):
                self._once[key] = value
            elif self._extra.get(key) != value:
                self._extra[key] = value
                self._frames.clear()

    def _frame(self, index: int, key: str) -> tuple[bytes, bytes] | None:
        """What stands around the text of a delta that has nothing but `key`; None before its choice was opened, and for other keys."""
        choice = self._choices.get(index)
        if choice is None or (key != "content" and key not in REASONING):
            return None
        before, _, after = self._event(index, self._delta({key: "."}, choice), None, None).rpartition(b'"."')
        self._frames[index, key] = before, after
        return before, after

    def _open(self, index: int) -> bytes:
        self._choices[index] = _Choice()
        return self._event(index, {"role": "assistant", "content": "", "refusal": None}, None, None)

    def _event(self, index: int, delta: Json, finish: str | None, logprobs: Json | None) -> bytes:
        if self._asked.wants.functions:
            delta = functions.old_delta(delta)
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        once, self._once = self._once, {}
        return _sse({**once, **self._extra, **self._base, "choices": [choice]})

    def _delta(self, delta: Json, choice: _Choice) -> dict[str, Any]:
        """`delta` without what was said before: the role, empty fields, a call's id, type and name."""
        mended: dict[str, Any] = {}
        if "reasoning_content" in delta or "reasoning" in delta:
            delta = one_reasoning(delta, self._stamp.reasoning)
        for key, value in delta.items():
            if key == "tool_calls":
                deltas = value if isinstance(value, list) else ()
                mended[key] = [
                    self._call(call, at, choice) for at, call in enumerate(deltas) if isinstance(call, Mapping)
                ]
            elif key != "role" and value is not None and value != "":
                mended[key] = value
        return mended

    def _call(self, call: Json, position: int, choice: _Choice) -> dict[str, Any]:
        if choice.calls is None:
            choice.calls = CallNumbers()
        known = len(choice.calls)
        ours = choice.calls(call, position)
        function = call.get("function")
        function = function if isinstance(function, Mapping) else {}
        mended: dict[str, Any] = {"index": ours}
        if ours == known:
            mended["id"] = call.get("id") or _call_id(self._stamp, ours)
            mended["type"] = call.get("type") or "function"
        if call.get("type", "function") in ("function", None) and "custom" not in call:
            arguments = function.get("arguments")
            arguments = arguments if isinstance(arguments, str) else ""
            name = {"name": function["name"]} if function.get("name") and ours not in choice.named else {}
            if name:
                choice.named.add(ours)
            if arguments:
                choice.argued.add(ours)
            mended["function"] = {**name, "arguments": arguments}
        else:
            choice.argued.add(ours)
        for key, value in call.items():
            if key not in ("index", "id", "type", "function") and value is not None:
                mended[key] = value
        return mended


def _sse(event: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(event) + b"\n\n"
