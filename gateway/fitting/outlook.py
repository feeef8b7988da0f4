"""Requests, how their answers looked while they grew, and which were accepted > an `Outlook`. Pure and deterministic.

First the words, then the tokens on top of them (and a second model's answer between them: beside.py): what the words say of a request is
taken from a model that has not seen it, as it will be on the line. Where early starts begin is counted the same way.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from msgspec import structs
from numpy.typing import ArrayLike

from gateway.confidence.outlook import Outlook, hashed, unlikely
from gateway.fitting.beside import fit_beside
from gateway.fitting.logistic import log_loss, regress
from gateway.fitting.seen import FOLDS, PENALTIES, Matrix, Seen, risen

OFTEN = 4
"""Requests that a word must be in."""
MOST = 500
"""Words; the cost of a fit grows with their cube."""


def fit_outlook(seen: Sequence[Seen], wastes: Sequence[float]) -> Outlook | None:
    """wastes: shares of all requests, for each of which a start is kept. None when no answer had a free token, when all or none were
    accepted, or with fewer than two requests a fold. The folds go by position: order the requests by nothing that matters."""
    rejected = np.array([not one.accepted for one in seen], float)
    if len(seen) < 2 * FOLDS or len(set(rejected)) < 2 or not any(one.falls for one in seen):
        return None
    bags = [hashed(one.text) for one in seen]
    unseen = {l2: _unseen(bags, rejected, l2) for l2 in PENALTIES}
    best = min(PENALTIES, key=lambda l2: log_loss(unseen[l2], rejected))
    before, fold = unseen[best], np.arange(len(seen)) % FOLDS
    doubts = np.empty(len(seen))
    for held in range(FOLDS):
        told = _tokens(seen, before, np.flatnonzero(fold != held).tolist())
        for at in np.flatnonzero(fold == held).tolist():
            said = float(before[at])
            doubts[at] = max(told.doubt(said, None), told.doubt(said, min(seen[at].falls, default=None)))
    told = _tokens(seen, before, range(len(seen)))
    weighed = fit_beside(seen, before)
    if weighed is not None:
        told, doubts = structs.replace(told, beside=weighed[0]), weighed[1]
    words = _Words(bags, rejected, best)
    return words.outlook(told, {f"{waste:g}": start(doubts, rejected == 0, waste) for waste in wastes})


def start(doubts: ArrayLike, accepted: ArrayLike, waste: float) -> float:
    """The smallest doubt from which on at most `waste` of all requests would be started in vain: accepted, though theirs grew so large."""
    kept = np.asarray(accepted, bool)
    vain = np.sort(np.asarray(doubts, float)[kept])[::-1]
    spare = int(waste * len(kept) + 1e-9)
    return float(np.nextafter(vain[spare], 2.0)) if spare < len(vain) else 0.0


# --- words ------------------------------------------------------------------------------------------------------------------------


class _Words:
    """What the words of requests say."""

    def __init__(self, bags: Sequence[Sequence[str]], rejected: Matrix, l2: float) -> None:
        count = Counter(word for bag in bags for word in bag)
        often = sorted((word for word, n in count.items() if n >= OFTEN), key=lambda word: (-count[word], word))
        self._place = {word: at for at, word in enumerate(often[:MOST])}
        rows = self._matrix(bags)
        self._model = regress(rows, rejected, l2)
        self._most = max(map(len, bags), default=0), int(rows[:, -2].max(initial=0))

    def _matrix(self, bags: Sequence[Sequence[str]]) -> Matrix:
        """Which of the words a request has, how many others, and log(1 + how many there are)."""
        rows = np.zeros((len(bags), len(self._place) + 2))
        for row, bag in zip(rows, bags, strict=True):
            known = [self._place[word] for word in bag if word in self._place]
            row[known] = 1.0
            row[-2:] = len(bag) - len(known), np.log1p(len(bag))
        return rows

    def logits(self, bags: Sequence[Sequence[str]]) -> Matrix:
        return self._model.logits(self._matrix(bags))

    def outlook(self, told: Outlook, starts: dict[str, float]) -> Outlook:
        model = self._model
        per = np.asarray(model.weights) / np.asarray(model.scale)
        words = {word: float(per[at]) for word, at in self._place.items()}
        intercept = model.intercept - float(per @ np.asarray(model.mean))
        others, length = float(per[-2]), float(per[-1])
        return Outlook(intercept, words, others, length, told.kept, told.lows, self._most, starts, told.beside)


def _unseen(bags: Sequence[Sequence[str]], rejected: Matrix, l2: float) -> Matrix:
    """Of each request, what the words say to a model of the other folds."""
    fold = np.arange(len(bags)) % FOLDS
    found = np.empty(len(bags))
    for held in range(FOLDS):
        out = np.flatnonzero(fold == held).tolist()
        words = _Words([bags[at] for at in np.flatnonzero(fold != held).tolist()], rejected[fold != held], l2)
        found[out] = words.logits([bags[at] for at in out])
    return found


# --- tokens -----------------------------------------------------------------------------------------------------------------------


def _tokens(seen: Sequence[Seen], before: Matrix, rows: Sequence[int]) -> Outlook:
    """Without words. Every moment of an answer after a token counts."""
    low = np.array([unlikely(fall) for at in rows for fall in seen[at].falls])
    if not len(low):
        return Outlook()
    times = [len(seen[at].falls) for at in rows]
    rejected = np.repeat([float(not seen[at].accepted) for at in rows], times)
    curve = risen(low, rejected)
    told = np.interp(low, [x for x, _ in curve], [y for _, y in curve])
    model = regress(np.column_stack([np.repeat(before[rows], times), told]), rejected)
    per = np.maximum(0.0, np.asarray(model.weights)) / np.asarray(model.scale)  # more doubt is never less
    intercept = model.intercept - float(per @ np.asarray(model.mean))
    return Outlook(kept=float(per[0]), lows=[(x, intercept + float(per[1]) * y) for x, y in curve])
