"""The chat stream as clients read it: what comes out of the writer, whatever an upstream put in."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects import chat
from gateway.dialects.base import Stamp
from gateway.fold import Fold
from tests.dialects.answers import DEFECTS, USAGE, Choice, answers, call, cut, spoil, whole
from tests.dialects.reading import accumulated, events, obeys, openai_python
from wire.errors import NoAnswer
from wire.types import Asked, Chunk, Query, Wants

STAMP = Stamp(id="0123456789abcdef", created=1_700_000_000, model="gpt-5")


def asked(*, n: int = 1, usage: bool = False, logprobs: bool = False, **body: Any) -> Asked:
    return Asked(Query("hi", "gpt-5"), body, Wants(stream=True, usage=usage, logprobs=logprobs, n=n))


def stream(chunks: list[Chunk], wanted: Asked) -> list[dict[str, Any]]:
    """The events that `chunks` become; they obey the rules."""
    writer = chat.writer(wanted, STAMP)
    told = events(b"".join([*map(writer.feed, chunks), writer.end()]))
    obeys(told, usage=wanted.wants.usage)
    return told


def same(told: list[dict[str, Any]], answer: list[Choice], finishes: list[str]) -> None:
    """Strict accumulation and the official client give `answer` again."""
    for got, choice, finish in zip(accumulated(told), answer, finishes, strict=True):
        message = {**choice.message, "content": choice.message["content"] or ""}
        assert {"refusal": None, **got["message"]} == message
        assert got["finish"] == finish
    read = openai_python(told)
    for got, choice, finish in zip(read["choices"], answer, finishes, strict=True):
        message = {key: value for key, value in got["message"].items() if key != "parsed" and value is not None}
        for made in message.get("tool_calls", ()):
            made["function"].pop("parsed_arguments", None)
            made.pop("index", None)
        wanted = {key: value for key, value in choice.message.items() if value is not None}
        assert message == {**wanted, "content": choice.message["content"] or ""}
        assert got["finish_reason"] == finish


@given(st.data(), answers)
def test_a_stream_is_the_whole_answer_in_pieces(data: st.DataObject, answer: list[Choice]) -> None:
    """However an answer was cut, what clients put together again is the message that `stream: false` would have given."""
    wanted = asked(n=len(answer), usage=data.draw(st.booleans()), logprobs=True)
    chunks = data.draw(cut(answer))
    told = stream(chunks, wanted)
    same(told, answer, [choice.finish for choice in answer])
    assert [got["logprobs"] for got in accumulated(told)] == [list(choice.logprobs) for choice in answer]
    fold = Fold()
    for chunk in chunks:
        fold.add(chunk)
    complete = orjson.loads(chat.whole(wanted, STAMP, fold))
    for got, choice in zip(accumulated(told), complete["choices"], strict=True):
        assert got["finish"] == choice["finish_reason"]
        message = {key: value for key, value in choice["message"].items() if value is not None}
        assert {key: value for key, value in got["message"].items() if value is not None} == {"content": "", **message}


@given(answers, st.booleans())
def test_a_whole_chunk_is_written_by_the_same_rules(answer: list[Choice], usage: bool) -> None:
    """A held answer comes as one chunk per choice and becomes a proper stream."""
    told = stream(whole(answer), asked(n=len(answer), usage=usage))
    same(told, answer, [choice.finish for choice in answer])


@given(st.data(), answers, st.sets(st.sampled_from(DEFECTS)), st.booleans())
def test_defects_are_mended(data: st.DataObject, answer: list[Choice], defects: set[str], usage: bool) -> None:
    """Any mixture of defects that upstreams have: the stream obeys the rules, and clients read the answer that was meant."""
    told = stream(spoil(data.draw(cut(answer)), answer, defects), asked(n=len(answer), usage=usage))
    finishes = [choice.finish for choice in answer]
    if "no finish" in defects:
        finishes = ["tool_calls" if "tool_calls" in choice.message else "stop" for choice in answer]
    same(told, answer, finishes)
    if usage:
        assert told[-1]["usage"] == USAGE
        assert openai_python(told)["usage"]["total_tokens"] == 12


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_one(defect: str) -> None:
    """The defects of the test above really change the stream that they are put into."""
    answer = [Choice({"role": "assistant", "content": "hi", "tool_calls": [call("c", "f", "{}")]}, "tool_calls")] * 2
    told = [
        Chunk(choice=index, delta=delta)
        for index in (0, 1)
        for delta in (
            {"role": "assistant", "content": "hi"},
            {"tool_calls": [{**call("c", "f", ""), "index": 0}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
        )
    ] + [Chunk(choice=0, finish="tool_calls"), Chunk(choice=1, finish="tool_calls")]
    assert spoil(told, answer, {defect}) != spoil(told, answer, set())


# --- one by one -------------------------------------------------------------------------------------------------------------------


def test_a_tiny_stream_to_the_letter() -> None:
    """What goes over the wire for "Hi": first the role, then the text, then the end alone, then the usage, then [DONE]."""
    told = stream([Chunk(delta={"content": "Hi"}, finish="stop", usage=USAGE)], asked(usage=True))
    assert [event["choices"] for event in told] == [
        [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": "", "refusal": None},
                "logprobs": None,
                "finish_reason": None,
            }
        ],
        [{"index": 0, "delta": {"content": "Hi"}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}],
        [],
    ]
    assert [event["usage"] for event in told] == [None, None, None, USAGE]
    assert told[0]["id"] == "chatcmpl-0123456789abcdef"
    assert (told[0]["created"], told[0]["model"]) == (1_700_000_000, "gpt-5")


def test_nothing_at_all_is_still_a_stream() -> None:
    """An answer without a chunk: choice 0 with its role and its end. `stream: false` says the same."""
    assert len(stream([], asked())) == 2
    complete = orjson.loads(chat.whole(asked(), STAMP, Fold()))
    assert complete["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]


def test_text_and_calls_come_apart() -> None:
    """A delta with both would lose the call in clients that look at one of the two."""
    chunk = Chunk(
        delta={"content": "I look.", "tool_calls": [{**call("c", "look", "{}"), "index": 0}]}, finish="tool_calls"
    )
    told = stream([chunk], asked())
    assert [list(event["choices"][0]["delta"]) for event in told[1:3]] == [["content"], ["tool_calls"]]


def test_a_call_without_arguments_ends_with_an_empty_object() -> None:
    """Clients parse the arguments of every call: they read `{}`, also when the upstream sent nothing."""
    told = stream([Chunk(delta={"tool_calls": [{**call("c", "f", ""), "index": 0}]}, finish="tool_calls")], asked())
    assert accumulated(told)[0]["message"]["tool_calls"] == [call("c", "f", "{}")]


def test_a_call_without_an_id_gets_one() -> None:
    """A tool's result must be able to name its call: an id is made up, another one for each call, the same in both modes."""
    deltas = [{"index": at, "function": {"name": "f", "arguments": "{}"}} for at in (0, 1)]
    chunks = [Chunk(delta={"tool_calls": deltas}, finish="tool_calls")]
    made = accumulated(stream(chunks, asked()))[0]["message"]["tool_calls"]
    assert len({one["id"] for one in made}) == 2
    fold = Fold()
    fold.add(chunks[0])
    complete = orjson.loads(chat.whole(asked(), STAMP, fold))
    assert complete["choices"][0]["message"]["tool_calls"] == made


