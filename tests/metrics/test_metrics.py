"""gateway.metrics: a Record becomes numbers, and never a new label."""

import math
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from gateway.decide import REASONS as DECISIONS
from gateway.metrics import (
    ATTEMPT_OUTCOMES,
    ERROR_CODES,
    MODES,
    OUTCOMES,
    REASONS,
    Finding,
    Held,
    Metrics,
    escalations,
    kinds,
)
from gateway.metrics.counting import TOGETHER
from gateway.metrics.family import Family
from gateway.metrics.labels import STAGES
from gateway.record import AttemptRecord, Facts, JudgedRecord, Record, Seconds, ShadowRecord
from gateway.suspects import KINDS as SUSPECTS
from wire.types import Tokens

ROUTES, RUNGS = ("intents", "general"), ("slm", "mid", "llm")


def attempt(rung: str, outcome: Any = "delivered", **more: Any) -> AttemptRecord:
    return AttemptRecord(number=1, rung=rung, outcome=outcome, **more)


def record(*attempts: AttemptRecord, **more: Any) -> Record:
    base: dict[str, Any] = {
        "id": "r", "time": 0.0, "outcome": "accepted", "route": "intents", "mode": "enforce", "reason": "matched",
        "facts": Facts(model="m"), "top": "llm", "attempts": attempts,
    }  # fmt: skip
    return Record(**{**base, **more})


def made() -> Metrics:
    return Metrics(ROUTES, RUNGS, version="1")


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def series(metrics: Metrics) -> set[tuple[str, ...]]:
    """Every line of the page without its number; without the process's own."""
    lines = metrics.render().decode().splitlines()
    return {(line.rpartition(" ")[0],) for line in lines if line.startswith("weir_")}


SPILL = record(
    attempt("slm", "rejected", reason="low_confidence", seconds=0.1, tokens=Tokens(input=100, cached_input=40, output=9),
            probability=0.4, cost=0.001),
    attempt("llm", start=0.2, seconds=1.0, tokens=Tokens(input=100, output=20), cost=0.02),
    outcome="escalated", served="llm", escalation="low_confidence", counterfactual_cost=0.02,
    seconds=Seconds(total=1.5, router=0.001, upstream=1.1, check=0.002, first_byte=1.4),
)  # fmt: skip


def test_a_spill_is_counted_with_from_to_and_why() -> None:
    """One rejected small rung and one delivered top rung: every series says so."""
    metrics = made()
    metrics.observe([SPILL])
    expected = {
        ("weir_requests_total", "intents", "escalated", "enforce"): ("route", "outcome", "mode"),
        ("weir_escalations_total", "intents", "slm", "llm", "low_confidence"): ("route", "from", "to", "reason"),
        ("weir_attempts_total", "intents", "slm", "rejected", "low_confidence"): ("route", "rung", "outcome", "reason"),
        ("weir_attempts_total", "intents", "llm", "delivered", "none"): ("route", "rung", "outcome", "reason"),
        ("weir_served_total", "intents", "llm"): ("route", "rung"),
        ("weir_first_byte_seconds_count", "intents", "llm"): ("route", "rung"),
        ("weir_attempt_seconds_count", "slm"): ("rung",),
        ("weir_confidence_count", "intents"): ("route",),
    }
    for (name, *labels), names in expected.items():
        assert value(metrics, name, **dict(zip(names, labels, strict=True))) == 1, name
    assert value(metrics, "weir_accepted_total", route="intents", rung="llm") == 0
    assert value(metrics, "weir_tokens_total", rung="slm", kind="input") == 60
    assert value(metrics, "weir_tokens_total", rung="slm", kind="cached_input") == 40
    assert value(metrics, "weir_tokens_total", rung="llm", kind="output") == 20
    assert value(metrics, "weir_wasted_tokens_total", rung="slm") == 109
    assert value(metrics, "weir_wasted_tokens_total", rung="llm") == 0
    assert value(metrics, "weir_cost_usd_total", route="intents", rung="llm") == pytest.approx(0.02)
    assert value(metrics, "weir_counterfactual_cost_usd_total", route="intents") == pytest.approx(0.02)
    stages = {"router": 0.001, "upstream": 1.1, "check": 0.002, "total": 1.5, "overhead": 0.4}
    for stage, seconds in stages.items():
        assert value(metrics, "weir_request_seconds_sum", route="intents", stage=stage) == pytest.approx(seconds)


