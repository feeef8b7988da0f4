"""The OpenAI chat wire, read and written: answers > Chunk, usage > Tokens, Constraint > response_format. Pure.

Source: OpenAI's OpenAPI document (v2.3.0), `chat.completion` and `chat.completion.chunk`, and what compatible servers really send.
Fields of an unexpected type count as absent: nothing here raises but `Reader`, and that only `BackendError`s. Defects that an
answer may have and still be one (a role in every chunk, two finish reasons, usage twice) are passed on faithfully; the edge
repairs them once for every backend.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from wire import failures
from wire.errors import BackendError, Broken
from wire.jsontext import parse
from wire.mould import LONGEST, Mould, mould
from wire.sse import Event, EventTooLarge, Splitter
from wire.types import EMPTY, Chunk, Constraint, Json, Tokens

DONE = b"[DONE]"
MOST_BODY = 64 * 2**20
"""Bytes of a whole answer. A stream has no such bound, only its events have (`wire.sse.LIMIT`)."""
NAME = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
"""What `json_schema.name` may be."""

_OWN = {"id", "object", "created", "model", "choices", "usage", "obfuscation"}
"""Top-level fields that Weir writes itself, or that mean nothing after the first hop."""
_MOST = 2**53
"""A count of tokens from there on is none."""
_MOULDS = 8
"""Moulds that are made for one stream, from its second event on: the first is seldom like the others (role), and where each of them
differs in more than its text, no mould fits."""


def chunks(event: Json) -> list[Chunk]:
    """The chunks of one chat.completion.chunk: one per choice; one without a choice when it only brings usage or extras."""
    return _chunks(event, "delta", _delta)


def whole(answer: Json, head: Mapping[str, str] | None = None) -> list[Chunk]:
    """The chunks of one chat.completion: one per choice, the message being its delta. head: of the response, for the first."""
    return _chunks(answer, "message", _message, head)


def answered(backend: str, head: Mapping[str, str], body: bytes) -> list[Chunk]:
    """The chunks of an answer that came whole, `head` on the first. Raises BackendError."""
    try:
        value = parse(body)
    except ValueError:
        kind = head.get("content-type", "").partition(";")[0] or "no content-type"
        raise Broken(f"{backend}: the answer is no JSON ({kind})", body=body) from None
    if not isinstance(value, dict):
        raise Broken(f"{backend}: the answer is no JSON object", body=body)
    if value.get("error"):
        raise failures.failure_in_stream(backend, value, body, head)
    found = _chunks(value, "message", _message, head)
    finished = False
    for chunk in found:
        if chunk.finish:
            finished = True
        elif chunk.delta:  # a choice that was begun
            finished = False
            break
    if not finished:
        raise Broken(f"{backend}: the answer has no choice with a finish_reason", body=body)
    return found


def streams(head: Mapping[str, str]) -> bool:
    """Whether what follows `head` is an event stream."""
    kind = head.get("content-type", "")
    return kind != "application/json" and kind.lower().startswith("text/event-stream")


def tokens(usage: Json | None) -> Tokens:
    """Token counts. `input` includes the cached ones, as OpenAI's prompt_tokens do. Zero for what is not said."""
    if not usage:
        return Tokens()
    read, written, details = (
        usage.get("prompt_tokens"), usage.get("completion_tokens"), usage.get("prompt_tokens_details")
    )  # fmt: skip
    if not details and type(read) is int and type(written) is int and 0 <= read < _MOST and 0 <= written < _MOST:
        return Tokens(read, 0, written)
    read = _count(read)
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    return Tokens(read, cached if cached < read else read, _count(written))


def response_format(constraint: Constraint | None) -> dict[str, Any] | None:
    """`response_format` for a schema or json constraint; None for what this field cannot say."""
    if constraint is None:
        return None
    if constraint.kind == "json":
        return {"type": "json_object"}
    if constraint.kind != "schema":
        return None
    name = constraint.name if NAME.match(constraint.name) else "answer"
    schema: dict[str, Any] = {"name": name, "schema": constraint.value}
    if constraint.strict:
        schema["strict"] = True
    return {"type": "json_schema", "json_schema": schema}


