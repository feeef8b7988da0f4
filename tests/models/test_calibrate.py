"""Scores become probabilities that keep their order, and a promised risk becomes a threshold that keeps it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rebuild.calibrate import curve, knots, threshold, upper_bound, weights

SEEDS = st.integers(0, 10_000)


def drawn(seed: int, n: int = 3000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, right or wrong as often as the score's square says, and whether in scope."""
    rng = np.random.default_rng(seed)
    score = rng.random(n)
    inside = rng.random(n) < 0.9
    return score, ((rng.random(n) < score**0.2) & inside).astype(float), inside


@given(SEEDS)
def test_knots_rise(seed: int) -> None:
    """A higher score is never worth less, and nothing is certain."""
    score, right, inside = drawn(seed)
    at, probability = knots(score, right, weights(~inside, 0.1))
    assert (np.diff(at) >= 0).all()
    assert (np.diff(probability) >= 0).all()
    assert 0 < probability[0] <= probability[-1] < 1


def test_knots_are_calibrated() -> None:
    """Among unseen texts of probability about p, about p are right."""
    score, right, inside = drawn(1, 40_000)
    fitted = knots(score, right, weights(~inside, float((~inside).mean())))
    score, right, inside = drawn(2, 40_000)
    probability = np.interp(score, *fitted)
    for low in np.arange(0.4, 0.9, 0.1):
        among = (probability >= low) & (probability < low + 0.1)
        if among.sum() > 500:
            assert right[among].mean() == pytest.approx(probability[among].mean(), abs=0.05)


@given(SEEDS, st.floats(0.01, 0.3))
def test_threshold_keeps_the_risk(seed: int, risk: float) -> None:
    """From the threshold on, every point of the curve keeps the risk; a laxer promise never has a higher threshold."""
    score, right, inside = drawn(seed)
    found = curve(score, 1 - right, weights(~inside, 0.1), inside)
    at = threshold(found, risk)
    if at is not None:
        assert all(point["error_upper"] <= risk for point in found if point["threshold"] >= at)
        lax = threshold(found, risk * 1.5)
        assert lax is not None
        assert lax <= at
    assert all(point["error_upper"] >= point["error"] and 0 <= point["coverage"] <= 1 for point in found)


def test_outside_has_its_assumed_weight() -> None:
    """However few texts out of scope the data has, they weigh what was assumed."""
    flags = np.array([True] * 10 + [False] * 990)
    weight = weights(flags, 0.2)
    assert weight[flags].sum() == pytest.approx(0.2)
    assert weight.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("bad", "n", "bound"), [(0, 299, 0.00997), (0, 59, 0.0495), (5, 500, 0.0209), (10, 10, 1.0)])
def test_clopper_pearson(bad: int, n: int, bound: float) -> None:
    """Tabulated values: nothing wrong among 299 certifies 1 %."""
    assert upper_bound(bad, n, 0.95) == pytest.approx(bound, abs=1e-4)
