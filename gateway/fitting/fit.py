"""Labelled answers > a Scorer. Pure and deterministic."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.confidence import Scorer
from gateway.confidence.features import NAMES, SECOND, Evidence, features, members
from gateway.fitting.isotonic import knots
from gateway.fitting.logistic import log_loss, regress, sigmoid

FOLDS = 5
PENALTIES = (0.3, 3.0, 30.0)
ENOUGH = 200
"""Labels from which on isotonic knots are better than the logistic curve alone."""
_NO_PRIORS: Mapping[str, Mapping[str, float]] = {}


def fit(
    matrix: ArrayLike,
    right: ArrayLike,
    *,
    names: Sequence[str] = NAMES,
    priors: Mapping[str, Mapping[str, float]] = _NO_PRIORS,
) -> Scorer:
    """A logistic model with the penalty that predicts best across five folds; then, from 200 labels on, isotonic knots, fitted on what
    each fold's model said of the answers it had not seen.

    matrix: (n, len(names)), right: (n,) of 0 and 1. The folds go by row number: order the rows by nothing that matters. Raises ValueError
    as `regress`, and for fewer than two rows per fold.
    """
    rows, labels = np.asarray(matrix, float), np.asarray(right, float)
    if rows.ndim != 2 or rows.shape[1] != len(names) or len(rows) < 2 * FOLDS:
        raise ValueError(f"features {rows.shape}: at least {2 * FOLDS} rows of {len(names)} are needed")
    unseen = {l2: _unseen(rows, labels, l2) for l2 in PENALTIES}
    best = min(PENALTIES, key=lambda l2: log_loss(unseen[l2], labels))
    model = regress(rows, labels, best)
    return Scorer(
        names=tuple(names),
        mean=model.mean,
        scale=model.scale,
        weights=model.weights,
        intercept=model.intercept,
        knots=knots(sigmoid(unseen[best]), labels) if len(rows) >= ENOUGH else (),
        priors=priors,
    )


def _unseen(rows: NDArray[np.float64], labels: NDArray[np.float64], l2: float) -> NDArray[np.float64]:
    fold = np.arange(len(rows)) % FOLDS
    found = np.empty(len(rows))
    for held in range(FOLDS):
        out = fold == held
        found[out] = regress(rows[~out], labels[~out], l2).logits(rows[out])
    return found


def fit_evidence(evidence: Sequence[Evidence], right: Sequence[bool]) -> Scorer:
    """The same from answers: members are counted over the right ones, then features made. Answers without features (no log-probabilities)
    are left out; where a second model has answered to some, those to which it has not, too. Raises ValueError as `fit`."""
    priors = count_members(e for e, ok in zip(evidence, right, strict=True) if ok)
    names = NAMES + SECOND if any(e.second is not None for e in evidence) else NAMES
    made = [(features(e, priors), ok) for e, ok in zip(evidence, right, strict=True)]
    rows = [(found, ok) for found, ok in made if found is not None and len(found) == len(names)]
    if not rows:
        raise ValueError("no answer has log-probabilities of tokens that were free")
    return fit([row for row, _ in rows], [ok for _, ok in rows], names=names, priors=priors)


def count_members(evidence: Iterable[Evidence]) -> dict[str, dict[str, float]]:
    """Task > member > share of the answers to it that have the member: `Scorer.priors`."""
    seen: Counter[str] = Counter()
    held: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in evidence:
        for task, names in members(one):
            seen[task] += 1
            held[task].update(names)
    return {task: {name: held[task][name] / count for name in sorted(held[task])} for task, count in seen.items()}
