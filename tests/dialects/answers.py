"""Answers for the tests of `fold` and the chat writer: well-formed ones, cut anywhere, and with the defects that upstreams have."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from wire.types import Chunk

text = st.text(st.characters(codec="utf-8"), max_size=12)
some_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


class Choice(Struct, frozen=True):
    """One choice of a whole answer."""

    message: dict[str, Any]
    """As OpenAI writes it."""
    finish: str
    logprobs: tuple[Mapping[str, Any], ...] = ()


def call(id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


arguments = st.dictionaries(some_text, text | st.integers(0, 9), max_size=3).map(
    lambda table: orjson.dumps(table).decode()
)
calls = st.lists(st.tuples(st.sampled_from(["look", "book"]), arguments), max_size=3).map(
    lambda made: [call(f"call_{place}", name, json) for place, (name, json) in enumerate(made)]
)
token = st.fixed_dictionaries(
    {"token": some_text, "logprob": st.floats(-9, 0), "bytes": st.none(), "top_logprobs": st.just([])}
)


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    content, refusal, made = draw(text), draw(st.just("") | text), draw(calls)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": content or (None if made or refusal else ""),
        "refusal": refusal or None,
    }
    if reasoning := draw(st.just("") | text):
        message["reasoning_content"] = reasoning
    if made:
        message["tool_calls"] = made
    finish = draw(st.sampled_from(["tool_calls" if made else "stop", "length", "content_filter"]))
    return Choice(message, finish, tuple(draw(st.lists(token, max_size=2))))


answers = st.lists(choices(), min_size=1, max_size=3)


def whole(answer: Sequence[Choice]) -> list[Chunk]:
    """One chunk per choice, its delta being the whole message."""
    return [
        Chunk(choice=index, delta=_indexed(choice.message), finish=choice.finish, logprobs=_logprobs(choice.logprobs))
        for index, choice in enumerate(answer)
    ]


def _indexed(message: Mapping[str, Any]) -> dict[str, Any]:
    if "tool_calls" not in message:
        return dict(message)
    return {**message, "tool_calls": [{**call, "index": at} for at, call in enumerate(message["tool_calls"])]}


def _logprobs(tokens: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    return {"content": list(tokens), "refusal": None} if tokens else None


@st.composite
def cut(draw: st.DrawFn, answer: Sequence[Choice]) -> list[Chunk]:
    """`answer` as a stream: every text in any pieces, choices interleaved in any way, but each opened in the order of its index."""
    left = [list(_pieces(draw, index, choice)) for index, choice in enumerate(answer)]
    told = [pieces.pop(0) for pieces in left]
    while any(left):
        pieces = draw(st.sampled_from([pieces for pieces in left if pieces]))
        told.append(pieces.pop(0))
    return told


def _pieces(draw: st.DrawFn, index: int, choice: Choice) -> Iterator[Chunk]:
    yield Chunk(choice=index, delta={"role": "assistant", "content": "", "refusal": None})
    for key in ("reasoning_content", "content", "refusal"):
        for piece in _cut(draw, choice.message.get(key) or ""):
            yield Chunk(choice=index, delta={key: piece})
    for at, made in enumerate(choice.message.get("tool_calls", ())):
        first = {**made, "index": at, "function": {"name": made["function"]["name"], "arguments": ""}}
        yield Chunk(choice=index, delta={"tool_calls": [first]})
        for piece in _cut(draw, made["function"]["arguments"]):
            yield Chunk(choice=index, delta={"tool_calls": [{"index": at, "function": {"arguments": piece}}]})
    for entry in choice.logprobs:
        yield Chunk(choice=index, logprobs={"content": [entry], "refusal": None})
    yield Chunk(choice=index, finish=choice.finish)


def _cut(draw: st.DrawFn, value: str) -> list[str]:
    if not value:
        return []
    ends = sorted({*draw(st.lists(st.integers(1, len(value)), max_size=4)), len(value)})
    return [value[start:end] for start, end in zip([0, *ends], ends, strict=False)]


# --- defects ----------------------------------------------------------------------------------------------------------------------

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def spoil(told: Sequence[Chunk], answer: Sequence[Choice], defects: set[str]) -> list[Chunk]:
    """The same answer, told as badly as `defects` say. Sources: the upstreams and the clients they break, `chat.py`'s head."""
    out: list[Chunk] = []
    for chunk in told:
        delta: dict[str, Any] = dict(chunk.delta)
        if "no role" in defects:
            delta.pop("role", None)
        if "role in every chunk" in defects:
            delta["role"] = "assistant"
        if delta.get("tool_calls"):
            names = answer[chunk.choice].message["tool_calls"]
            delta["tool_calls"] = [_spoiled(call, names[call["index"]], defects) for call in delta["tool_calls"]]
        elif "null keys" in defects:
            delta = {"content": None, "tool_calls": None, "function_call": None, "reasoning": None, **delta}
        finish = None if "no finish" in defects else chunk.finish
        out.append(replace(chunk, delta=delta, finish=finish))
        if "empty chunks" in defects:
            out += [Chunk(choice=chunk.choice, delta={"content": ""}), Chunk(choice=chunk.choice)]
        if "usage everywhere" in defects:
            out.append(Chunk(usage={**USAGE, "completion_tokens": 0}))
        if "finish twice" in defects and finish:
            out.append(Chunk(choice=chunk.choice, delta={"content": ""}, finish=finish))
    if "high choice first" in defects:
        out.insert(0, Chunk(choice=len(answer) - 1, delta={"role": "assistant"}))
    return [*out, Chunk(usage=USAGE)]


def _spoiled(call: Mapping[str, Any], full: Mapping[str, Any], defects: set[str]) -> dict[str, Any]:
    spoiled = {**call, "function": dict(call["function"])}
    if "names repeated" in defects:
        spoiled |= {"id": full["id"], "type": "function"}
        spoiled["function"]["name"] = full["function"]["name"]
    elif "null keys" in defects and "id" not in call:
        spoiled |= {"id": None, "type": None}
        spoiled["function"]["name"] = None
    if "index gaps" in defects:
        spoiled["index"] = call["index"] * 3 + 2
    return spoiled


DEFECTS = (
    "no role", "role in every chunk", "names repeated", "null keys", "index gaps", "no finish", "finish twice", "empty chunks",
    "usage everywhere", "high choice first",
)  # fmt: skip
