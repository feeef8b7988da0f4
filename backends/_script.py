"""What a script says, and the bytes in which a server would say it. Pure, but for `load` and the answer's `created`."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from wire import sse
from wire.hashing import short_hash
from wire.types import Call, Json


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Turn(Table):
    """One answer of the script: said (content, refusal, tool_calls), failed (status) or played as it stands (events, body)."""

    content: str | dict[str, Any] | None = Field(None, description="the text; a table is written as JSON")
    refusal: str | None = None
    tool_calls: tuple[dict[str, Any], ...] = Field((), description="{name, arguments} each, or as in OpenAI's message")
    finish: str | None = Field(None, description="default: tool_calls when there are any, else stop")
    logprobs: tuple[dict[str, Any], ...] | None = Field(None, description="as in OpenAI's logprobs.content")
    usage: dict[str, Any] | None = Field(None, description="default: four characters are one token")
    events: tuple[str | dict[str, Any], ...] | None = Field(
        None, description="an event stream: a table is one event's JSON, a string is played byte for byte"
    )
    body: str | dict[str, Any] | None = Field(None, description="a whole body, played as it stands")
    status: int = Field(200, ge=200, le=599)
    headers: dict[str, str] = Field({}, description="response headers, names in lower case")
    delay: float | None = Field(None, ge=0, description="seconds to the first byte, in place of the backend's `delay`")


class Entry(Turn):
    """What the script says to one text: an answer, or several for the first, second ... time that it is asked."""

    turns: tuple[str | Turn, ...] = Field((), description="played in turn; the last one again and again")


class Answer:
    """The bytes of one answer, cut as they are sent."""

    def __init__(self, model: str, chunk_chars: int, turn: Turn, call: Call, text: str) -> None:
        self._model = model
        self._size = chunk_chars
        self._turn = turn
        self._call = call
        self._digest = key_of(text)
        self.streams = turn.events is not None or (call.live and turn.body is None)

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Blocks, and the tokens that each of them took."""
        turn = self._turn
        if turn.events is not None:
            for event in turn.events:
                yield 0, event.encode() if isinstance(event, str) else sse.encode(orjson.dumps(event))
        elif turn.body is not None:
            yield 0, as_bytes(turn.body)
        elif self.streams:
            yield from self._stream()
        else:
            message = self._message()
            choice = {"index": 0, "message": message, "logprobs": self._logprobs(), "finish_reason": self._finish()}
            yield (
                self._output(),
                orjson.dumps({**self._head("chat.completion"), "choices": [choice], "usage": self._usage()}),
            )

    def _stream(self) -> Iterator[tuple[int, bytes]]:
        deltas = list(self._deltas())
        for at, delta in enumerate(deltas):
            said = delta.get("content") or delta.get("refusal") or ""
            tokens = _tokens(len(said)) if said else 0
            yield tokens, self._event(delta, logprobs=self._logprobs() if at == len(deltas) - 1 else None)
        yield 0, self._event({}, finish=self._finish())
        options = self._call.body.get("stream_options")
        if not self._call.raw or (isinstance(options, Mapping) and options.get("include_usage")):
            yield (
                0,
                sse.encode(
                    orjson.dumps({**self._head("chat.completion.chunk"), "choices": [], "usage": self._usage()})
                ),
            )
        yield 0, sse.encode(b"[DONE]")

    def _deltas(self) -> Iterator[dict[str, Any]]:
        message, size = self._message(), self._size
        yield {"role": "assistant", "content": "", "refusal": None}
        for field in ("content", "refusal"):
            text = message[field] or ""
            for at in range(0, len(text), size):
                yield {field: text[at : at + size]}
        for index, call in enumerate(message.get("tool_calls", ())):
            arguments = call["function"]["arguments"]
            yield {"tool_calls": [{**call, "index": index, "function": {**call["function"], "arguments": ""}}]}
            for at in range(0, len(arguments), size):
                yield {"tool_calls": [{"index": index, "function": {"arguments": arguments[at : at + size]}}]}

    def _event(self, delta: Json, finish: str | None = None, logprobs: Any = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return sse.encode(orjson.dumps({**self._head("chat.completion.chunk"), "choices": [choice]}))

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self._digest}", "object": kind, "created": int(time.time()), "model": self._model}

    def _message(self) -> dict[str, Any]:
        turn = self._turn
        content = None if turn.content is None else text_of(turn.content)
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": turn.refusal}
        if turn.tool_calls:
            message["tool_calls"] = [
                _tool_call(call, f"call_{self._digest}_{at}") for at, call in enumerate(turn.tool_calls)
            ]
        return message

    def _finish(self) -> str:
        return self._turn.finish or ("tool_calls" if self._turn.tool_calls else "stop")

    def _logprobs(self) -> dict[str, Any] | None:
        return None if self._turn.logprobs is None else {"content": self._turn.logprobs}

    def _output(self) -> int:
        message = self._message()
        calls = sum(len(call["function"]["arguments"]) for call in message.get("tool_calls", ()))
        return _tokens(len(message["content"] or "") + len(message["refusal"] or "") + calls)

    def _usage(self) -> dict[str, Any]:
        if self._turn.usage is not None:
            return dict(self._turn.usage)
        read, wrote = _tokens(sum(map(len, _texts(self._call.body)))), self._output()
        return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}


def load(path: Path) -> dict[str, str | Entry]:
    """The script in a JSON file. Raises ValueError, which quotes no text of the script."""
    try:
        return TypeAdapter(dict[str, str | Entry]).validate_json(path.read_bytes())
    except OSError as exc:
        raise ValueError(f"the script {path} cannot be read: {exc.strerror}") from exc
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"][1:]))  # without the key: it is a user's text
        raise ValueError(f"the script {path} is no table of answers: {place} {first['msg']}") from exc


def key_of(text: str) -> str:
    """The first 16 hex digits of the text's SHA-256: a script's key for a text that shall not stand in it."""
    return short_hash(text.encode("utf-8", "replace"))


def _tokens(chars: int) -> int:
    return -(-chars // 4)


def text_of(content: str | dict[str, Any]) -> str:
    return content if isinstance(content, str) else orjson.dumps(content).decode()


def as_bytes(body: str | dict[str, Any]) -> bytes:
    return body.encode() if isinstance(body, str) else orjson.dumps(body)


def _tool_call(call: Mapping[str, Any], name: str) -> dict[str, Any]:
    function = call.get("function", {"name": call.get("name", ""), "arguments": call.get("arguments", {})})
    arguments = function.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = orjson.dumps(arguments).decode()
    return {"id": call.get("id", name), "type": "function", "function": {**function, "arguments": arguments}}


def _messages(body: Json) -> Sequence[Json]:
    value = body.get("messages")
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _content(message: Json) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part["text"]) for part in content if isinstance(part, Mapping) and "text" in part)
    return content if isinstance(content, str) else ""


def _texts(body: Json) -> list[str]:
    return [_content(message) for message in _messages(body)]


def last_user_text(body: Json) -> str:
    return next((_content(m) for m in reversed(_messages(body)) if m.get("role") == "user"), "")