def test_accepted_direct_degraded_and_failed_are_told_apart() -> None:
    """Degraded is never accepted; direct has its reason; an error has its code; a late verdict has its own series."""
    metrics = made()
    metrics.observe([record(attempt("slm"), served="slm", late_verdict="schema")])
    metrics.observe([record(attempt("llm"), outcome="direct", direct=True, reason="out_of_scope", served="llm")])
    metrics.observe([record(attempt("slm", "rejected", reason="schema"), outcome="degraded", served="slm")])
    metrics.observe([record(outcome="refused", status=503, error="escalation_unavailable", reason="router_timeout")])
    assert value(metrics, "weir_accepted_total", route="intents", rung="slm") == 1
    assert value(metrics, "weir_late_verdicts_total", route="intents", reason="schema") == 1
    assert value(metrics, "weir_direct_total", route="intents", reason="out_of_scope") == 1
    assert value(metrics, "weir_degraded_total", route="intents") == 1
    assert value(metrics, "weir_errors_total", code="escalation_unavailable") == 1
    assert value(metrics, "weir_router_errors_total", kind="timeout") == 1
    assert value(metrics, "weir_router_errors_total", kind="error") == 0


@pytest.mark.parametrize(
    ("attempts", "spills"),
    [
        ((), []),
        ((attempt("slm"),), []),
        ((attempt("slm", "rejected", reason="schema"),), []),
        ((attempt("llm", "error", reason="timeout"), attempt("llm", start=1.0)), []),
        (
            (attempt("slm", "error", reason="overload", seconds=0.1), attempt("slm", start=0.2)),
            [],
        ),
        (
            (
                attempt("slm", "error", reason="overload", seconds=0.1),
                attempt("slm", "rejected", reason="schema", start=0.1, seconds=0.1),
                attempt("llm", start=0.2),
            ),
            [("slm", "llm", "schema")],
        ),
        (
            (
                attempt("slm", "rejected", reason="schema", seconds=0.1),
                attempt("mid", "rejected", reason="refused", start=0.1, seconds=0.1),
                attempt("llm", start=0.2),
            ),
            [("slm", "mid", "schema"), ("mid", "llm", "refused")],
        ),
        (  # side by side: neither is the other's way up
            (
                attempt("slm", "rejected", reason="schema", seconds=0.5),
                attempt("mid", "rejected", reason="refused", start=0.01, seconds=0.5),
                attempt("llm", start=0.6),
            ),
            [("slm", "llm", "schema"), ("mid", "llm", "refused")],
        ),
        (  # the top rung was started ahead and then needed
            (attempt("slm", "rejected", reason="schema", seconds=0.5), attempt("llm", start=0.1)),
            [("slm", "llm", "schema")],
        ),
    ],
)
def test_an_escalation_is_a_failure_followed_by_a_higher_rung(
    attempts: tuple[AttemptRecord, ...], spills: list[tuple[str, str, str]]
) -> None:
    """Rejected and nothing asked after it is none; a retry of the same rung is none; each spill counts once."""
    assert escalations(record(*attempts)) == spills


junk = st.text(max_size=20)
attempts_of_junk = st.builds(
    AttemptRecord,
    number=st.integers(),
    rung=junk,
    outcome=junk,
    reason=junk,
    probability=st.none() | st.floats(),
    tokens=st.builds(Tokens, input=st.integers(), cached_input=st.integers(), output=st.integers()),
    cost=st.floats(),
    seconds=st.floats(),
    start=st.floats(),
)
records_of_junk = st.builds(
    Record,
    id=junk, time=st.floats(), outcome=junk, route=junk, mode=junk, reason=junk, facts=st.just(Facts(model="m")),
    direct=st.booleans(), attempts=st.lists(attempts_of_junk, max_size=3), served=junk, error=junk, late_verdict=junk,
    tenant=junk, top=junk, cost=st.floats(), counterfactual_cost=st.floats(),
)  # fmt: skip


