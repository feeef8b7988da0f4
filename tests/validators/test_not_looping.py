"""`not_looping`: endless repetition, and nothing that people write."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.validators.base import PASS, Ask
from gateway.validators.not_looping import LONG, LONG_UNIT, SHORT, SHORT_UNIT, NotLooping
from wire.types import Draft, ToolCall

CHECK = NotLooping(NotLooping.Config(kind="not_looping"))
ROOT = Path(__file__).parent.parent.parent


def loops(text: str, finish: str | None = "stop") -> bool:
    verdict = CHECK.check(Draft(text=text, finish=finish), Ask())
    assert verdict == PASS or (verdict.opinion, verdict.reason) == ("fail", "truncated")
    return not verdict.passed


@pytest.mark.parametrize(
    "text",
    [
        "the " * 300,
        "I am sorry, I cannot do that.\n" * 60,
        '{"items": [' + '{"id": 1, "name": "a"}, ' * 80,
        "A good beginning. " + "and so on " * 200 + "and an end.",
        ("A whole paragraph that says something. " * 2 + "It has a middle, and then it has an end.\n\n") * 60,
        ("x" * 700 + " ") * 10,
        "!" * 6000,
        "\n" * 6000,
        "0, " * 2000,
    ],
)
def test_a_loop_is_seen(text: str) -> None:
    """Words, lines, records, paragraphs, signs: whole or still growing."""
    assert loops(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "the " * 200,
        "ha" * 400,
        "| " + "--- | " * 300,
        "-" * 3000 + "\nTable\n" + "-" * 3000,
        "0, " * 1000,
        "\n".join(f"{n}. This is step {n} of the plan." for n in range(500)),
        "\n".join(f'{{"id": {n}, "name": "a", "tags": []}}' for n in range(500)),
        ("Chorus: we sing the same again, and then again the same. " * 8 + "A verse between them is another one.\n")
        * 6,
    ],
)
def test_what_people_write_is_none(text: str) -> None:
    """Short repetition, rulers, zeros, numbered lists, records that differ, a song."""
    assert not loops(text)


TEXTS = [
    *ROOT.glob("*.md"), *ROOT.glob("models/**/*.md"), *ROOT.glob("gateway/**/*.py"), *ROOT.glob("deploy/**/*.yaml"),
    *ROOT.glob("data/clinc150/*"), *ROOT.glob("data/gsm8k/*"), *ROOT.glob("data/snips/*"), *ROOT.glob("data/banking77/*"),
    *ROOT.glob("benchmarks/results/*.json"),
]  # fmt: skip


def test_no_text_of_ours_trips_it() -> None:
    """Prose, code, tables, JSON and data sets of this repository, whole and as they grow."""
    assert len(TEXTS) > 50
    for path in filter(Path.is_file, TEXTS):
        text = path.read_text("utf-8", "replace")
        assert not loops(text), path
        for end in range(0, min(len(text), 20_000), 997):
            assert not loops(text[:end], None), path


@given(
    st.text(max_size=300),
    st.text("abc .", min_size=1, max_size=SHORT_UNIT).filter(lambda unit: unit.strip(" .")),
    st.text(max_size=50),
)
def test_a_loop_is_seen_wherever_it_stands(before: str, unit: str, after: str) -> None:
    """A quarter longer than the shortest is enough, whatever stands before and behind it."""
    assert loops(before + unit * (SHORT * 5 // 4 // len(unit) + 2) + after)


@given(st.text(max_size=100), st.text(" -|0", min_size=1, max_size=LONG_UNIT))
def test_signs_may_repeat_longer(before: str, unit: str) -> None:
    """Without a letter four times as much is needed, and then it is a loop, too."""
    assert loops(before + unit * (LONG * 5 // 4 // len(unit) + 2))


@given(st.text("ab", max_size=3), st.integers(0, 1500), st.integers(0, 4000))
def test_what_fails_while_it_grows_fails_in_the_end(unit: str, before: int, more: int) -> None:
    """An early end is never regretted: the whole answer would have failed, however it went on."""
    text = "".join(f"{n} " for n in range(before // 4)) + (unit or "c") * 500
    if loops(text, None):
        assert loops(text + "".join(f" {n}" for n in range(more // 4)))


def test_it_is_seen_while_it_grows() -> None:
    """Fed in small pieces, the loop ends soon after it is long enough, not at the token limit."""
    text, unit = "The answer is: ", "I do not know. "
    while not loops(text, None):
        text += unit
        assert len(text) < SHORT * 3 // 2
    assert len(text) >= SHORT


def test_arguments_are_looked_at_too() -> None:
    """A small model can loop inside a call."""
    call = ToolCall("c", "f", '{"text": "' + "la la " * 300)
    assert not CHECK.check(Draft(tool_calls=(ToolCall("c", "f", "{}"), call)), Ask()).passed
