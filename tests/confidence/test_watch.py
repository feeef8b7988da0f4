"""A growing answer > its least likely token so far."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.confidence.watch import Watch, grown
from tests.confidence.said import forced, hermes, pieces, token
from wire.types import Chunk, Draft, Json


def chunk(*said: Json, **more: Any) -> Chunk:
    return Chunk(logprobs={"content": list(said)}, **more)


def test_only_free_tokens_of_the_json_count() -> None:
    """Tags and forced tokens say nothing, however unlikely; which key comes next does; None before the first."""
    watch, seen = Watch(), []
    for said in [
        token("<tool_call>\n", -9.0), forced('{"name'), forced('": "'), token("Get", -0.2), token("Weather", -0.1),
        token('", "', -0.3), forced("arguments"), forced('": {"'), token("city", -1.0), token('": "', -0.1),
        token("Paris", -2.0), token('"}}', -0.5), token("\n</tool_call>", -9.0),
    ]:  # fmt: skip
        watch.feed(chunk(said))
        seen.append(watch.lowest)
    assert seen == [None, None, None, -0.2, -0.2, -0.3, -0.3, -0.3, -1.0, -1.0, -2.0, -2.0, -2.0]


def test_forced_or_unknown_is_not_low() -> None:
    """Masked alternatives, no alternatives, no log-probability, another choice, the reasoning channel: never a reason to stop."""
    watch = Watch()
    watch.feed(chunk(forced('{"a": "')))
    watch.feed(chunk({**token("x", -50.0), "top_logprobs": []}, token("y", -50.0, [("~", -9999.0)])))
    watch.feed(chunk({**token("x"), "logprob": None}, {"token": "z"}))
    watch.feed(chunk(token("x", -50.0), choice=1))
    watch.feed(chunk(token("x", -50.0), delta={"reasoning": "x"}))
    watch.feed(Chunk(delta={"content": "x"}))
    assert watch.lowest is None
    watch.feed(chunk(token("x", -0.5), delta={"content": "x"}))
    assert watch.lowest == -0.5


@pytest.mark.parametrize(
    "raw", [hermes("f", {"a": "é日", "b": [1, "x"]}), "a plain answer", '{"a": 1}', "[TOOL_CALLS]f{}"]
)
@given(data=st.data())
def test_it_never_rises_and_chunking_does_not_matter(raw: str, data: st.DataObject) -> None:
    """Tokens one by one or all at once: the same; and more tokens never make it surer."""
    said = [token(cut, -data.draw(st.floats(0, 20))) for cut in pieces(data, raw)]
    watch, before = Watch(), 0.0
    for one in said:
        watch.feed(chunk(one))
        now = 0.0 if watch.lowest is None else watch.lowest
        assert now <= before
        before = now
    assert grown(Draft(logprobs=said))[0][-1:] == ([] if watch.lowest is None else [watch.lowest])


def test_text_counts_whole_and_reasoning_not() -> None:
    """A label has no structure. `</think>`, even split over tokens, shows that what came before was no answer."""
    assert grown(Draft(logprobs=[token("fli", -1.0), token("ght", -2.0)]))[0] == [-1.0, -2.0]
    thought = [token("<think>", -9.0), token("hm", -9.0), token("</th", -9.0), token("ink>", -9.0)]
    assert grown(Draft(logprobs=thought))[0] == []
    assert grown(Draft(logprobs=[*thought, token("\n"), token("flight", -0.7)]))[0][-1] == -0.7
    watch = Watch()
    for one in (spoken := [token("hm", -9.0), token("</think>", -9.0), forced('{"a":'), token("1", -0.4)]):
        watch.feed(chunk(one))
    assert watch.lowest == -0.4
    assert grown(Draft(logprobs=spoken))[0] == [-9.0, -0.4], "what was seen on the way was seen"


@given(
    st.recursive(
        st.none() | st.text(max_size=2),
        lambda i: st.lists(i) | st.dictionaries(st.sampled_from(["content", "token"]), i),
    )
)
def test_never_raises(logprobs: Any) -> None:
    """Whatever a server reports."""
    Watch().feed(Chunk(logprobs={"content": logprobs}))