def says(asked: Any, constraint: Constraint) -> bool:
    """Whether a body's own `response_format` already asks for `constraint` (then its name and description stay as they are)."""
    if not isinstance(asked, dict):
        return False
    if constraint.kind == "json":
        return asked.get("type") == "json_object"
    if constraint.kind != "schema" or asked.get("type") != "json_schema":
        return False
    inner = asked.get("json_schema")
    if not isinstance(inner, dict):
        return False
    schema = inner.get("schema")
    return schema is constraint.value or schema == constraint.value  # mostly the very same


class Reader:
    """An upstream's body, in any pieces, into chunks; it knows when the answer is complete. Sans-I/O.

    faithful: every byte comes out again as the `raw` of a chunk, nothing is judged: an error event, an unreadable event or a
    missing end is passed on as it is (`meta: {"error": reason}` says so). Otherwise chunks carry no bytes and each of these
    raises.
    """

    def __init__(self, backend: str, head: Mapping[str, str], *, faithful: bool = False) -> None:
        self._backend = backend
        self._head = head
        self._unsent: Mapping[str, str] | None = head
        self._faithful = faithful
        self.streaming = streams(head)
        """The body is an event stream."""
        self._splitter = Splitter()
        self._mould: Mould | None = None
        self._moulds = 0
        self._body: list[bytes] = []
        self._length = 0
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self.done = False
        """[DONE] has been read."""
        self.heard = 0
        """Events that said something; comments do not count."""

    @property
    def over(self) -> bool:
        """The answer is complete: `close` brings nothing more and raises nothing. faithful: never known before."""
        return self.done and not self._faithful and bool(self._finished) and self._open <= self._finished

    def feed(self, block: bytes) -> list[Chunk]:
        """The chunks that `block` completes. Raises BackendError."""
        known, splitter = self._mould, self._splitter
        if known is not None and not (self.done or self._faithful or splitter.begun):
            chunk = known.one(block)
            if chunk is not None:
                self.heard += 1  # of a choice that is known to be open
                return [chunk]
        found: list[Chunk] = []
        if known is not None and not self.done:
            begun = splitter.give_back(LONGEST) if splitter.begun else b""
            if begun is not None:
                found, block = known.chunks(begun + block if begun else block, raw=self._faithful)
                self.heard += len(found)
                if not block:
                    return found
        elif not self.streaming:
            self._body.append(block)
            self._length += len(block)
            if self._length > MOST_BODY:
                raise Broken(f"{self._backend}: the answer is longer than {MOST_BODY} bytes")
            return found
        try:
            events = splitter.feed(block)
        except EventTooLarge as exc:
            raise Broken(f"{self._backend}: {exc}") from exc
        at = 0
        while at < len(events):
            known = self._mould
            found += self._event(events[at])
            at += 1
            # The first block may be the whole answer.
            if at < len(events) and self._mould is not None and self._mould is not known:
                alike, _ = self._mould.chunks(b"".join([event.raw for event in events[at:]]), raw=self._faithful)
                self.heard += len(alike)
                found += alike
                at += len(alike)
        return found

    def close(self) -> list[Chunk]:
        """The body has ended. Raises BackendError: Broken when the answer has not."""
        if not self.streaming:
            return self._whole(b"".join(self._body))
        try:
            left = self._splitter.close()
        except EventTooLarge as exc:
            raise Broken(f"{self._backend}: {exc}") from exc
        found = [chunk for event in left for chunk in self._event(event)]
        if not self._faithful and (not self._finished or self._open - self._finished):
            raise Broken(f"{self._backend}: the stream ended before the answer did (no finish_reason)")
        return found

    def _event(self, event: Event) -> list[Chunk]:
        if not event.data or self.done:
            return self._send([], event.raw)
        self.heard += 1
        if event.data == DONE:
            self.done = True
            return self._send([], event.raw)
        try:
            value = parse(event.data)
            if not isinstance(value, dict):
                raise Broken(f"{self._backend}: an event of the stream is no JSON object")
            if value.get("error") or (event.event == "error" and "choices" not in value):
                raise failures.failure_in_stream(self._backend, value, event.data, self._head)
        except ValueError as exc:
            return self._bad(
                Broken(f"{self._backend}: an event of the stream is no JSON ({exc.__class__.__name__})"), event.raw
            )
        except BackendError as exc:
            return self._bad(exc, event.raw)
        found = chunks(value)
        if self.heard > 1 and self._moulds < _MOULDS and (made := mould(event.data, value, found)) is not None:
            self._mould = made
            self._moulds += 1
        return self._send(found, event.raw)

    def _whole(self, body: bytes) -> list[Chunk]:
        try:
            found = answered(self._backend, self._head, body)
        except BackendError as exc:
            return self._bad(exc, body)
        self._unsent = None
        return self._send(found, body)

    def _bad(self, exc: BackendError, raw: bytes) -> list[Chunk]:
        if not self._faithful:
            raise exc
        return self._send([Chunk(meta={"error": exc.reason})], raw)

    def _send(self, found: list[Chunk], raw: bytes) -> list[Chunk]:
        for chunk in found:
            if chunk.delta or chunk.finish:
                self._open.add(chunk.choice)
            if chunk.finish:
                self._finished.add(chunk.choice)
        if self._faithful and raw:
            found = [replace(found[0], raw=raw), *found[1:]] if found else [Chunk(raw=raw)]
        if self._unsent is not None and found:
            found = [replace(found[0], head=self._unsent), *found[1:]]
            self._unsent = None
        return found