@given(st.lists(records_of_junk, max_size=3))
def test_nothing_in_a_record_raises_or_mints_a_label(records: list[Record]) -> None:
    """The storm: whatever names and numbers come, label values are the configured ones, the closed lists, other or none."""
    metrics = made()
    for each in records:
        metrics.observe([each])
    known = {
        *ROUTES, *RUNGS, *REASONS, *DECISIONS, *ERROR_CODES, *MODES, *OUTCOMES, *ATTEMPT_OUTCOMES, "other", "none", "1",
        *STAGES, *SUSPECTS, "ok", "failed", "all", "error", "timeout", "input", "cached_input", "output",
    }  # fmt: skip
    for family in metrics.registry.collect():
        for sample in family.samples:
            assert {v for k, v in sample.labels.items() if k != "le"} <= known
            assert math.isfinite(sample.value), sample
    assert value(metrics, "weir_observer_errors_total") == 0


names_of_ours = st.sampled_from(["", "intents", "general", "slm", "llm", "error: x", "rules"])
amounts = st.sampled_from([0.0, 0.003, 0.9, 2.0])
attempts_of_ours = st.builds(
    AttemptRecord,
    number=st.just(0), rung=st.sampled_from(RUNGS), outcome=st.sampled_from(ATTEMPT_OUTCOMES),
    reason=st.sampled_from(["", "schema"]), probability=st.none() | amounts, start=amounts, seconds=amounts,
    first_seconds=st.none() | amounts, chunks=st.sampled_from([0, 1, 3]), purpose=st.sampled_from(["", "early"]),
    tokens=st.builds(Tokens, input=st.sampled_from([0, 8]), cached_input=st.sampled_from([0, 2]), output=st.sampled_from([0, 1])),
    cost=amounts,
)  # fmt: skip
records_of_ours = st.builds(
    Record,
    id=st.just("r"), time=st.just(0.0), outcome=st.sampled_from(OUTCOMES), route=st.sampled_from(["", *ROUTES, "gone"]),
    mode=st.sampled_from(MODES[-2:]), reason=st.sampled_from(["matched", "router_error"]), facts=st.just(Facts(model="m")),
    direct=st.booleans(), router=names_of_ours, router_errors=st.sampled_from([(), ("rules",)]),
    attempts=st.lists(attempts_of_ours, max_size=2), served=st.sampled_from(["", *RUNGS]), status=st.sampled_from([200, 503]),
    error=st.sampled_from(["", "overloaded"]), speculation=st.sampled_from(["", "used", "wasted"]),
    late_verdict=st.sampled_from(["", "schema"]), top=st.sampled_from(["", "llm"]), counterfactual_cost=amounts,
    seconds=st.builds(Seconds, total=amounts, upstream=amounts, first_byte=st.none() | amounts, accept=st.none() | amounts),
)  # fmt: skip


