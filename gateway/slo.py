"""What a route is held to (`slo:`) > Prometheus rules, and how it stands. Pure.

    escalation_rate   escalated / (accepted + escalated)
    failures          5xx and broken answers / requests that came to the route

Alerts burn at several rates over two windows each: the long one says that it matters, the short one that it still goes on (Google's SRE
workbook, "Alerting on SLOs", table 5-8: 2 % of the budget in an hour and 5 % in six page, 10 % in one or three days make a ticket).
A share cannot pass 1. Where a target is so large that a burn rate would ask for that, the alert fires halfway between target and 1.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from gateway.record import Record
from gateway.settings.model import Slo

SLOS = ("escalation_rate", "failures")
HOUR = 3600.0
SECONDS = {"5m": 300.0, "30m": 1800.0, "1h": HOUR, "2h": 2 * HOUR, "6h": 6 * HOUR, "1d": 24 * HOUR, "3d": 72 * HOUR}
"""The windows of the recording rules."""
FEW = 10
"""Bad requests in the long window, below which no budget alert fires: one of three requests is no rate."""
RUNBOOKS = "docs/runbook"


class Burn(Struct, frozen=True):
    """`share` of the budget gone within the window `long`, and still going within `short`."""

    long: str
    short: str
    share: float
    severity: str

    def rate(self, days: int) -> float:
        """How many times faster than evenly over `days`."""
        return self.share * days * 24 * HOUR / SECONDS[self.long]


BURNS = (
    Burn("1h", "5m", 0.02, "page"),
    Burn("6h", "30m", 0.05, "page"),
    Burn("1d", "2h", 0.1, "ticket"),
    Burn("3d", "6h", 0.1, "ticket"),
)


class Objective(Struct, frozen=True):
    """One SLO as PromQL. bad, total: selectors of counters that both have a label `route`."""

    alert: str
    bad: str
    total: str
    series: str
    """Of the recording rules, up to the window."""
    what: str


OBJECTIVES: Mapping[str, Objective] = {
    "escalation_rate": Objective(
        "WeirEscalationBudget",
        'weir_requests_total{outcome="escalated"}',
        'weir_requests_total{outcome=~"accepted|escalated"}',
        "route:weir_escalation:ratio_",
        "escalates more than its SLO allows",
    ),
    "failures": Objective(
        "WeirFailureBudget",
        "weir_failures_total",
        'weir_requests_total{route!="none"}',
        "route:weir_failures:ratio_",
        "fails more than its SLO allows",
    ),
}


# -- rules


def rules(slos: Mapping[str, Slo], runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """A Prometheus rule file. runbooks: folder or URL before the pages' names."""
    return {
        "groups": [
            {"name": "weir-shares", "rules": recording()},
            {"name": "weir-slo", "rules": [a for name, slo in slos.items() for a in _budgets(name, slo, runbooks)]},
            {"name": "weir-health", "rules": [_alert(*told, runbooks) for told in HEALTH]},
        ]
    }


def recording() -> list[dict[str, Any]]:
    """What dashboards and alerts stand on."""
    found = [
        _record(f"{objective.series}{window}", _ratio(objective.bad, objective.total, window))
        for objective in OBJECTIVES.values()
        for window in SECONDS
    ]
    for window in ("5m", "1h", "1d"):
        calls = _ratio("weir_llm_requests_total", 'weir_requests_total{route!="none"}', window)
        found += [
            _record(f"route:weir_llm_calls:ratio_{window}", calls),
            _record(f"weir:llm_calls:ratio_{window}", calls.replace("sum by (route) ", "sum")),
            _record(
                f"weir:llm_spend:ratio_{window}",
                f"sum(rate(weir_llm_cost_usd_total[{window}])) / sum(rate(weir_cost_usd_total[{window}]))",
            ),
        ]
    for window in ("1h", "1d"):
        saved = f"(increase(weir_counterfactual_cost_usd_total[{window}]))"
        spent = f"(increase(weir_cost_usd_total[{window}]))"
        found.append(
            _record(f"route:weir_saved_usd:increase_{window}", f"sum by (route) {saved} - sum by (route) {spent}")
        )
    return [*found, *_wrong(), *_energy()]


def _energy() -> list[dict[str, Any]]:
    """What the cards of the gateways' machines took, idle or not, for each answer of a rung in the house. Nothing where no card counts. Two
    gateways on one machine tell of the same cards."""
    local = "max by (rung) (weir_backend_local)"
    return [
        _record(
            f"weir:joules_per_local_answer:ratio_{window}",
            f"sum(max by (uuid) (increase(weir_gpu_energy_joules_total[{window}]))) "
            f"/ (sum(sum by (rung) (increase(weir_served_total[{window}])) * on (rung) {local}) > 0)",
        )
        for window in ("1h", "1d")
    ]


