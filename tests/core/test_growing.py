"""What can be said of an answer while it still grows."""

from math import log
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.confidence import Outlook
from gateway.confidence.outlook import Beside, hashed
from gateway.growing import Growing
from gateway.validators.base import Ask, Tool, Validator, Verdict
from gateway.validators.fits_schema import FitsSchema
from gateway.validators.tool_arguments import ToolArguments
from wire.types import Chunk, Constraint, Draft

FITS = FitsSchema(FitsSchema.Config(kind="fits_schema"))
CALLS = ToolArguments(ToolArguments.Config(kind="tool_arguments"))
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "w": {"enum": ["a", "b"]}},
    "required": ["n"],
    "additionalProperties": False,
}
FORM = Ask(constraint=Constraint("schema", SCHEMA))
TOOLS = Ask(tools={"f": Tool(SCHEMA), "g": Tool(None)})


def text(value: str, probability: float | None = None) -> Chunk:
    if probability is None:
        return Chunk(delta={"content": value})
    entry = {"token": value, "logprob": log(probability), "bytes": list(value.encode()), "top_logprobs": []}
    entry["top_logprobs"] = [entry | {"top_logprobs": []}, {"token": "~", "logprob": -1.0, "bytes": [126]}]
    return Chunk(delta={"content": value}, logprobs={"content": [entry]})


def call(name: str | None, arguments: str, index: int = 0) -> Chunk:
    function = {"name": name, "arguments": arguments} if name else {"arguments": arguments}
    return Chunk(delta={"tool_calls": [{"index": index, "function": function}]})


def fed(growing: Growing, *chunks: Chunk) -> Verdict | None:
    """The first verdict."""
    return next((verdict for verdict in map(growing.feed, chunks) if verdict is not None), None)


@pytest.mark.parametrize(
    ("ask", "checks", "chunks", "reason"),
    [
        (FORM, [FITS], [text('{"n"'), text(": 1}")], None),
        (FORM, [FITS], [text('{"n"'), text(': "')], "schema"),
        (FORM, [FITS], [text('{"w": "c')], "schema"),
        (FORM, [FITS], [text("Sure! Here")], "schema"),
        (FORM, [], [text("Sure! Here")], None),
        (Ask(constraint=Constraint("json", None)), [FITS], [text('{"n": tru')], None),
        (Ask(constraint=Constraint("json", None)), [FITS], [text('{"n": trx')], "schema"),
        (Ask(constraint=Constraint("choice", ["a"])), [FITS], [text("b")], None),
        (Ask(), [FITS, CALLS], [text("anything")], None),
        # beside tools text may stand that is no answer to the schema
        (Ask(constraint=Constraint("schema", SCHEMA), tools=TOOLS.tools), [FITS], [text("Let me see")], None),
        (TOOLS, [CALLS], [call("f", '{"n"'), call(None, ": 1}")], None),
        (TOOLS, [CALLS], [call("f", '{"n"'), call(None, ': "')], "tool_arguments"),
        (TOOLS, [CALLS], [call("h", "")], "tool_arguments"),
        (TOOLS, [], [call("h", "")], None),
        (TOOLS, [CALLS], [call("g", '{"any": ["thing"]')], None),
        (TOOLS, [CALLS], [call("f", '{"n": 1}'), call("f", '{"w": 1', 1)], "tool_arguments"),
    ],
)
def test_what_no_completion_can_mend(
    ask: Ask, checks: list[Validator], chunks: list[Chunk], reason: str | None
) -> None:
    """The first byte that cannot be part of a right answer fails, by the reason of the check that would fail in the end, and only where
    the route has that check."""
    verdict = fed(Growing(ask, checks), *chunks)
    assert (verdict.reason if verdict else None) == reason
    if verdict is not None:
        assert verdict.opinion == "fail"


@given(
    st.data(),
    st.recursive(
        st.none() | st.integers(-(2**63), 2**63) | st.text(max_size=4), lambda inner: st.lists(inner), max_leaves=4
    ),
)
def test_it_never_stops_what_would_have_passed(data: st.DataObject, value: Any) -> None:
    """An answer that fits in the end is not stopped on the way, wherever its pieces are cut."""
    document = orjson.dumps({"n": data.draw(st.integers(-9, 99)), "w": data.draw(st.sampled_from(["a", "b"]))}).decode()
    free = orjson.dumps({"v": value}).decode()
    at = data.draw(st.integers(0, len(document)))
    assert fed(Growing(FORM, [FITS]), text(document[:at]), text(document[at:])) is None
    cut = data.draw(st.integers(0, len(free)))
    assert fed(Growing(TOOLS, [CALLS]), call("g", free[:cut]), call(None, free[cut:])) is None


