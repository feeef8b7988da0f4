"""Features, right or wrong > a logistic model. Pure. Newton's method on standardised features with an L2 penalty."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

_ROUNDS = 50
_CLOSE = 1e-10
_FREE = 1e-3
"""Penalty on the intercept: just enough that a set with only right answers has an end."""


class Logistic(Struct, frozen=True):
    """logit = intercept + sum of weight * (value - mean) / scale."""

    mean: Sequence[float]
    scale: Sequence[float]
    weights: Sequence[float]
    intercept: float

    def logits(self, matrix: ArrayLike) -> NDArray[np.float64]:
        rows = (np.asarray(matrix, float) - np.asarray(self.mean)) / np.asarray(self.scale)
        return np.asarray(rows @ np.asarray(self.weights) + self.intercept, float)


def regress(matrix: ArrayLike, right: ArrayLike, l2: float = 1.0) -> Logistic:
    """Minimise the log loss summed over the rows plus l2/2 times the squared weights of the standardised features.

    matrix: (n, features), right: (n,) of 0 and 1. A feature that never varies gets no weight. Raises ValueError on other shapes, on
    no rows, and on numbers that are not finite.
    """
    rows, labels = np.asarray(matrix, float), np.asarray(right, float)
    if rows.ndim != 2 or labels.shape != rows.shape[:1] or not len(rows):
        raise ValueError(f"features {rows.shape} do not go with labels {labels.shape}")
    if not np.isfinite(rows).all() or not np.isin(labels, (0.0, 1.0)).all():
        raise ValueError("features must be finite and labels 0 or 1")
    mean, scale = rows.mean(0), rows.std(0)
    scale[scale < 1e-12 * (1 + np.abs(mean))] = np.inf  # varies by rounding only
    design = np.column_stack([np.ones(len(rows)), (rows - mean) / scale])
    penalty = np.full(design.shape[1], float(l2))
    penalty[0] = _FREE
    found = _newton(design, labels, penalty)
    scale[np.isinf(scale)] = 1.0
    return Logistic(mean.tolist(), scale.tolist(), found[1:].tolist(), float(found[0]))


def _newton(
    design: NDArray[np.float64], labels: NDArray[np.float64], penalty: NDArray[np.float64]
) -> NDArray[np.float64]:
    at = np.zeros(design.shape[1])
    loss = _loss(design, labels, penalty, at)
    for _ in range(_ROUNDS):
        p = sigmoid(design @ at)
        gradient = design.T @ (p - labels) + penalty * at
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty + 1e-9)
        step = np.linalg.solve(hessian, gradient)
        for _halving in range(30):
            nearer = at - step
            less = _loss(design, labels, penalty, nearer)
            if less <= loss:
                break
            step = step / 2
        else:
            break
        done = loss - less <= _CLOSE * (1 + abs(loss))
        at, loss = nearer, less
        if done:
            break
    return at


def _loss(
    design: NDArray[np.float64], labels: NDArray[np.float64], penalty: NDArray[np.float64], at: NDArray[np.float64]
) -> float:
    return log_loss(design @ at, labels) * len(labels) + float(penalty @ at**2) / 2


def log_loss(logits: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """Mean, nats."""
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-np.logaddexp(0, -logits))
