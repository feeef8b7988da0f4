"""Features > probability: a small logistic model per task, then isotonic knots. Pure; fitted by `weir calibrate`, read from its file."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from math import exp

from msgspec import Struct

from gateway.confidence.features import NAMES, SECOND, VERSION, Evidence, features


class Scorer(Struct, frozen=True):
    """One task's model. All sequences of features are in the order of `names`."""

    names: Sequence[str]
    mean: Sequence[float]
    scale: Sequence[float]
    weights: Sequence[float]
    intercept: float
    knots: Sequence[tuple[float, float]] = ()
    """(logistic probability, calibrated probability), ascending in both; between them linear."""
    priors: Mapping[str, Mapping[str, float]] = {}
    """Task (tool's name, "" for an answer that is JSON) > field > how often right answers of the fitting set have it."""
    version: int = VERSION
    """Of the features that it was fitted on."""

    def probability(self, evidence: Evidence) -> float | None:
        """How likely the answer is right, in [0, 1]; None when it has no log-probabilities of tokens that were free, when this scorer
        `weighs` a second answer and there is none, or when it was fitted on features that are no longer made."""
        found = features(evidence, self.priors) if self.version == VERSION else None
        if found is None:
            return None
        by_name = dict(zip(NAMES + SECOND, found, strict=False))
        if not by_name.keys() >= set(self.names):
            return None
        return self.score([by_name[name] for name in self.names])

    @property
    def weighs(self) -> bool:
        """A second model's answer is part of what it knows by."""
        return not set(SECOND).isdisjoint(self.names)

    def score(self, row: Sequence[float]) -> float:
        """The probability for features in the order of `names`."""
        logit = self.intercept + sum(
            weight * (value - mean) / scale
            for weight, value, mean, scale in zip(self.weights, row, self.mean, self.scale, strict=True)
        )
        return along(self.knots, logistic(logit))


def logistic(value: float) -> float:
    """1 / (1 + e^-value), without overflow."""
    if value >= 0:
        return 1 / (1 + exp(-value))
    small = exp(max(value, -700.0))
    return small / (1 + small)


def along(knots: Sequence[tuple[float, float]], value: float) -> float:
    """Piecewise linear through the knots, constant beyond the outermost; `value` itself without knots. Of two knots at one place the
    second counts from there on."""
    if not knots:
        return value
    right = bisect_right(knots, value, key=lambda knot: knot[0])
    if right == 0:
        return knots[0][1]
    if right == len(knots):
        return knots[-1][1]
    (x0, y0), (x1, y1) = knots[right - 1], knots[right]
    return y0 + (y1 - y0) * (value - x0) / (x1 - x0)


def probability(evidence: Evidence, scorer: Scorer | None) -> float | None:
    """The rung's own probability where it has one (an encoder), else the scorer's; None when nobody knows.

    Of an answer with several choices each is judged alone; it is as sure as its least sure one.
    """
    if evidence.draft.probability is not None:
        return evidence.draft.probability
    return scorer.probability(evidence) if scorer is not None else None
