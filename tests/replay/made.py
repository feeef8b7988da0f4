"""Hand-made Records and routes."""

from typing import Any

from gateway.decide import Route, Rung
from gateway.record import AttemptRecord, Facts, Record, VerdictRecord
from gateway.redecide import Terms
from gateway.validators.finished import Finished
from gateway.validators.fits_schema import FitsSchema
from gateway.validators.sure_enough import SureEnough
from wire.types import Price, Tokens

FITS = FitsSchema(FitsSchema.Config(kind="fits_schema"))
WHOLE = Finished(Finished.Config(kind="finished"))
SURE = SureEnough(SureEnough.Config(kind="sure_enough"))
PRICES = {"small": Price(1.0, 1.0, 1.0), "middle": Price(2.0, 2.0, 2.0), "large": Price(10.0, 10.0, 10.0)}
TOKENS = Tokens(input=900_000, output=100_000)
"""A million in all: costs are the prices."""


def intents(threshold: float | None = 0.9, ladder: tuple[str, ...] = ("small", "large"), **rest: Any) -> Route:
    """A route whose small rungs must be `threshold` sure."""
    rungs = [Rung(name, cloud=name == "large", threshold=threshold, paid=True) for name in ladder]
    return Route("intents", tuple(rungs), **{"mode": "enforce", "validators": (FITS, SURE), "risk": 0.01, **rest})


GENERAL = Route("general", (Rung("large", cloud=True),), mode="enforce", validators=(FITS,))


def terms(*routes: Route, **rest: Any) -> Terms:
    named = {route.name: route for route in (*(routes or (intents(),)), GENERAL)}
    return Terms(**{"routes": named, "default": "general", "prices": PRICES, "readers": True, **rest})


def tried(rung: str = "small", probability: float | None = 0.95, *, number: int = 0, **rest: Any) -> AttemptRecord:
    """An attempt whose answer went out."""
    verdicts = (VerdictRecord("fits_schema", "pass"), VerdictRecord("sure_enough", "pass"))
    given = {"outcome": "delivered", "verdicts": verdicts, "probability": probability, "seconds": 0.1, "cost": 1.0}
    return AttemptRecord(number, rung, tokens=TOKENS, **{**given, **rest})


def rejected(
    reason: str = "low_confidence", probability: float | None = 0.5, validator: str = "sure_enough"
) -> AttemptRecord:
    """A small rung's attempt that failed one check."""
    before = [VerdictRecord("fits_schema", "pass")] if validator == "sure_enough" else []
    failed = VerdictRecord(validator, "fail", reason, "a detail")
    return tried(probability=probability, outcome="rejected", reason=reason, verdicts=[*before, failed], threshold=0.9)


def top(number: int = 1, **rest: Any) -> AttemptRecord:
    verdicts = (VerdictRecord("fits_schema", "pass"),)
    return tried("large", None, number=number, **{"verdicts": verdicts, "seconds": 1.0, "cost": 10.0, **rest})


def record(*attempts: AttemptRecord, **rest: Any) -> Record:
    """Accepted from the small rung, by default, after the text reader scored it."""
    attempts = attempts or (tried(),)
    given: dict[str, Any] = {
        "id": "r1",
        "time": 1.7e9,
        "outcome": "accepted",
        "route": "intents",
        "mode": "enforce",
        "reason": "matched",
        "facts": Facts(model="gpt-5", text_chars=20, chars=50),
        "score": 0.8,
        "scores": {"intents": 0.8},
        "out_of_scope": 0.2,
        "router": "embedding",
        "attempts": attempts,
        "served": attempts[-1].rung if attempts[-1].outcome == "delivered" else "",
        "top": "large",
        "tokens": TOKENS,
        "cost": sum(attempt.cost for attempt in attempts),
        "counterfactual_cost": 10.0,
    }
    return Record(**{**given, **rest})


def escalated(first: AttemptRecord | None = None, **rest: Any) -> Record:
    first = first or rejected()
    return record(first, top(), **{"outcome": "escalated", "escalation": first.reason, **rest})
