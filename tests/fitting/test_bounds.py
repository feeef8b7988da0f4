"""Failures seen among n > a bound on how likely one is."""

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fitting import allowed, needed, upper
from gateway.fitting.bounds import tail

shares = st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999])


def exact(failures: int, n: int, probability: float) -> float:
    """The binomial tail in whole numbers."""
    p = Fraction(probability)
    return float(sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(failures + 1)))


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))), shares)
def test_the_bound_is_where_the_exact_tail_is_small(counts: tuple[int, int], confidence: float) -> None:
    """Under the bound so few failures have a chance of exactly 1 - confidence; under a tenth of a percent less, a larger one."""
    failures, n = counts
    bound = upper(failures, n, confidence)
    assert exact(failures, n, bound) == pytest.approx(1 - confidence, rel=1e-5)
    assert exact(failures, n, bound * 0.999) > 1 - confidence
    assert tail(failures, n, bound) == pytest.approx(exact(failures, n, bound), rel=1e-9)


@pytest.mark.parametrize(
    ("failures", "n", "bound"),
    [
        (0, 1, 0.95),
        (0, 149, 1 - 0.05 ** (1 / 149)),
        (0, 100_000, 1 - 0.05 ** (1 / 100_000)),
        (10, 100, 0.16372),  # the tables of Clopper and Pearson
        (1000, 100_000, 0.010533),
        (99_999, 100_000, 0.95 ** (1 / 100_000)),
        (5, 5, 1.0),
        (0, 0, 1.0),
    ],
)
def test_known_bounds(failures: int, n: int, bound: float) -> None:
    """Closed forms and tables, up to 100,000."""
    assert upper(failures, n, 0.95) == pytest.approx(bound, rel=1e-4)


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), shares)
def test_more_failures_more_risk(counts: tuple[int, int], confidence: float) -> None:
    """Rises with the failures, falls with the sample, and never lies below what was seen."""
    failures, n = counts
    bound = upper(failures, n, confidence)
    assert failures / n <= bound <= 1
    assert bound <= upper(min(n, failures + 1), n, confidence)
    assert upper(failures, n + 1, confidence) <= bound


@pytest.mark.parametrize(("risk", "n"), [(0.05, 59), (0.02, 149), (0.01, 299), (0.001, 2995)])
def test_needed(risk: float, n: int) -> None:
    """The smallest sample that can certify a risk at 95 %: without a failure it does, one smaller does not."""
    assert needed(risk, 0.95) == n
    assert upper(0, n, 0.95) <= risk < upper(0, n - 1, 0.95)
    assert allowed(n, risk, 0.95) == 0
    assert allowed(n - 1, risk, 0.95) == -1


@given(st.integers(1, 2000), st.floats(0.001, 0.5), shares)
def test_allowed(n: int, risk: float, confidence: float) -> None:
    """So many failures still certify the risk, one more does not."""
    most = allowed(n, risk, confidence)
    assert most < 0 or upper(most, n, confidence) <= risk
    assert upper(most + 1, n, confidence) > risk


@pytest.mark.parametrize(("failures", "n", "confidence"), [(-1, 5, 0.9), (6, 5, 0.9), (1, 5, 0.0), (1, 5, 1.0)])
def test_nonsense_is_refused(failures: int, n: int, confidence: float) -> None:
    """With the numbers."""
    with pytest.raises(ValueError, match=f"{failures} failures of {n}"):
        upper(failures, n, confidence)
    with pytest.raises(ValueError, match="between 0 and 1"):
        needed(0.0, 0.95)
