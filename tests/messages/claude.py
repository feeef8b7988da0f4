"""An Anthropic upstream, played: messages, and the events that Anthropic sends for them."""

from collections.abc import Sequence
from typing import Any

import orjson

from tests.backends.upstream import Asked, Handler

USAGE = {"input_tokens": 10, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 5}
THOUGHT = {"type": "thinking", "thinking": "let me see", "signature": "c2lnbmVk"}
HEAD = {"request-id": "req_up", "anthropic-ratelimit-requests-remaining": "9"}
WHOLE = 1000
"""Characters of a piece."""


def message(content: Sequence[dict[str, Any]], stop: str = "end_turn", **more: Any) -> dict[str, Any]:
    """A message as an upstream sends it."""
    return {
        "id": "msg_up",
        "type": "message",
        "role": "assistant",
        "model": "claude-served",
        "content": list(content),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": USAGE,
        **more,
    }


def says(text: str, stop: str = "end_turn") -> dict[str, Any]:
    return message([{"type": "text", "text": text}], stop)


ANSWER = says("hello")


def sse(event: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event["type"].encode(), orjson.dumps(event))


def events(answer: dict[str, Any], piece: int = 2) -> list[bytes]:
    """The stream of `answer`, texts in pieces of `piece` characters. Written out here, not with the code under test."""
    start = {**answer, "content": [], "stop_reason": None, "usage": {**answer["usage"], "output_tokens": 1}}
    out: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for at, block in enumerate(answer["content"]):
        shell, deltas = dict(block), []
        if block["type"] == "text":
            shell["text"] = ""
            deltas = [{"type": "text_delta", "text": part} for part in _cut(block["text"], piece)]
        elif block["type"] == "thinking":
            shell |= {"thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": part} for part in _cut(block["thinking"], piece)]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        elif "input" in block:
            shell["input"] = {}
            text = orjson.dumps(block["input"]).decode() if block["input"] else ""
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in ["", *_cut(text, piece)]]
        out.append({"type": "content_block_start", "index": at, "content_block": shell})
        out += [{"type": "content_block_delta", "index": at, "delta": delta} for delta in deltas]
        out.append({"type": "content_block_stop", "index": at})
    ending = {"stop_reason": answer["stop_reason"], "stop_sequence": answer["stop_sequence"]}
    if "stop_details" in answer:
        ending["stop_details"] = answer["stop_details"]
    usage = {"output_tokens": answer["usage"]["output_tokens"]}
    out += [{"type": "message_delta", "delta": ending, "usage": usage}, {"type": "message_stop"}]
    return [sse(event) for event in out]


def _cut(text: str, piece: int) -> list[str]:
    return [text[at : at + piece] for at in range(0, len(text), piece)]


def played(*answers: dict[str, Any]) -> Handler:
    """An upstream that gives these answers in turn (the last one again and again), as a stream when it was asked for one."""

    async def handler(asked: Asked) -> None:
        answer = answers[min(asked.number, len(answers)) - 1]
        if asked.line.startswith("POST /v1/messages/count_tokens"):
            await asked.answer(b'{"input_tokens": 42}', headers=HEAD)
        elif asked.json.get("stream"):
            await asked.stream(*events(answer), headers=HEAD)
        else:
            await asked.answer(orjson.dumps(answer), headers=HEAD)

    return handler


def overloaded(status: int = 529) -> Handler:
    """An upstream that refuses everything, as overloaded."""

    async def handler(asked: Asked) -> None:
        error = {
            "type": "error",
            "error": {"type": "overloaded_error", "message": "Overloaded"},
            "request_id": "req_up",
        }
        await asked.answer(orjson.dumps(error), status, {**HEAD, "retry-after": "3"})

    return handler


def fold(stream: bytes) -> dict[str, Any]:
    """What a strict client makes of a stream of ours: every rule of the protocol is asserted."""
    blocks = [block for block in stream.decode().split("\n\n") if block and not block.startswith(":")]
    value: dict[str, Any] = {}
    opened: dict[str, Any] | None = None
    pieces: list[str] = []
    ended = False
    for number, block in enumerate(blocks):
        first, second = block.split("\n")
        event = orjson.loads(second.removeprefix("data: "))
        assert first == f"event: {event['type']}"
        kind = event["type"]
        assert (kind == "message_start") == (number == 0)
        assert not ended
        if kind == "message_start":
            value = event["message"]
            assert value["content"] == []
            assert value["stop_reason"] is None
        elif kind == "content_block_start":
            assert opened is None
            assert event["index"] == len(value["content"])
            opened, pieces = event["content_block"], []
            value["content"].append(opened)
        elif kind == "content_block_delta":
            assert opened is not None
            assert event["index"] == len(value["content"]) - 1
            delta = event["delta"]
            if delta["type"] == "text_delta":
                opened["text"] += delta["text"]
            elif delta["type"] == "thinking_delta":
                opened["thinking"] += delta["thinking"]
            elif delta["type"] == "signature_delta":
                opened["signature"] += delta["signature"]
            elif delta["type"] == "citations_delta":
                opened["citations"] = [*(opened.get("citations") or []), delta["citation"]]
            else:
                assert delta["type"] == "input_json_delta"
                assert opened["input"] == {}
                pieces.append(delta["partial_json"])
        elif kind == "content_block_stop":
            assert opened is not None
            assert event["index"] == len(value["content"]) - 1
            if "".join(pieces):
                opened["input"] = orjson.loads("".join(pieces))
            opened = None
        elif kind == "message_delta":
            assert opened is None
            value.update(event["delta"])
            value["usage"].update({k: v for k, v in event["usage"].items() if v is not None})
        else:
            assert kind in ("ping", "message_stop")
            ended = kind == "message_stop"
    assert ended
    return value
