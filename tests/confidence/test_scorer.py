"""Features > probability."""

from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.confidence import Evidence, Scorer, Second, probability
from gateway.confidence.features import SECOND, VERSION, odds
from gateway.confidence.margin import TOP
from gateway.confidence.scorer import along, logistic
from tests.confidence.said import forced, token
from wire.types import Draft

SCORER = Scorer(names=("low", "grounded"), mean=(1.0, 0.5), scale=(2.0, 0.5), weights=(1.0, 0.5), intercept=-0.25)

BESIDE = Scorer(SECOND, mean=(0.0, 0.0, 0.0), scale=(1.0, 2.0, 4.0), weights=(1.0, -1.0, -1.0), intercept=-0.25)


def sure(logprob: float) -> Evidence:
    return Evidence(Draft(text="car", finish="stop", logprobs=[token("car", logprob)]))


def test_probability() -> None:
    """Standardised features, weighted, through the logistic curve; features that the scorer does not name do not count."""
    logit = -0.25 + (odds(-0.3) - 1) / 2 - 0.5 * 0.5 / 0.5
    assert SCORER.probability(sure(-0.3)) == pytest.approx(1 / (1 + exp(-logit)))


def test_knots() -> None:
    """Then through the knots, linear between them, constant beyond."""
    knots = ((0.2, 0.1), (0.6, 0.9), (0.6, 0.95), (1.0, 1.0))
    for value, at in [(0.0, 0.1), (0.2, 0.1), (0.4, 0.5), (0.6, 0.95), (0.8, 0.975), (1.0, 1.0)]:
        assert along(knots, value) == pytest.approx(at)
    raw = SCORER.probability(sure(-0.3))
    assert raw is not None
    assert structs.replace(SCORER, knots=knots).probability(sure(-0.3)) == pytest.approx(along(knots, raw))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=6), st.floats(0, 1), st.floats(0, 1))
def test_rising_knots_keep_the_order(points: list[tuple[float, float]], one: float, other: float) -> None:
    """A surer answer never gets a lower probability."""
    knots = tuple(zip(sorted(x for x, _ in points), sorted(y for _, y in points), strict=True))
    low, high = sorted((one, other))
    assert along(knots, low) <= along(knots, high) + 1e-12
    assert 0 <= along(knots, low) <= 1


def test_unknown_is_not_confident() -> None:
    """No free tokens, no log-probabilities, no scorer, or one for features of another version or of another name: nobody knows."""
    assert SCORER.probability(Evidence(Draft(text="car"))) is None
    assert SCORER.probability(Evidence(Draft(text="car", logprobs=[forced("car")]))) is None
    assert probability(sure(-0.1), None) is None
    assert structs.replace(SCORER, version=VERSION + 1).probability(sure(-0.1)) is None
    assert structs.replace(SCORER, names=("low", "mood")).probability(sure(-0.1)) is None


@pytest.mark.parametrize(
    ("second", "features"),
    [
        (Second(True, 0.9), (1.0, log(9), 0.0)),
        (Second(False, 0.9), (0.0, 0.0, log(9))),
        (Second(True, None), (1.0, 0.0, 0.0)),
        (Second(False, None), (0.0, 0.0, 0.0)),
        (Second(True, 0.0), (1.0, -TOP, 0.0)),
        (Second(True, 1.0), (1.0, TOP, 0.0)),
        (Second(False, float("nan")), (0.0, 0.0, -TOP)),
    ],
)
def test_a_second_answer_is_weighed(second: Second, features: tuple[float, float, float]) -> None:
    """Whether it is the same, and how sure the second model is of it: as three features, whatever a backend says."""
    logit = -0.25 + features[0] - 0.5 * features[1] - 0.25 * features[2]
    known = BESIDE.probability(structs.replace(sure(-0.3), second=second))
    assert known == pytest.approx(logistic(logit))


def test_without_the_second_answer_nobody_knows() -> None:
    """A scorer that weighs one says nothing without it; one that does not takes no notice of it."""
    assert BESIDE.weighs
    assert BESIDE.probability(sure(-0.3)) is None
    assert not SCORER.weighs
    beside = structs.replace(sure(-0.3), second=Second(False, 0.99))
    assert SCORER.probability(beside) == SCORER.probability(sure(-0.3))


def test_a_rungs_own_probability_comes_first() -> None:
    """An encoder knows better."""
    own = Evidence(Draft(text="car", logprobs=[token("car")], probability=0.3))
    assert probability(own, SCORER) == 0.3


@given(st.floats(allow_nan=False))
def test_logistic(value: float) -> None:
    """In [0, 1] without overflow."""
    assert 0 <= logistic(value) <= 1
    assert logistic(value) + logistic(-value) == pytest.approx(1)
