"""`grounded`: numbers, names and quotes of the answer against the request."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.validators.base import PASS, Ask
from gateway.validators.claims.numbers import known, numbers, plain, shifted
from gateway.validators.grounded import LONGEST_SOURCE, MOST, Grounded
from wire.types import Constraint, Draft, Json, ToolCall

SOURCE = (
    'Summarise: Ms Alice Smith of Zürich-Corp paid 1,200 dollars on 2024-05-01 at 9:05, 45 % of it in cash. "We are very happy with it," '
    "she said. Germany bought three of the 12 345 items for 1.5 million."
)


def grounded(**config: Any) -> Grounded:
    return Grounded(Grounded.Config(kind="grounded", **config))


def user(text: Any) -> list[Json]:
    return [{"role": "user", "content": text}]


def told(answer: str, source: str = SOURCE, **config: Any) -> str:
    """What is said against `answer`; "" when nothing is."""
    verdict = grounded(**config).check(Draft(text=answer, finish="stop"), Ask(messages=user(source)))
    assert verdict.reason == (None if verdict.passed else "unsupported")
    return verdict.detail


@pytest.mark.parametrize(
    "answer",
    [
        "Smith paid $1200.00.",
        "It was 1'200 or 1 200 or 1.200 dollars.",
        "Paid at 09:05 on 2024-5-1.",
        "The share was 0.45, or 45%, or 45 percent.",
        "Germany bought 3 items out of 12345 for 1,500,000.",
        "The 12 345 items went for 1.5m.",
        "1. The payment\n2. the cash\n- 3) and the items",
        "alice and the Smiths: Alice's payment, from Zurich Corp.",
        "## Key Findings\nTotal Amount: 1,200\nOverall Result\nOne payment was made? No, it was Smith.",
        'She said: "we are  very happy with it".',
        "She said “We are ... happy with it!”",
        "He called it a “success”. I'm done, said Alice.",
        'The clerk wrote "Very happy".',
    ],
)  # fmt: skip
def test_what_stands_in_the_source(answer: str) -> None:
    """Other spellings of a number, forms of a name, and quotes but for case and punctuation are in the source."""
    assert told(answer) == ""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Smith paid 1,201 dollars.", "1 number not in the source"),
        ("Smith paid 13,00 and 120.0.", "2 numbers not in the source"),
        ("She paid on 2024-05-02.", "1 number not in the source"),
        ("She paid on 01/05/2024.", "1 number not in the source"),
        ("She paid at 9:06.", "1 number not in the source"),
        ("They bought 12 346 for 1.5 billion.", "2 numbers not in the source"),
        ("The payer was Alice Jones of Basel.", "2 names not in the source"),
        ("Was it Jones? Yes, Jones.", "1 name not in the source"),
        ('She said "we are so happy with it".', "1 quote not in the source"),
        ('She said "happy with it ... we are".', "1 quote not in the source"),
        ("At 7 the clerk met Bob.", "1 number and 1 name not in the source"),
    ],
)
def test_what_does_not(answer: str, said: str) -> None:
    """How many different ones of each kind are told, and never which."""
    assert told(answer) == said


def test_kinds_and_exceptions_are_configured() -> None:
    """Only the kinds that are looked for count, without what is allowed; so many may be tolerated."""
    answer = "At 7 the clerk met Bob."
    assert told(answer, look_for=["numbers"]) == "1 number not in the source"
    assert told(answer, allow=["7"]) == "1 name not in the source"
    assert told(answer, allow=["7", "Bob"]) == ""
    assert told(answer, tolerate=2) == ""
    assert told(answer, tolerate=1) != ""
    assert told("Bob's 7.0 items: the clerk saw Bob.", allow=["7", "Bob"]) == ""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('{"payer": "Alice Smith", "amount": 1200.0, "on": "2024-05-01", "open": true, "Bob": null}', ""),
        ('{"payer": "Bob"}', "1 name not in the source"),
        ('{"payers": [{"name": "Alice Jones"}], "n": 7}', "1 number and 1 name not in the source"),
        ('{"text": "Payment by Alice."}', ""),
        ('{"text": "7. Smith"}', "1 number not in the source"),
        ('{"broken": of Jones', "1 name not in the source"),
    ],
)
def test_json_is_looked_at_by_its_values(answer: str, said: str) -> None:
    """Keys are nobody's claim; a value that is nothing but a name is one, though it stands at the head."""
    assert told(answer) == said


def test_what_the_schema_lists_was_given() -> None:
    """An allowed value is not made up, and neither is one of several choices."""
    schema = {"properties": {"mood": {"enum": ["Very Happy", "Sad Panda", 7]}}}
    draft = Draft(text='{"mood": "Sad Panda", "level": 7}', finish="stop")
    assert grounded().check(draft, Ask(messages=user("x"), constraint=Constraint("schema", schema))).passed
    assert not grounded().check(draft, Ask(messages=user("x"))).passed
    chosen = Draft(text="Sad Panda", finish="stop")
    assert grounded().check(chosen, Ask(messages=user("x"), constraint=Constraint("choice", ["Sad Panda"]))).passed


