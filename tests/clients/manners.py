"""How the scripted models write their answers: whole or as a stream, tidily or with the faults that real servers have. Pure.

A `weak` model (the small rung) has three manners, chosen by the request's words: tidy; untidy, with the stream faults that break
clients' accumulators (role, id and name repeated, call indices from 1, usage twice, an id of its own in every chunk, no [DONE]); and
spoiled, an answer that no check lets pass, so that the gateway must ask the next rung. Through the gateway a client sees none of it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal
from zlib import crc32

import orjson
from msgspec.structs import replace

from tests.clients.answers import Answer, Call, last_user_text

Json = Mapping[str, Any]
Manner = Literal["tidy", "untidy", "spoiled"]
MANNERS: tuple[Manner, ...] = ("tidy", "untidy", "spoiled")
DONE = b"data: [DONE]\n\n"


def manner(body: Json) -> Manner:
    """Of a weak model, for this request."""
    messages = body.get("messages") or ()
    return MANNERS[(len(messages) + sum(last_user_text(messages).encode())) % 3]


def spoil(given: Answer) -> Answer:
    """An answer that a check must reject."""
    if given.calls:
        return replace(given, calls=[replace(call, arguments='{"broken') for call in given.calls])
    return replace(given, pieces=[*given.pieces[: len(given.pieces) // 2], " {cut"], finish="length")


def usage(body: Json, given: Answer) -> dict[str, Any]:
    asked = len(orjson.dumps(body.get("messages") or [])) // 4 + 1
    told = sum(len(call.arguments) // 4 + 1 for call in given.calls) + len(given.pieces)
    return {
        "prompt_tokens": asked,
        "completion_tokens": told,
        "total_tokens": asked + told,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def choices(body: Json) -> int:
    n = body.get("n")
    return n if isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= 128 else 1


def whole(body: Json, given: Answer, name: str) -> dict[str, Any]:
    """A `chat.completion`."""
    message: dict[str, Any] = {"role": "assistant", "content": None if given.calls else given.text, "refusal": None}
    if given.calls:
        message["tool_calls"] = [_call(call, index) for index, call in enumerate(given.calls)]
    logprobs = _logprobs(body, given.pieces) if given.pieces else None
    return {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": name,
        "choices": [
            {"index": index, "message": message, "logprobs": logprobs, "finish_reason": given.finish}
            for index in range(choices(body))
        ],
        "usage": usage(body, given),
    }


def stream(body: Json, given: Answer, name: str, how: Manner) -> Iterator[tuple[bool, bytes]]:
    """The events of a stream; True: `Answer.pause` comes before this one."""
    untidy = how == "untidy"
    counted = usage(body, given)
    wanted = bool((body.get("stream_options") or {}).get("include_usage"))
    number = 0

    def event(choices: list[Json], told: Any = None) -> bytes:
        nonlocal number
        number += 1
        base = {"id": f"chatcmpl-{name}" + (f"-{number}" if untidy else ""), "object": "chat.completion.chunk"}
        more = {"usage": told} if wanted or untidy else {}
        return _sse({**base, "created": 1_790_000_000, "model": name, "choices": choices, **more})

    def delta(index: int, said: Json, finish: str | None = None, logprobs: Any = None) -> bytes:
        said = {"role": "assistant", **said} if untidy else said
        choice = {"index": index, "delta": said, "logprobs": logprobs, "finish_reason": finish}
        return event([choice], counted if untidy and finish else None)

    for index in range(choices(body)):
        yield False, delta(index, {"role": "assistant", "content": "", "refusal": None})
        for piece in given.pieces:
            yield True, delta(index, {"content": piece}, None, _logprobs(body, [piece]))
        for position, call in enumerate(given.calls):
            for said in _call_deltas(call, position, untidy):
                yield False, delta(index, {"tool_calls": [said]})
        yield False, delta(index, {}, given.finish)
    if wanted:
        yield False, event([], counted)
    if not untidy:
        yield False, DONE


def _call(call: Call, index: int) -> dict[str, Any]:
    if call.custom:
        return {"id": f"call_{index}", "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {
        "id": f"call_{index}_{crc32(call.arguments.encode()):08x}",
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _call_deltas(call: Call, position: int, untidy: bool) -> Iterator[dict[str, Any]]:
    done = _call(call, position)
    index = position + 1 if untidy else position
    if call.custom:
        yield {"index": index, **done}
        return
    head = {"id": done["id"], "type": "function"}
    yield {"index": index, **head, "function": {"name": call.name, "arguments": ""}}
    half = len(call.arguments) // 2
    for part in (call.arguments[:half], call.arguments[half:]):
        if untidy:
            yield {"index": index, **head, "function": {"name": call.name, "arguments": part}}
        else:
            yield {"index": index, "function": {"arguments": part}}


def _logprobs(body: Json, pieces: Any) -> dict[str, Any] | None:
    if not body.get("logprobs"):
        return None
    top = body.get("top_logprobs")
    told = [{"token": piece, "logprob": -0.01, "bytes": list(piece.encode())} for piece in pieces]
    most = top if isinstance(top, int) else 0
    return {"content": [{**one, "top_logprobs": _tops(one, most)} for one in told], "refusal": None}


def _tops(token: dict[str, Any], most: int) -> list[dict[str, Any]]:
    others = [{"token": f"~{rank}", "logprob": -6.0 - rank, "bytes": None} for rank in range(1, most)]
    return [token, *others][:most]


def _sse(event: Json) -> bytes:
    return b"data: " + orjson.dumps(event) + b"\n\n"
