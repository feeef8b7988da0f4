"""gateway.suspects: signs of a wrong answer, and whose it was."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.record import Facts, Record
from gateway.suspects import MINUTES, Suspects, failed, retries


def record(text: str = "t", *, session: str = "s", time: float = 0.0, served: str = "small", **facts: Any) -> Record:
    told = Facts(model="m", text_hash=text, signature="g", session=session, **facts)
    return Record(
        id="r", time=time, outcome="accepted", route="a", mode="enforce", reason="matched", facts=told, served=served
    )


def kinds(*records: Record) -> list[tuple[str, str]]:
    """(kind, rung) that the last one tells of."""
    seen = Suspects()
    found = [[(suspect.kind, suspect.rung) for suspect in seen.look(one)] for one in records]
    return found[-1]


def test_asked_again_is_the_same_question_in_the_same_session_soon() -> None:
    """The rung that answered the first time is suspected; another question, session or hour is nothing, nor a step of a tool loop."""
    assert kinds(record(), record(served="cloud", time=60)) == [("asked_again", "small")]
    assert kinds(record(), record("other")) == []
    assert kinds(record(), record(session="other")) == []
    assert kinds(record(session=""), record(session="")) == []
    assert kinds(record(), record(time=60 * MINUTES + 1)) == []
    assert kinds(record(), record(tool_loop=True)) == []
    assert kinds(record(served=""), record()) == []


def test_the_last_answer_is_remembered_whatever_is_done_with_the_signs() -> None:
    """Who only wants to know whether there is one (`any`) must not stop the memory."""
    seen = Suspects()
    seen.look(record())
    assert any(suspect.kind == "asked_again" for suspect in seen.look(record(served="cloud", time=1)))
    assert [suspect.rung for suspect in seen.look(record(time=2))] == ["cloud"]


def test_a_failed_tool_and_a_retry_blame_the_answer_before() -> None:
    """Also where nobody knows whose that was: then it is one of the request's own route."""
    assert kinds(record(), record("x", tool_loop=True, tool_error=True)) == [("tool_error", "small")]
    assert kinds(record(retries=2)) == [("retried", "")]
    assert [suspect.route for suspect in Suspects().look(record(retries=2))] == ["a"]


def test_memory_is_bounded() -> None:
    """The session that was quiet for longest is forgotten."""
    seen = Suspects(size=2)
    for session in ("a", "b", "c"):
        assert not list(seen.look(record(session=session)))
    assert not list(seen.look(record(session="a")))
    assert [suspect.kind for suspect in seen.look(record(session="c"))] == ["asked_again"]


@pytest.mark.parametrize(
    ("content", "is_error"),
    [
        ("Error: no such order", True),
        ('{"error": {"message": "x"}}', True),
        ('{"error": null, "rows": 3}', False),
        ('{"is_error": true}', True),
        ("Traceback (most recent call last):", True),
        ([{"type": "text", "text": "Exception in f"}], True),
        ("errors: 0", False),
        ("3 rows, no error", False),
        ("", False),
        (None, False),
        (7, False),
    ],
)
def test_how_a_tool_says_that_it_failed(content: Any, is_error: bool) -> None:
    """A word or a key at the very beginning; the messages dialect writes `is_error` as such a word."""
    assert failed({"messages": [{"role": "user", "content": "q"}, {"role": "tool", "content": content}]}) is is_error


def test_only_the_results_at_the_end_count() -> None:
    """An error that the model has answered since is no news; of several results one is enough."""
    bad, good = {"role": "tool", "content": "Error: x"}, {"role": "tool", "content": "ok"}
    assert not failed({"messages": [bad, {"role": "assistant", "content": "sorry"}]})
    assert failed({"messages": [bad, good]})


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_nothing_in_a_body_raises(junk: Any) -> None:
    """Whatever stands where messages should."""
    failed({"messages": junk})
    failed({"messages": [{"role": "tool", "content": junk}]})


@given(st.text())
def test_a_count_of_retries_is_a_small_number(said: str) -> None:
    """Anything else is none."""
    assert 0 <= retries({"x-stainless-retry-count": said}) < 1000
    assert retries({"x-stainless-retry-count": "2"}) == 2
    assert retries({}) == 0
