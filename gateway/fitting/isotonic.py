"""Scores, right or wrong > a rising curve from score to probability. Pure. Pool adjacent violators (Ayer et al., 1955)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEAST = 10
"""A knot stands for at least so many answers: fewer would follow chance."""
MOST = 50
"""Knots, at most about."""


def pav(score: ArrayLike, right: ArrayLike) -> NDArray[np.float64]:
    """The rising fit nearest to `right` by squares, one value per row; equal scores get equal values. Its mean is that of `right`."""
    x, y = np.asarray(score, float), np.asarray(right, float)
    order = np.argsort(x, kind="stable")
    fitted = np.empty(len(x))
    at = 0
    for _, total, count in _blocks(x[order], y[order]):
        fitted[order[at : at + count]] = total / count
        at += count
    return fitted


def knots(score: ArrayLike, right: ArrayLike) -> tuple[tuple[float, float], ...]:
    """(score, probability) through the middle of each block of `pav`, small blocks joined: strictly rising in both, from (0, 0) to (1, 1).

    Strictly, so that no two answers are tied which the scores told apart: on a plateau no threshold could part them. A block in which all
    were right stands half an answer below 1, one in which all were wrong half an answer above 0.
    """
    x, y = np.asarray(score, float), np.asarray(right, float)
    order = np.argsort(x, kind="stable")
    joined: list[tuple[float, float, int]] = []
    least = max(LEAST, len(x) // MOST)
    blocks = _blocks(x[order], y[order])
    for block in blocks:
        if joined and joined[-1][2] < least:
            block = _join(joined.pop(), block)
        joined.append(block)
    if len(joined) > 1 and joined[-1][2] < least:
        last = joined.pop()
        joined.append(_join(joined.pop(), last))
    shares = [sum_y / count for _, sum_y, count in joined]
    if shares and shares[0] == 0:
        shares[0] = min(0.5 / joined[0][2], shares[1] / 2 if len(shares) > 1 else 1.0)
    if shares and shares[-1] == 1:
        shares[-1] = max(1 - 0.5 / joined[-1][2], (1 + shares[-2]) / 2 if len(shares) > 1 else 0.0)
    middles = [sum_x / count for sum_x, _, count in joined]
    inner = [(middle, share) for middle, share in zip(middles, shares, strict=True) if 0 < middle < 1]
    return ((0.0, 0.0), *inner, (1.0, 1.0))


Block = tuple[float, float, int]
"""Sum of scores, sum of right, rows."""


def _join(one: Block, other: Block) -> Block:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def _blocks(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[Block]:
    """x ascending. Pooled until the means rise strictly."""
    found: list[Block] = []
    _, first, counts = np.unique(x, return_index=True, return_counts=True)
    for start, count in zip(first.tolist(), counts.tolist(), strict=True):
        block: Block = (float(x[start]) * count, float(y[start : start + count].sum()), count)
        while found and found[-1][1] * block[2] >= block[1] * found[-1][2]:
            block = _join(found.pop(), block)
        found.append(block)
    return found
