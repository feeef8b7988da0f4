"""Upstream shapes > chunks: faithful, and never an exception of the wrong kind."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import BackendError, Broken, Overloaded
from wire.openai import Reader, chunks, response_format, says, tokens, whole
from wire.sse import encode
from wire.types import Chunk, Constraint, Tokens

STREAM = {"content-type": "text/event-stream; charset=utf-8", "x-request-id": "r1"}
JSON = {"content-type": "application/json"}


def _choice(delta: Any = None, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"index": index, "delta": delta or {}, "finish_reason": finish, "logprobs": None}


def _event(*choices: Any, **beside: Any) -> dict[str, Any]:
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": list(choices),
        **beside,
    }


def _sse(*events: Any) -> bytes:
    return b"".join(encode(e if isinstance(e, bytes) else orjson.dumps(e)) for e in events)


def _read(body: bytes, head: dict[str, str] = STREAM, step: int = 1000, faithful: bool = False) -> list[Chunk]:
    reader = Reader("cloud", head, faithful=faithful)
    found: list[Chunk] = []
    for at in range(0, len(body), step):
        found += reader.feed(body[at : at + step])
    return found + reader.close()


def test_chunks_of_an_event() -> None:
    """One chunk per choice; what stands beside the choices goes with the first."""
    event = _event(
        _choice({"role": "assistant", "content": "a"}),
        _choice({"content": "b"}, "stop", 1),
        usage={"prompt_tokens": 1},
        system_fingerprint="fp",
        service_tier=None,
        obfuscation="xx",
    )
    assert chunks(event) == [
        Chunk(
            delta={"role": "assistant", "content": "a"}, usage={"prompt_tokens": 1}, extra={"system_fingerprint": "fp"}
        ),
        Chunk(choice=1, delta={"content": "b"}, finish="stop"),
    ]


def test_usage_without_a_choice() -> None:
    """The last event of a stream has no choice, and is a chunk all the same; one that says nothing is none."""
    assert chunks(_event(usage={"prompt_tokens": 3})) == [Chunk(usage={"prompt_tokens": 3})]
    assert chunks(_event(usage=None)) == []


def test_tool_deltas() -> None:
    """Tool deltas have an index and no null keys; nothing else of a delta is touched."""
    delta = {
        "reasoning": "hm",
        "content": None,
        "tool_calls": [
            {"index": 3, "id": None, "type": None, "function": {"name": None, "arguments": "{}"}},
            {"id": "c2", "function": {"name": "f", "arguments": ""}},
        ],
    }
    (chunk,) = chunks(_event(_choice(delta)))
    assert chunk.delta == {
        "reasoning": "hm",
        "content": None,
        "tool_calls": [
            {"index": 3, "function": {"arguments": "{}"}},
            {"index": 1, "id": "c2", "function": {"name": "f", "arguments": ""}},
        ],
    }


def test_whole_answer() -> None:
    """A whole answer is one chunk per choice; fields that nobody here knows stay, tool calls get their index."""
    answer = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "service_tier": "default",
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "logprobs": {"content": []},
                "message": {
                    "role": "assistant",
                    "content": None,
                    "refusal": None,
                    "reasoning_content": "hm",
                    "annotations": [],
                    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}] * 2,
                },
            },
            {"index": 1, "finish_reason": "stop", "message": {"role": "assistant", "content": "b"}},
        ],
        "usage": {"prompt_tokens": 5},
    }
    first, second = whole(answer)
    assert first.finish == "tool_calls"
    assert first.logprobs == {"content": []}
    assert first.usage == {"prompt_tokens": 5}
    assert first.extra == {"service_tier": "default"}
    assert [call["index"] for call in first.delta["tool_calls"]] == [0, 1]
    assert {key: first.delta[key] for key in first.delta if key != "tool_calls"} == {
        "role": "assistant",
        "reasoning_content": "hm",
        "annotations": [],
    }
    assert second == Chunk(choice=1, delta={"role": "assistant", "content": "b"}, finish="stop")


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (None, Tokens()),
        ({}, Tokens()),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
            Tokens(input=9, cached_input=4, output=2),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": None}, Tokens(input=9, output=2)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 7}}, Tokens(input=3, cached_input=3)),
        ({"prompt_tokens": "9", "completion_tokens": -1}, Tokens()),
        ({"prompt_tokens": True, "completion_tokens": 2.0}, Tokens(output=2)),
    ],
)
def test_tokens(usage: dict[str, Any] | None, counted: Tokens) -> None:
    """Input counts include the cached ones; what is no count is zero; more cannot be cached than was read."""
    assert tokens(usage) == counted


def test_response_format() -> None:
    """Schema and json have a spelling; choice, regex and grammar have none here; a bad name is replaced."""
    schema = {"type": "object"}
    assert response_format(None) is None
    assert response_format(Constraint("json", None)) == {"type": "json_object"}
    assert response_format(Constraint("choice", ["a"])) is None
    assert response_format(Constraint("schema", schema, name="order", strict=True)) == {
        "type": "json_schema",
        "json_schema": {"name": "order", "schema": schema, "strict": True},
    }
    asked = response_format(Constraint("schema", schema, name="not a name!"))
    assert asked == {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    assert says(
        {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "description": "d"}},
        Constraint("schema", schema),
    )
    assert not says({"type": "json_schema", "json_schema": {"schema": {}}}, Constraint("schema", schema))
    assert not says({"type": "text"}, Constraint("schema", schema))
    assert not says(None, Constraint("json", None))


_ANSWER = _sse(
    _event(_choice({"role": "assistant", "content": ""})),
    _event(_choice({"content": "héllo"})),
    _event(_choice({}, "stop")),
    _event(usage={"prompt_tokens": 1}),
    b"[DONE]",
)


@pytest.mark.parametrize("step", [1, 2, 7, 10_000])
def test_reader(step: int) -> None:
    """However the bytes come: the deltas, the finish, the usage, and the head on the first chunk only."""
    found = _read(_ANSWER, step=step)
    assert "".join(chunk.delta.get("content", "") for chunk in found) == "héllo"
    assert [chunk.finish for chunk in found if chunk.finish] == ["stop"]
    assert found[-1].usage == {"prompt_tokens": 1}
    assert [chunk.head for chunk in found] == [STREAM, None, None, None]
    assert not any(chunk.raw for chunk in found)


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_faithful_reader_loses_no_byte(step: int) -> None:
    """Faithful, the raws joined are the body: comments, [DONE], errors, nonsense and what comes after, all of it."""
    body = b": hi\n\n" + _ANSWER + _sse({"error": {"code": 400}}) + b"data: {no json\n\ndata: []\r\n\r\ndata: cut"
    assert b"".join(chunk.raw for chunk in _read(body, step=step, faithful=True)) == body
    several = _sse(_event(_choice({"content": "a"}), _choice({"content": "b"}, index=1)))
    assert [chunk.raw for chunk in _read(several, step=step, faithful=True)] == [several, b""]


@pytest.mark.parametrize(
    "body", [b'{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}', b"<html>", b"", b"5"]
)
def test_faithful_whole_answer(body: bytes) -> None:
    """Faithful, a whole body is one chunk with its bytes, whatever they are."""
    assert b"".join(chunk.raw for chunk in _read(body, JSON, step=3, faithful=True)) == body


def test_faithful_error_is_told_in_meta() -> None:
    """Faithful, an error inside a 200 stream is passed on, and the Record learns of it."""
    (chunk,) = _read(_sse({"error": {"code": "rate_limit_exceeded"}}), faithful=True)
    assert chunk.meta == {"error": "overload"}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", Broken),
        (b": ping\n\n", Broken),
        (_sse(b"[DONE]"), Broken),
        (_sse(_event(_choice({"content": "a"}))), Broken),
        (_sse(_event(_choice({"content": "a"})), b"[DONE]"), Broken),
        (_sse(_event(_choice({"content": "a"}, "stop"), _choice({"content": "b"}, index=1)), b"[DONE]"), Broken),
        (_sse(b"{no json"), Broken),
        (_sse([1]), Broken),
        (_sse({"error": {"message": "x", "code": "rate_limit_exceeded"}}), Overloaded),
        (_sse(_event(_choice({"content": "a"})), {"error": {"message": "x", "code": 503}}, b"[DONE]"), Overloaded),
        (encode(b'{"message":"x"}', "error"), Broken),
    ],
)
def test_a_stream_that_is_no_answer(body: bytes, kind: type[BackendError]) -> None:
    """A stream that ends before every begun choice has finished, an error event and an unreadable event are errors."""
    with pytest.raises(BackendError) as caught:
        _read(body)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", Broken),
        (b"<html>", Broken),
        (b"[]", Broken),
        (b"{}", Broken),
        (b'{"choices":[]}', Broken),
        (b'{"choices":null}', Broken),
        (b'{"choices":[{"message":{"content":"a"},"finish_reason":null}]}', Broken),
        (b'{"error":{"message":"x","code":429}}', Overloaded),
    ],
)
def test_a_body_that_is_no_answer(body: bytes, kind: type[BackendError]) -> None:
    """A 200 that holds no choice, an unfinished one, or an error object is an error."""
    with pytest.raises(BackendError) as caught:
        _read(body, JSON)
    assert type(caught.value) is kind


def test_stream_without_done() -> None:
    """A stream that finished its choices and then ends without [DONE] is whole; so is one without the last blank line."""
    body = _sse(_event(_choice({"content": "a"}, "stop")))
    assert _read(body)[0].finish == "stop"
    assert _read(body[:-2])[0].finish == "stop"


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole body and a single event have a size beyond which they are Broken, before they fill the memory."""
    monkeypatch.setattr("wire.openai.MOST_BODY", 100)
    with pytest.raises(Broken, match="longer than 100"):
        Reader("cloud", JSON).feed(b" " * 101)
    Reader("cloud", JSON).feed(b" " * 100)
    with pytest.raises(Broken, match="longer than"):
        Reader("cloud", STREAM).feed(b"data: " + b"x" * (8 * 2**20))


