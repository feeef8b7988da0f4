"""From scores on held-out texts to probabilities, and from probabilities to the risk-coverage curve. numpy only.

All shares are weighted, so that the held-out texts stand for the traffic that is assumed: `outside` of all requests that
reach the specialist are out of scope, however many such texts the data has.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LEVEL = 0.80
"""Confidence of the bound. Why not 0.95: see models/clinc150/README.md."""
SMALLEST_COVERAGE = 0.30
"""The curve begins where so much of the traffic is accepted: further up, one wrong label in the data decides everything."""


def weights(outside_flags: npt.NDArray[np.bool_], outside: float) -> Array:
    """Weight of each text: together 1, those out of scope together `outside`."""
    share = np.where(outside_flags, outside / outside_flags.sum(), (1 - outside) / (~outside_flags).sum())
    return np.asarray(share, np.float64)


def knots(score: Array, right: Array, weight: Array, bins: int = 40) -> tuple[Array, Array]:
    """Score > probability: weighted isotonic regression over equally filled bins, strictly rising, never 0 or 1.

    score, right (1.0 or 0.0), weight: (n,). Returns scores and probabilities, ascending, for numpy.interp.
    """
    order = np.argsort(score, kind="stable")
    score, right, weight = score[order], right[order], weight[order]
    parts = np.array_split(np.arange(len(score)), min(bins, len(score)))
    blocks: list[list[float]] = []  # weight, mean of score, mean of right
    for part in parts:
        total = float(weight[part].sum())
        blocks.append(
            [total, float(weight[part] @ score[part]) / total, float(weight[part] @ right[part]) / total, total]
        )
    pooled: list[list[float]] = []  # [weight, rightness, members]
    for block in blocks:
        pooled.append([block[0], block[2], 1])
        while len(pooled) > 1 and pooled[-2][1] >= pooled[-1][1]:
            last, before = pooled.pop(), pooled.pop()
            total = last[0] + before[0]
            pooled.append([total, (last[0] * last[1] + before[0] * before[1]) / total, last[2] + before[2]])
    level = np.repeat([p[1] for p in pooled], [int(p[2]) for p in pooled])
    middle = np.array([block[1] for block in blocks])
    level = np.clip(level, 1e-3, 1 - 1e-3)
    # Within a plateau the score still ranks: an invisible slope keeps that order.
    level = level + np.linspace(-5e-4, 5e-4, len(level))
    return np.maximum.accumulate(middle), np.maximum.accumulate(level)


def curve(
    probability: Array,
    wrong: Array,
    weight: Array,
    inside: npt.NDArray[np.bool_],
    points: int = 200,
) -> list[dict[str, Any]]:
    """The risk-coverage curve, ascending thresholds.

    probability, wrong (1.0 or 0.0; accepting a text out of scope is wrong), weight: (n,); inside: in scope.
    coverage: share of the texts in scope that reach the threshold. error: share of wrong answers among all accepted, as
    seen. error_upper: its one-sided Clopper-Pearson bound of confidence LEVEL, at the effective number of accepted texts
    ((sum w)^2 / sum w^2). A promised risk is held against error_upper. It holds for one threshold chosen beforehand, not for
    the whole curve at once.
    """
    found = []
    outside = float(weight[~inside].sum())
    for threshold in np.unique(np.quantile(probability, np.linspace(0, 1, points), method="lower")):
        taken = probability >= threshold
        accepted = float(weight[taken].sum())
        if accepted < SMALLEST_COVERAGE * float(weight.sum()):
            continue
        bad = float(weight[taken] @ wrong[taken])
        effective = accepted**2 / float((weight[taken] ** 2).sum())
        found.append(
            {
                "threshold": float(np.floor(threshold * 1e6) / 1e6),
                "coverage": round(float(weight[taken & inside].sum() / weight[inside].sum()), 5),
                "outside_accepted": round(float(weight[taken & ~inside].sum()) / outside, 5) if outside else 0.0,
                "error": round(bad / accepted, 6),
                "error_upper": round(upper_bound(bad / accepted * effective, effective), 6),
            }
        )
    return found


def upper_bound(bad: float, n: float, level: float = LEVEL) -> float:
    """One-sided Clopper-Pearson bound on a share, given `bad` of `n` (rounded to whole numbers, against us)."""
    k, whole = int(np.ceil(bad - 1e-9)), int(n)
    if k >= whole:
        return 1.0
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, whole + 1)))])
    i = np.arange(k + 1)
    ways = logs[whole] - logs[i] - logs[whole - i]
    low, high = k / whole, 1.0
    for _ in range(50):  # the share at which no more than `bad` of `n` would be seen with 1 - level
        p = (low + high) / 2
        seen = float(np.exp(ways + i * np.log(p) + (whole - i) * np.log1p(-p)).sum()) if p < 1 else 0.0
        low, high = (p, high) if seen > 1 - level else (low, p)
    return high


def threshold(found: list[dict[str, Any]], risk: float) -> float | None:
    """The smallest threshold from which on every point keeps `risk`; None when none does. As gateway.confidence reads it."""
    best = None
    for point in reversed(found):
        if point["error_upper"] > risk:
            break
        best = float(point["threshold"])
    return best
