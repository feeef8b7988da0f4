"""The three APIs that agents speak, as a client that loses nothing reads them: requests with tools, and answers as `Spoken`. Pure.

Written from the providers' documents and not with our own readers, so that a mistake of ours cannot hide in both.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson
from msgspec import Struct

from benchmarks.quality._bfcl_data import Item, Spoken

Events = Sequence[Mapping[str, Any]]


class Broken(Exception):
    """The answer cannot be read. The message says why."""


class Dialect(Struct, frozen=True):
    path: str
    body: Callable[[Item, str, bool], Mapping[str, Any]]
    """(item, model, stream) > request."""
    whole: Callable[[Mapping[str, Any]], Spoken]
    """A JSON answer."""
    streamed: Callable[[Events], Spoken]
    """A stream's events."""


def read(dialect: Dialect, stream: bool, data: bytes) -> Spoken:
    """The answer in a response's body. Raises Broken."""
    try:
        return dialect.streamed(list(events(data))) if stream else dialect.whole(orjson.loads(data))
    except (KeyError, IndexError, TypeError, ValueError) as exc:
        raise Broken(f"{exc!r} in {data[:200]!r}") from exc


def events(data: bytes) -> Iterator[Mapping[str, Any]]:
    """The JSON events of a body of server-sent events."""
    for block in data.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line[5:].strip() for line in block.split(b"\n") if line.startswith(b"data:")]
        if lines and lines != [b"[DONE]"]:
            yield orjson.loads(b"\n".join(lines))


def _functions(item: Item) -> list[dict[str, Any]]:
    return [{"type": "function", "function": tool} for tool in item.tools]


def _chat_body(item: Item, model: str, stream: bool) -> Mapping[str, Any]:
    messages = [{"role": "user", "content": item.text}]
    return {"model": model, "messages": messages, "tools": _functions(item), "stream": stream}


def _chat_whole(answer: Mapping[str, Any]) -> Spoken:
    message = answer["choices"][0]["message"]
    return _spoken(
        [
            (call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls") or ()
        ],
        message.get("content") or "",
    )


def _chat_streamed(seen: Events) -> Spoken:
    calls: dict[int, list[str]] = {}
    text = ""
    finish = None
    for event in seen:
        for choice in event["choices"]:
            delta = choice["delta"]
            text += delta.get("content") or ""
            finish = choice.get("finish_reason") or finish
            for part in delta.get("tool_calls") or ():
                call = calls.setdefault(part["index"], ["", "", ""])
                call[0] += part.get("id") or ""
                call[1] += part["function"].get("name") or ""
                call[2] += part["function"].get("arguments") or ""
    if finish != ("tool_calls" if calls else "stop"):
        raise Broken(f"finish_reason {finish!r}")
    return _spoken([(call[0], call[1], call[2]) for _, call in sorted(calls.items())], text)


def _responses_body(item: Item, model: str, stream: bool) -> Mapping[str, Any]:
    tools = [{"type": "function", "strict": False, **tool} for tool in item.tools]
    return {"model": model, "input": item.text, "tools": tools, "stream": stream}


def _responses_whole(answer: Mapping[str, Any]) -> Spoken:
    if answer["status"] != "completed":
        raise Broken(f"status {answer['status']!r}")
    calls = [(i["call_id"], i["name"], i["arguments"]) for i in answer["output"] if i["type"] == "function_call"]
    texts = [part["text"] for i in answer["output"] if i["type"] == "message" for part in i["content"]]
    return _spoken(calls, "".join(texts))


def _responses_streamed(seen: Events) -> Spoken:
    """What the deltas say; Broken when the whole answer at the end says otherwise."""
    calls: dict[int, list[str]] = {}
    text = ""
    for event in seen:
        kind = event["type"]
        if kind == "response.output_item.added" and event["item"]["type"] == "function_call":
            calls[event["output_index"]] = [event["item"]["call_id"], event["item"]["name"], ""]
        elif kind == "response.function_call_arguments.delta":
            calls[event["output_index"]][2] += event["delta"]
        elif kind == "response.output_text.delta":
            text += event["delta"]
    found = _spoken([(call[0], call[1], call[2]) for _, call in sorted(calls.items())], text)
    if seen[-1]["type"] != "response.completed":
        raise Broken(f"ends with {seen[-1]['type']}")
    if _responses_whole(seen[-1]["response"]).canonical() != found.canonical():
        raise Broken("the deltas and the whole answer differ")
    return found


def _messages_body(item: Item, model: str, stream: bool) -> Mapping[str, Any]:
    tools = [
        {"name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"]}
        for tool in item.tools
    ]
    messages = [{"role": "user", "content": item.text}]
    return {"model": model, "max_tokens": 4096, "messages": messages, "tools": tools, "stream": stream}


def _messages_whole(answer: Mapping[str, Any]) -> Spoken:
    used = [block for block in answer["content"] if block["type"] == "tool_use"]
    if answer["stop_reason"] != ("tool_use" if used else "end_turn"):
        raise Broken(f"stop_reason {answer['stop_reason']!r}")
    text = "".join(block["text"] for block in answer["content"] if block["type"] == "text")
    _distinct([block["id"] for block in used])
    return Spoken(tuple((block["name"], block["input"]) for block in used), text)


def _messages_streamed(seen: Events) -> Spoken:
    calls: dict[int, list[str]] = {}
    text = ""
    for event in seen:
        if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
            calls[event["index"]] = [event["content_block"]["id"], event["content_block"]["name"], ""]
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            text += delta.get("text", "")
            if delta["type"] == "input_json_delta":
                calls[event["index"]][2] += delta["partial_json"]
    if seen[-1]["type"] != "message_stop":
        raise Broken(f"ends with {seen[-1]['type']}")
    return _spoken([(call[0], call[1], call[2] or "{}") for _, call in sorted(calls.items())], text)


def _spoken(calls: Sequence[tuple[str, str, str]], text: str) -> Spoken:
    """calls: (id, name, arguments as text)."""
    _distinct([call[0] for call in calls])
    return Spoken(tuple((name, orjson.loads(arguments)) for _, name, arguments in calls), text)


def _distinct(ids: Sequence[str]) -> None:
    if len(set(ids)) != len(ids) or not all(ids):
        raise Broken(f"ids of the calls: {ids}")


DIALECTS = {
    "chat": Dialect("/v1/chat/completions", _chat_body, _chat_whole, _chat_streamed),
    "responses": Dialect("/v1/responses", _responses_body, _responses_whole, _responses_streamed),
    "messages": Dialect("/v1/messages", _messages_body, _messages_whole, _messages_streamed),
}