@pytest.mark.parametrize(
    ("role", "where", "passes"),
    [
        ("user", ["user"], True),
        ("tool", ["user"], False),
        ("tool", ["tool"], True),
        ("function", ["tool"], True),
        ("system", ["user", "tool"], False),
        ("developer", ["system"], True),
        ("assistant", ["user", "tool", "system"], False),
        ("assistant", ["assistant"], True),
    ],
)
def test_whose_messages_are_the_source(role: str, where: list[str], passes: bool) -> None:
    """Only those that `where` names; what the model said before is no source of its own unless it is named."""
    ask = Ask(messages=[{"role": role, "content": [{"type": "text", "text": "it is 42"}]}])
    assert grounded(where=where).check(Draft(text="It is 42.", finish="stop"), ask).passed is passes


def test_a_source_that_is_no_text_is_undecided() -> None:
    """What is not in the text may be in the picture: nobody knows, which is not sure. What is in the text is."""
    picture = user([{"type": "text", "text": "it is 42"}, {"type": "image_url", "image_url": {"url": "data:,"}}])
    verdict = grounded().check(Draft(text="It is 43.", finish="stop"), Ask(messages=picture))
    assert (verdict.opinion, verdict.reason) == ("undecided", "unsupported")
    assert grounded().check(Draft(text="It is 42.", finish="stop"), Ask(messages=picture)).passed


def test_a_source_that_is_too_long_is_undecided() -> None:
    """It is not looked through: the loop serves others, too."""
    ask = Ask(messages=user("a" * (LONGEST_SOURCE + 1)))
    assert grounded().check(Draft(text="It is 42.", finish="stop"), ask).opinion == "undecided"


@pytest.mark.parametrize(
    "draft",
    [
        Draft(text="It is 42."),
        Draft(tool_calls=(ToolCall("c", "f", '{"a": 42}'),), finish="tool_calls"),
        Draft(text="No 42.", refusal="no", finish="stop"),
        Draft(text="", finish="stop"),
    ],
)
def test_what_is_not_its_business(draft: Draft) -> None:
    """A growing answer, a call, a refusal, nothing."""
    assert grounded().check(draft, Ask(messages=user("x"))) == PASS


def test_it_is_a_soft_check() -> None:
    """Not asked of the top rung: a sum is unsupported, not wrong."""
    assert Grounded.soft is True


def test_looking_has_an_end() -> None:
    """An answer that is nothing but numbers is looked up as far as MOST."""
    answer = " and ".join(str(n) for n in range(1000, 1000 + 3 * MOST))
    assert told(answer, "x") == f"{MOST} numbers not in the source"


# --- numbers as values ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,000", [{"1000"}]),
        ("1.000", [{"1", "1000"}]),
        ("1.234.567,89", [{"1234567.89"}]),
        ("1,234,567.89", [{"1234567.89"}]),
        ("12,5", [{"12.5"}]),
        ("1,2,3", [{"1"}, {"2"}, {"3"}]),
        ("12 345", [{"12345"}]),
        ("10-20", [{"10"}, {"20"}]),
        ("-7 °C", [{"7"}]),
        ("007", [{"7"}]),
        ("0.50", [{"0.5"}]),
        ("1.2 million", [{"1200000"}]),
        ("2 thousands", [{"2000"}]),
        ("5M", [{"5", "5000000"}]),
        ("5 %", [{"5", "0.05"}]),
        ("2024-05-01T12:30", [{"2024-5-1"}, {"12:30"}]),
        ("192.168.1.1", [{"192.168.1.1"}]),
        ("no number", []),
    ],
)
def test_spellings_of_a_number(text: str, values: list[set[str]]) -> None:
    """What each spelling may mean."""
    assert [set(number.values) for number in numbers(text)] == values


@given(st.decimals(0, 10**9, places=3, allow_nan=False), st.sampled_from(["{:f}", "{:,f}"]))
def test_however_it_is_written(number: Any, form: str) -> None:
    """A number in a text is known there, with and without separators."""
    assert plain(f"{number:f}") in known(f"about {form.format(number)} of it")


@given(st.integers(0, 10**6), st.integers(0, 999), st.integers(-9, 9))
def test_shifting_is_multiplying(whole: int, part: int, places: int) -> None:
    """As the decimal system has it."""
    value = plain(f"{whole}.{part:03}")
    assert shifted(shifted(value, abs(places)), -abs(places)) == value
    assert shifted(value, 3) == str(whole * 1000 + part)


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_text_supports_itself(text: str, more: str) -> None:
    """Whatever stands in the source, quoted whole, is in the source."""
    assert told(text, f"{text}\n{more}" if more else text) == ""
