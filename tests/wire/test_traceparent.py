"""wire.traceparent: W3C Trace Context, in and out."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.traceparent import Trace, begin

ID, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CHANCE = "1" * 32 + "2" * 16
ours = st.text("0123456789abcdef", min_size=48, max_size=48).filter(lambda c: c[:32].strip("0") and c[32:].strip("0"))


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (f"00-{ID}-{PARENT}-01", True),
        (f"00-{ID}-{PARENT}-00", False),
        (f" 00-{ID}-{PARENT}-03 ", True),
        (f"01-{ID}-{PARENT}-01-what-will-be", True),
    ],
)
def test_the_callers_trace_goes_on(header: str, sampled: bool) -> None:
    """Its trace, its span as the parent, and its word on sampling, whatever our own share is."""
    for share in (0.0, 1.0):
        assert begin(header, CHANCE, share) == Trace(ID, "2" * 16, PARENT, sampled)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x",
        f"ff-{ID}-{PARENT}-01",
        f"00-{ID}-{PARENT}-01-more",
        f"00-{ID.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"00-{ID}-{PARENT}",
        f"00-{ID}-{PARENT}-1",
    ],
)
def test_what_is_not_valid_begins_a_trace_of_its_own(header: str) -> None:
    """As the specification says, and the caller's tracestate then goes nowhere."""
    trace = begin(header, CHANCE, 1.0)
    assert trace == Trace("1" * 32, "2" * 16)
    assert set(trace.upward({"tracestate": "a=b", "openai-beta": "x"}, 0)) == {"openai-beta", "traceparent"}


@given(st.text(max_size=80) | st.from_regex(r"\A[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z"), ours)
def test_no_header_breaks_it(header: str, chance: str) -> None:
    """Whatever comes, the ids are well formed."""
    trace = begin(header, chance, 0.5)
    assert re.fullmatch("[0-9a-f]{32}", trace.id)
    assert trace.span == chance[32:]
    assert re.fullmatch("([0-9a-f]{16})?", trace.parent)


@given(ours, st.integers(0, 40), st.booleans())
def test_an_upstream_is_the_child_of_its_attempt(chance: str, number: int, sampled: bool) -> None:
    """What goes up reads back as this trace, with the attempt's span as the parent; two attempts have two spans."""
    trace = Trace(chance[:32], chance[32:], "c" * 16, sampled)
    up = trace.upward({"traceparent": "the caller's", "tracestate": "a=b"}, number)
    read = begin(up["traceparent"], CHANCE, 0.0)
    assert (read.id, read.parent, read.sampled) == (trace.id, trace.attempt(number), sampled)
    assert up["tracestate"] == "a=b"
    assert len({trace.attempt(each) for each in (number, number + 1)} | {trace.span}) == 3


@given(ours, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_samples_what_a_smaller_one_does(chance: str, one: float, other: float) -> None:
    """All of them at 1, none at 0, and by the trace's id alone: gateways with the same share agree."""
    low, high = sorted((one, other))
    assert begin("", chance, 1.0).sampled
    assert not begin("", chance, 0.0).sampled
    assert begin("", chance, low).sampled <= begin("", chance, high).sampled
