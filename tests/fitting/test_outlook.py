"""Requests, how their answers looked while they grew, and which were accepted > an Outlook."""

from math import log
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.confidence.outlook import Outlook
from gateway.fitting import Seen, auroc, fit_outlook
from gateway.fitting.outlook import OFTEN, start

WASTES = (0.01, 0.03, 0.1, 0.5)


def made(count: int, seed: int = 0) -> list[Seen]:
    """Two kinds of requests, one of which goes wrong in four of five answers, the other in one of five; and an answer that goes wrong shows
    it in its second half by an unlikely token, mostly."""
    random, found = Random(seed), []
    for number in range(count):
        hard = random.random() < 0.5
        wrong = random.random() < (0.8 if hard else 0.2)
        shows = random.random() < (0.9 if wrong else 0.1)
        falls = [log(random.uniform(0.99, 1.0))] * 5 + [log(random.uniform(0.3, 0.7) if shows else 0.98)] * 5
        text = f"please book {'a table' if hard else 'the song'} number {number}"
        found.append(Seen(text, list(np.minimum.accumulate(falls)), not wrong))
    return found


@pytest.fixture(scope="module")
def outlook() -> Outlook:
    found = fit_outlook(made(800), WASTES)
    assert found is not None
    return found


def grown(outlook: Outlook, one: Seen) -> list[float]:
    """The doubt before the first token, and after each."""
    before = outlook.before(one.text)
    return [outlook.doubt(before, None), *(outlook.doubt(before, fall) for fall in one.falls)]


def test_words_tell_before_the_first_token_and_tokens_after(outlook: Outlook) -> None:
    """Of requests that it has not seen: the words tell the kinds apart, the whole answer tells more, and doubts are probabilities that
    come true."""
    others = made(2000, seed=1)
    rejected = [not one.accepted for one in others]
    doubts = [grown(outlook, one) for one in others]
    first, last = [one[0] for one in doubts], [one[-1] for one in doubts]
    assert auroc(first, rejected) == pytest.approx(0.8, abs=0.03)
    assert auroc(last, rejected) > auroc(first, rejected) + 0.08
    assert np.mean(first) == pytest.approx(np.mean(rejected), abs=0.05)


def test_early_starts_waste_about_what_they_say(outlook: Outlook) -> None:
    """Of requests that it has not seen, the share that is accepted though the doubt grew so large."""
    others = made(4000, seed=2)
    for waste, at in outlook.starts.items():
        vain = sum(one.accepted and max(grown(outlook, one)) >= at for one in others) / len(others)
        assert vain <= float(waste) + 0.03
    assert sorted(outlook.starts.values(), reverse=True) == list(outlook.starts.values())


def beside(count: int, seed: int = 0) -> list[Seen]:
    """The same requests with a second model, which is sure of what will be accepted, mostly, talks of songs where that goes well, and parts
    after two tokens from what will not be accepted, mostly."""
    random, found = Random(seed + 100), []
    for one in made(count, seed):
        second = random.gauss(0.5 if one.accepted else -0.5, 1.0)
        spoken = [
            "play",
            "play.song" if one.accepted == (random.random() < 0.7) else "play.table",
            f"play.n{random.random()}",
        ]
        apart = random.random() < (0.05 if one.accepted else 0.9)
        parted = [False] * 2 + [apart] * (len(one.falls) - 2)
        found.append(structs.replace(one, second=second, spoken=spoken, parted=parted))
    return found


def weighed(outlook: Outlook, one: Seen) -> list[float]:
    """The doubt before the first token, and after each."""
    assert outlook.beside is not None
    assert one.second is not None
    before = outlook.beside.before(outlook.before(one.text), one.second, one.spoken)
    moments = [(None, False), *zip(one.falls, one.parted, strict=True)]
    return [outlook.beside.doubt(before, low, one.second, parted) for low, parted in moments]


def test_a_second_model_tells_more_and_sooner() -> None:
    """Than words and tokens alone: before the first token, and after the third. What it names rarely is not kept."""
    outlook = fit_outlook(beside(800), WASTES)
    assert outlook is not None
    assert outlook.beside is not None
    assert set(outlook.beside.says) == {"play", "play.song", "play.table"}
    others = beside(2000, seed=1)
    rejected = [not one.accepted for one in others]
    plain, doubts = [grown(outlook, one) for one in others], [weighed(outlook, one) for one in others]
    first = auroc([one[0] for one in doubts], rejected)
    assert first > auroc([one[0] for one in plain], rejected) + 0.1
    assert auroc([one[3] for one in doubts], rejected) > max(first, auroc([one[3] for one in plain], rejected)) + 0.03
    for waste, at in outlook.starts.items():
        vain = sum(one.accepted and max(doubt) >= at for one, doubt in zip(others, doubts, strict=True)) / len(others)
        assert vain <= float(waste) + 0.03


def test_where_the_second_said_nothing() -> None:
    """Such requests were not accepted and teach nothing of a second's answers; with too few others there is nothing to add."""
    some = beside(200)
    silent = [structs.replace(one, second=None, spoken=(), parted=(), accepted=False) for one in some]
    mixed = fit_outlook([*some, *silent], WASTES)
    assert mixed is not None
    assert mixed.beside is not None
    few = fit_outlook([*some[:5], *silent], WASTES)
    assert few is not None
    assert few.beside is None


def test_rare_words_are_not_kept(outlook: Outlook) -> None:
    """Seven words are in many requests; numbers, each in one, are not: they say nothing of others, and may be somebody's."""
    assert OFTEN > 1
    assert len(outlook.words) == 7


def test_what_nothing_can_be_learnt_from() -> None:
    """Too few, all accepted, none accepted, or no free token in any answer."""
    some = made(100)
    assert fit_outlook(some[:9], WASTES) is None
    assert fit_outlook([Seen(one.text, one.falls, True) for one in some], WASTES) is None
    assert fit_outlook([Seen(one.text, one.falls, False) for one in some], WASTES) is None
    assert fit_outlook([Seen(one.text, [], one.accepted) for one in some], WASTES) is None


def test_one_answer_with_free_tokens() -> None:
    """Then a fold has none to learn from, and words have to do."""
    some = made(200)
    found = fit_outlook(
        [Seen(one.text, one.falls if not at else [], one.accepted) for at, one in enumerate(some)], WASTES
    )
    assert found is not None
    assert found.words


def test_answers_without_free_tokens_are_judged_by_words() -> None:
    """Some answers have none: the others are learnt from."""
    some = made(400)
    found = fit_outlook(
        [Seen(one.text, one.falls if at % 3 else [], one.accepted) for at, one in enumerate(some)], WASTES
    )
    assert found is not None
    assert found.lows


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50), st.sampled_from([0.0, 0.03, 0.2, 1.0])
)
def test_start(said: list[tuple[float, bool]], waste: float) -> None:
    """From it on at most `waste` of all are accepted; any smaller doubt that somebody had would waste more."""
    doubts, accepted = [s[0] for s in said], [s[1] for s in said]
    found = start(doubts, accepted, waste)

    def vain(at: float) -> float:
        return sum(kept and doubt >= at for doubt, kept in said) / len(said)

    assert vain(found) <= waste + 1e-9
    assert found == 0.0 or vain(float(np.nextafter(found, 0.0))) > waste