def _chunks(event: Json, name: str, read: Callable[[Any], Json], head: Mapping[str, str] | None = None) -> list[Chunk]:
    """What stands beside the choices goes with the first chunk."""
    usage: Any = event.get("usage")
    usage = usage if isinstance(usage, dict) else None
    extra: dict[str, Any] | None = None
    if not _OWN.issuperset(event):
        extra = {key: value for key, value in event.items() if key not in _OWN and value is not None} or None
    found: list[Chunk] = []
    choices = event.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        index, finish, logprobs = choice.get("index"), choice.get("finish_reason"), choice.get("logprobs")
        found.append(
            Chunk(  # in the order of its fields
                index if type(index) is int and index >= 0 else len(found),
                read(choice.get(name)),
                finish if isinstance(finish, str) and finish else None,
                logprobs if isinstance(logprobs, dict) else None,
                usage,
                b"",
                head,
                None,
                extra,
            )
        )
        usage = extra = head = None
    return found if usage is None and extra is None else [Chunk(usage=usage, head=head, extra=extra)]


def _delta(value: Any) -> Json:
    delta = value if isinstance(value, dict) else EMPTY
    return {**delta, "tool_calls": _tool_calls(delta["tool_calls"])} if delta.get("tool_calls") else delta


def _message(value: Any) -> Json:
    message: Json = value if isinstance(value, dict) else EMPTY
    if None in message.values():
        message = {key: item for key, item in message.items() if item is not None}
    return {**message, "tool_calls": _tool_calls(message["tool_calls"])} if message.get("tool_calls") else message


def _tool_calls(value: Any) -> list[dict[str, Any]]:
    """Each with an index, and without null keys: some servers send `name: null` in later deltas, which clients append."""
    calls = []
    for at, call in enumerate(_tables(value)):
        kept = {key: item for key, item in call.items() if item is not None}
        function = kept.get("function")
        if isinstance(function, Mapping):
            kept["function"] = {key: item for key, item in function.items() if item is not None}
        kept["index"] = _index(call, at)
        calls.append(kept)
    return calls


def _index(value: Json, at: int) -> int:
    index = value.get("index")
    return index if type(index) is int and index >= 0 else at


def _tables(value: Any) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST else 0