def _wrong() -> list[dict[str, Any]]:
    """The accepted-wrong estimate, from three sides: what a judge thinks of a sample (`judged:`), what passes every check in shadow and
    differs from the large model's answer, and what failed a check after it had gone out (which sees the least: a lower bound)."""
    by = "sum by (route, rung) "

    def share(series: str, bad: str, all_: str) -> str:
        total = f'{by}(increase({series}{{result=~"{all_}"}}[1d]))'
        return f'({by}(increase({series}{{result="{bad}"}}[1d])) or {total} * 0) / ({total} > 0)'

    wrong, late = "route_rung:weir_accepted_wrong:ratio_1d", "sum by (route) (increase(weir_late_verdicts_total[1d]))"
    accepted = "sum by (route) (increase(weir_accepted_total[1d]))"
    return [
        _record(wrong, share("weir_judged_total", "wrong", "right|wrong"), by="judge"),
        _record(wrong, share("weir_shadow_accepted_total", "disagree", "agree|disagree"), by="shadow"),
        _record(wrong, f"({late} or {accepted} * 0) / ({accepted} > 0)", by="late"),
        _record(
            "route_rung:weir_expected_wrong:ratio_1d",
            f"{by}(increase(weir_expected_wrong_total[1d])) / ({by}(increase(weir_accepted_known_total[1d])) > 0)",
        ),
        _record(
            "route_rung:weir_shadow_agreement:ratio_1d", share("weir_shadow_total", "agree", "agree|disagree|invalid")
        ),
    ]


def _ratio(bad: str, total: str, window: str) -> str:
    """0 where nothing bad was ever counted, nothing where there were no requests."""
    every = f"sum by (route) (rate({total}[{window}]))"
    return f"(sum by (route) (rate({bad}[{window}])) or {every} * 0) / ({every} > 0)"


def _record(name: str, expr: str, **labels: str) -> dict[str, Any]:
    return {"record": name, "expr": expr, **({"labels": labels} if labels else {})}


def burns(slo: Slo) -> list[Burn]:
    """Those that fit into the SLO's window: over a week, three days at an even pace are no news."""
    return [burn for burn in BURNS if burn.rate(slo.days) >= 1 and SECONDS[burn.long] <= slo.days * 24 * HOUR / 2]


def limit(target: float, rate: float) -> float:
    """The share from which an alert of that burn rate fires."""
    return min(target * rate, (1 + target) / 2)


def _budgets(route: str, slo: Slo, runbooks: str) -> list[dict[str, Any]]:
    found = []
    for name, objective in OBJECTIVES.items():
        target: float | None = getattr(slo, name)
        if target is None:
            continue
        for severity in ("page", "ticket"):
            parts = [
                _burning(route, objective, burn, limit(target, burn.rate(slo.days)))
                for burn in burns(slo)
                if burn.severity == severity
            ]
            if parts:
                summary = f"route {route} {objective.what} ({target:g} over {slo.window})"
                found.append(
                    _alert(objective.alert, " or ".join(parts), "0s", severity, summary, runbooks, route=route)
                )
    return found


def _burning(route: str, objective: Objective, burn: Burn, share: float) -> str:
    mine = f'{{route="{route}"}}'
    bad = objective.bad
    bad = bad.replace("{", f'{{route="{route}",') if "{" in bad else bad + mine
    return (
        f"({objective.series}{burn.long}{mine} > {share:.6g} and {objective.series}{burn.short}{mine} > {share:.6g} "
        f"and sum by (route) (increase({bad}[{burn.long}])) >= {FEW})"
    )


def _alert(
    name: str, expr: str, wait: str, severity: str, summary: str, runbooks: str = RUNBOOKS, **labels: str
) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expr,
        "for": wait,
        "labels": {"severity": severity, **labels},
        "annotations": {"summary": summary, "runbook_url": f"{runbooks}/{name}.md"},
    }


