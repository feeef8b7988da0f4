"""What goes out, and when."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.gate import Gate
from wire.types import Chunk

chunks = st.lists(st.builds(Chunk, delta=st.fixed_dictionaries({"content": st.text(max_size=3)})), max_size=12)


@given(chunks, st.integers(0, 12))
def test_everything_goes_out_once_and_in_order(told: list[Chunk], when: int) -> None:
    """Nothing before the gate opens, everything after it, each chunk once and in its order, wherever the opening falls."""
    gate, before, after = Gate(), told[:when], told[when:]
    assert [gate.feed(chunk) for chunk in before] == [[]] * len(before)
    assert not gate.is_open
    assert gate.open() == before
    assert gate.is_open
    assert [gate.feed(chunk) for chunk in after] == [[chunk] for chunk in after]


@given(chunks)
def test_opening_twice_lets_nothing_out_twice(told: list[Chunk]) -> None:
    """The second opening finds nothing to let out."""
    gate = Gate()
    for chunk in told:
        gate.feed(chunk)
    assert gate.open() == told
    assert gate.open() == []


@given(chunks, st.integers(0, 12))
def test_every_chunk_is_folded(told: list[Chunk], when: int) -> None:
    """The draft has all the text that came, held or let through."""
    gate = Gate()
    for number, chunk in enumerate(told):
        if number == when:
            gate.open()
        gate.feed(chunk)
    assert "".join(draft.text for draft in gate.fold.drafts()) == "".join(chunk.delta["content"] for chunk in told)


def text(value: str) -> Chunk:
    return Chunk(delta={"content": value})


def said(told: list[Chunk]) -> str:
    return "".join(chunk.delta.get("content", "") for chunk in told)


@given(st.lists(st.text(max_size=6), max_size=12), st.integers(0, 10), st.integers(0, 12))
def test_a_lag_is_kept_until_the_end(told: list[str], lag: int, when: int) -> None:
    """What flows is the beginning of the text and leaves the lag behind; in the end all of it has gone out, once and in order."""
    gate = Gate()
    for piece in told[:when]:
        assert gate.feed(text(piece)) == []
    out = said(gate.open(lag))
    for piece in told[when:]:
        assert gate.feed(text(piece)) == []
        out += said(gate.flow())
        came = sum(len(draft.text) for draft in gate.fold.drafts())
        assert len(out) <= max(came - lag, 0)
    assert gate.lags
    assert out + said(gate.rest()) == "".join(told)
    assert not gate.lags


def test_calls_and_the_finish_wait_for_the_end() -> None:
    """Behind a call nothing flows, be there ever so much text."""
    gate = Gate()
    call = Chunk(delta={"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]})
    end = Chunk(finish="tool_calls")
    for chunk in (text("look "), call, text("a long text behind it")):
        gate.feed(chunk)
    assert said(gate.open(0)) == "look "
    gate.feed(end)
    assert gate.flow() == []
    assert gate.rest() == [call, text("a long text behind it"), end]


@given(st.text("ab. \n", max_size=30), st.text("ab. \n", max_size=30))
def test_a_cut_ends_with_a_sentence(before: str, held: str) -> None:
    """Of what was held back goes out what ends a sentence, then the finish of an answer that was cut off."""
    gate = Gate()
    gate.feed(text(before))
    out = said(gate.open(0))
    gate.feed(text(held))
    *kept, end = gate.cut()
    assert end.finish == "length"
    assert (before + held).startswith(out + said(kept))
    assert said(kept)[-1:] in ("", ".", "\n")
    assert gate.dropped == len(held) - len(said(kept))
    assert gate.flow() == gate.rest() == []
    assert gate.fold.drafts()[0].finish == "length"