def counts(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """What was counted, by series; of the process nothing, nor when a series began."""
    return {
        (sample.name, *map(str, sorted(sample.labels.items()))): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if family.type in ("counter", "histogram") and not sample.name.startswith("process") and "_created" not in sample.name
    }  # fmt: skip


@settings(max_examples=60)
@given(st.lists(records_of_ours, min_size=1, max_size=8), st.integers(0, 8))
def test_what_is_remembered_of_a_kind_changes_no_count(records: list[Record], cut: int) -> None:
    """A registry that has seen all of them, in one batch or two, counts what registries have counted that saw one each: two Records that
    are not of one kind never share its children."""
    whole, summed = made(), counts(made())
    whole.observe(records[:cut])
    whole.observe(records[cut:])
    for each in records:
        alone = made()
        alone.observe([each])
        for name, number in counts(alone).items():
            summed[name] = summed.get(name, 0.0) + number
    assert value(whole, "weir_observer_errors_total") == 0
    assert counts(whole) == pytest.approx(summed)


def test_a_storm_of_names_leaves_series_and_memory_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first unknown name, 2,000 others add no series; of their kinds no more are remembered than the bound says."""
    monkeypatch.setattr(kinds, "KINDS", 50)
    metrics = made()

    def storm(n: int) -> Record:
        name = f"junk-{n}"
        tries = (attempt(name, "rejected", reason=name, seconds=0.1, probability=0.5, tokens=Tokens(input=1)),
                 attempt(f"{name}-up", name, start=1.0, cost=0.1))  # fmt: skip
        return record(*tries, route=name, outcome=name, mode=name, reason=name, direct=True, served=name, error=name,
                      late_verdict=name, tenant=name, top=f"{name}-up", router=name,
                      facts=Facts(model=name, session=name, text_hash="t", retries=1, tool_error=True))  # fmt: skip

    metrics.observe([storm(0)])
    before = series(metrics)
    families = [family for family in vars(metrics.series).values() if isinstance(family, Family)]
    kept = sum(map(len, families))
    assert len(families) > 40
    for n in range(1, 2000):
        metrics.observe([storm(n)])
    assert series(metrics) == before
    assert sum(map(len, families)) == kept
    assert len(metrics.counting._of_requests) <= 50
    assert len(metrics.counting._of_attempts) <= 50
    assert value(metrics, "weir_requests_total", route="other", outcome="other", mode="other") == 2000
    assert value(metrics, "weir_observer_errors_total") == 0


def test_what_cannot_be_counted_is_counted_as_that() -> None:
    """An observer that chokes raises nothing and says so in its own series."""
    metrics = made()
    metrics.observe([None, record(served="slm")])  # type: ignore[list-item]
    metrics.observe([record(route=["no", "name"])])
    assert value(metrics, "weir_observer_errors_total") == 2


def test_one_record_that_cannot_be_counted_takes_none_with_it() -> None:
    """Many are counted at once: what is no number in one of them leaves that one out, and no other."""
    metrics = made()
    poisoned = record(attempt("slm", seconds="x"))
    metrics.observe([record(attempt("slm", seconds=0.5)), poisoned, record(attempt("slm", seconds=0.25))])
    assert value(metrics, "weir_attempts_total", route="intents", rung="slm", outcome="delivered", reason="none") == 2
    assert value(metrics, "weir_attempt_seconds_count", rung="slm") == 2
    assert value(metrics, "weir_observer_errors_total") == 1
    metrics.observe([poisoned])
    assert value(metrics, "weir_observer_errors_total") == 2


def test_the_page_says_what_the_library_says() -> None:
    """`render` equals prometheus_client's own page, line for line, but for the OpenMetrics `_created` lines."""
    metrics = Metrics(('quo"te', "back\\slash", "new\nline"), RUNGS)
    for route in ('quo"te', "back\\slash", "new\nline"):
        metrics.observe([record(attempt("slm", probability=0.3), served="slm", route=route)])
    metrics.config("abc")
    metrics.available("slm", True)
    for _ in range(2):  # the second time from the kept text
        mine = list(text_string_to_metric_families(metrics.render().decode()))
        theirs = list(text_string_to_metric_families(generate_latest(metrics.registry).decode()))
        told = {(s.name, *sorted(s.labels.items())): s.value for f in mine for s in f.samples}
        want = {(s.name, *sorted(s.labels.items())): s.value for f in theirs for s in f.samples}
        want = {key: number for key, number in want.items() if not str(key[0]).endswith("_created")}
        assert set(told) == set(want)
        for key, number in want.items():
            if not str(key[0]).startswith("process_"):
                assert told[key] == number, key
        types = {f.name: f.type for f in theirs if not f.name.endswith("_created")}
        assert {f.name: f.type for f in mine} == types


def test_series_have_the_promised_names_and_labels() -> None:
    """Names and labels are an interface: dashboards and alerts stand on them."""
    metrics = made()
    shown = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics.registry.collect()
        if family.name.startswith("weir_")
    }
    labels = {
        name: tuple(collector._labelnames)
        for collector, names in metrics.registry._collector_to_names.items()
        for name in names
        if name in shown and isinstance(collector, MetricWrapperBase)
    }
    assert set(labels) == shown
    assert labels == {
        "weir_requests_total": ("route", "outcome", "mode"),
        "weir_capability": ("backend", "capability"),
        "weir_direct_total": ("route", "reason"),
        "weir_shadow_total": ("route", "rung", "result"),
        "weir_shadow_cost_usd_total": ("route", "rung"),
        "weir_judged_total": ("route", "rung", "result"),
        "weir_judged_cost_usd_total": ("route", "by"),
        "weir_escalations_total": ("route", "from", "to", "reason"),
        "weir_attempts_total": ("route", "rung", "outcome", "reason"),
        "weir_accepted_total": ("route", "rung"),
        "weir_llm_requests_total": ("route",),
        "weir_llm_cost_usd_total": ("route",),
        "weir_failures_total": ("route",),
        "weir_speculation_wasted_usd_total": ("route",),
        "weir_suspects_total": ("route", "rung", "kind"),
        "weir_shadow_accepted_total": ("route", "rung", "result"),
        "weir_expected_wrong_total": ("route", "rung"),
        "weir_accepted_known_total": ("route", "rung"),
        "weir_judged_confidence": ("route", "result"),
        "weir_router_seconds": ("tier",),
        "weir_first_token_seconds": ("rung",),
        "weir_chunk_gap_seconds": ("rung",),
        "weir_queue": ("queue",),
        "weir_engine_requests": ("rung", "state"),
        "weir_engine_kv_usage": ("rung",),
        "weir_breaker_open": ("rung",),
        "weir_slo_target": ("route", "slo"),
        "weir_promised_risk": ("route", "rung"),
        "weir_acceptance_threshold": ("route", "rung"),
        "weir_served_total": ("route", "rung"),
        "weir_degraded_total": ("route",),
        "weir_late_verdicts_total": ("route", "reason"),
        "weir_speculations_total": ("route", "result"),
        "weir_backend_local": ("rung",),
        "weir_gpu_energy_joules_total": ("gpu", "uuid"),
        "weir_engine_up": ("engine",),
        "weir_engine_restarts_total": ("engine",),
        "weir_errors_total": ("code",),
        "weir_tokens_total": ("rung", "kind"),
        "weir_wasted_tokens_total": ("rung",),
        "weir_cost_usd_total": ("route", "rung"),
        "weir_counterfactual_cost_usd_total": ("route",),
        "weir_router_errors_total": ("kind",),
        "weir_records_dropped_total": (),
        "weir_trace_spans_dropped_total": (),
        "weir_response_store_total": ("op", "result"),
        "weir_observer_errors_total": (),
        "weir_config_reloads_total": ("result",),
        "weir_request_seconds": ("route", "stage"),
        "weir_first_byte_seconds": ("route", "rung"),
        "weir_attempt_seconds": ("rung",),
        "weir_confidence": ("route",),
        "weir_in_flight": (),
        "weir_bypass": ("route",),
        "weir_backend_available": ("rung",),
        "weir_config_info": ("hash",),
        "weir_build_info": ("version",),
    }


