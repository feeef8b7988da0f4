"""Failures seen among n > a bound on how likely one is. Pure.

Clopper, Pearson (1934), The use of confidence or fiducial limits illustrated in the case of the binomial: exact, one-sided.
"""

from functools import lru_cache
from math import ceil, exp, log, log1p

import numpy as np
from numpy.typing import NDArray

_STEPS = 100
_CLOSE = 1e-14


@lru_cache(maxsize=1 << 14)
def upper(failures: int, n: int, confidence: float) -> float:
    """The largest probability of failure under which so few as `failures` of n would still be seen with a chance of 1 - confidence.

    The true probability is at or below it in at least `confidence` of all samples. 1 when n is 0. Raises ValueError.
    """
    if not 0 <= failures <= n or not 0 < confidence < 1:
        raise ValueError(f"{failures} failures of {n} at confidence {confidence}")
    if failures == n:
        return 1.0
    wanted = log(1 - confidence)
    low, high = failures / n, 1.0
    at = low + 2 * ((failures + 1) ** 0.5) / n
    for _ in range(_STEPS):  # Newton's method on the logarithm of the tail, kept inside of a shrinking bracket
        at = at if low < at < high else (low + high) / 2
        chance, slope = _tail(failures, n, at)
        if chance > wanted:
            low = at
        else:
            high = at
        step = (chance - wanted) / slope
        if high - low <= _CLOSE * high or abs(step) <= _CLOSE * at:
            break
        at += step
    return min(1.0, high * (1 + 4 * _CLOSE)) if high - low <= 1e-9 * high else min(1.0, at * (1 + 1e-12))


@lru_cache(maxsize=1 << 10)
def allowed(n: int, risk: float, confidence: float) -> int:
    """The most failures of n that still certify `risk`; -1 when not even none would do."""
    low, high = -1, n
    while low < high:
        middle = (low + high + 1) // 2
        if upper(middle, n, confidence) <= risk:
            low = middle
        else:
            high = middle - 1
    return low


def tail(failures: int, n: int, probability: float) -> float:
    """P(X <= failures) for X binomial with n and `probability`, without underflow of a single term."""
    if probability <= 0 or failures >= n:
        return 1.0
    return exp(_tail(failures, n, probability)[0]) if probability < 1 else 0.0


def _tail(failures: int, n: int, p: float) -> tuple[float, float]:
    """Logarithm of the tail, and minus its derivative by p."""
    # Terms fall off at least as fast as a Gaussian of the largest variance: those 20 deviations below count for nothing.
    first = max(0, failures - 50 - int(10 * n**0.5))
    i = np.arange(first, failures + 1)
    f = _log_factorials(1 << n.bit_length())
    terms = f[n] - f[i] - f[n - i] + i * log(p) + (n - i) * log1p(-p)
    most = float(terms.max())
    whole = min(0.0, most + log(float(np.exp(terms - most).sum())))
    last = float(terms[-1])  # d/dp P(X <= k) = -(n - k) / (1 - p) * P(X = k)
    return whole, (n - failures) / (1 - p) * exp(last - whole)


@lru_cache(maxsize=2)
def _log_factorials(n: int) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])


def needed(risk: float, confidence: float) -> int:
    """The smallest sample that can certify `risk` at all, with no failure seen: (1 - risk)^n <= 1 - confidence. 2 % at 95 %: 149.

    Raises ValueError unless both lie strictly between 0 and 1.
    """
    if not 0 < risk < 1 or not 0 < confidence < 1:
        raise ValueError(f"risk {risk} and confidence {confidence} must lie between 0 and 1")
    return ceil(log1p(-confidence) / log1p(-risk) - 1e-9)