@pytest.mark.parametrize(
    ("finish", "called", "choice", "told"),
    [
        ("stop", False, None, "stop"),
        ("stop", True, None, "tool_calls"),
        ("tool_calls", True, "required", "tool_calls"),
        ("tool_calls", True, {"type": "function", "function": {"name": "f"}}, "stop"),
        ("tool_calls", False, None, "stop"),
        ("length", True, None, "length"),
        ("length", True, {"type": "function", "function": {"name": "f"}}, "length"),
        ("content_filter", False, None, "content_filter"),
        (None, False, None, "stop"),
        (None, True, None, "tool_calls"),
    ],
)
def test_finish_reason(finish: str | None, called: bool, choice: Any, told: str) -> None:
    """As OpenAI says it: calls end with tool_calls, a forced one with stop, and length wins."""
    delta = {"tool_calls": [{**call("c", "f", "{}"), "index": 0}]} if called else {"content": "a"}
    wanted = asked(tool_choice=choice)
    assert accumulated(stream([Chunk(delta=delta, finish=finish)], wanted))[0]["finish"] == told
    fold = Fold()
    fold.add(Chunk(delta=delta, finish=finish))
    assert orjson.loads(chat.whole(wanted, STAMP, fold))["choices"][0]["finish_reason"] == told


