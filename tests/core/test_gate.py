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
