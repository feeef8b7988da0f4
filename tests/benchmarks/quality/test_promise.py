"""The synthetic population, its draws, and the table: against what is known exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.quality import promise
from benchmarks.quality.promise import Population, Scored, affordable, curve, kept, population, table, threshold
from gateway.fitting import grid, learn_then_test, upper

SEEDS = st.integers(0, 10_000)


def scored(seed: int, n: int = 2000, steep: float = 1.0) -> Scored:
    """Calibrated when `steep` is 1: right as often as the probability says; much less sure of itself otherwise."""
    chance = np.random.default_rng(seed)
    probability = chance.beta(6, 0.5, n)
    return Scored(probability, chance.random(n) < probability**steep)


def test_the_population_has_the_shape_of_what_was_seen() -> None:
    """As often wrong, as sure, and wrong where the probability says so; the regret never rises with the probability."""
    seen = scored(1, 20_000)
    found = population(seen)
    assert found.regret.mean() == pytest.approx(1 - seen.right.mean(), abs=0.005)
    assert found.probability.mean() == pytest.approx(seen.probability.mean(), abs=0.001)
    assert (np.diff(found.probability) >= 0).all()
    assert (np.diff(found.regret) <= 1e-9).all()
    for level in (0.7, 0.9, 0.97):
        i = int(np.searchsorted(found.probability, level))
        assert found.regret[i] == pytest.approx(1 - level, abs=0.03)


def test_the_true_risk_is_exact() -> None:
    """Counted by hand on four requests; None accepts nothing."""
    four = Population(np.array([0.1, 0.5, 0.7, 0.9]), np.array([0.8, 0.4, 0.2, 0.1]))
    assert four.risk(0.7) == pytest.approx(0.3 / 4)
    assert four.share(0.7) == 0.5
    assert four.risk(0.0) == pytest.approx(1.5 / 4)
    assert (four.risk(1.0), four.share(1.0)) == (0.0, 0.0)
    assert (four.risk(None), four.share(None)) == (0.0, 0.0)


@given(SEEDS, st.integers(100, 1500))
@settings(max_examples=25, deadline=None)
def test_the_quick_walk_is_learn_then_test(seed: int, n: int) -> None:
    """It accepts the very answers that the product's own function accepts."""
    seen = scored(seed, n)
    found = threshold(seen.probability, seen.regret.astype(float), grid(n), affordable(n))
    tested = learn_then_test(seen.probability, seen.regret, promise.RISK, promise.CONFIDENCE).threshold
    assert (found is None) == (tested is None)
    if found is not None and tested is not None:
        assert (seen.probability >= found).sum() == (seen.probability >= tested).sum()


@given(st.integers(1, 3000))
@settings(max_examples=25, deadline=None)
def test_affordable_is_the_last_that_is_certified(n: int) -> None:
    """One regret more would break the bound."""
    count = affordable(n)
    assert count < 0 or upper(count, n, promise.CONFIDENCE) <= promise.RISK
    assert upper(count + 1, n, promise.CONFIDENCE) > promise.RISK


def test_the_promise_holds_and_is_seen_to_break() -> None:
    """On a population that draws from itself it holds as often as promised; calibrated on one with far fewer regrets, it breaks."""
    honest = population(scored(2, 20_000))
    found = kept(honest, 1000, 300)
    assert found.kept_share >= 0.93  # 95 % less three deviations of 300 draws
    assert 0.3 < found.share_mean < 1
    assert found.risk_mean <= promise.RISK
    chance = np.random.default_rng(3)
    lucky = Population(honest.probability, honest.regret * 0.2)
    spare = affordable(1000)
    risks = [honest.risk(threshold(*lucky.draw(1000, chance), grid(1000), spare)) for _ in range(50)]
    assert np.mean(np.array(risks) <= promise.RISK) < 0.1


def test_the_same_seed_gives_the_same_draws() -> None:
    """A figure that is committed can be checked."""
    among = population(scored(4))
    assert kept(among, 500, 20) == kept(among, 500, 20)
    assert kept(among, 500, 20) != kept(among, 500, 20, seed=1)


def test_too_small_a_sample_accepts_nothing() -> None:
    """149 requests are the least that can promise 2 % at 95 %."""
    among = population(scored(5))
    assert kept(among, 100, 10).none_share == 1.0
    assert kept(among, 100, 10).kept_share == 1.0


def test_what_the_llm_gets_wrong_too_is_no_regret() -> None:
    """Regret needs a rung above that would have been right; without word of it, it always is."""
    right = np.array([True, False, False])
    assert Scored(np.zeros(3), right).regret.tolist() == [False, True, True]
    above = Scored(np.zeros(3), right, np.array([True, True, False]))
    assert above.regret.tolist() == [False, True, False]
    assert above.joined(above).regret.tolist() == [False, True, False] * 2
    with pytest.raises(ValueError, match="one of the two"):
        above.joined(Scored(np.zeros(1), np.ones(1, bool)))


def test_the_curve_begins_with_the_surest() -> None:
    """Shares rise to 1; at the end regret and error are those of accepting everything."""
    points = curve(Scored(np.array([0.9, 0.2, 0.8, 0.1]), np.array([True, False, True, True])), 4)
    assert [point["share"] for point in points] == [0.25, 0.5, 0.75, 1.0]
    assert [point["regret"] for point in points] == [0.0, 0.0, 0.25, 0.25]
    assert points[2]["error"] == pytest.approx(1 / 3, abs=1e-6)


def test_the_table() -> None:
    """Every figure the issue names, by the task's name; what is accepted is what reaches the calibration's threshold."""
    calibration, test = scored(6, 1500), scored(7, 4000)
    part = table("x", calibration, test, 0, quick=True, title="x")
    named = (
        "exact_match",
        "auroc",
        "ece",
        "risk_kept_share",
        "local_share_at_2pct",
        "oracle_share_at_2pct",
        "share_gap_points",
    )
    assert {f"x.{key}" for key in (*named, "accepted_error", "invalid_json")} <= set(part.figures)
    at = learn_then_test(calibration.probability, calibration.regret, 0.02, 0.95).threshold
    assert part.figures["x.threshold"] == at
    taken = test.probability >= at
    assert part.figures["x.local_share_at_2pct"] == taken.mean()
    assert part.figures["x.accepted_error"] == pytest.approx(1 - test.right[taken].mean())
    wrong = 1 - test.right.mean()
    assert part.figures["x.oracle_share_at_2pct"] == pytest.approx(1 - (wrong - 0.02) / 0.98)
    assert part.figures["x.risk_kept_share"] >= 0.95
    assert part.notes["synthetic"]["draws"] >= 1000
    assert part.plots["quality-x.svg"].startswith(b"<?xml")


def test_a_task_that_cannot_be_promised_accepts_nothing() -> None:
    """A sample that can certify nothing: no threshold, no share, and the figures are still numbers."""
    chance = np.random.default_rng(8)
    blind = Scored(chance.random(100), chance.random(100) < 0.5)
    part = table("x", blind, blind, 0, quick=True, title="x")
    assert part.notes["certified"] is False
    assert part.figures["x.local_share_at_2pct"] == part.figures["x.accepted_error"] == 0.0
    assert part.figures["x.risk_kept_share"] == 1.0
