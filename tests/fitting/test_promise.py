"""Probabilities and regrets > the threshold that keeps a promised risk."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.fitting import certify, collapsed, conformal, grid, learn_then_test, needed, oracle_share, upper

RISK, CONFIDENCE, SIZE = 0.02, 0.95, 600
CENTRES = np.linspace(0.0005, 0.9995, 1000)


def wrong_at(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """A population in which the score is overconfident: P(wrong | score), known."""
    return np.asarray((1 - score) ** 0.7)


def density(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Uniform > score: most answers are sure."""
    return np.asarray(u**0.25)


def true_risk(threshold: float | None) -> float:
    """Of all requests, those accepted and wrong; exact up to the step of the sum."""
    if threshold is None:
        return 0.0
    scores = density(CENTRES)
    return float(np.mean(wrong_at(scores) * (scores >= threshold)))


def draw(chance: np.random.Generator, n: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    score = density(chance.random(n))
    return score, chance.random(n) < wrong_at(score)


def test_the_promise_is_kept() -> None:
    """Over 1,000 fresh draws from a population whose risk is known the true risk is at most 2 % in at least 95 % of them, while more than
    half of the promised room is used. The threshold that keeps 2 % on the sample itself, without a bound, breaks it more often than not."""
    chance = np.random.default_rng(7)
    kept, naive, used = 0, 0, []
    for _ in range(1000):
        score, loss = draw(chance, SIZE)
        risk = true_risk(certify(score, loss, RISK, CONFIDENCE))
        used.append(risk)
        kept += risk <= RISK
        order = np.argsort(-score)
        good = np.flatnonzero(np.cumsum(loss[order]) / SIZE <= RISK)
        naive += true_risk(float(score[order][good[-1]])) <= RISK if len(good) else True
    assert kept >= 950
    assert np.mean(used) > 0.5 * RISK
    assert naive < 500


rows = st.lists(
    st.tuples(st.sampled_from([i / 20 for i in range(21)]), st.booleans(), st.booleans()), min_size=1, max_size=400
)


@given(rows, st.sampled_from([0.01, 0.05, 0.2, 0.5]), st.sampled_from([0.5, 0.9, 0.95]))
def test_the_walk(data: list[tuple[float, bool, bool]], risk: float, confidence: float) -> None:
    """Every point of the curve counts what it says; from the threshold up every bound keeps the risk, the next lower one does not."""
    score, wrong = np.array([r[0] for r in data]), np.array([r[1] for r in data])
    loss = wrong & np.array([r[2] for r in data])
    n = len(data)
    found = learn_then_test(score, loss, risk, confidence, wrong=wrong)
    for step in found.curve:
        accepted = score >= step.threshold
        assert step.coverage == accepted.sum() / n
        assert step.regret == (accepted & loss).sum() / n
        assert step.regret_bound == upper(int((accepted & loss).sum()), n, confidence)
        assert step.error == pytest.approx((accepted & wrong).sum() / max(1, accepted.sum()))
        assert step.error_bound == upper(int((accepted & wrong).sum()), int(accepted.sum()), confidence)
    thresholds = [step.threshold for step in found.curve]
    assert thresholds == sorted(set(thresholds))
    assert found.curve[0].coverage == 1.0
    good = [step for step in found.curve if step.regret_bound <= risk]
    assert found.threshold == min((step.threshold for step in good), default=None)
    assert found.threshold == certify(score, loss, risk, confidence)
    assert (found.step is None) == (found.threshold is None)


def test_the_denominator_is_all_requests() -> None:
    """Ten sure answers, one of them regretted, among a thousand: 0.1 % of all, 10 % of the accepted."""
    score = np.array([0.99] * 10 + [0.1] * 990)
    loss = np.array([1] + [0] * 9 + [1] * 990)
    found = learn_then_test(score, loss, 0.01, 0.95)
    assert found.step is not None
    assert (found.step.coverage, found.step.regret, found.step.error) == (0.01, 0.001, 0.1)


def test_too_small_a_sample_certifies_nothing() -> None:
    """With one request more and no regret the risk can be promised."""
    n = needed(RISK, CONFIDENCE)
    assert learn_then_test([0.9] * (n - 1), [0] * (n - 1), RISK, CONFIDENCE).threshold is None
    assert learn_then_test([0.9] * n, [0] * n, RISK, CONFIDENCE).threshold == 0.0


def test_the_grid_knows_nothing_of_the_data() -> None:
    """Falling from 1 to 0, as long as the sample within limits, finer near 1."""
    for n, steps in [(1, 100), (500, 500), (10**6, 1000)]:
        made = grid(n)
        assert len(made) == steps
        assert (made[0], made[-1]) == (1.0, 0.0)
        assert (np.diff(made) < 0).all()
    assert (grid(1000) > 0.99).sum() > 200
    assert learn_then_test([0.7, 0.9], [0, 0], 0.9, 0.5, thresholds=[0.8, 0.6]).threshold == 0.6


def test_refusals() -> None:
    """Shapes that differ, and no requests."""
    for score, loss in [([], []), ([0.5], [1, 0])]:
        with pytest.raises(ValueError, match="scores"):
            learn_then_test(score, loss, 0.1, 0.9)


def test_conformal() -> None:
    """n/(n+1) R + 1/(n+1) <= risk, and nothing lower would do: laxer than a bound with confidence."""
    score, loss = draw(np.random.default_rng(3), 500)
    tested = learn_then_test(score, loss, RISK, CONFIDENCE)
    found = conformal(tested)
    assert found is not None
    assert tested.threshold is not None
    assert found < tested.threshold
    risks = {step.threshold: 500 / 501 * step.regret + 1 / 501 for step in tested.curve}
    assert risks[found] <= RISK
    assert min(value for threshold, value in risks.items() if threshold < found) > RISK
    assert conformal(tested, 0.0001) is None


@pytest.mark.parametrize(
    ("wrong", "risk", "share"), [(0.17, 0.05, 1 - 0.12 / 0.95), (0.01, 0.02, 1.0), (1.0, 0.0, 0.0)]
)
def test_oracle(wrong: float, risk: float, share: float) -> None:
    """At least (wrong - risk) / (1 - risk) must go up."""
    assert oracle_share(wrong, risk) == pytest.approx(share)


answers = st.lists(st.tuples(st.none() | st.floats(-20, 0), st.booleans()), min_size=1, max_size=50)


@given(answers)
def test_collapsed(said: list[tuple[float | None, bool]]) -> None:
    """No accepted answer lies below it, not even within the margin."""
    lowest, accepted = [s[0] for s in said], [s[1] for s in said]
    known = [value for value, kept in said if kept and value is not None]
    assert collapsed(lowest, accepted, 1.5) == (min(known) - 1.5 if known else None)
