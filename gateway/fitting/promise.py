"""Probabilities and regrets of held-out requests > the threshold that keeps a promised risk. Pure.

Regret: an answer was accepted, is wrong, and the rung above would have been right. Its risk is counted over *all* requests, so it can only
fall when the threshold rises. The held-out requests must not have been used to fit the probability.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from gateway.fitting.bounds import allowed, upper

FEWEST, FINEST = 100, 1000
"""Thresholds of a grid."""
_FAR = 9.0
"""Log-odds of its last thresholds beside 0 and 1."""


class Step(Struct, frozen=True):
    """What accepting from `threshold` on would come to. All but the threshold are shares."""

    threshold: float
    coverage: float
    """Accepted, of all."""
    regret: float
    """Of all, as counted."""
    regret_bound: float
    error: float
    """Wrong among the accepted, as counted; 0 when none is."""
    error_bound: float


class Tested(Struct, frozen=True):
    threshold: float | None
    """The smallest that is certified; None when the risk cannot be promised at all."""
    curve: tuple[Step, ...]
    """Ascending thresholds. Of thresholds that accept the same answers only the lowest."""
    risk: float
    confidence: float
    size: int

    @property
    def step(self) -> Step | None:
        """The curve at the threshold."""
        return next((step for step in self.curve if step.threshold == self.threshold), None)


def grid(n: int) -> NDArray[np.float64]:
    """Thresholds on a probability, descending from 1 to 0, evenly spaced in log-odds: fine near 1, where answers crowd.

    Fixed-sequence testing demands that they be chosen before the data are seen; this depends on nothing but their number, about one
    threshold per request within [100, 1000]. A finer one would cost no confidence, as each test is only reached past all surer ones.
    """
    steps = min(FINEST, max(FEWEST, n)) - 2
    inner = 1 / (1 + np.exp(-np.linspace(_FAR, -_FAR, steps)))
    return np.concatenate([[1.0], inner, [0.0]])


def learn_then_test(
    score: ArrayLike,
    loss: ArrayLike,
    risk: float,
    confidence: float,
    *,
    wrong: ArrayLike | None = None,
    thresholds: Sequence[float] | None = None,
) -> Tested:
    """Walk the thresholds from the surest down and stop at the first whose regret cannot be bounded by `risk`: with at least `confidence`
    the true regret at the threshold found is at or below it, for any distribution of independent requests.

    Fixed-sequence testing (Angelopoulos et al., Learn then Test, arXiv 2110.01052) with one-sided Clopper-Pearson bounds.
    score: (n,) probability; loss: (n,) of 0 and 1, the regret if accepted; wrong: (n,) of 0 and 1 for the error among the accepted, `loss`
    when the rung above is always right. thresholds: another grid, e.g. quantiles of the fitting set's scores; must not depend on these n
    requests. The bounds of regret are for one threshold at a time, those of error are reported beside, never promised.
    Raises ValueError on shapes that differ and on no requests.
    """
    scores, losses = np.asarray(score, float), np.asarray(loss, float)
    errors = losses if wrong is None else np.asarray(wrong, float)
    n = len(scores)
    if not n or losses.shape != (n,) or errors.shape != (n,):
        raise ValueError(f"{n} scores, {losses.shape} losses, {errors.shape} errors")
    order = np.argsort(-scores, kind="stable")
    regrets = np.concatenate([[0], np.cumsum(losses[order])]).round().astype(int)
    mistakes = np.concatenate([[0], np.cumsum(errors[order])]).round().astype(int)
    falling = np.sort(np.asarray(grid(n) if thresholds is None else thresholds, float))[::-1]
    counts = np.searchsorted(-scores[order], -falling, side="right").tolist()
    curve: list[Step] = []
    for threshold, accepted in zip(falling.tolist(), counts, strict=True):
        if curve and accepted == round(curve[-1].coverage * n):
            curve[-1] = _moved(curve[-1], threshold)
            continue
        regret, mistake = int(regrets[accepted]), int(mistakes[accepted])
        curve.append(
            Step(
                threshold,
                accepted / n,
                regret / n,
                upper(regret, n, confidence),
                mistake / accepted if accepted else 0.0,
                upper(mistake, accepted, confidence) if accepted else 1.0,
            )
        )
    found = None
    for step in curve:
        if step.regret_bound > risk:
            break
        found = step.threshold
    return Tested(found, tuple(reversed(curve)), risk, confidence, n)


def certify(
    score: ArrayLike, loss: ArrayLike, risk: float, confidence: float, thresholds: Sequence[float] | None = None
) -> float | None:
    """Only the threshold that `learn_then_test` finds, in microseconds: for simulations."""
    scores, losses = np.asarray(score, float), np.asarray(loss, float)
    n = len(scores)
    falling = np.sort(np.asarray(grid(n) if thresholds is None else thresholds, float))[::-1]
    regretted = -np.sort(-scores[losses > 0])
    kept = np.searchsorted(-regretted, -falling, side="right") <= allowed(n, risk, confidence)
    first = int(np.argmin(kept)) if not kept.all() else len(kept)
    return float(falling[first - 1]) if first else None


def _moved(step: Step, threshold: float) -> Step:
    return Step(threshold, step.coverage, step.regret, step.regret_bound, step.error, step.error_bound)


def conformal(tested: Tested, risk: float | None = None) -> float | None:
    """The threshold of conformal risk control (arXiv 2208.02814), for comparison: it bounds the mean of the regret over samples, not with
    a confidence. The smallest with n/(n+1) * regret + 1/(n+1) <= risk; None when there is none."""
    n, bound = tested.size, tested.risk if risk is None else risk
    found = None
    for step in reversed(tested.curve):
        if n / (n + 1) * step.regret + 1 / (n + 1) > bound:
            break
        found = step.threshold
    return found


def oracle_share(wrong: float, risk: float) -> float:
    """The largest share that could be accepted with an error of `risk` among the accepted, if one knew which answers are wrong:
    1 - (wrong - risk) / (1 - risk), `wrong` being the share of wrong answers (regrets) when all are accepted."""
    return min(1.0, max(0.0, 1 - (wrong - risk) / (1 - risk)))
