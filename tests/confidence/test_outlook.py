"""A request, and the least likely token of its answer so far > how likely that answer will not be accepted."""

from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.confidence.outlook import LONGEST, Beside, Outlook, hashed, spoken

KNOWN = Outlook(
    intercept=-1.0,
    words={hashed("narnia")[0]: 3.0},
    others=0.5,
    most=(9, 2),
    kept=0.5,
    lows=((0.0, -2.0), (0.5, 0.0), (1.0, 4.0)),
)


def test_the_words_add_up() -> None:
    """Each different word once, whatever its case and what stands around it; words that nobody knows count alike."""
    assert Outlook(intercept=-1.0).before("anything") == -1.0
    assert KNOWN.before("") == -1.0
    assert KNOWN.before("Narnia, NARNIA!") == 2.0
    assert KNOWN.before("in narnia now") == 3.0
    assert Outlook(length=1.0, most=(9, 9)).before("a b c a") == pytest.approx(log(4))


def test_a_longer_request_than_any_that_was_fitted_says_no_more() -> None:
    """Beyond the most words, and the most unknown ones, of a fitted request nothing is added: a pasted mail is not hopeless."""
    long = " ".join(f"w{number}" for number in range(400))
    assert KNOWN.before(f"narnia {long}") == KNOWN.before("narnia one two") == 3.0
    assert Outlook(length=1.0, most=(3, 0)).before(long) == pytest.approx(log(4))


@pytest.mark.parametrize(
    ("lowest", "logit"), [(None, 2.0), (0.0, -1.0), (log(0.75), 0.0), (log(0.5), 1.0), (log(0.25), 3.0), (-99.0, 5.0)]
)
def test_tokens_outweigh_words(lowest: float | None, logit: float) -> None:
    """Before the first token the words stand alone; after it they count for less, and the least likely token adds its own."""
    assert KNOWN.doubt(2.0, lowest) == pytest.approx(1 / (1 + exp(-logit)))


@given(st.floats(-9, 9), st.floats(-30, 0), st.floats(-30, 0))
def test_the_less_likely_the_more_doubt(before: float, one: float, other: float) -> None:
    """Always a probability, and it never falls with an unlikelier token."""
    low, high = sorted((one, other))
    assert 0 <= KNOWN.doubt(before, high) <= KNOWN.doubt(before, low) <= 1


@given(st.text(), st.text())
def test_any_text_has_words(one: str, other: str) -> None:
    """Hashes of eight digits, each once; never an error, half a surrogate pair included; what comes after `LONGEST` is not read."""
    words = hashed(one + "\ud800" + other)
    assert words == sorted(set(words))
    assert all(len(word) == 8 for word in words)
    assert hashed("x" * LONGEST + " " + other) == hashed("x" * LONGEST)


BESIDE = Beside(
    constant=-1.0,
    words=0.5,
    sure=-0.25,
    says={"book": 1.5},
    kept=0.5,
    lows=((0.0, -2.0), (1.0, 4.0)),
    along=-0.5,
    parted=(3.0, 1.0),
)


def test_how_sure_a_second_model_is_and_what_it_talks_of() -> None:
    """Add up with the request's words; what nobody knows adds nothing."""
    assert BESIDE.before(2.0, 2.0, ()) == -0.5
    assert BESIDE.before(2.0, 2.0, ("book", "book.city")) == 1.0


@pytest.mark.parametrize(
    ("lowest", "parted", "logit"),
    [(None, False, 2.0), (0.0, False, -2.0), (0.0, True, 4.0), (-99.0, False, 4.0), (-99.0, True, 10.0)],
)
def test_whether_the_two_have_parted(lowest: float | None, parted: bool, logit: float) -> None:
    """Before the first token what is known by then stands alone; after it the least likely token adds its own, and whether they parted."""
    assert BESIDE.doubt(2.0, lowest, 2.0, parted) == pytest.approx(1 / (1 + exp(-logit)))


def test_what_an_answer_talks_of() -> None:
    """Functions and their members, or a document's members."""
    assert spoken([("book", {"city": "Rome"}), ("pay", None)]) == ["book", "pay", "book.city"]
    assert spoken([("", {"intent": "refund"})]) == [".intent"]
