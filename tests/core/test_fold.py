"""Chunks > drafts > one whole answer."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.fold import Fold
from tests.dialects.answers import DEFECTS, Choice, answers, call, cut, spoil, whole
from wire.types import Chunk, ToolCall


def fold(chunks: list[Chunk]) -> Fold:
    made = Fold()
    for chunk in chunks:
        made.add(chunk)
    return made


def expected(answer: list[Choice]) -> list[Any]:
    return [
        (index, choice.message, choice.finish, {"content": list(choice.logprobs)} if choice.logprobs else None)
        for index, choice in enumerate(answer)
    ]


@given(answers)
def test_a_whole_answer_comes_out_as_it_went_in(answer: list[Choice]) -> None:
    """One chunk per choice: message, finish_reason and log-probabilities are the same again."""
    made = fold(whole(answer))
    assert made.messages() == expected(answer)
    assert made.finished


@given(st.data(), answers)
def test_however_it_is_cut(data: st.DataObject, answer: list[Choice]) -> None:
    """An answer in any pieces, its choices interleaved in any way, folds to the whole answer: messages and drafts."""
    made = fold(data.draw(cut(answer)))
    assert made.messages() == expected(answer)
    assert made.drafts() == fold(whole(answer)).drafts()


@given(st.data(), answers, st.sets(st.sampled_from(DEFECTS)).map(lambda found: found - {"no finish"}))
def test_however_badly_it_is_told(data: st.DataObject, answer: list[Choice], defects: set[str]) -> None:
    """Repeated roles, names and ends, null keys, gaps and empty chunks change nothing of the answer."""
    made = fold(spoil(data.draw(cut(answer)), answer, defects))
    assert made.messages() == expected(answer)
    assert made.usage is not None
    assert made.usage["completion_tokens"] == 5


@given(st.data(), answers)
def test_a_growing_answer_only_grows(data: st.DataObject, answer: list[Choice]) -> None:
    """After every chunk: texts and arguments are prefixes of the whole, and nothing is whole before its end came."""
    made, final = Fold(), fold(whole(answer)).drafts()
    for chunk in data.draw(cut(answer)):
        made.add(chunk)
        for draft in made.drafts():
            end = final[draft.choice]
            assert end.text.startswith(draft.text)
            assert end.refusal.startswith(draft.refusal)
            for told, full in zip(draft.tool_calls, end.tool_calls, strict=False):
                assert full.arguments.startswith(told.arguments)
            assert draft.whole == (draft.finish is not None)
    assert made.finished


@given(st.data(), answers, st.lists(st.none() | st.floats(0, 1), min_size=3, max_size=3))
def test_what_is_told_without_the_drafts(data: st.DataObject, answer: list[Choice], sure: list[float | None]) -> None:
    """After every chunk, of whichever choice: the same calls, and the same probability, as the drafts tell."""
    made = Fold()
    for chunk in data.draw(cut(answer)):
        made.add(structs.replace(chunk, probability=sure[chunk.choice] if chunk.finish else None))
        assert made.called == any(draft.tool_calls for draft in made.drafts())
        known = [draft.probability for draft in made.drafts() if draft.probability is not None]
        assert made.probability == (known[0] if known else None)


@given(st.data(), answers, st.lists(st.none() | st.just({"type": "ping"}), min_size=1))
def test_a_plain_answer(data: st.DataObject, answer: list[Choice], native: list[Any]) -> None:
    """It is plain as long as no chunk has log-probabilities or words of the upstream's own: what keeps the latter keeps nothing then."""
    made, keeps = Fold(), Fold(native=[])
    plain = True
    for number, chunk in enumerate(data.draw(cut(answer))):
        told = structs.replace(chunk, native=native[number % len(native)])
        made.add(told)
        keeps.add(told)
        plain = plain and told.native is None and not told.logprobs
        assert made.plain is keeps.plain is plain
    assert made.messages() == keeps.messages()
    assert made.native is None
    assert keeps.native is not None
    assert not (plain and keeps.native)


