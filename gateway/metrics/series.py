"""What every series is called, what it means and which labels it may have: the interface that dashboards and alerts stand on."""

from collections.abc import Collection, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from backends.base import CAPABILITIES
from gateway.decide import REASONS as DECISIONS
from gateway.metrics.family import Family, Quick, QuickCounter
from gateway.metrics.labels import (
    ALL,
    ATTEMPT_OUTCOMES,
    CONFIDENCE,
    JUDGED_RESULTS,
    LOADS,
    MODES,
    NONE,
    OUTCOMES,
    PIECES,
    QUEUES,
    REASONS,
    SECONDS,
    SHADOW_RESULTS,
    SLOS,
    SPECULATIONS,
    STAGES,
    STORE_OPS,
    STORE_RESULTS,
    TOKENS,
)
from gateway.suspects import KINDS as SUSPECTS

FORGETFUL = frozenset({"weir_config_info", "weir_slo_target", "weir_promised_risk", "weir_acceptance_threshold"})
"""Of the configuration in force only: their children go. Those of all others are only ever added."""


class Series:
    """All families of one registry. routes, rungs, tiers, version, codes: as in `gateway.metrics.registry.Metrics`."""

    def __init__(
        self,
        registry: CollectorRegistry,
        routes: Collection[str],
        rungs: Collection[str],
        *,
        version: str,
        tiers: Collection[str],
        codes: Collection[str],
    ) -> None:
        self._registry = registry
        self.gauges: list[Gauge] = []
        route, rung, tier = set(routes), set(rungs), {"error", "timeout", *tiers}
        self.routes, self.rungs, self.tiers = route, rung, tier
        reason = frozenset(REASONS)
        make = self._counter
        self.requests = make(
            "requests", "Requests by route, outcome and mode.", route=route, outcome=OUTCOMES, mode=MODES
        )
        self.direct = make(
            "direct", "Requests sent straight to the top rung.", route=route, reason=frozenset(DECISIONS)
        )
        self.escalations = make(
            "escalations",
            "A small rung failed and a higher one was asked.",
            route=route,
            **{"from": rung, "to": rung},
            reason=reason,
        )
        self.attempts = make(
            "attempts", "Rungs asked, by how it ended.", route=route, rung=rung, outcome=ATTEMPT_OUTCOMES, reason=reason
        )
        self.accepted = make(
            "accepted", "Answers of a small rung that passed and were delivered.", route=route, rung=rung
        )
        self.llm = make("llm_requests", "Requests that the top rung had to answer.", route=route)
        self.llm_cost = make("llm_cost_usd", "USD spent on attempts of the top rung.", route=route)
        self.failures = make("failures", "Requests that failed, and not by the caller's fault.", route=route)
        self.served = make("served", "Answers delivered, by rung.", route=route, rung=rung)
        self.degraded = make("degraded", "Answers delivered unproven, as no higher rung could be asked.", route=route)
        self.late = make("late_verdicts", "Checks that failed after the first byte.", route=route, reason=reason)
        self.speculations = make(
            "speculations", "Next rungs started early, by whether they were needed.", route=route, result=SPECULATIONS
        )
        self.errors = make("errors", "Errors that callers got, by code.", code=frozenset(codes))
        self.tokens = make(
            "tokens",
            "Tokens of all attempts. Kinds add up: input is what was not cached.",
            rung=rung,
            kind=TOKENS,
        )
        self.wasted = make("wasted_tokens", "Tokens of attempts whose answer was not delivered.", rung=rung)
        self.early_cost = make(
            "speculation_wasted_usd", "USD of next rungs that were started early and thrown away.", route=route
        )
        self.suspected = make(
            "suspects", "Signs that an answer of this rung was wrong, by kind.", route=route, rung=rung, kind=SUSPECTS
        )
        self.cost = make("cost_usd", "USD spent on attempts.", route=route, rung=rung)
        self.counterfactual = make("counterfactual_cost_usd", "USD, had the top rung answered everything.", route=route)
        self.shadow = make(
            "shadow", "Small rungs asked off the path, by outcome.", route=route, rung=rung, result=SHADOW_RESULTS
        )
        self.shadow_cost = make("shadow_cost_usd", "USD spent off the path; in no other sum.", route=route, rung=rung)
        self.judged = make(
            "judged",
            "Delivered answers of small rungs that were judged, by result.",
            route=route,
            rung=rung,
            result=JUDGED_RESULTS,
        )
        self.shadow_accepted = make(
            "shadow_accepted",
            "Answers off the path that passed every check, by whether they were as the delivered one.",
            route=route,
            rung=rung,
            result=SHADOW_RESULTS[:2],
        )
        self.expected = make(
            "expected_wrong", "Accepted answers, each as wrong as its probability says.", route=route, rung=rung
        )
        self.known = make("accepted_known", "Accepted answers that had a probability.", route=route, rung=rung)
        self.judged_confidence = self._histogram(
            "judged_confidence",
            "Probability of the delivered answers that were judged, by what the judge said.",
            CONFIDENCE,
            route=route,
            result=JUDGED_RESULTS[:2],
        )
        self.judged_cost = make("judged_cost_usd", "USD spent on judging; in no other sum.", route=route, by=rung)
        self.router_errors = make(
            "router_errors", "Requests routed by default, as the router failed.", kind=("error", "timeout", "tier")
        )
        self.dropped = self._threaded("records_dropped", "Records that are not on disk.")
        self.spans_dropped = self._threaded("trace_spans_dropped", "Spans that never reached the collector.")
        self.stored = make(
            "response_store", "Calls of the store of responses, by how they ended.", op=STORE_OPS, result=STORE_RESULTS
        )
        self.observer_errors = self._threaded("observer_errors", "Records that could not be counted.")
        self.reloads = make("config_reloads", "Reloads of the configuration.", result=("ok", "failed"))
        self.seconds = self._histogram(
            "request_seconds",
            "Seconds of requests by stage; overhead is total less upstream, rest is overhead less router and check; accept and parse "
            "come before total; write may run beside upstream, and ends after total.",
            SECONDS,
            route=route,
            stage=STAGES,
        )
        self.first_byte = self._histogram(
            "first_byte_seconds", "Seconds to the first byte, by the rung that served.", SECONDS, route=route, rung=rung
        )
        self.router_seconds = self._histogram(
            "router_seconds", "Seconds of routing, by the tier that decided.", SECONDS, tier=tier
        )
        self.first_token = self._histogram(
            "first_token_seconds", "Seconds to the first piece of a rung's answer.", SECONDS, rung=rung
        )
        self.gap = self._histogram(
            "chunk_gap_seconds", "Mean seconds between the pieces of an answer.", PIECES, rung=rung
        )
        self.attempt_seconds = self._histogram("attempt_seconds", "Seconds of attempts.", SECONDS, rung=rung)
        self.confidence = self._histogram(
            "confidence", "Calibrated probability of small rungs' answers.", CONFIDENCE, route=route
        )
        self.in_flight = self._gauge("in_flight", "Requests being answered.")()
        self.queue = self._gauge("queue", "Jobs that wait.", queue=QUEUES)
        self.load = self._gauge("engine_requests", "Requests at a rung's engines.", rung=rung, state=LOADS)
        self.kv = self._gauge("engine_kv_usage", "Share in use of a rung's fullest KV cache.", rung=rung)
        self.open = self._gauge("breaker_open", "Replicas passed over after failures in a row.", rung=rung)
        self.target = self._gauge("slo_target", "What a route is held to, as a share.", route=route, slo=SLOS)
        self.promised = self._gauge("promised_risk", "Promised share of wrong answers.", route=route, rung=rung)
        self.threshold = self._gauge(
            "acceptance_threshold", "Least probability of an answer that is taken.", route=route, rung=rung
        )
        self.bypassed = {ALL, *route}
        self.bypass = self._gauge("bypass", "1: the route, or all of them, is bypassed.", route=self.bypassed)
        self.available = self._gauge("backend_available", "1: the rung is configured and can be asked.", rung=rung)
        self.local = self._gauge(
            "backend_local", "1: the rung's model runs in the house (not `cloud: true`).", rung=rung
        )
        self.cards: tuple[set[str], set[str]] = (set(), set())
        self.energy = self._threaded(
            "gpu_energy_joules", "Joules that GPUs of this machine took.", gpu=self.cards[0], uuid=self.cards[1]
        )
        self.engine_names: set[str] = set()
        self.engine_up = self._gauge("engine_up", "1: the local engine answers.", engine=self.engine_names)
        self.engine_restarts = make("engine_restarts", "Local engines started again.", engine=self.engine_names)
        self.capability = self._gauge(
            "capability", "1: the rung enforces it, as a probe saw.", backend=rung, capability=CAPABILITIES
        )
        self.config = Gauge("weir_config_info", "The configuration in force.", ["hash"], registry=registry)
        self.build = Gauge("weir_build_info", "The version that runs.", ["version"], registry=registry)
        self.build.labels(version or NONE).set(1)
        for kind in ("error", "timeout"):
            self.router_errors(kind)  # shown as 0 from the start, so that rate() sees the first one
        for result in ("ok", "failed"):
            self.reloads(result)
        self.bypass(ALL).set(0)
        ProcessCollector(registry=registry)

    def admit(self, routes: Collection[str], rungs: Collection[str], tiers: Collection[str]) -> None:
        """These names may become labels too."""
        self.routes.update(routes)
        self.bypassed.update(routes)
        self.rungs.update(rungs)
        self.tiers.update(tiers)

    def _counter(self, name: str, meaning: str, **labels: Collection[str]) -> "Family[QuickCounter]":
        return Family(
            QuickCounter(f"weir_{name}_total", meaning, list(labels), registry=self._registry), labels.values()
        )

    def _threaded(self, name: str, meaning: str, **labels: Collection[str]) -> "Family[Counter]":
        """A counter that other threads count too."""
        return Family(Counter(f"weir_{name}_total", meaning, list(labels), registry=self._registry), labels.values())

    def _histogram(
        self, name: str, meaning: str, buckets: Sequence[float], **labels: Collection[str]
    ) -> "Family[Quick]":
        metric = Quick(f"weir_{name}", meaning, list(labels), buckets=buckets, registry=self._registry)
        return Family(metric, labels.values())

    def _gauge(self, name: str, meaning: str, **labels: Collection[str]) -> "Family[Gauge]":
        metric = Gauge(f"weir_{name}", meaning, list(labels), registry=self._registry)
        self.gauges.append(metric)
        return Family(metric, labels.values())
