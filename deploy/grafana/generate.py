"""The dashboards as code: `python deploy/grafana/generate.py` writes `dashboards/*.json`, which Grafana is provisioned with.

A panel is a title, a kind, a unit and queries; where it stands follows from the order. `tests/live/test_prometheus.py` sends traffic
through a gateway and asks a real Prometheus every query: each must return something, and no series may be named that there is not.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
RATE = "[$__rate_interval]"
WIDTH = 24


class Panel(NamedTuple):
    """queries: PromQL > legend. kind: timeseries, stat, heatmap, table or bargauge. width: of 24 columns."""

    title: str
    queries: Mapping[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    about: str = ""
    most: float | None = None
    """Upper end of the axis."""
    stacked: bool = False


class Board(NamedTuple):
    uid: str
    title: str
    about: str
    rows: Mapping[str, Sequence[Panel]]
    variables: Sequence[str] = ()
    """Labels to choose from: route, rung."""


VARIABLES = {"route": "weir_requests_total", "rung": "weir_attempts_total"}
"""Label > a series that has it."""


def quantiles(series: str, by: str, matchers: str = "", shares: Iterable[float] = (0.5, 0.95)) -> dict[str, str]:
    """Of a histogram, split by label `by` ("" for none)."""
    labels, legend = ("le", "") if not by else (f"{by}, le", f"{{{{{by}}}}} ")
    return {
        f"histogram_quantile({share}, sum by ({labels}) (rate({series}_bucket{{{matchers}}}{RATE})))": f"{legend}p{share * 100:g}"
        for share in shares
    }


def rate(series: str, by: str, matchers: str = "") -> dict[str, str]:
    """Per second, split by labels `by`."""
    legend = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return {f"sum by ({by}) (rate({series}{{{matchers}}}{RATE}))": legend}


def split(matchers: str = "") -> Panel:
    """The way of a request through the gateway, stage after stage."""
    stages = f'{{stage=~"accept|parse|router|upstream|check|write"{matchers and f",{matchers}"}}}{RATE}'
    took, count = (f"sum by (stage) (rate(weir_request_seconds_{part}{stages}))" for part in ("sum", "count"))
    return Panel(
        "Mean request, by stage",
        {f"{took} / {count}": "{{stage}}"},
        "s",
        width=12,
        about="accept: from the request's head to its handler. parse: until it was read, admitted and understood. router, upstream "
        "(waiting for models), check. write: handing the answer to the server, which waits for a caller who reads slowly, while "
        "the upstream may go on: in a stream these two overlap.",
        stacked=True,
    )


def target(slo: str) -> str:
    return f'max by (route) (weir_slo_target{{slo="{slo}"}})'


OVERVIEW = Board(
    "weir-overview",
    "Weir: overview",
    "What share of the calls and of the money still goes to the large model, and at what price in quality.",
    {
        "Headline": [
            Panel(
                "LLM share of calls",
                {"weir:llm_calls:ratio_1h": ""},
                "percentunit",
                "stat",
                4,
                "(direct + escalated) / all, over an hour. The escalation rate alone can be gamed: it is 0 when everything goes "
                "up directly.",
                1,
            ),
            Panel(
                "LLM share of spend",
                {"weir:llm_spend:ratio_1h": ""},
                "percentunit",
                "stat",
                4,
                "USD of the top rungs / USD of all rungs, over an hour.",
                1,
            ),
            Panel(
                "Accepted and wrong",
                {"avg by (by) (route_rung:weir_accepted_wrong:ratio_1d)": "{{by}}"},
                "percentunit",
                "stat",
                6,
                "An estimate from three sides, over a day. judge: a larger model looked at a sample; shadow: passed every "
                "check and differed from the large model's answer; late: failed a check after it had gone out (a lower bound).",
            ),
            Panel("Saved in the last hour", {"sum(route:weir_saved_usd:increase_1h)": ""}, "currencyUSD", "stat", 4),
            Panel("In flight", {"sum(weir_in_flight)": "", "sum(weir_queue)": "off the path"}, "short", "stat", 3),
            Panel("Rungs available", {"avg(weir_backend_available)": ""}, "percentunit", "stat", 3, most=1),
        ],
        "Traffic": [
            Panel("Requests by outcome", rate("weir_requests_total", "outcome"), "reqps", stacked=True),
            Panel("Escalations by reason", rate("weir_escalations_total", "reason"), "reqps", stacked=True),
            Panel("Direct by reason", rate("weir_direct_total", "reason"), "reqps", stacked=True),
            Panel("Answers by rung", rate("weir_served_total", "rung"), "reqps", stacked=True),
            Panel(
                "LLM share over time",
                {"weir:llm_calls:ratio_5m": "of calls", "weir:llm_spend:ratio_5m": "of spend"},
                "percentunit",
                most=1,
            ),
            Panel("Errors by code", rate("weir_errors_total", "code"), "reqps", stacked=True),
        ],
        "SLOs": [
            Panel(
                "Escalation rate and target",
                {
                    "route:weir_escalation:ratio_1h": "{{route}}",
                    target("escalation_rate"): "{{route}} target",
                },
                "percentunit",
                most=1,
            ),
            Panel(
                "Failures and target",
                {
                    "route:weir_failures:ratio_1h": "{{route}}",
                    target("failures"): "{{route}} target",
                },
                "percentunit",
            ),
            Panel(
                "Burn rate over an hour",
                {
                    f"route:weir_escalation:ratio_1h / on (route) {target('escalation_rate')}": "{{route}} escalation",
                    f"route:weir_failures:ratio_1h / on (route) {target('failures')}": "{{route}} failures",
                },
                about="1 spends the budget evenly over the SLO's window.",
            ),
        ],
        "Weir itself": [
            split(),
            Panel("First byte by rung", quantiles("weir_first_byte_seconds", "rung"), "s", width=12),
            Panel("Overhead", quantiles("weir_request_seconds", "", 'stage="overhead"', (0.5, 0.95, 0.99)), "s"),
            Panel("Routing by tier", quantiles("weir_router_seconds", "tier"), "s"),
            Panel(
                "What went missing",
                {
                    f"sum(rate(weir_records_dropped_total{RATE}))": "Records",
                    f"sum(rate(weir_observer_errors_total{RATE}))": "not counted",
                    f"sum by (kind) (rate(weir_router_errors_total{RATE}))": "router: {{kind}}",
                },
                "ops",
            ),
            Panel("CPU", {f'sum by (instance) (rate(process_cpu_seconds_total{{job="weir"}}{RATE}))': "{{instance}}"}),
            Panel("Memory", {'sum by (instance) (process_resident_memory_bytes{job="weir"})': "{{instance}}"}, "bytes"),
            Panel(
                "Reloads and bypasses",
                {
                    "sum by (result) (increase(weir_config_reloads_total[$__range]))": "reload {{result}}",
                    "max by (route) (weir_bypass)": "bypass {{route}}",
                },
            ),
            Panel("Configuration in force", {"max by (hash) (weir_config_info)": "{{hash}}"}, kind="table", width=12),
            Panel("Version", {"max by (version) (weir_build_info)": "{{version}}"}, kind="table", width=12),
        ],
    },
)

MINE = 'route=~"$route"'
ROUTE = Board(
    "weir-route",
    "Weir: one route",
    "Why requests of a route go up the ladder, and whether what stays below is right.",
    {
        "Traffic": [
            Panel("Requests by outcome", rate("weir_requests_total", "outcome", MINE), "reqps", stacked=True),
            Panel("Escalations", rate("weir_escalations_total", "from, to, reason", MINE), "reqps", stacked=True),
            Panel("Attempts", rate("weir_attempts_total", "rung, outcome", MINE), "reqps", stacked=True),
            Panel(
                "LLM share of calls", {f"route:weir_llm_calls:ratio_5m{{{MINE}}}": "{{route}}"}, "percentunit", most=1
            ),
            Panel("Accepted by rung", rate("weir_accepted_total", "rung", MINE), "reqps"),
            Panel("Failures", rate("weir_failures_total", "route", MINE), "reqps"),
        ],
        "Is it right?": [
            Panel(
                "Risk: promised, expected, observed",
                {
                    f"max by (route, rung) (weir_promised_risk{{{MINE}}})": "{{route}} {{rung}} promised",
                    f"route_rung:weir_expected_wrong:ratio_1d{{{MINE}}}": "{{route}} {{rung}} expected",
                    f"route_rung:weir_accepted_wrong:ratio_1d{{{MINE}}}": "{{route}} {{rung}} {{by}}",
                },
                "percentunit",
                about="expected: what the probabilities of the accepted answers say. Observed above promised: recalibrate.",
            ),
            Panel(
                "Probability of small answers",
                {f"sum by (le) (increase(weir_confidence_bucket{{{MINE}}}[$__range]))": "{{le}}"},
                kind="bargauge",
            ),
            Panel(
                "Judged answers by probability",
                {
                    f"sum by (le, result) (increase(weir_judged_confidence_bucket{{{MINE}}}[$__range]))": "{{result}} up to {{le}}"
                },
                kind="bargauge",
            ),
            Panel(
                "Acceptance threshold",
                {f"max by (route, rung) (weir_acceptance_threshold{{{MINE}}})": "{{route}} {{rung}}"},
                most=1,
            ),
            Panel("Judged", rate("weir_judged_total", "rung, result", MINE), "reqps", stacked=True),
            Panel("Shadow", rate("weir_shadow_total", "rung, result", MINE), "reqps", stacked=True),
            Panel("Suspect answers", rate("weir_suspects_total", "rung, kind", MINE), "reqps"),
            Panel("Late verdicts", rate("weir_late_verdicts_total", "route, reason", MINE), "reqps"),
            Panel("Delivered unproven", rate("weir_degraded_total", "route", MINE), "reqps"),
        ],
        "Where the time goes": [
            Panel("95 of 100 by stage", quantiles("weir_request_seconds", "stage", MINE, (0.95,)), "s", width=12),
            Panel("First byte by rung", quantiles("weir_first_byte_seconds", "rung", MINE), "s", width=12),
            Panel("Early starts", rate("weir_speculations_total", "route, result", MINE), "reqps", width=12),
            split(MINE),
        ],
    },
    ("route",),
)

THIS = 'rung=~"$rung"'
BACKENDS = Board(
    "weir-backends",
    "Weir: backends and vLLM",
    "How the rungs answer, and how full their engines are.",
    {
        "Answers": [
            Panel("Attempts by outcome", rate("weir_attempts_total", "rung, outcome", THIS), "reqps", stacked=True),
            Panel(
                "Why they failed",
                rate("weir_attempts_total", "rung, reason", f'{THIS},reason!="none"'),
                "reqps",
                stacked=True,
            ),
            Panel("Available", {f"min by (rung) (weir_backend_available{{{THIS}}})": "{{rung}}"}, most=1),
            Panel("Seconds of an attempt", quantiles("weir_attempt_seconds", "rung", THIS), "s"),
            Panel("First token", quantiles("weir_first_token_seconds", "rung", THIS), "s"),
            Panel("Between two pieces", quantiles("weir_chunk_gap_seconds", "rung", THIS), "s"),
            Panel("Tokens", rate("weir_tokens_total", "rung, kind", THIS), "short", stacked=True),
            Panel("Tokens of answers that were not delivered", rate("weir_wasted_tokens_total", "rung", THIS)),
            Panel("Breaker: replicas passed over", {f"max by (rung) (weir_breaker_open{{{THIS}}})": "{{rung}}"}),
        ],
        "Engines (vLLM)": [
            Panel(
                "Running and waiting", {f"max by (rung, state) (weir_engine_requests{{{THIS}}})": "{{rung}} {{state}}"}
            ),
            Panel(
                "KV cache in use",
                {f"max by (rung) (weir_engine_kv_usage{{{THIS}}})": "{{rung}}"},
                "percentunit",
                most=1,
            ),
            Panel(
                "What they enforce",
                {'max by (backend, capability) (weir_capability{backend=~"$rung"})': "{{backend}} {{capability}}"},
                kind="table",
            ),
            Panel("Local engines up", {"min by (engine) (weir_engine_up)": "{{engine}}"}, most=1, width=12),
            Panel(
                "Local engines started again",
                {"sum by (engine) (increase(weir_engine_restarts_total[$__range]))": "{{engine}}"},
                width=12,
            ),
        ],
        "Energy (where NVML counts it)": [
            Panel(
                "Power of the GPUs",
                {f"max by (uuid, gpu) (rate(weir_gpu_energy_joules_total{RATE}))": "{{gpu}} {{uuid}}"},
                "watt",
                width=12,
                about="All that a card does: idle time, and whatever else runs on it.",
                stacked=True,
            ),
            Panel(
                "Joules per local answer",
                {
                    "weir:joules_per_local_answer:ratio_1h": "over an hour",
                    "weir:joules_per_local_answer:ratio_1d": "over a day",
                },
                "joule",
                width=12,
                about="Of all GPUs of the gateways' machines / answers of rungs in the house (not `cloud: true`).",
            ),
        ],
    },
    ("rung",),
)

MONEY = Board(
    "weir-money",
    "Weir: money",
    "What was spent, what it would have cost, and what was wasted. USD at the prices in the configuration.",
    {
        "Sums over the chosen time": [
            Panel("Spent", {"sum(increase(weir_cost_usd_total[$__range]))": ""}, "currencyUSD", "stat", 6),
            Panel(
                "The large model for everything",
                {"sum(increase(weir_counterfactual_cost_usd_total[$__range]))": ""},
                "currencyUSD",
                "stat",
                6,
            ),
            Panel(
                "Saved",
                {
                    "sum(increase(weir_counterfactual_cost_usd_total[$__range])) - sum(increase(weir_cost_usd_total[$__range]))": ""
                },
                "currencyUSD",
                "stat",
                6,
            ),
            Panel("LLM share of spend", {"weir:llm_spend:ratio_1d": ""}, "percentunit", "stat", 6, most=1),
        ],
        "Over time (USD a second)": [
            Panel("By route", rate("weir_cost_usd_total", "route"), "currencyUSD", stacked=True),
            Panel("By rung", rate("weir_cost_usd_total", "rung"), "currencyUSD", stacked=True),
            Panel(
                "Spent and counterfactual",
                {
                    f"sum(rate(weir_cost_usd_total{RATE}))": "spent",
                    f"sum(rate(weir_counterfactual_cost_usd_total{RATE}))": "the large model for everything",
                },
                "currencyUSD",
            ),
            Panel("Saved a day, by route", {"route:weir_saved_usd:increase_1d": "{{route}}"}, "currencyUSD"),
            Panel("On large models, by route", rate("weir_llm_cost_usd_total", "route"), "currencyUSD", stacked=True),
            Panel(
                "Beside the answers",
                {
                    **rate("weir_shadow_cost_usd_total", "rung"),
                    f"sum by (by) (rate(weir_judged_cost_usd_total{RATE}))": "judge {{by}}",
                    f"sum by (route) (rate(weir_speculation_wasted_usd_total{RATE}))": "early, {{route}}",
                },
                "currencyUSD",
                about="Shadowing, judging and early starts that were thrown away. The former two are in no other sum.",
            ),
        ],
        "Tokens": [
            Panel("By kind", rate("weir_tokens_total", "kind"), stacked=True, width=12),
            Panel("Wasted, by rung", rate("weir_wasted_tokens_total", "rung"), stacked=True, width=12),
        ],
    },
)

CONVERSION = Board(
    "weir-conversion",
    "Weir: conversion",
    "Where the next specialist is to be had: what spills, what small models would have said, and what a judge thinks.",
    {
        "What spills": [
            Panel(
                "Escalations by route and reason",
                rate("weir_escalations_total", "route, reason", MINE),
                "reqps",
                stacked=True,
            ),
            Panel(
                "Direct by route and reason", rate("weir_direct_total", "route, reason", MINE), "reqps", stacked=True
            ),
            Panel("Spent on large models", rate("weir_llm_cost_usd_total", "route", MINE), "currencyUSD", stacked=True),
        ],
        "What small models would have said": [
            Panel(
                "Agreement in shadow, over a day",
                {f"route_rung:weir_shadow_agreement:ratio_1d{{{MINE}}}": "{{route}} {{rung}}"},
                "percentunit",
                most=1,
            ),
            Panel(
                "Passed every check in shadow",
                rate("weir_shadow_accepted_total", "route, rung, result", MINE),
                "reqps",
                stacked=True,
            ),
            Panel("Judged", rate("weir_judged_total", "route, rung, result", MINE), "reqps", stacked=True),
            Panel("Suspect answers", rate("weir_suspects_total", "route, rung, kind", MINE), "reqps", width=12),
            Panel(
                "Accepted and wrong, over a day",
                {f"route_rung:weir_accepted_wrong:ratio_1d{{{MINE}}}": "{{route}} {{rung}} {{by}}"},
                "percentunit",
                width=12,
            ),
        ],
    },
    ("route",),
)

BOARDS = (OVERVIEW, ROUTE, BACKENDS, MONEY, CONVERSION)


def dashboard(board: Board) -> dict[str, Any]:
    """As Grafana (10 and later) reads it."""
    panels: list[dict[str, Any]] = []
    down = 0
    for title, row in board.rows.items():
        place = {"h": 1, "w": WIDTH, "x": 0, "y": down}
        panels.append({"type": "row", "title": title, "gridPos": place, "collapsed": False, "panels": []})
        down, across, height = down + 1, 0, 0
        for panel in row:
            if across + panel.width > WIDTH:
                down, across, height = down + height, 0, 0
            tall = 4 if panel.kind == "stat" else 8
            panels.append(_panel(panel, {"h": tall, "w": panel.width, "x": across, "y": down}))
            across, height = across + panel.width, max(height, tall)
        down += height
    for number, made in enumerate(panels, 1):
        made["id"] = number
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.about,
        "tags": ["weir"],
        "editable": False,
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "links": [{"type": "dashboards", "tags": ["weir"], "title": "Weir", "asDropdown": True, "keepTime": True}],
        "templating": {"list": [_source(), *map(_variable, board.variables)]},
        "panels": panels,
    }


def _source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}}


def _variable(label: str) -> dict[str, Any]:
    query = f"label_values({VARIABLES[label]}, {label})"
    everything = {"text": "All", "value": "$__all"}
    shared = {"datasource": SOURCE, "refresh": 2, "sort": 1, "multi": True, "includeAll": True, "allValue": ".+"}
    told = {"query": {"query": query, "refId": label}, "definition": query, "current": everything}
    return {"name": label, "label": label, "type": "query", **shared, **told}


def _panel(panel: Panel, place: Mapping[str, int]) -> dict[str, Any]:
    at_once = panel.kind in ("stat", "table", "bargauge")
    targets = [
        {
            "refId": chr(ord("A") + at),
            "datasource": SOURCE,
            "expr": expr,
            "legendFormat": legend or "__auto",
            "instant": at_once,
            "range": not at_once,
            **({"format": "table"} if panel.kind == "table" else {}),
        }
        for at, (expr, legend) in enumerate(panel.queries.items())
    ]
    custom: dict[str, Any] = {"fillOpacity": 10, "showPoints": "never"} if panel.kind == "timeseries" else {}
    if panel.stacked:
        custom |= {"stacking": {"mode": "normal"}, "fillOpacity": 30}
    ends = {"min": 0, **({"max": panel.most} if panel.most is not None else {})} if panel.kind != "table" else {}
    if "saved" in panel.title.lower():
        ends = {}  # may be below 0
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "gridPos": dict(place),
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": custom, **ends}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}} if panel.kind == "timeseries" else {},
    }


def written() -> dict[str, str]:
    """File name > text."""
    return {f"{board.uid}.json": json.dumps(dashboard(board), indent=1, sort_keys=True) + "\n" for board in BOARDS}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in written().items():
        (FOLDER / name).write_text(text)
