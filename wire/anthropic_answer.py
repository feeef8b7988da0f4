"""An Anthropic answer > Chunk, whole or as a stream. Pure, sans-I/O.

Source: Anthropic's streaming reference, anthropic-python 2.11. Every chunk says the same twice: in OpenAI's words (`delta`, `finish`,
`usage`), which the line judges and every dialect understands, and, where the caller speaks Anthropic's, as the event itself (`native`),
so that citations, server tools, the order of blocks and raw counts are not lost on the way.

    text_delta                    content
    thinking_delta                reasoning_content
    end of a thinking block       thinking_blocks: the whole block, signed (the name that LiteLLM gave it; `index` for openai-python)
    tool_use, input_json_delta    tool_calls, counted from 0
    refusal                       finish content_filter, and a `refusal` when there is no text
    ping                          an empty chunk: somebody is still there
"""

from collections.abc import Mapping
from typing import Any

import orjson
from msgspec.structs import replace

from wire import anthropic, failures
from wire.errors import BackendError, Broken
from wire.jsontext import parse
from wire.sse import Event, EventTooLarge, Splitter
from wire.types import Chunk, Json

MOST_BODY = 64 * 2**20
"""Bytes of a whole answer."""
DECLINED = "The model declined to answer."

_STRINGS = {"text_delta": ("text", "content"), "thinking_delta": ("thinking", "reasoning_content")}


