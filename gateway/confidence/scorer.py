"""Features > probability: a small logistic model per task, then isotonic knots. Pure; fitted by `weir calibrate`, read from its file."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from wire.types import Constraint, Draft, Json


class Evidence(Struct, frozen=True):
    """An answer and what it answers to: all that a probability may be made of."""

    draft: Draft
    constraint: Constraint | None = None
    tools: Mapping[str, Json | None] = {}
    """Tool > the JSON Schema of its parameters."""
    messages: Sequence[Json] = ()
    """The request's: values that stand in them verbatim are less likely made up."""


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

    def probability(self, evidence: Evidence) -> float | None:
        """How likely the answer is right, in [0, 1]; None when it has no log-probabilities of tokens that were free."""
        raise NotImplementedError


def probability(evidence: Evidence, scorer: Scorer | None) -> float | None:
    """The rung's own probability where it has one (an encoder), else the scorer's; None when nobody knows."""
    if evidence.draft.probability is not None:
        return evidence.draft.probability
    return scorer.probability(evidence) if scorer is not None else None