@pytest.mark.parametrize(
    ("probability", "unsure", "reason"),
    [(0.9, False, None), (0.5, True, None), (0.05, False, "low_confidence")],
)
def test_how_sure_it_looks(probability: float, unsure: bool, reason: str | None) -> None:
    """A value token that raises the doubt to where an early start begins looks unsure, one below the other threshold ends the answer."""
    outlook = Outlook(intercept=-3.0, lows=[(0.29, -3.0), (0.31, 3.0)])
    growing = Growing(FORM, [FITS], outlook=outlook, start=0.5, collapsed=log(0.1))
    assert not growing.unsure
    verdict = fed(growing, text('{"n": ', 0.99), text("7", probability), text("}", 0.99))
    assert growing.unsure == unsure
    assert (verdict.reason if verdict else None) == reason


def test_the_words_alone_may_say_that_it_is_hopeless() -> None:
    """Before the answer has begun; and a doubt, once it has been had, is not forgotten."""
    outlook = Outlook(intercept=-3.0, words={hashed("Narnia")[0]: 5.0}, lows=[(0.0, -9.0)])
    assert not Growing(FORM, [], outlook=outlook, text="Paris", start=0.5).unsure
    growing = Growing(FORM, [], outlook=outlook, text="the weather in narnia", start=0.5)
    assert growing.unsure
    assert fed(growing, text('{"n": 7}', 0.999)) is None
    assert growing.unsure


SECOND = Outlook(intercept=-9.0, beside=Beside(-3.0, 0.0, -1.0, kept=0.0, lows=[(0.0, -3.0)], parted=(6.0, 0.0)))


def weighed() -> Growing:
    return Growing(FORM, [], outlook=SECOND, start=0.5, weighed=True)


def test_what_a_second_model_says_is_held_against_it() -> None:
    """What came before it was heard as well as what comes after; the same answer leaves no doubt, another one does."""
    for heard in (0, 1, 2):
        for value, unsure in (("7", False), ("8", True)):
            growing = weighed()
            for at, piece in enumerate(('{"n": ', value, "}")):
                if at == heard:
                    growing.hear(Draft(text='{"n": 7}'), 0.9)
                growing.feed(text(piece, 0.99))
            assert growing.unsure == unsure


def test_how_sure_a_second_model_is_tells_before_the_first_token() -> None:
    """One that gives its own answer little chance says that the request is hard."""
    for probability, unsure in ((0.9, False), (0.01, True), (None, False)):
        growing = weighed()
        growing.hear(Draft(text='{"n": 7}'), probability)
        assert growing.unsure == unsure


def test_nothing_is_doubted_before_the_second_was_heard() -> None:
    """Words and tokens that look hopeless start nothing: what the second says outweighs them, and is there in milliseconds."""
    outlook = Outlook(intercept=9.0, lows=[(0.0, 9.0)], beside=Beside(-3.0, 0.0, -1.0, kept=0.0, lows=[(0.0, -3.0)]))
    growing = Growing(FORM, [], outlook=outlook, start=0.5, weighed=True)
    growing.feed(text('{"n": ', 0.5))
    assert not growing.unsure
    growing.hear(Draft(text='{"n": 7}'), 0.9)
    growing.feed(text("7}", 0.5))
    assert not growing.unsure
    alone = Growing(FORM, [], outlook=outlook, start=0.5)
    assert alone.unsure


def test_without_what_the_second_says_nothing_can_be_accepted() -> None:
    """One that failed leaves nothing to weigh with; who weighs nothing does not care."""
    growing = weighed()
    growing.hear(None, None)
    assert growing.doubt == 1.0
    alone = Growing(FORM, [], outlook=SECOND, start=0.5)
    alone.hear(None, None)
    assert not alone.unsure


@given(st.lists(st.floats(0.01, 1.0), max_size=6))
def test_doubt_never_falls(probabilities: list[float]) -> None:
    """Whatever comes."""
    growing = Growing(FORM, [], outlook=Outlook(lows=[(0.0, -2.0), (1.0, 2.0)]))
    seen = [growing.doubt]
    for probability in probabilities:
        growing.feed(text("7", probability))
        seen.append(growing.doubt)
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("window", "chunks", "full"),
    [
        (5, [text("abcd")], False),
        (5, [text("abcd"), text("e")], True),
        (0, [], False),
        (0, [text("a")], True),
        (None, [text("a" * 99)], False),
        (5, [call("f", '{"n": 1000000}')], False),
        (5, [text("ab"), call("f", "{"), text("cdefg")], False),
        (1, [Chunk(delta={"refusal": "no"}), text("abc")], False),
        (1, [Chunk(delta={"reasoning": "long thoughts"})], False),
    ],
)
def test_when_the_window_is_full(window: int | None, chunks: list[Chunk], full: bool) -> None:
    """Of text, and of nothing but text: a call or a refusal is held whole."""
    growing = Growing(TOOLS, [], window=window)
    assert fed(growing, *chunks) is None
    assert growing.full == full
