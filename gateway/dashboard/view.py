"""What the page is told, as JSON values. Pure: a Window, a Setup and curves in, tables out.

Names of configurations, hashes, scores, seconds and money only. What a caller chose (the requested model's name) is cut to LONGEST
characters, and the page shows it as text, never as markup.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from backends.base import CAPABILITIES, Backend, facts
from gateway.confidence.calibration import Calibration
from gateway.dashboard.data import STEP as SECONDS
from gateway.dashboard.data import Bucket, Rates, Sums, Window, latencies, rates, total
from gateway.decide import Route, Rung
from gateway.record import Record
from gateway.setup import Setup
from gateway.turning import turning_points

LONGEST = 80
POINTS = 60
"""Of a calibration curve, as drawn."""


def frame(
    window: Window,
    setup: Setup,
    now: float,
    *,
    scope: str,
    process: int,
    in_flight: int,
    per_second: float,
    bypassed: Iterable[str],
    seen: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    """The state of the page. now: Unix seconds. scope: of which processes, in words ("" when there is one only). process: the id of the one
    that tells it. seen: backend > how all processes see it; one that is not in there is as this Setup has it."""
    buckets = window.buckets(now)
    whole = total(bucket.all for bucket in buckets if bucket is not None)
    return {
        "at": int(now // SECONDS) * SECONDS,
        "step": SECONDS,
        "started": window.start,
        "scope": scope,
        "process": process,
        "version": setup.version,
        "config": setup.digest,
        "bypass": sorted(bypassed),
        "warnings": len(setup.warnings),
        "in_flight": in_flight,
        "per_second": round(per_second, 2),
        "now": _told(rates(whole)),
        "ever": _told(rates(window.ever)),
        "series": series(buckets),
        "rungs": [
            {"name": one.rung, "count": one.count, "p50": round(one.p50, 5), "p95": round(one.p95, 5)}
            for one in latencies(buckets)
        ],
        "routes": [_route(setup, route, buckets) for route in setup.routes.values()],
        "backends": [seen.get(row["name"], row) for row in backends(setup)],
        "last": [row(record) for record in reversed(window.last)],
    }


def backends(setup: Setup) -> list[dict[str, Any]]:
    """How this process sees them, in the order of the configuration."""
    return [_backend(rung, setup.backends[name]) for name, rung in setup.rungs.items()]


def series(buckets: list[Bucket | None]) -> dict[str, Any]:
    """Per bucket: how many were answered by whom, escalations by reason, and USD."""
    empty = Sums()
    sums = [bucket.all if bucket is not None else empty for bucket in buckets]
    reasons = sorted({reason for one in sums for reason in one.reasons})

    def count(*names: str) -> list[int]:
        return [sum(one.outcomes.get(name, 0) for name in names) for one in sums]

    return {
        "accepted": count("accepted", "degraded"),
        "escalated": count("escalated"),
        "direct": count("direct", "straight"),
        "unanswered": count("refused", "failed", "cancelled"),
        "reasons": {reason: [one.reasons.get(reason, 0) for one in sums] for reason in reasons},
        "saved": [round(one.counterfactual - one.cost, 8) for one in sums],
    }


def row(record: Record) -> dict[str, Any]:
    """One line of the last decisions."""
    return {
        "id": record.id,
        "time": record.time,
        "route": record.route,
        "outcome": record.outcome,
        "served": record.served,
        "why": record.escalation or record.error or record.reason,
        "attempts": len(record.attempts),
        "seconds": round(record.seconds.total, 5),
        "cost": record.cost,
        "saved": record.counterfactual_cost - record.cost,
        "status": record.status,
    }


def decision(record: Record) -> dict[str, Any]:
    """All that is known of one request, and what would have changed it."""
    told = msgspec.to_builtins(record)
    told["facts"]["model"] = record.facts.model[:LONGEST]
    return {"record": told, "would_change": turning_points(record)}


def curve(found: Calibration, rung: Rung, route: Route) -> dict[str, Any]:
    """A calibration as the page draws it: coverage against the bound that is held against the promise."""
    step = max(1, len(found.curve) // POINTS)
    picked = [*found.curve[::step], found.curve[-1]]
    at = found.at(rung.threshold) if rung.threshold is not None else None
    return {
        "route": route.name,
        "rung": rung.name,
        "risk": route.risk,
        "threshold": rung.threshold,
        "coverage": at.coverage if at else None,
        "bound": at.bound if at else None,
        "bound_of": "regret of all requests" if found.version > 1 else "errors among the accepted",
        "size": found.size,
        "created": found.created,
        "digest": found.digest,
        "curve": [[round(point.coverage, 5), round(point.bound, 6)] for point in picked],
    }


def _told(found: Rates) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(found)
    return {name: round(value, 8) if isinstance(value, float) else value for name, value in told.items()}


def _route(setup: Setup, route: Route, buckets: list[Bucket | None]) -> dict[str, Any]:
    found = rates(total(b.routes[route.name] for b in buckets if b is not None and route.name in b.routes))
    slo = setup.settings.routes[route.name].slo
    return {
        "name": route.name,
        "default": route.name == setup.default,
        "mode": route.mode,
        "ladder": [rung.name for rung in route.ladder],
        "shadowed": [rung.name for rung in route.shadowed],
        "risk": route.risk,
        "slo": slo.model_dump(mode="json", exclude_none=True) if slo else None,
        "requests": found.requests,
        "accepted": found.accepted,
        "escalated": found.escalated,
        "llm_calls": found.llm_calls,
        "escalation": found.escalation,
        "unanswered": found.unanswered,
        "saved": round(found.counterfactual - found.cost, 8),
    }


def _backend(rung: Rung, backend: Backend) -> dict[str, Any]:
    """As `/readyz` tells it, in the words of a table."""
    unready = str(getattr(backend, "unready", "") or "")
    known = facts(backend)
    ledger: Mapping[str, str] = getattr(backend, "ledger", {}) or {}
    replicas = known.get("replicas", ())
    return {
        "name": rung.name,
        "cloud": rung.cloud,
        "available": not rung.missing and not unready,
        "why": f"set {rung.missing}" if rung.missing else unready[: 4 * LONGEST],
        "model": str(known.get("model") or rung.digest)[:LONGEST],
        "replicas": [_replica(one) for one in replicas if isinstance(one, Mapping)],
        "ledger": [[name, ledger[name]] for name in CAPABILITIES if name in ledger],
        "view": "",
        "ledger_of": "",
    }


def _replica(told: Mapping[str, Any]) -> dict[str, Any]:
    return {key: told[key] for key in ("url", "seen", "version", "running", "waiting", "kv") if key in told}