def test_lower_choices_are_opened_first() -> None:
    """The first chunk is of choice 2 of 3: choices 0 and 1 are opened before it, and each has its end."""
    told = stream([Chunk(choice=2, delta={"content": "c"}, finish="stop")], asked(n=3))
    assert [got["message"]["content"] for got in accumulated(told)] == ["", "", "c"]


def test_log_probabilities_only_for_who_asked() -> None:
    """They are stripped when only a validator wanted them, and carry both keys when the caller did, in both modes."""
    chunks = [Chunk(delta={"content": "a"}, logprobs={"content": [{"token": "a", "logprob": -0.1, "bytes": None}]})]
    fold = Fold()
    fold.add(chunks[0])
    for wants in (False, True):
        wanted = asked(logprobs=wants)
        found = [
            entry["logprobs"] for event in stream(chunks, wanted) for entry in event["choices"] if entry["logprobs"]
        ]
        complete = orjson.loads(chat.whole(wanted, STAMP, fold))["choices"][0]["logprobs"]
        assert bool(found) is wants
        assert complete == (found[0] if wants else None)
        assert not wants or found[0]["refusal"] is None


def test_what_stands_beside_the_choices_is_passed_on() -> None:
    """Words (system_fingerprint) in every event, as clients keep the last one's; other values once; our own fields are never replaced."""
    chunks = [
        Chunk(extra={"system_fingerprint": "fp_1", "prompt_filter_results": [1], "model": "secret-llm", "id": "x"}),
        Chunk(delta={"content": "a"}, extra={"citations": ["b"]}),
        Chunk(finish="stop"),
    ]
    told = stream(chunks, asked(usage=True))
    assert all(event["system_fingerprint"] == "fp_1" for event in told)
    assert [event.get("prompt_filter_results") for event in told].count([1]) == 1
    assert [event.get("citations") for event in told].count(["b"]) == 1
    assert told[0]["model"] == "gpt-5"
    assert openai_python(told)["system_fingerprint"] == "fp_1"


def test_no_usage_is_zero_usage() -> None:
    """Who asked for usage gets the chunk, also when no upstream counted; `stream: false` always has one."""
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert stream([Chunk(delta={"content": "a"})], asked(usage=True))[-1]["usage"] == zero
    assert orjson.loads(chat.whole(asked(), STAMP, Fold()))["usage"] == zero


def test_an_error_in_the_stream() -> None:
    """After the first byte an error is one event with OpenAI's object, all four keys."""
    told = chat.writer(asked(), STAMP).error(NoAnswer("gone", code="upstream_error"))
    assert told.startswith(b"data: ")
    assert told.endswith(b"\n\n")
    error = orjson.loads(told.removeprefix(b"data: "))["error"]
    assert error == {"message": "gone", "type": "server_error", "param": None, "code": "upstream_error"}
    assert orjson.loads(chat.error(NoAnswer("gone")))["error"]["code"] == "no_valid_answer"


_plain = st.builds(
    lambda choice, key, text, extra, finish, usage: Chunk(choice, {key: text}, finish, usage=usage, extra=extra),
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from(["content", "content", "reasoning", "reasoning_content", "refusal", "role", "odd"]),
    st.text(max_size=4) | st.none(),
    st.sampled_from([None, None, {"system_fingerprint": "a"}, {"system_fingerprint": "b"}, {"x": [1]}]),
    st.sampled_from([None, None, None, "stop"]),
    st.sampled_from([None, None, USAGE]),
)


@given(st.lists(_plain, max_size=12), st.booleans())
def test_text_is_written_as_all_is(chunks: list[Chunk], usage: bool) -> None:
    """More of a text is framed by what stood around the text before it: the same bytes as if each event were written anew."""
    wanted = asked(n=2, usage=usage)
    quick, slow = chat.writer(wanted, STAMP), chat.writer(wanted, STAMP)
    with pytest.MonkeyPatch.context() as without:
        without.setattr(slow, "_frame", lambda index, key: None)
        for chunk in chunks:
            assert quick.feed(chunk) == slow.feed(chunk)
        assert quick.end() == slow.end()