def test_gauges_and_the_rest_that_is_no_record() -> None:
    """In flight, bypass, rungs, reloads, drops, and errors that have no Record."""
    metrics = made()
    metrics.in_flight(lambda: 1)
    metrics.bypass("intents", True)
    metrics.bypass("all", True)
    metrics.available("slm", True)
    metrics.available("slm", False)
    metrics.reloaded(False)
    metrics.dropped(3)
    metrics.spans_dropped(2)
    metrics.error("invalid_json")
    metrics.error("made-up")
    assert value(metrics, "weir_in_flight") == 1
    assert value(metrics, "weir_bypass", route="intents") == 1
    assert value(metrics, "weir_bypass", route="all") == 1
    assert metrics.registry.get_sample_value("weir_backend_available", {"rung": "slm"}) == 0
    assert value(metrics, "weir_config_reloads_total", result="failed") == 1
    assert value(metrics, "weir_records_dropped_total") == 3
    assert value(metrics, "weir_trace_spans_dropped_total") == 2
    assert value(metrics, "weir_errors_total", code="invalid_json") == 1
    assert value(metrics, "weir_errors_total", code="other") == 1


def test_only_the_configuration_in_force_is_shown() -> None:
    """Reloads do not pile up hashes: neither on the page nor in what the page remembers."""
    metrics = made()
    metrics.render()
    kept = sum(map(len, metrics._starts.values()))
    for n in range(50):
        metrics.config(f"hash-{n}")
        metrics.render()
    assert metrics.render().decode().count("weir_config_info{") == 1
    assert metrics.registry.get_sample_value("weir_config_info", {"hash": "hash-49"}) == 1
    assert sum(map(len, metrics._starts.values())) == kept


