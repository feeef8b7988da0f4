"""The same requests where a second model answered too > what that adds to an `Outlook`. Pure and deterministic.

First how sure the second is and what it talks of, then the tokens and whether the two have parted; each on what a model that has not seen
the request says of it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.confidence.outlook import Beside, unlikely
from gateway.fitting.logistic import Logistic, log_loss, regress
from gateway.fitting.seen import FOLDS, PENALTIES, Matrix, Seen, risen

OFTEN = 4
"""Answers that a function or member must be in."""
MOST = 200
"""Functions and members; the cost of a fit grows with their cube."""


def fit_beside(seen: Sequence[Seen], words: Matrix) -> tuple[Beside, Matrix] | None:
    """What to add up, and how large the doubt of each request grew: (n,), 1 where the second said nothing.

    words: (n,) log-odds that the request's words give, from models that have not seen it. None where too few have a second, or where all
    or none of those were accepted.
    """
    rows = np.array([at for at, one in enumerate(seen) if one.second is not None and one.falls], int)
    rejected = np.array([float(not seen[at].accepted) for at in rows])
    if len(rows) < 2 * FOLDS or len(set(rejected)) < 2:
        return None
    mine = [seen[at] for at in rows]
    first = _First(mine, words[rows])
    unseen = {l2: first.unseen(rejected, l2) for l2 in PENALTIES}
    best = min(PENALTIES, key=lambda l2: log_loss(unseen[l2], rejected))
    before, fold = unseen[best], np.arange(len(mine)) % FOLDS
    doubts = np.ones(len(seen))
    for held in range(FOLDS):
        told = _later(mine, before, np.flatnonzero(fold != held), Beside())
        for at in np.flatnonzero(fold == held).tolist():
            doubts[rows[at]] = max(_doubts(told, float(before[at]), mine[at]))
    return _later(mine, before, np.arange(len(mine)), first.beside(rejected, best)), doubts


def _doubts(told: Beside, before: float, one: Seen) -> Iterator[float]:
    """As they would have been told on the line, moment by moment."""
    second = one.second or 0.0
    yield told.doubt(before, None, second, False)
    yield from (told.doubt(before, low, second, parted) for low, parted in zip(one.falls, one.parted, strict=True))


class _First:
    """Before the first token: the words, how sure the second is, and what it talks of."""

    def __init__(self, seen: Sequence[Seen], words: Matrix) -> None:
        count = Counter(one for request in seen for one in request.spoken)
        self._often = sorted((one for one, n in count.items() if n >= OFTEN), key=lambda one: (-count[one], one))[:MOST]
        place = {one: at for at, one in enumerate(self._often)}
        self._rows = np.zeros((len(seen), 2 + len(place)))
        self._rows[:, 0], self._rows[:, 1] = words, [request.second or 0.0 for request in seen]
        for row, request in zip(self._rows, seen, strict=True):
            row[[2 + place[one] for one in request.spoken if one in place]] = 1.0

    def unseen(self, rejected: Matrix, l2: float) -> Matrix:
        fold, found = np.arange(len(rejected)) % FOLDS, np.empty(len(rejected))
        for held in range(FOLDS):
            out = fold == held
            found[out] = regress(self._rows[~out], rejected[~out], l2).logits(self._rows[out])
        return found

    def beside(self, rejected: Matrix, l2: float) -> Beside:
        constant, words, sure, *says = _plain(regress(self._rows, rejected, l2), rising=1)
        return Beside(constant, words, sure, dict(zip(self._often, says, strict=True)))


def _later(seen: Sequence[Seen], before: Matrix, rows: NDArray[np.intp], told: Beside) -> Beside:
    """`told`, and what tokens add. Every moment of an answer after a token counts."""
    mine = [seen[at] for at in rows.tolist()]
    times = [len(one.falls) for one in mine]
    rejected = np.repeat([float(not one.accepted) for one in mine], times)
    low = np.array([unlikely(fall) for one in mine for fall in one.falls])
    parted = np.array([float(apart) for one in mine for apart in one.parted])
    second = np.repeat([one.second or 0.0 for one in mine], times)
    curve = risen(low, rejected)
    tokens = np.interp(low, [x for x, _ in curve], [y for _, y in curve])
    columns = [np.repeat(before[rows], times), tokens, second * (1 - parted), parted, second * parted]
    constant, kept, scale, along, apart, against = _plain(regress(np.column_stack(columns), rejected), rising=2)
    lows = [(x, constant + scale * y) for x, y in curve]
    return Beside(told.constant, told.words, told.sure, told.says, kept, lows, along, (apart, against))


def _plain(model: Logistic, rising: int) -> list[float]:
    """Intercept and weights, for features as they are. The first `rising` are doubts, and more doubt is never less."""
    per = np.asarray(model.weights) / np.asarray(model.scale)
    per[:rising] = np.maximum(0.0, per[:rising])
    return [model.intercept - float(per @ np.asarray(model.mean)), *per.tolist()]
