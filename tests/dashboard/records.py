"""Records for the tests of the page."""

from typing import Any

from gateway.record import AttemptRecord, Facts, Record, Seconds


def record(outcome: str = "accepted", **more: Any) -> Record:
    """A request of route `r`: `small` alone when accepted, `small` and then `cloud` when escalated, `cloud` alone otherwise."""
    small = AttemptRecord(0, "small", "delivered" if outcome == "accepted" else "rejected", seconds=0.02, cost=0.1)
    cloud = AttemptRecord(1, "cloud", "delivered", seconds=0.5, cost=1.0)
    attempts = {"accepted": [small], "escalated": [small, cloud], "refused": []}.get(outcome, [cloud])
    told: dict[str, Any] = {
        "id": "req_1",
        "time": 0.0,
        "outcome": outcome,
        "route": "r",
        "mode": "enforce",
        "reason": "matched",
        "facts": Facts(model="weir"),
        "attempts": attempts,
        "served": attempts[-1].rung if attempts else "",
        "top": "cloud",
        "escalation": "schema" if outcome == "escalated" else "",
        "cost": sum(attempt.cost for attempt in attempts),
        "counterfactual_cost": 1.0 if attempts else 0.0,
        "seconds": Seconds(total=0.5),
        **more,
    }
    return Record(**told)