HEALTH: Sequence[tuple[str, str, str, str, str]] = (
    ("WeirDown", 'up{job="weir"} == 0', "1m", "page", "{{ $labels.instance }} does not answer a scrape"),
    ("WeirEngineDown", "weir_engine_up == 0", "5m", "page", "local engine {{ $labels.engine }} does not answer"),
    (
        "WeirBackendUnavailable", "weir_backend_available == 0", "10m", "ticket",
        "rung {{ $labels.rung }} cannot be asked",
    ),
    ("WeirBreakerOpen", "weir_breaker_open > 0", "5m", "ticket", "replicas of {{ $labels.rung }} are passed over"),
    (
        "WeirPromiseBroken",
        'route_rung:weir_accepted_wrong:ratio_1d{by="judge"} > on (route, rung) group_left () '
        "max by (route, rung) (weir_promised_risk) and on (route, rung) "
        f'sum by (route, rung) (increase(weir_judged_total{{result="wrong"}}[1d])) >= {FEW}',
        "30m", "ticket", "{{ $labels.rung }} is wrong on route {{ $labels.route }} more often than promised",
    ),
    (
        "WeirCapabilityLost",
        'weir_capability{capability=~"schema|choice|regex"} == 0 and max_over_time(weir_capability[1d]) == 1',
        "10m", "ticket", "{{ $labels.backend }} no longer enforces {{ $labels.capability }}",
    ),
    (
        "WeirRouterFailing",
        'sum(rate(weir_router_errors_total{kind=~"error|timeout"}[10m])) '
        "/ sum(rate(weir_requests_total[10m])) > 0.05",
        "10m", "ticket", "the router fails or is late: requests go the default way",
    ),
    (
        "WeirSlow",
        'histogram_quantile(0.99, sum by (le) (rate(weir_request_seconds_bucket{stage="overhead"}[10m]))) > 0.1',
        "15m", "ticket", "1 in 100 requests waits more than 0.1 s for Weir itself",
    ),
    ("WeirBypassed", "weir_bypass == 1", "1h", "ticket", "{{ $labels.route }} has been bypassed for an hour"),
    (
        "WeirReloadRefused", 'increase(weir_config_reloads_total{result="failed"}[15m]) > 0', "0s", "ticket",
        "a changed configuration is wrong: the one before is in force",
    ),
    (
        "WeirRecordsDropped", "increase(weir_records_dropped_total[15m]) > 0", "0s", "ticket",
        "Records are not written to disk",
    ),
    (
        "WeirObserverErrors", "increase(weir_observer_errors_total[15m]) > 0", "0s", "ticket",
        "requests could not be counted",
    ),
)  # fmt: skip
"""name, expression, for, severity, summary."""


# -- how it stands


class Standing(Struct, frozen=True):
    """One SLO of one route."""

    route: str
    slo: str
    target: float
    days: int
    """The window; 0: since the gateway's start."""
    total: int
    bad: int
    burning: Mapping[str, float] = {}
    """Window > burn rate: 1 spends the budget evenly, 0 nothing."""

    @property
    def share(self) -> float | None:
        return self.bad / self.total if self.total else None

    @property
    def left(self) -> float | None:
        """Share of the budget that is left; negative: overspent."""
        return None if self.share is None else 1 - self.share / self.target

    @property
    def state(self) -> str:
        """quiet (no requests), ok, burning (a burn-rate alert would fire), spent."""
        if self.left is None:
            return "quiet"
        if self.left < 0:
            return "spent"
        slo = Slo(window=f"{self.days}d") if self.days else None
        fast = [
            all(
                self.burning[w] * self.target > limit(self.target, burn.rate(self.days))
                for w in (burn.long, burn.short)
            )
            for burn in (burns(slo) if slo else ())
            if burn.long in self.burning and burn.short in self.burning
        ]
        return "burning" if any(fast) else "ok"


def failure(record: Record) -> bool:
    """Did a request of a route fail, and not by the caller's fault?"""
    return bool(record.route) and record.outcome in ("refused", "failed") and record.status >= 500


def counts(record: Record, slo: str) -> tuple[bool, bool]:
    """(is it counted, is it bad) under an SLO."""
    if slo == "failures":
        return bool(record.route), failure(record)
    return record.outcome in ("accepted", "escalated"), record.outcome == "escalated"


def standing(records: Iterable[Record], slos: Mapping[str, Slo], now: float) -> list[Standing]:
    """By route and SLO, from Records in any order. now: Unix seconds."""
    seen: dict[tuple[str, str, str], list[int]] = {}
    for record in records:
        slo = slos.get(record.route)
        age = now - record.time
        if slo is None or not 0 <= age <= slo.days * 24 * HOUR:
            continue
        for name in SLOS:
            counted, wrong = counts(record, name)
            if not counted or getattr(slo, name) is None:
                continue
            for window in ("", *(window for window, seconds in SECONDS.items() if age <= seconds)):
                numbers = seen.setdefault((record.route, name, window), [0, 0])
                numbers[0] += 1
                numbers[1] += wrong
    found = []
    for route, slo in slos.items():
        for name in SLOS:
            target: float | None = getattr(slo, name)
            if target is not None:
                total, bad = seen.get((route, name, ""), (0, 0))
                found.append(Standing(route, name, target, slo.days, total, bad, _pace(seen, route, name, target)))
    return found


def _pace(seen: Mapping[tuple[str, str, str], Sequence[int]], route: str, slo: str, target: float) -> dict[str, float]:
    found = {window: seen.get((route, slo, window)) for window in SECONDS}
    return {window: numbers[1] / numbers[0] / target for window, numbers in found.items() if numbers}