@pytest.mark.parametrize(
    ("chunk", "begun"),
    [
        (Chunk(), False),
        (Chunk(delta={"role": "assistant", "content": "", "refusal": None}), False),
        (Chunk(usage={"total_tokens": 1}), False),
        (Chunk(meta={"tier": "static"}), False),
        (Chunk(delta={"content": "a"}), True),
        (Chunk(delta={"refusal": "no"}), True),
        (Chunk(delta={"reasoning_content": "hm"}), True),
        (Chunk(delta={"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]}), True),
        (Chunk(finish="stop"), True),
    ],
)
def test_when_content_has_come(chunk: Chunk, begun: bool) -> None:
    """Text, a call, a refusal or an end is content; a role, a count of tokens or a fact for the Record is none."""
    assert fold([chunk]).begun is begun


def test_finished_means_every_choice() -> None:
    """One choice that has ended does not end the other, and no choice at all is no end."""
    assert not Fold().finished
    made = fold([Chunk(delta={"content": "a"}, finish="stop"), Chunk(choice=1, delta={"content": "b"})])
    assert not made.finished
    made.add(Chunk(choice=1, finish="stop"))
    assert made.finished


def test_what_stands_beside_the_choices() -> None:
    """Of head and usage the last counts; extras and facts are joined; a probability belongs to its choice."""
    made = fold(
        [
            Chunk(head={"x": "1"}, extra={"system_fingerprint": "fp"}, meta={"tier": "static"}),
            Chunk(usage={"total_tokens": 1}, extra={"service_tier": "default"}),
            Chunk(delta={"content": "a"}, probability=0.25, usage={"total_tokens": 2}, meta={"model": "m"}),
        ]
    )
    assert made.head == {"x": "1"}
    assert made.usage == {"total_tokens": 2}
    assert made.extra == {"system_fingerprint": "fp", "service_tier": "default"}
    assert made.meta == {"tier": "static", "model": "m"}
    (draft,) = made.drafts()
    assert (draft.probability, draft.usage, draft.text) == (0.25, {"total_tokens": 2}, "a")


def test_a_call_without_arguments_gets_an_empty_object() -> None:
    """`{}`, never an empty string, in the message; the draft says what the model wrote."""
    made = fold([Chunk(delta={"tool_calls": [{**call("c", "f", ""), "index": 0}]}, finish="tool_calls")])
    assert made.messages()[0][1]["tool_calls"] == [call("c", "f", "{}")]
    assert made.drafts()[0].tool_calls == (ToolCall("c", "f", ""),)


def test_calls_stand_in_the_order_in_which_they_came() -> None:
    """As a stream of them has to be written: an upstream's own numbers do not matter, so both modes tell the same."""
    deltas = [{**call("c1", "f", "{}"), "index": 7}, {**call("c0", "g", "{}"), "index": 2}]
    made = fold([Chunk(delta={"tool_calls": [delta]}) for delta in deltas])
    assert [made_call.id for made_call in made.drafts()[0].tool_calls] == ["c1", "c0"]


def test_unknown_fields_are_kept() -> None:
    """What nobody here knows is passed on: the last value, and lists joined."""
    made = fold([Chunk(delta={"annotations": [1], "mood": "a"}), Chunk(delta={"annotations": [2], "mood": "b"})])
    message = made.messages()[0][1]
    assert message["annotations"] == [1, 2]
    assert message["mood"] == "b"


@given(
    st.dictionaries(
        st.sampled_from(["content", "tool_calls", "refusal", "audio", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["index", "function", "id", "name"]), inner)
            ),
        ),
    )
)
def test_any_delta_can_be_folded(delta: dict[str, Any]) -> None:
    """Whatever an upstream calls a delta: nothing is raised."""
    made = fold([Chunk(delta=delta), Chunk(delta=delta, finish="stop")])
    made.messages()
    assert made.called == any(draft.tool_calls for draft in made.drafts())
