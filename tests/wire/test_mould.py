"""Moulds: a stream reads the same with them as without, and most of it is not decoded."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import BackendError
from wire.mould import Mould, mould
from wire.openai import Reader, chunks
from wire.types import Chunk

STREAM = {"content-type": "text/event-stream"}

_texts = st.text(max_size=6) | st.sampled_from(['"', "\\", '","x":"', "\n\n", "data: ", "é\U0001f600", '"content":"'])
_deltas = st.one_of(
    st.builds(lambda text: {"content": text}, _texts),
    st.builds(lambda text: {"role": "assistant", "content": text}, _texts),
    st.builds(lambda text: {"reasoning": text}, _texts),
    st.builds(lambda one, two: {"content": one, "reasoning_content": two}, _texts, _texts),
    st.builds(lambda text: {"content": text, "tool_calls": []}, _texts),
    st.sampled_from(
        [{}, {"content": None}, {"content": 5}, {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}]
    ),
)
_beside = st.sampled_from(
    [{}, {}, {"system_fingerprint": "fp"}, {"x": {"content": "a"}}, {"usage": None}, {"usage": {"n": 1}}]
)
_events = st.builds(
    lambda delta, index, finish, logprobs, beside: {
        "id": "c", **beside, "choices": [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}]
    },
    _deltas, st.sampled_from([0, 0, 0, 1]), st.sampled_from([None, None, None, "stop"]),
    st.sampled_from([None, None, {"content": []}]), _beside,
)  # fmt: skip
_written = st.builds(
    lambda event, write, end: b"data: " + write(event) + end,
    _events,
    st.sampled_from([orjson.dumps, lambda event: orjson.dumps(event).replace(b'":', b'": ')]),
    st.sampled_from([b"\n\n", b"\n\n", b"\n\n", b"\r\n\r\n", b"\n\n: ping\n\n", b"\n\n\n"]),
) | st.sampled_from(
    [
        b'data: {"usage":{"n":1}}\n\n',
        b'data: {"type":"ping"}\n\n',
        b'data: {"choices":null,"usage":{"n":1}}\n\n',
        b"data: [DONE]\n\n",
        b"data: {\ndata: }\n\n",
        b"data: {}",
        b"event: x\n",
        b'data: {"choices":"content"}\n\n',
    ]
)


@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("beside", [b'{"usage":{"n":1}}', b'{"type":"ping"}', b'{"choices":null,"usage":{"n":1}}'])
def test_an_event_without_choices_costs_no_answer(beside: bytes, faithful: bool) -> None:
    """Servers send usage and pings in events of their own: what came before and comes after is read."""
    said = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n'
    last = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    body = said % b"a" + b"data: " + beside + b"\n\n" + said % b"b" + last
    found = _read(body, list(range(1, len(body))), faithful)
    assert not isinstance(found, str)
    assert "".join(chunk.delta.get("content") or "" for chunk in found) == "ab"


def _read(body: bytes, cuts: list[int], faithful: bool) -> list[Chunk] | str:
    """The chunks, or the error in words."""
    reader = Reader("cloud", STREAM, faithful=faithful)
    found: list[Chunk] = []
    try:
        for begin, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
            found += reader.feed(body[begin:end])
        found += reader.close()
    except BackendError as exc:
        return f"{type(exc).__name__} {exc.message}"
    return [*found, Chunk(choice=reader.heard)]


@given(st.lists(_written, max_size=12), st.booleans(), st.data())
def test_a_stream_reads_the_same_with_and_without(parts: list[bytes], faithful: bool, data: st.DataObject) -> None:
    """Whatever the events are and however the network cuts them: the same chunks, bytes and all, or the same error."""
    body = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    with pytest.MonkeyPatch.context() as without:
        without.setattr("wire.openai._MOULDS", 0)
        plain = _read(body, cuts, faithful)
    assert _read(body, cuts, faithful) == plain


@given(st.lists(_written, max_size=12), st.booleans())
def test_a_stream_that_comes_event_by_event(parts: list[bytes], faithful: bool) -> None:
    """As a network cuts it mostly: each block is one event, or nearly. The same chunks as from one block."""
    body = b"".join(parts)
    ends = [sum(map(len, parts[: at + 1])) for at in range(len(parts))]
    assert _read(body, ends, faithful) == _read(body, [], faithful)


@given(_events, _texts, st.binary(max_size=3), st.sampled_from([b"", b" ", b"\n", b'"']))
def test_one_event_is_what_many_are(event: dict[str, Any], text: str, after: bytes, beside: bytes) -> None:
    """`one` says what `chunks` does of a block that is nothing but one event, and nothing of any other."""
    data = orjson.dumps(event)
    made = mould(data, event, chunks(event))
    if made is None:
        return
    for key in ("content", "reasoning"):
        said = orjson.dumps({**event, "choices": [{**event["choices"][0], "delta": {key: text}}]})
        for block in (b"data: " + said + b"\n\n" + after, b"data: " + data + beside + b"\n\n", after):
            found, left = made.chunks(block, raw=False)
            alone = made.one(block)
            assert ([alone], b"") == (found, left) if alone is not None else len(found) != 1 or left != b""


def test_a_block_that_is_shorter_than_what_stands_behind_a_text() -> None:
    """It is no event, whatever it begins with."""
    made = Mould(b"", b"x" * 20, "content", Chunk(delta={"content": "."}))
    assert made.one(b'data: "a text of 12"\n') is None
    assert made.one(b'data: "a"' + b"x" * 20 + b"\n\n") == Chunk(delta={"content": "a"})


def _event(text: str, **beside: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: " + orjson.dumps({"id": "c", **beside, "choices": [choice]}) + b"\n\n"


@pytest.mark.parametrize("step", [40, 1000, 100_000])
def test_what_repeats_is_decoded_twice(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Of a thousand events that differ in their text, two are decoded, in blocks of any size."""
    decoded: list[bytes] = []

    def parse(data: bytes) -> Any:
        decoded.append(data)
        return orjson.loads(data)

    monkeypatch.setattr("wire.openai.parse", parse)
    body = b"".join(_event(f"{n} ") for n in range(1000))
    reader = Reader("cloud", STREAM)
    found = [chunk for at in range(0, len(body), step) for chunk in reader.feed(body[at : at + step])]
    assert "".join(chunk.delta["content"] for chunk in found) == "".join(f"{n} " for n in range(1000))
    assert (len(decoded), reader.heard) == (2, 1000)


