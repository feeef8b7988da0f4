"""Anthropic's answers in any pieces: whole and as a stream they are the same."""

from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.messages import claude
from tests.messages.claude import message
from wire import anthropic
from wire.anthropic_answer import DECLINED, Reader
from wire.errors import BackendError, Broken, Overloaded
from wire.types import Chunk

JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream; charset=utf-8"}

TEXTS = st.text(min_size=1, max_size=12)
CONTENT = st.lists(
    st.one_of(
        st.builds(lambda t: {"type": "text", "text": t}, TEXTS),
        st.builds(lambda t, s: {"type": "thinking", "thinking": t, "signature": s}, TEXTS, TEXTS),
        st.builds(lambda d: {"type": "redacted_thinking", "data": d}, TEXTS),
        st.builds(
            lambda n, v: {"type": "tool_use", "id": f"toolu_{n}", "name": "f", "input": v},
            st.integers(0, 99),
            st.dictionaries(TEXTS, TEXTS, max_size=2),
        ),
        st.builds(lambda t: {"type": "server_tool_use", "id": "s", "name": "w", "input": {"q": t}}, TEXTS),
    ),
    max_size=5,
)
STOPS = st.sampled_from(list(anthropic.FINISH))


def read(body: bytes, head: dict[str, str], sizes: list[int], **options: Any) -> list[Chunk]:
    reader = Reader("c", head, **options)
    found, at = [], 0
    for size in [*sizes, len(body)]:
        found += reader.feed(body[at : at + size])
        at += size
    return found + reader.close()


def joined(found: list[Chunk]) -> dict[str, Any]:
    calls: dict[int, list[str]] = {}
    for call in (call for chunk in found for call in chunk.delta.get("tool_calls") or ()):
        calls.setdefault(call["index"], []).append(call["function"]["arguments"])
    return {
        "text": "".join(chunk.delta.get("content") or "" for chunk in found),
        "reasoning": "".join(chunk.delta.get("reasoning_content") or "" for chunk in found),
        "thinking": [block for chunk in found for block in chunk.delta.get("thinking_blocks") or ()],
        "calls": {index: orjson.loads("".join(pieces)) for index, pieces in calls.items()},
        "refusal": "".join(chunk.delta.get("refusal") or "" for chunk in found),
        "finish": [chunk.finish for chunk in found if chunk.finish],
        "usage": [chunk.usage for chunk in found if chunk.usage][-1],
    }


@given(CONTENT, STOPS, st.lists(st.integers(1, 40), max_size=30), st.sampled_from(["weir", "m"]))
def test_whole_and_stream_are_one(content: list[dict[str, Any]], stop: str, sizes: list[int], name: str) -> None:
    """The same answer, whole or in events cut anywhere, folds to the same text, calls, thinking, finish and usage; and its events
    fold to the message itself."""
    answer = message(content, stop)
    stream = b"".join(claude.events(answer, 3))
    options: dict[str, Any] = {"model": "m", "asked": name, "native": True}
    parts = read(stream, SSE, sizes, **options)
    (whole,) = read(orjson.dumps(answer), JSON, sizes, **options)
    assert joined(parts) == joined([whole])
    folded = anthropic.Message()
    for chunk in parts:
        assert chunk.native is not None
        folded.add(chunk.native)
    assert folded.whole() == whole.native
    if name == "m":
        assert whole.native == answer


@given(CONTENT, STOPS, st.lists(st.integers(1, 40), max_size=10), st.booleans())
def test_faithful(content: list[dict[str, Any]], stop: str, sizes: list[int], stream: bool) -> None:
    """Passed through, the bytes that come out are those that went in."""
    answer = message(content, stop)
    body = b"".join(claude.events(answer)) if stream else orjson.dumps(answer)
    found = read(body, SSE if stream else JSON, sizes, faithful=True)
    assert b"".join(chunk.raw for chunk in found) == body


@given(CONTENT, STOPS)
def test_events_of_a_message(content: list[dict[str, Any]], stop: str) -> None:
    """A whole message written as events is, to a strict client, that message."""
    answer = message(content, stop)
    stream = b"".join(anthropic.sse(event) for event in [*anthropic.events(answer), {"type": "message_stop"}])
    assert claude.fold(stream) == answer


def test_refusals() -> None:
    """A refusal without a text says something; one that comes after a text leaves it."""
    (bare,) = read(orjson.dumps(message([], "refusal")), JSON, [])
    assert (bare.delta["refusal"], bare.finish) == (DECLINED, "content_filter")
    (late,) = read(orjson.dumps(message([{"type": "text", "text": "x"}], "refusal")), JSON, [])
    assert "refusal" not in late.delta


@pytest.mark.parametrize(
    ("body", "head"),
    [(b"", JSON), (b"oops", JSON), (b"[]", JSON), (b"{}", JSON), (b'{"content":[],"stop_reason":null}', JSON), (b"", SSE),
     (b"data: {\n\n", SSE), (b'data: {"type":"content_block_delta","delta":{}}\n\n', SSE)],
)  # fmt: skip
def test_no_answer(body: bytes, head: dict[str, str]) -> None:
    """What is no message, or none that ended, is Broken."""
    with pytest.raises(Broken):
        read(body, head, [])


def test_error_event() -> None:
    """An error event is the error that its type names; passed through, it is passed on and marked."""
    body = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n'
    with pytest.raises(Overloaded):
        read(body, SSE, [])
    (chunk,) = read(body, SSE, [], faithful=True)
    assert chunk.raw == body
    assert chunk.meta == {"error": "overload"}


@given(st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    """No bytes raise anything but BackendError."""
    for head in (SSE, JSON):
        for text in (
            body,
            b"data: " + body + b"\n\n",
            b'data: {"type":"content_block_start","index":0,"content_block":' + body,
        ):
            with suppress(BackendError):
                read(text, head, [7])
