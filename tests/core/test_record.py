"""The contract with everything that comes after: one line, read back the same."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.record import VERSION, AttemptRecord, Facts, Record, Seconds, VerdictRecord, decode, encode
from wire.types import Tokens

words = st.text(st.characters(codec="utf-8"), max_size=6)
numbers = st.floats(0, 1e6, allow_nan=False)
shares = st.none() | st.floats(0, 1)
tokens = st.builds(Tokens, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.booleans())
verdicts = st.builds(VerdictRecord, words, st.sampled_from(["pass", "fail", "undecided"]), words, words)
attempts = st.builds(
    AttemptRecord,
    number=st.integers(0, 9),
    rung=words,
    outcome=st.sampled_from(["delivered", "rejected", "error", "stopped"]),
    reason=words,
    verdicts=st.lists(verdicts, max_size=2),
    probability=shares,
    first_seconds=st.none() | numbers,
    tokens=tokens,
    cost=numbers,
)
records = st.builds(
    Record,
    id=words,
    time=numbers,
    outcome=st.sampled_from(
        ["accepted", "escalated", "direct", "degraded", "straight", "refused", "failed", "cancelled"]
    ),
    route=words,
    mode=words,
    reason=words,
    facts=st.builds(
        Facts, model=words, tool_names=st.lists(words, max_size=2), turns=st.integers(0, 9), stream=st.booleans()
    ),
    score=shares,
    scores=st.dictionaries(words, st.floats(0, 1), max_size=3),
    attempts=st.lists(attempts, max_size=3),
    seconds=st.builds(Seconds, total=numbers, first_byte=st.none() | numbers),
    tokens=tokens,
    counterfactual_cost=numbers,
)


@given(records)
def test_a_record_is_one_line_and_reads_back(record: Record) -> None:
    """Any value in any field: one line without a line end in it, and decoded it is the same Record."""
    line = encode(record)
    assert b"\n" not in line
    assert b"\r" not in line
    assert decode(line) == record
    assert encode(decode(line)) == line


def least() -> Record:
    return Record(
        id="r", time=1.0, outcome="accepted", route="a", mode="enforce", reason="matched", facts=Facts(model="m")
    )


def test_what_is_not_said_takes_no_room() -> None:
    """Defaults are left out: a log of a million requests holds what happened."""
    assert set(msgspec.json.decode(encode(least()))) == {"id", "time", "outcome", "route", "mode", "reason", "facts"}
    assert decode(encode(least())).version == VERSION


def test_fields_of_a_later_version_are_passed_over() -> None:
    """An older reader reads a newer line: what it does not know is not there for it."""
    table = msgspec.json.decode(encode(least()))
    line = msgspec.json.encode({**table, "of_tomorrow": {"x": 1}})
    assert decode(line) == least()


@pytest.mark.parametrize("line", [b"", b"null", b"[]", b"{}", b'{"id": "r"', b'{"id": 5}', b"\xff\xfe"])
def test_a_line_that_is_no_record(line: bytes) -> None:
    """Raises DecodeError (ValidationError is one), never anything else."""
    with pytest.raises(msgspec.DecodeError):
        decode(line)


@pytest.mark.parametrize("field", Record.__struct_fields__)
def test_a_record_is_frozen(field: str) -> None:
    """Folded once: who reads it cannot change it for the next reader."""
    with pytest.raises(AttributeError):
        setattr(least(), field, None)
