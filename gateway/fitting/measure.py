"""How good a probability is. Pure."""

import numpy as np
from numpy.typing import ArrayLike


def auroc(score: ArrayLike, right: ArrayLike) -> float:
    """How likely a right answer has a higher score than a wrong one, ties half. nan when all are right, or all wrong."""
    x, y = np.asarray(score, float), np.asarray(right, bool)
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives:
        return float("nan")
    _, group, counts = np.unique(x, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[group]
    return float((ranks[y].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def ece(probability: ArrayLike, right: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error: |mean probability - share of right answers|, averaged over bins of equal size in rows."""
    p, y = np.asarray(probability, float), np.asarray(right, float)
    if not len(p):
        return float("nan")
    order = np.argsort(p, kind="stable")
    parts = np.array_split(order, min(bins, len(p)))
    return float(sum(len(part) * abs(p[part].mean() - y[part].mean()) for part in parts) / len(p))