def test_nothing_after_done() -> None:
    """What comes after [DONE] is not part of the answer."""
    assert len(_read(_sse(_event(_choice({"content": "a"}, "stop")), b"[DONE]", {"error": "late"}))) == 1


_counts = st.one_of(st.integers(-2, 2**54), st.floats(), st.booleans(), st.none(), st.text(max_size=2))


@given(st.fixed_dictionaries({}, optional={"prompt_tokens": _counts, "completion_tokens": _counts}))
def test_details_that_tell_nothing_change_no_count(usage: dict[str, Any]) -> None:
    """Whether they are left out, null, empty, or hold other things: most upstreams' usage is read in one go, and no differently."""
    (first, *others) = [
        tokens({**usage, **more})
        for more in ({}, *({"prompt_tokens_details": d} for d in (None, {}, {"audio_tokens": 1})))
    ]
    assert others == [first] * 3


_odd = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "message",
                    "index",
                    "tool_calls",
                    "function",
                    "usage",
                    "finish_reason",
                    "error",
                    "logprobs",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["choices", "usage", "model"]), _odd), st.booleans(), st.booleans())
def test_any_types(value: dict[str, Any], stream: bool, faithful: bool) -> None:
    """Fields of any type, anywhere: an answer or a BackendError, nothing else; faithful, never an error."""
    body = _sse(value) if stream else orjson.dumps(value)
    try:
        found = _read(body, STREAM if stream else JSON, faithful=faithful)
    except BackendError:
        assert not faithful
    else:
        assert not faithful or b"".join(chunk.raw for chunk in found) == body
    tokens(value)