class Reader:
    """An upstream's body, in any pieces, into chunks; it knows when the answer is complete.

    model: what was asked upstream; asked: what the caller named (`wire.anthropic.claim`). native: chunks carry the events too.
    faithful: every byte comes out again as the `raw` of a chunk and nothing is judged, as in `wire.openai.Reader`.
    """

    def __init__(
        self,
        backend: str,
        head: Mapping[str, str],
        *,
        model: str = "",
        asked: str = "",
        native: bool = False,
        faithful: bool = False,
    ) -> None:
        self._backend = backend
        self._head = head
        self._unsent: Mapping[str, str] | None = head
        self._model = model
        self._asked = asked
        self._native = native
        self._faithful = faithful
        self.streaming = head.get("content-type", "").lower().startswith("text/event-stream")
        self._splitter = Splitter()
        self._body: list[bytes] = []
        self._length = 0
        self.done = False
        """message_stop has been read."""
        self.heard = 0
        """Events that said something; pings and comments do not count."""
        self._finished = False
        self._usage: dict[str, Any] = {}
        self._calls: dict[int, int] = {}
        """Block > call."""
        self._argued: set[int] = set()
        self._thinking: dict[int, dict[str, Any]] = {}
        self._thoughts = 0
        self._spoke = False

    @property
    def over(self) -> bool:
        """The answer is complete: `close` brings nothing more and raises nothing. faithful: never known before."""
        return self.done and not self._faithful and self._finished

    def feed(self, block: bytes) -> list[Chunk]:
        """The chunks that `block` completes. Raises BackendError."""
        if self.streaming:
            return self._events(lambda: self._splitter.feed(block))
        self._body.append(block)
        self._length += len(block)
        if self._length > MOST_BODY:
            raise Broken(f"{self._backend}: the answer is longer than {MOST_BODY} bytes")
        return []

    def close(self) -> list[Chunk]:
        """The body has ended. Raises BackendError: Broken when the answer has not."""
        if not self.streaming:
            return self._whole(b"".join(self._body))
        found = self._events(self._splitter.close)
        if not self._faithful and not self._finished:
            raise Broken(f"{self._backend}: the stream ended before the answer did (no stop_reason)")
        return found

    def _events(self, split: Any) -> list[Chunk]:
        try:
            events: list[Event] = split()
        except EventTooLarge as exc:
            raise Broken(f"{self._backend}: {exc}") from exc
        return [chunk for event in events for chunk in self._event(event)]

    def _event(self, event: Event) -> list[Chunk]:
        if not event.data or self.done:
            return self._send([], event.raw)
        try:
            value = self._decoded(event.data)
            if value.get("type") == "error" or event.event == "error":
                raise failures.failure_in_stream(self._backend, value, event.data, self._head)
            found = self._told(value)
        except BackendError as exc:
            return self._bad(exc, event.raw)
        self.heard += value.get("type") != "ping"
        return self._send([found], event.raw)

    def _whole(self, body: bytes) -> list[Chunk]:
        try:
            value = self._decoded(body)
            if value.get("type") == "error" or value.get("error"):
                raise failures.failure_in_stream(self._backend, value, body, self._head)
            if not isinstance(value.get("content"), list) or not value.get("stop_reason"):
                raise Broken(f"{self._backend}: the answer is no message with a stop_reason", body=body)
            found = self._message(value)
        except BackendError as exc:
            return self._bad(exc, body)
        return self._send([found], body)

    def _decoded(self, data: bytes) -> dict[str, Any]:
        try:
            value = parse(data)
        except ValueError as exc:
            raise Broken(f"{self._backend}: the answer is no JSON ({exc.__class__.__name__})", body=data) from exc
        if not isinstance(value, dict):
            raise Broken(f"{self._backend}: the answer is no JSON object", body=data)
        return value

    # -- one event ------------------------------------------------------------------------------------------------------------------

    def _told(self, event: dict[str, Any]) -> Chunk:
        kind = event.get("type")
        if kind == "message_start":
            message = _table(event.get("message"))
            self._usage.update(_table(message.get("usage")))
            return self._chunk(event, {"role": "assistant"}, meta={"model": message.get("model")})
        if kind in ("content_block_start", "content_block_delta", "content_block_stop"):
            index = event.get("index")
            if type(index) is not int:
                raise Broken(f"{self._backend}: an event of a content block without its index")
            if kind == "content_block_start":
                return self._begin(event, index, _table(event.get("content_block")))
            return (
                self._delta(event, index, _table(event.get("delta")))
                if kind.endswith("delta")
                else self._end(event, index)
            )
        if kind == "message_delta":
            return self._ending(event)
        if kind == "message_stop":
            self.done = True
        return self._chunk(event)

    def _begin(self, event: dict[str, Any], index: int, block: dict[str, Any]) -> Chunk:
        kind = block.get("type")
        if kind == "text":
            return self._text(event, "content", block.get("text"))
        if kind == "thinking":
            self._thinking[index] = dict(block)
            return self._text(event, "reasoning_content", block.get("thinking"))
        if kind == "redacted_thinking":
            marked = anthropic.claim(block, self._model, self._asked)
            return self._chunk({**event, "content_block": marked}, {"thinking_blocks": [self._thought(marked)]})
        if kind == "tool_use":
            self._calls[index] = len(self._calls)
            given = block.get("input")
            arguments = orjson.dumps(given).decode() if given else ""
            if arguments:
                self._argued.add(index)
            function = {"name": block.get("name") or "", "arguments": arguments}
            return self._call(event, index, {"id": block.get("id") or "", "type": "function", "function": function})
        return self._chunk(event)

    def _delta(self, event: dict[str, Any], index: int, delta: dict[str, Any]) -> Chunk:
        kind = delta.get("type")
        if kind in _STRINGS:
            theirs, ours = _STRINGS[kind]
            if index in self._thinking and isinstance(delta.get(theirs), str):
                self._thinking[index]["thinking"] = self._thinking[index].get("thinking", "") + delta[theirs]
            return self._text(event, ours, delta.get(theirs))
        if kind == "input_json_delta" and index in self._calls:
            piece = delta.get("partial_json")
            if not isinstance(piece, str) or not piece:
                return self._chunk(event)
            self._argued.add(index)
            return self._call(event, index, {"function": {"arguments": piece}})
        if kind == "signature_delta" and index in self._thinking:
            self._thinking[index]["signature"] = delta.get("signature")
            marked = anthropic.claim(self._thinking[index], self._model, self._asked)
            return self._chunk({**event, "delta": {**delta, "signature": marked["signature"]}})
        return self._chunk(event)

    def _end(self, event: dict[str, Any], index: int) -> Chunk:
        if index in self._thinking:
            block = anthropic.claim(self._thinking.pop(index), self._model, self._asked)
            return self._chunk(event, {"thinking_blocks": [self._thought(block)]} if block.get("signature") else {})
        if index in self._calls and index not in self._argued:
            return self._call(event, index, {"function": {"arguments": "{}"}})
        return self._chunk(event)

    def _ending(self, event: dict[str, Any]) -> Chunk:
        self._usage.update({key: value for key, value in _table(event.get("usage")).items() if value is not None})
        delta = _table(event.get("delta"))
        stop = delta.get("stop_reason")
        if not isinstance(stop, str) or not stop:
            return self._chunk(event)
        self._finished = True
        refusal = {"refusal": _explanation(delta)} if stop == "refusal" and not self._spoke else {}
        return replace(
            self._chunk(event, refusal),
            finish=anthropic.FINISH.get(stop, "stop"),
            usage=anthropic.to_openai_usage(self._usage),
        )

    # -- a whole message ------------------------------------------------------------------------------------------------------------

    def _message(self, message: dict[str, Any]) -> Chunk:
        blocks = [
            anthropic.claim(block, self._model, self._asked) for block in message["content"] if isinstance(block, dict)
        ]
        text = "".join(str(block.get("text") or "") for block in blocks if block.get("type") == "text")
        thinking = "".join(str(block.get("thinking") or "") for block in blocks if block.get("type") == "thinking")
        delta: dict[str, Any] = {"role": "assistant"}
        calls = [_whole_call(block) for block in blocks if block.get("type") == "tool_use"]
        if text or not calls:
            delta["content"] = text
        if thinking:
            delta["reasoning_content"] = thinking
        if signed := [block for block in blocks if block.get("signature") or block.get("type") == "redacted_thinking"]:
            delta["thinking_blocks"] = [self._thought(block) for block in signed]
        if calls:
            delta["tool_calls"] = [{"index": at, **call} for at, call in enumerate(calls)]
        if message["stop_reason"] == "refusal" and not text and not calls:
            delta["refusal"] = _explanation(message)
        return replace(
            self._chunk({**message, "type": "message", "content": blocks}, delta, meta={"model": message.get("model")}),
            finish=anthropic.FINISH.get(message["stop_reason"], "stop"),
            usage=anthropic.to_openai_usage(message.get("usage")),
        )

    # -- chunks ---------------------------------------------------------------------------------------------------------------------

    def _chunk(self, event: Json, delta: Json | None = None, meta: Json | None = None) -> Chunk:
        return Chunk(delta=delta or {}, meta=meta, native=event if self._native else None)

    def _text(self, event: Json, key: str, text: Any) -> Chunk:
        if not isinstance(text, str) or not text:
            return self._chunk(event)
        self._spoke = self._spoke or key == "content"
        return self._chunk(event, {key: text})

    def _call(self, event: Json, index: int, call: dict[str, Any]) -> Chunk:
        self._spoke = True
        return self._chunk(event, {"tool_calls": [{"index": self._calls[index], **call}]})

    def _thought(self, block: Json) -> dict[str, Any]:
        self._thoughts += 1
        return {"index": self._thoughts - 1, **block}

    def _bad(self, exc: BackendError, raw: bytes) -> list[Chunk]:
        if not self._faithful:
            raise exc
        return self._send([Chunk(meta={"error": exc.reason})], raw)

    def _send(self, found: list[Chunk], raw: bytes) -> list[Chunk]:
        if self._faithful and raw:
            found = [replace(found[0], raw=raw)] if found else [Chunk(raw=raw)]
        if self._unsent is not None and found:
            found = [replace(found[0], head=self._unsent)]
            self._unsent = None
        return found


def _whole_call(block: Json) -> dict[str, Any]:
    arguments = orjson.dumps(block.get("input") or {}).decode()
    function = {"name": block.get("name") or "", "arguments": arguments}
    return {"id": block.get("id") or "", "type": "function", "function": function}


def _explanation(delta: Json) -> str:
    said = _table(delta.get("stop_details")).get("explanation")
    return said if isinstance(said, str) and said else DECLINED


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