def test_a_reload_admits_new_names_and_keeps_old_counts() -> None:
    """A route that the new configuration names gets its series; the old one's count stays."""
    metrics = made()
    metrics.observe([record(attempt("slm"), served="slm")])
    metrics.observe([record(route="fresh")])
    metrics.reconfigure(["fresh"], ["tiny"])
    metrics.observe([record(attempt("tiny"), served="tiny", route="fresh")])
    metrics.observe([record(route="fresh")])  # of a kind that was seen when its route was none
    assert value(metrics, "weir_requests_total", route="intents", outcome="accepted", mode="enforce") == 1
    assert value(metrics, "weir_requests_total", route="other", outcome="accepted", mode="enforce") == 1
    assert value(metrics, "weir_requests_total", route="fresh", outcome="accepted", mode="enforce") == 2
    assert value(metrics, "weir_served_total", route="fresh", rung="tiny") == 1


def test_the_page_may_be_rendered_while_others_count() -> None:
    """`render` in threads beside `observe`: no error, and the last page has the whole count."""
    metrics, errors = made(), []

    def scrape() -> None:
        try:
            for _ in range(20):
                metrics.render()
        except Exception as exc:
            errors.append(exc)

    threads = [threading.Thread(target=scrape) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(500):
        metrics.observe([record(attempt(RUNGS[n % 3]), served=RUNGS[n % 3], route=ROUTES[n % 2])])
    for thread in threads:
        thread.join(30)
    assert not errors
    total = sum(value(metrics, "weir_requests_total", route=r, outcome="accepted", mode="enforce") for r in ROUTES)
    assert total == 500


def test_what_rungs_enforce() -> None:
    """Asked for each page; what is unknown has no series, and keeps what it was; a reader that fails spoils no page."""
    metrics = made()
    found: list[Finding] = []
    metrics.findings(lambda: found)
    assert b"weir_capability{" not in metrics.render()
    found.append(
        Finding("slm", True, {"schema": "enforced", "choice": "ignored", "regex": "refused", "stream": "unknown"})
    )
    metrics.render()
    assert value(metrics, "weir_backend_available", rung="slm") == 1
    assert value(metrics, "weir_capability", backend="slm", capability="schema") == 1
    assert value(metrics, "weir_capability", backend="slm", capability="choice") == 0
    assert value(metrics, "weir_capability", backend="slm", capability="regex") == 0
    assert b'capability="stream"' not in metrics.render()
    found[0] = Finding("slm", False, {"schema": "unknown", "choice": "enforced"})
    metrics.render()
    assert value(metrics, "weir_backend_available", rung="slm") == 0
    assert value(metrics, "weir_capability", backend="slm", capability="schema") == 1
    assert value(metrics, "weir_capability", backend="slm", capability="choice") == 1
    metrics.findings(lambda: [None])  # type: ignore[list-item]
    assert b"weir_build_info" in metrics.render()


def test_the_large_models_share_of_calls_and_of_spend() -> None:
    """Direct, escalated and observed requests are the large model's; accepted ones are not, though it was started early for one: that
    is spend, and waste."""
    metrics = made()
    metrics.observe([SPILL])
    metrics.observe([record(attempt("llm", cost=0.5), outcome="direct", direct=True, reason="holdout", served="llm")])
    metrics.observe([record(attempt("llm", cost=0.25), outcome="straight", mode="observe", served="llm")])
    metrics.observe([record(attempt("slm"), attempt("llm", "stopped", purpose="early", cost=0.125), served="slm",
                           speculation="wasted")])  # fmt: skip
    metrics.observe([record(attempt("llm"), outcome="accepted", served="llm")])  # a ladder of one, in the house
    metrics.observe([record(attempt("llm", cost=9), outcome="straight", route="", served="llm")])  # by its own name
    assert value(metrics, "weir_llm_requests_total", route="intents") == 3
    assert value(metrics, "weir_llm_cost_usd_total", route="intents") == pytest.approx(0.02 + 0.5 + 0.25 + 0.125)
    assert value(metrics, "weir_speculation_wasted_usd_total", route="intents") == pytest.approx(0.125)
    assert value(metrics, "weir_direct_total", route="intents", reason="holdout") == 1


def test_a_failure_is_ours_and_not_the_callers() -> None:
    """503 and a stream that broke off count against the budget; a 400 does not, nor what never came to a route."""
    metrics = made()
    metrics.observe([record(outcome="refused", status=503, error="escalation_unavailable")])
    metrics.observe([record(outcome="failed", status=502, error="upstream_error")])
    metrics.observe([record(outcome="refused", status=400, error="context_length_exceeded")])
    metrics.observe([record(outcome="refused", status=503, route="", error="overloaded")])
    assert value(metrics, "weir_failures_total", route="intents") == 2


def test_calibration_is_held_against_what_was_seen() -> None:
    """Promised risk and threshold stand beside what the probabilities of accepted answers expect, what a judge says at which
    probability, and what shadow finds; a reload forgets the old promise."""
    metrics = made()
    metrics.held({"intents": Held(0.01, {"slm": 0.9}, {"escalation_rate": 0.3})})
    metrics.observe([record(attempt("slm", probability=0.95), served="slm")])
    metrics.observe([record(attempt("slm", probability=0.85), served="slm")])
    metrics.judged(JudgedRecord("r", 0.0, "intents", "slm", "llm", "wrong", probability=0.95))
    metrics.shadow(ShadowRecord("r", 0.0, "intents", "slm", "disagree", accepted=True))
    metrics.shadow(ShadowRecord("r", 0.0, "intents", "slm", "disagree"))
    where = {"route": "intents", "rung": "slm"}
    assert value(metrics, "weir_promised_risk", **where) == 0.01
    assert value(metrics, "weir_acceptance_threshold", **where) == 0.9
    assert value(metrics, "weir_slo_target", route="intents", slo="escalation_rate") == 0.3
    assert value(metrics, "weir_expected_wrong_total", **where) == pytest.approx(0.2)
    assert value(metrics, "weir_accepted_known_total", **where) == 2
    assert value(metrics, "weir_judged_confidence_count", route="intents", result="wrong") == 1
    assert value(metrics, "weir_shadow_accepted_total", **where, result="disagree") == 1
    metrics.render()
    metrics.held({"general": Held(0.05, {"mid": 0.5}, {})})
    page = metrics.render().decode()
    assert 'weir_promised_risk{route="general",rung="mid"} 0.05' in page
    assert "weir_slo_target{" not in page
    assert 'weir_promised_risk{route="intents"' not in page


def test_records_wait_to_be_counted_together_and_nobody_who_reads_sees_that() -> None:
    """What waits is in no number yet, but in every page; no more than TOGETHER wait, and a `settle` leaves none."""
    metrics = made()
    number = metrics.series.requests("intents", "accepted", "enforce")._value
    for _ in range(TOGETHER - 1):
        metrics.observe([record()])
    assert number.get() == 0
    metrics.observe([record(), record()])
    assert number.get() == TOGETHER + 1
    metrics.observe([record()])
    assert number.get() == TOGETHER + 1
    metrics.settle()
    assert number.get() == TOGETHER + 2
    metrics.observe([record()])
    line = f'weir_requests_total{{route="intents",outcome="accepted",mode="enforce"}} {TOGETHER + 3}.0\n'
    assert line in metrics.render().decode()
    metrics.observe([record()])
    metrics.reconfigure(["intents"], [])
    metrics.observe([record()])
    assert value(metrics, "weir_requests_total", route="intents", outcome="accepted", mode="enforce") == TOGETHER + 5


def test_time_is_split() -> None:
    """Accept and parse come before the total; rest is what no stage names; pieces have a mean gap, and a whole answer has none. Where
    the server does not say when a request came, accept is not counted, and write is when it is told."""
    metrics = made()
    pieces = attempt("slm", seconds=1.0, first_seconds=0.2, chunks=5)
    whole = attempt("llm", seconds=1.0, first_seconds=1.0, chunks=1)
    took = Seconds(total=1.5, router=0.1, upstream=1.0, check=0.2, parse=0.05)
    metrics.observe([record(pieces, whole, served="slm", router="rules", seconds=took)])
    metrics.observe([record(served="slm", seconds=Seconds(accept=0.03))])
    metrics.wrote("intents", 0.01)
    assert value(metrics, "weir_request_seconds_count", route="intents", stage="total") == 2
    assert value(metrics, "weir_request_seconds_count", route="intents", stage="accept") == 1
    assert value(metrics, "weir_request_seconds_count", route="intents", stage="write") == 1
    stages = {"accept": 0.03, "parse": 0.05, "write": 0.01, "rest": 0.2, "overhead": 0.5}
    for stage, seconds in stages.items():
        assert value(metrics, "weir_request_seconds_sum", route="intents", stage=stage) == pytest.approx(seconds)
    assert value(metrics, "weir_chunk_gap_seconds_sum", rung="slm") == pytest.approx(0.2)
    assert value(metrics, "weir_chunk_gap_seconds_count", rung="llm") == 0
    assert value(metrics, "weir_first_token_seconds_sum", rung="llm") == pytest.approx(1.0)
    assert value(metrics, "weir_router_seconds_count", tier="other") == 1
    metrics.reconfigure([], [], ["rules"])
    metrics.observe([record(router="rules")])
    metrics.observe([record(router="error: ValueError")])
    assert value(metrics, "weir_router_seconds_count", tier="rules") == 1
    assert value(metrics, "weir_router_seconds_count", tier="error") == 1


def test_a_write_that_cannot_be_counted_is_counted_as_that() -> None:
    """As with Records: it raises nothing, and an absurd number spoils no sum."""
    metrics = made()
    metrics.wrote(["no", "name"], 0.1)  # type: ignore[arg-type]
    metrics.wrote("junk", float("nan"))
    assert value(metrics, "weir_observer_errors_total") == 1
    assert value(metrics, "weir_request_seconds_sum", route="other", stage="write") == 0


def test_energy_is_counted_by_card_from_any_thread() -> None:
    """A counter for each card, that is 0 from its first reading on; what rungs are in the house is told beside it."""
    metrics = made()
    metrics.local("slm", True)
    metrics.local("llm", False)

    def read() -> None:
        for joules in (0.0, 2.5, 3.0):
            metrics.energy("0", "GPU-a", joules)
        metrics.energy("1", "GPU-b", 0.0)

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    page = metrics.render().decode()
    assert 'weir_gpu_energy_joules_total{gpu="0",uuid="GPU-a"} 5.5' in page
    assert 'weir_gpu_energy_joules_total{gpu="1",uuid="GPU-b"} 0.0' in page
    assert 'weir_backend_local{rung="slm"} 1.0' in page
    assert 'weir_backend_local{rung="llm"} 0.0' in page


def test_the_load_of_engines_is_told() -> None:
    """Where engines say how busy they are it stands on the page; where they do not there is no series."""
    metrics = made()
    metrics.findings(lambda: [Finding("slm", True, {}, running=3, waiting=1, kv=0.5, open=1), Finding("llm", True, {})])
    metrics.queue("off_path", lambda: 7)
    page = metrics.render().decode()
    assert 'weir_engine_requests{rung="slm",state="running"} 3.0' in page
    assert 'weir_engine_kv_usage{rung="slm"} 0.5' in page
    assert 'weir_breaker_open{rung="slm"} 1.0' in page
    assert 'weir_engine_requests{rung="llm"' not in page
    assert 'weir_queue{queue="off_path"} 7.0' in page
