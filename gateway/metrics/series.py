"""The registry: every family, and the one observer that folds a Record into them."""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from backends.base import CAPABILITIES, Ledger
from gateway.decide import REASONS as DECISIONS
from gateway.metrics.family import MOST, Family, Quick, QuickCounter, clip
from gateway.metrics.kinds import AttemptKind, Children, RequestKind, keep
from gateway.metrics.labels import (
    ALL,
    ATTEMPT_OUTCOMES,
    CONFIDENCE,
    ERROR_CODES,
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
from gateway.metrics.page import escape, number, start
from gateway.metrics.spills import escalations, had_to
from gateway.record import AttemptRecord, JudgedRecord, Record, ShadowRecord
from gateway.slo import failure
from gateway.suspects import KINDS as SUSPECTS
from gateway.suspects import Suspects

FORGETFUL = frozenset({"weir_config_info", "weir_slo_target", "weir_promised_risk", "weir_acceptance_threshold"})
"""Of the configuration in force only: their children go. Those of all others are only ever added."""


TOGETHER = 64
"""Records that wait to be counted, many at once: 0.7 us each instead of 1.6, of eight."""


class Finding(Struct, frozen=True):
    """What is known of a rung that is looked after."""

    backend: str
    available: bool
    ledger: Ledger
    running: float | None = None
    """Requests that its engines work on; None: there are none, or nobody knows."""
    waiting: float = 0.0
    kv: float = 0.0
    """Of the fullest cache, as a share."""
    open: int = 0
    """Replicas that are passed over, as they failed several times in a row."""


class Held(Struct, frozen=True):
    """What a route is held to. risk: promised; by rung the threshold that keeps it (none: nothing keeps it). slos: name > share."""

    risk: float | None
    thresholds: Mapping[str, float]
    slos: Mapping[str, float]


class Settled(Collector):
    """Stands first in a registry, so that whoever reads it reads all that was observed."""

    def __init__(self, settle: Callable[[], None]) -> None:
        self._settle = settle

    def collect(self) -> Iterable[Metric]:
        self._settle()
        return ()


class Metrics:
    """The registry of one process.

    routes, rungs, tiers (of the router): the names that may become labels. codes: of the errors that callers get. version: of Weir.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(
        self,
        routes: Collection[str] = (),
        rungs: Collection[str] = (),
        *,
        version: str = "",
        tiers: Collection[str] = (),
        codes: Collection[str] = ERROR_CODES,
    ) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(Settled(self.settle))
        self._counting = threading.Lock()
        self._sorted = 0
        """Records that are not counted yet; their amounts are in the rows of `_waiting`."""
        self._waiting: list[Children] = []
        self._gauges: list[Gauge] = []
        self._starts: dict[str, list[str]] = {}
        self._rendering = threading.Lock()
        route, rung, tier = set(routes), set(rungs), {"error", "timeout", *tiers}
        self._routes, self._rungs, self._tiers = route, rung, tier
        self._suspects = Suspects()
        self._of_requests: dict[tuple[str | bool, ...], Children] = {}
        self._of_attempts: dict[tuple[str | bool, ...], Children] = {}
        reason = frozenset(REASONS)
        make = self._counter
        self._requests = make(
            "requests", "Requests by route, outcome and mode.", route=route, outcome=OUTCOMES, mode=MODES
        )
        self._direct = make(
            "direct", "Requests sent straight to the top rung.", route=route, reason=frozenset(DECISIONS)
        )
        self._escalations = make(
            "escalations",
            "A small rung failed and a higher one was asked.",
            route=route,
            **{"from": rung, "to": rung},
            reason=reason,
        )
        self._attempts = make(
            "attempts", "Rungs asked, by how it ended.", route=route, rung=rung, outcome=ATTEMPT_OUTCOMES, reason=reason
        )
        self._accepted = make(
            "accepted", "Answers of a small rung that passed and were delivered.", route=route, rung=rung
        )
        self._llm = make("llm_requests", "Requests that the top rung had to answer.", route=route)
        self._llm_cost = make("llm_cost_usd", "USD spent on attempts of the top rung.", route=route)
        self._failures = make("failures", "Requests that failed, and not by the caller's fault.", route=route)
        self._served = make("served", "Answers delivered, by rung.", route=route, rung=rung)
        self._degraded = make("degraded", "Answers delivered unproven, as no higher rung could be asked.", route=route)
        self._late = make("late_verdicts", "Checks that failed after the first byte.", route=route, reason=reason)
        self._speculations = make(
            "speculations", "Next rungs started early, by whether they were needed.", route=route, result=SPECULATIONS
        )
        self._errors = make("errors", "Errors that callers got, by code.", code=frozenset(codes))
        self._tokens = make(
            "tokens",
            "Tokens of all attempts. Kinds add up: input is what was not cached.",
            rung=rung,
            kind=TOKENS,
        )
        self._wasted = make("wasted_tokens", "Tokens of attempts whose answer was not delivered.", rung=rung)
        self._early_cost = make(
            "speculation_wasted_usd", "USD of next rungs that were started early and thrown away.", route=route
        )
        self._suspected = make(
            "suspects", "Signs that an answer of this rung was wrong, by kind.", route=route, rung=rung, kind=SUSPECTS
        )
        self._cost = make("cost_usd", "USD spent on attempts.", route=route, rung=rung)
        self._counterfactual = make(
            "counterfactual_cost_usd", "USD, had the top rung answered everything.", route=route
        )
        self._shadow = make(
            "shadow", "Small rungs asked off the path, by outcome.", route=route, rung=rung, result=SHADOW_RESULTS
        )
        self._shadow_cost = make("shadow_cost_usd", "USD spent off the path; in no other sum.", route=route, rung=rung)
        self._judged = make(
            "judged",
            "Delivered answers of small rungs that were judged, by result.",
            route=route,
            rung=rung,
            result=JUDGED_RESULTS,
        )
        self._shadow_accepted = make(
            "shadow_accepted",
            "Answers off the path that passed every check, by whether they were as the delivered one.",
            route=route,
            rung=rung,
            result=SHADOW_RESULTS[:2],
        )
        self._expected = make(
            "expected_wrong", "Accepted answers, each as wrong as its probability says.", route=route, rung=rung
        )
        self._known = make("accepted_known", "Accepted answers that had a probability.", route=route, rung=rung)
        self._judged_confidence = self._histogram(
            "judged_confidence",
            "Probability of the delivered answers that were judged, by what the judge said.",
            CONFIDENCE,
            route=route,
            result=JUDGED_RESULTS[:2],
        )
        self._judged_cost = make("judged_cost_usd", "USD spent on judging; in no other sum.", route=route, by=rung)
        self._router_errors = make(
            "router_errors", "Requests routed by default, as the router failed.", kind=("error", "timeout", "tier")
        )
        self._dropped = self._threaded("records_dropped", "Records that are not on disk.")
        self._spans_dropped = self._threaded("trace_spans_dropped", "Spans that never reached the collector.")
        self._stored = make(
            "response_store", "Calls of the store of responses, by how they ended.", op=STORE_OPS, result=STORE_RESULTS
        )
        self._observer_errors = self._threaded("observer_errors", "Records that could not be counted.")
        self._reloads = make("config_reloads", "Reloads of the configuration.", result=("ok", "failed"))
        self._seconds = self._histogram(
            "request_seconds",
            "Seconds of requests by stage; overhead is total less upstream, rest is overhead less router and check; accept and parse "
            "come before total; write may run beside upstream, and ends after total.",
            SECONDS,
            route=route,
            stage=STAGES,
        )
        self._first_byte = self._histogram(
            "first_byte_seconds", "Seconds to the first byte, by the rung that served.", SECONDS, route=route, rung=rung
        )
        self._router_seconds = self._histogram(
            "router_seconds", "Seconds of routing, by the tier that decided.", SECONDS, tier=tier
        )
        self._first_token = self._histogram(
            "first_token_seconds", "Seconds to the first piece of a rung's answer.", SECONDS, rung=rung
        )
        self._gap = self._histogram(
            "chunk_gap_seconds", "Mean seconds between the pieces of an answer.", PIECES, rung=rung
        )
        self._attempt_seconds = self._histogram("attempt_seconds", "Seconds of attempts.", SECONDS, rung=rung)
        self._confidence = self._histogram(
            "confidence", "Calibrated probability of small rungs' answers.", CONFIDENCE, route=route
        )
        self._in_flight = self._gauge("in_flight", "Requests being answered.")()
        self._queue = self._gauge("queue", "Jobs that wait.", queue=QUEUES)
        self._load = self._gauge("engine_requests", "Requests at a rung's engines.", rung=rung, state=LOADS)
        self._kv = self._gauge("engine_kv_usage", "Share in use of a rung's fullest KV cache.", rung=rung)
        self._open = self._gauge("breaker_open", "Replicas passed over after failures in a row.", rung=rung)
        self._target = self._gauge("slo_target", "What a route is held to, as a share.", route=route, slo=SLOS)
        self._promised = self._gauge("promised_risk", "Promised share of wrong answers.", route=route, rung=rung)
        self._threshold = self._gauge(
            "acceptance_threshold", "Least probability of an answer that is taken.", route=route, rung=rung
        )
        self._bypassed = {ALL, *route}
        self._bypass = self._gauge("bypass", "1: the route, or all of them, is bypassed.", route=self._bypassed)
        self._available = self._gauge("backend_available", "1: the rung is configured and can be asked.", rung=rung)
        self._local = self._gauge(
            "backend_local", "1: the rung's model runs in the house (not `cloud: true`).", rung=rung
        )
        self._cards: tuple[set[str], set[str]] = (set(), set())
        self._energy = self._threaded(
            "gpu_energy_joules", "Joules that GPUs of this machine took.", gpu=self._cards[0], uuid=self._cards[1]
        )
        self._engines: set[str] = set()
        self._engine_up = self._gauge("engine_up", "1: the local engine answers.", engine=self._engines)
        self._engine_restarts = make("engine_restarts", "Local engines started again.", engine=self._engines)
        self._capability = self._gauge(
            "capability", "1: the rung enforces it, as a probe saw.", backend=rung, capability=CAPABILITIES
        )
        self._findings: Callable[[], Iterable[Finding]] = tuple
        self._config = Gauge("weir_config_info", "The configuration in force.", ["hash"], registry=self.registry)
        self._build = Gauge("weir_build_info", "The version that runs.", ["version"], registry=self.registry)
        self._build.labels(version or NONE).set(1)
        for kind in ("error", "timeout"):
            self._router_errors(kind)  # shown as 0 from the start, so that rate() sees the first one
        for result in ("ok", "failed"):
            self._reloads(result)
        self._bypass(ALL).set(0)
        ProcessCollector(registry=self.registry)

    def reconfigure(self, routes: Collection[str], rungs: Collection[str], tiers: Collection[str] = ()) -> None:
        """Names of a new configuration may become labels too. Those of the old one stay."""
        self._routes.update(routes)
        self._bypassed.update(routes)
        self._rungs.update(rungs)
        self._tiers.update(tiers)
        self._of_requests.clear()  # what was "other" may have a name now
        self._of_attempts.clear()

    def observe(self, records: Sequence[Record]) -> None:
        """Fold them into every series, TOGETHER at once, or when somebody reads. Raises nothing: a Record that cannot be counted is counted
        as that."""
        with self._counting:
            for record in records:
                try:
                    self._sort(record)
                except Exception:  # a metric is never worth a request
                    self._observer_errors().inc()
            self._sorted += len(records)
            if self._sorted >= TOGETHER:
                self._count()

    def settle(self) -> None:
        """Count what still waits for that. Whoever reads the registry has it done; who reads what it counts in (`gateway.workers.memory`)
        asks for it. From any thread."""
        with self._counting:
            self._count()

    def _count(self) -> None:
        waiting, self._waiting, self._sorted = self._waiting, [], 0
        for children in waiting:
            if lost := children.count():
                self._observer_errors().inc(lost)

    def error(self, code: str) -> None:
        """A caller got an error for a request that has no Record (bad JSON, no key, no such path)."""
        with self._counting:
            self._errors(code).inc()

    def wrote(self, route: str, seconds: float) -> None:
        """An answer has been handed to the server whole, or as far as its caller stayed: the one stage that is counted after the
        last byte (`gateway.surface.exchange.Exchange.writing`). Raises nothing."""
        try:
            self._seconds[route, "write"].observe(seconds)
        except Exception:
            self._observer_errors().inc()

    def in_flight(self, read: Callable[[], float]) -> None:
        """`read` says how many requests are being answered: asked for each page, so that counting costs a request nothing."""
        self._in_flight.set_function(read)

    def shadow(self, record: ShadowRecord) -> None:
        """Count what a small rung said off the path."""
        self._shadow(record.route, record.rung, record.result).inc()
        if record.accepted and record.result in SHADOW_RESULTS[:2]:
            self._shadow_accepted(record.route, record.rung, record.result).inc()
        if record.cost > 0:
            self._shadow_cost(record.route, record.rung).inc(record.cost)

    def judged(self, record: JudgedRecord) -> None:
        """Count what a judge said off the path."""
        self._judged(record.route, record.rung, record.result).inc()
        if record.probability is not None and record.result in JUDGED_RESULTS[:2]:
            self._judged_confidence(record.route, record.result).observe(record.probability)
        if record.cost > 0:
            self._judged_cost(record.route, record.by).inc(record.cost)

    def judged_dropped(self, route: str, rung: str) -> None:
        """An answer of the sample was not judged: too many were under way."""
        self._judged(route, rung, "dropped").inc()

    def shadow_dropped(self, route: str, rung: str) -> None:
        """A small rung was not asked off the path: too many were under way."""
        self._shadow(route, rung, "dropped").inc()

    def stored(self, op: str, result: str) -> None:
        """Count one call of the store of responses."""
        self._stored(op, result).inc()

    def spans_dropped(self, count: int = 1) -> None:
        """Spans were not exported (`gateway.tracing`): the queue was full, or the collector away."""
        self._spans_dropped().inc(count)

    def dropped(self, count: int = 1) -> None:
        """`Recorder(on_drop=...)`; from any thread."""
        self._dropped().inc(count)

    def queue(self, name: str, read: Callable[[], float]) -> None:
        """`read` says how many jobs wait there: asked for each page."""
        self._queue(name).set_function(read)

    def held(self, routes: Mapping[str, Held]) -> None:
        """What the routes of the configuration in force are held to. What the one before said is forgotten."""
        for family in (self._target, self._promised, self._threshold):
            family.clear()
        for route, held in routes.items():
            for slo, share in held.slos.items():
                self._target(route, slo).set(share)
            for rung, threshold in held.thresholds.items():
                self._threshold(route, rung).set(threshold)
                if held.risk is not None:
                    self._promised(route, rung).set(held.risk)

    def findings(self, read: Callable[[], "Iterable[Finding]"]) -> None:
        """`read` says what is known of the rungs that are looked after: asked for each page."""
        self._findings = read

    def bypass(self, route: str, on: bool) -> None:
        """The switch of a route, or of ALL."""
        self._bypass(route).set(on)

    def available(self, rung: str, yes: bool) -> None:
        self._available(rung).set(yes)

    def local(self, rung: str, yes: bool) -> None:
        self._local(rung).set(yes)

    def energy(self, gpu: str, uuid: str, joules: float) -> None:
        """A card of this machine took so much more (`gateway.energy`); from any thread. There are as many series as cards."""
        for known, name in zip(self._cards, (gpu, uuid), strict=True):
            known.add(name)
        self._energy(gpu, uuid).inc(clip(joules))

    def engines(self, names: Collection[str]) -> None:
        """These local engines may become labels too."""
        self._engines.update(names)
        for name in names:
            self._engine_restarts(name)  # shown as 0 from the start

    def engine_up(self, engine: str, up: bool) -> None:
        self._engine_up(engine).set(up)

    def engine_restarted(self, engine: str) -> None:
        self._engine_restarts(engine).inc()

    def config(self, digest: str) -> None:
        """The configuration in force. The one before is forgotten: its hash is no label any more."""
        self._config.clear()
        self._config.labels(digest).set(1)

    def reloaded(self, ok: bool) -> None:
        self._reloads("ok" if ok else "failed").inc()

    def gauges(self) -> list[Metric]:
        """How it is in this process now. What is counted, and not just looked at, lies in memory that several workers may share
        (`gateway.workers.memory`), and is no part of it."""
        self._look()
        return [family for gauge in (*self._gauges, self._config, self._build) for family in gauge.collect()]

    def render(self) -> bytes:
        """The page, `content_type`. Safe in a thread while the loop counts on. Raises nothing of its own."""
        out: list[str] = []
        with self._rendering:
            self._look()
            for family in self.registry.collect():
                name = f"{family.name}_total" if family.type == "counter" else family.name
                out.append(f"# HELP {name} {escape(family.documentation)}\n# TYPE {name} {family.type}\n")
                # Children are added at the end: a sample stays at its place.
                starts = self._starts.setdefault(name, []) if name not in FORGETFUL else []
                starts.extend(start(sample.name, sample.labels) for sample in family.samples[len(starts) :])
                out.extend(
                    f"{start}{number(sample.value)}\n"
                    for start, sample in zip(starts, family.samples, strict=True)
                    if start
                )
                time.sleep(0)
        return "".join(out).encode()

    def _look(self) -> None:
        """Nothing is said of what is unknown: a series that has a value keeps it until more is known."""
        try:
            for found in self._findings():
                self._available(found.backend).set(found.available)
                if found.running is not None:
                    self._load(found.backend, "running").set(found.running)
                    self._load(found.backend, "waiting").set(found.waiting)
                    self._kv(found.backend).set(found.kv)
                    self._open(found.backend).set(found.open)
                for name, what in found.ledger.items():
                    if what != "unknown":
                        self._capability(found.backend, name).set(what == "enforced")
        except Exception:  # as with Records
            self._observer_errors().inc()

    def _sort(self, record: Record) -> None:
        """Its amounts into the rows of its kinds, and these into `_waiting` where they were empty."""
        seconds, route, outcome = record.seconds, record.route, record.outcome
        accept, first = seconds.accept, seconds.first_byte
        kind = (
            route, outcome, record.mode, record.reason, record.direct, record.router, record.served, record.late_verdict,
            record.speculation, record.error, outcome != "accepted" and had_to(record),
            record.status >= 500 and failure(record), accept is not None, first is not None,
        )  # fmt: skip
        kept = self._of_requests.get(kind)
        if kept is None:
            kept = keep(self._of_requests, kind, self._of_request(RequestKind(*kind)))
        router, upstream, check, total = seconds.router, seconds.upstream, seconds.check, seconds.total
        overhead = total - upstream
        if not 0.0 <= overhead < MOST:
            overhead = 0.0
        row = (
            router, upstream, check, total, overhead, overhead - router - check, seconds.parse,
            record.counterfactual_cost, accept or 0.0, first or 0.0,
        )  # fmt: skip
        if not kept.rows:
            self._waiting.append(kept)
        kept.rows.append(row)
        if record.router_errors:
            self._router_errors("tier").inc(len(record.router_errors))
        for suspect in self._suspects.look(record):
            self._suspected[suspect].inc()
        attempts = record.attempts
        if len(attempts) > 1:
            for lower, higher, reason in escalations(record):
                self._escalations[route, lower, higher, reason].inc()
        for attempt in attempts:
            self._sort_attempt(record, attempt)

    def _of_request(self, kind: RequestKind) -> Children:
        route = kind.route
        once = [self._requests(route, kind.outcome, kind.mode)]
        if kind.llm:
            once.append(self._llm(route))
        if kind.failed:
            once.append(self._failures(route))
        if kind.direct:
            once.append(self._direct(route, kind.reason))
        if kind.reason in ("router_error", "router_timeout"):
            once.append(self._router_errors(kind.reason.removeprefix("router_")))
        if kind.served:
            once.append(self._served(route, kind.served))
            if kind.outcome == "accepted":
                once.append(self._accepted(route, kind.served))
        if kind.outcome == "degraded":
            once.append(self._degraded(route))
        if kind.late:
            once.append(self._late(route, kind.late))
        if kind.speculation:
            once.append(self._speculations(route, kind.speculation))
        if kind.error:
            once.append(self._errors(kind.error))
        tier = [self._router_seconds(kind.router.partition(":")[0])] if kind.router else []
        return Children.of(
            once,
            [
                [self._seconds(route, "router"), *tier],
                [self._seconds(route, "upstream")],
                [self._seconds(route, "check")],
                [self._seconds(route, "total")],
                [self._seconds(route, "overhead")],
                [self._seconds(route, "rest")],
                [self._seconds(route, "parse")],
                [self._counterfactual(route)],
                [self._seconds(route, "accept")] if kind.accept else [],
                [self._first_byte(route, kind.served)] if kind.first and kind.served else [],
            ],
        )

    def _sort_attempt(self, record: Record, attempt: AttemptRecord) -> None:
        tokens, first, sure, cost = attempt.tokens, attempt.first_seconds, attempt.probability, attempt.cost
        many = first is not None and attempt.chunks > 1
        known = sure is not None and 0 <= sure <= 1
        given, cached, taken = tokens.input, tokens.cached_input, tokens.output
        if not (0 <= cached <= given < MOST and 0 <= taken < MOST):
            given, taken = int(clip(given)), int(clip(taken))
            cached = min(int(clip(cached)), given)
        kind = (
            record.route, record.outcome, record.top, record.speculation, attempt.rung, attempt.outcome, attempt.reason,
            attempt.purpose, first is not None, many, known, bool(tokens.input or tokens.output), cost > 0,
        )  # fmt: skip
        kept = self._of_attempts.get(kind)
        if kept is None:
            kept = keep(self._of_attempts, kind, self._of_attempt(AttemptKind(*kind)))
        first, sure = first or 0.0, sure or 0.0
        gap = (attempt.seconds - first) / (attempt.chunks - 1) if many else 0.0
        row = (attempt.seconds, first, gap, sure, 1 - sure, given - cached, cached, taken, given + taken, cost)
        if not kept.rows:
            self._waiting.append(kept)
        kept.rows.append(row)

    def _of_attempt(self, kind: AttemptKind) -> Children:
        route, rung = kind.route, kind.rung
        delivered = kind.outcome == "delivered"
        sure = kind.known and kind.request == "accepted" and delivered
        once, costs = [self._attempts(route, rung, kind.outcome, kind.reason)], []
        if sure:
            once.append(self._known(route, rung))
        if kind.paid:
            costs.append(self._cost(route, rung))
            if rung == kind.top and not (kind.request == "accepted" and delivered):
                costs.append(self._llm_cost(route))
            if kind.purpose == "early" and kind.speculation == "wasted":
                costs.append(self._early_cost(route))
        fresh, reread, output = TOKENS
        return Children.of(
            once,
            [
                [self._attempt_seconds(rung)],
                [self._first_token(rung)] if kind.first else [],
                [self._gap(rung)] if kind.many else [],
                [self._confidence(route)] if kind.known else [],
                [self._expected(route, rung)] if sure else [],
                [self._tokens(rung, fresh)] if kind.counted else [],
                [self._tokens(rung, reread)] if kind.counted else [],
                [self._tokens(rung, output)] if kind.counted else [],
                [self._wasted(rung)] if kind.counted and not delivered else [],
                costs,
            ],
        )

    def _counter(self, name: str, meaning: str, **labels: Collection[str]) -> "Family[QuickCounter]":
        return Family(
            QuickCounter(f"weir_{name}_total", meaning, list(labels), registry=self.registry), labels.values()
        )

    def _threaded(self, name: str, meaning: str, **labels: Collection[str]) -> "Family[Counter]":
        """A counter that other threads count too."""
        return Family(Counter(f"weir_{name}_total", meaning, list(labels), registry=self.registry), labels.values())

    def _histogram(
        self, name: str, meaning: str, buckets: Sequence[float], **labels: Collection[str]
    ) -> "Family[Quick]":
        metric = Quick(f"weir_{name}", meaning, list(labels), buckets=buckets, registry=self.registry)
        return Family(metric, labels.values())

    def _gauge(self, name: str, meaning: str, **labels: Collection[str]) -> "Family[Gauge]":
        metric = Gauge(f"weir_{name}", meaning, list(labels), registry=self.registry)
        self._gauges.append(metric)
        return Family(metric, labels.values())