def test_where_no_mould_fits_none_is_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that differ in more than their text (OpenAI's obfuscation): after a few moulds no more are made."""
    made: list[bytes] = []

    def counted(data: bytes, value: Any, found: list[Chunk]) -> Mould | None:
        made.append(data)
        return mould(data, value, found)

    monkeypatch.setattr("wire.openai.mould", counted)
    reader = Reader("cloud", STREAM)
    found = [chunk for n in range(50) for chunk in reader.feed(_event("a", obfuscation=str(n)))]
    assert len(found) == 50
    assert len(made) == 8


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices":[{"index":0,"delta":{"content":"a","content":"b"}}],"content":"b"}',
        b'{"choices":[{"index":0,"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}',
        b'{"choices":[null,{"index":0,"delta":{"content":"a"}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}',
        b'{"choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}',
        b'{"choices":[{"index":0,"delta":{"content":"a","tool_calls":[{"index":0}]}}]}',
        b'{"choices":[{"index":0,"delta":{"content":""}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"a"}}],\n"id":"c"}',
        b'{"choices":[{"index":0,"delta":{"content":"' + b"a" * 5000 + b'"}}]}',
    ],
)
def test_what_has_no_mould(data: bytes) -> None:
    """More than one choice, more than a text, no text, more than one line, too long; and of two equal keys it is the last that counts."""
    value = orjson.loads(data)
    made = mould(data, value, chunks(value))
    if b'"content":"a","content"' not in data:
        assert made is None
    else:
        assert made is not None
        block = b"data: " + data.replace(b'"content":"b"}}', b'"content":"new"}}') + b"\n\n"
        assert [chunk.delta for chunk in made.chunks(block, raw=False)[0]] == [{"content": "new"}]
