"""Every Prometheus series, and the one observer that folds a Record into them.

Labels come from the configuration and from closed lists only: anything else becomes "other", nothing becomes "none". So the
number of series is bounded by the configuration, whatever clients send (a requested model name as a label has filled the
memory of other gateways). Series of routes and rungs that a reload removed stay until the restart: counters do not go back.

Measured on one core: `labels()` at each call 4.3 us, kept children 1.6 us for a counter and a histogram, hence `_Family`; a Record
with two attempts 21 us. A page of 40 routes (6,400 lines): `generate_latest` 42 ms, `render` 28 ms, as it keeps the text of each line but
its number and leaves out `_created`. Long enough to call it from a thread (`asyncio.to_thread`); it lets go of the interpreter
between families.
"""

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Generic, TypeVar, get_args

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from backends.base import CAPABILITIES, Ledger
from gateway.decide import REASONS as DECISIONS
from gateway.record import JudgedRecord, Outcome, Record, ShadowRecord
from wire.errors import Reason

OTHER = "other"
NONE = "none"
MODES = ("observe", "shadow", "canary", "enforce", "bypass")
OUTCOMES: tuple[str, ...] = get_args(Outcome)
REASONS: tuple[str, ...] = get_args(Reason)
ATTEMPT_OUTCOMES = ("delivered", "rejected", "error", "stopped")
ERROR_CODES = (
    "error", "invalid_json", "invalid_json_schema", "invalid_api_key", "permission_denied", "rate_limit_exceeded", "not_found",
    "model_not_found", "method_not_allowed", "request_too_large", "context_length_exceeded", "unsupported_parameter", "overloaded",
    "no_valid_answer", "escalation_unavailable", "deadline_exceeded", "upstream_error", "upstream_timeout", "upstream_overloaded",
    "previous_response_not_found", "response_store_unavailable",
)  # fmt: skip
ALL = "all"
"""The route label of `weir_bypass` when every route is bypassed."""
SHADOW_RESULTS = ("agree", "disagree", "invalid", "error", "dropped")
JUDGED_RESULTS = ("right", "wrong", "invalid", "error", "dropped")
SPECULATIONS = ("used", "wasted")
STORE_OPS = ("get", "put", "delete")
STORE_RESULTS = ("ok", "missing", "error", "skipped", "too_large")
STAGES = ("router", "upstream", "check", "total", "overhead")
SECONDS = (
    .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120,
)  # fmt: skip
CONFIDENCE = (0.1, 0.25, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99, 0.995, 0.999, 1)

M = TypeVar("M", Counter, Gauge, Histogram)


class Finding(Struct, frozen=True):
    """What is known of a rung that is looked after."""

    backend: str
    available: bool
    ledger: Ledger


class Metrics:
    """The registry of one process.

    routes, rungs: the names that may become labels. codes: of the errors that callers get. version: of Weir.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(
        self,
        routes: Collection[str] = (),
        rungs: Collection[str] = (),
        *,
        version: str = "",
        codes: Collection[str] = ERROR_CODES,
    ) -> None:
        self.registry = CollectorRegistry()
        self._starts: dict[str, list[str]] = {}
        self._rendering = threading.Lock()
        route, rung = set(routes), set(rungs)
        self._routes, self._rungs = route, rung
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
            kind=("input", "cached_input", "output"),
        )
        self._wasted = make("wasted_tokens", "Tokens of attempts whose answer was not delivered.", rung=rung)
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
        self._judged_cost = make("judged_cost_usd", "USD spent on judging; in no other sum.", route=route, by=rung)
        self._router_errors = make(
            "router_errors", "Requests routed by default, as the router failed.", kind=("error", "timeout", "tier")
        )
        self._dropped = make("records_dropped", "Records that are not on disk.")
        self._stored = make(
            "response_store", "Calls of the store of responses, by how they ended.", op=STORE_OPS, result=STORE_RESULTS
        )
        self._observer_errors = make("observer_errors", "Records that could not be counted.")
        self._reloads = make("config_reloads", "Reloads of the configuration.", result=("ok", "failed"))
        self._seconds = self._histogram(
            "request_seconds",
            "Seconds of requests by stage; overhead is total less upstream.",
            SECONDS,
            route=route,
            stage=STAGES,
        )
        self._first_byte = self._histogram(
            "first_byte_seconds", "Seconds to the first byte, by the rung that served.", SECONDS, route=route, rung=rung
        )
        self._attempt_seconds = self._histogram("attempt_seconds", "Seconds of attempts.", SECONDS, rung=rung)
        self._confidence = self._histogram(
            "confidence", "Calibrated probability of small rungs' answers.", CONFIDENCE, route=route
        )
        self._in_flight = self._gauge("in_flight", "Requests being answered.")()
        self._bypassed = {ALL, *route}
        self._bypass = self._gauge("bypass", "1: the route, or all of them, is bypassed.", route=self._bypassed)
        self._available = self._gauge("backend_available", "1: the rung is configured and can be asked.", rung=rung)
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
        ProcessCollector(registry=self.registry)

    def reconfigure(self, routes: Collection[str], rungs: Collection[str]) -> None:
        """Names of a new configuration may become labels too. Those of the old one stay."""
        self._routes.update(routes)
        self._bypassed.update(routes)
        self._rungs.update(rungs)

    def observe(self, record: Record) -> None:
        """Fold one Record into every series. Raises nothing: a Record that cannot be counted is counted as that."""
        try:
            self._fold(record)
        except Exception:  # a metric is never worth a request
            self._observer_errors().inc()

    def error(self, code: str) -> None:
        """A caller got an error for a request that has no Record (bad JSON, no key, no such path)."""
        self._errors(code).inc()

    def in_flight(self, read: Callable[[], float]) -> None:
        """`read` says how many requests are being answered: asked for each page, so that counting costs a request nothing."""
        self._in_flight.set_function(read)

    def shadow(self, record: ShadowRecord) -> None:
        """Count what a small rung said off the path."""
        self._shadow(record.route, record.rung, record.result).inc()
        if record.cost > 0:
            self._shadow_cost(record.route, record.rung).inc(_clip(record.cost))

    def judged(self, record: JudgedRecord) -> None:
        """Count what a judge said off the path."""
        self._judged(record.route, record.rung, record.result).inc()
        if record.cost > 0:
            self._judged_cost(record.route, record.by).inc(_clip(record.cost))

    def judged_dropped(self, route: str, rung: str) -> None:
        """An answer of the sample was not judged: too many were under way."""
        self._judged(route, rung, "dropped").inc()

    def shadow_dropped(self, route: str, rung: str) -> None:
        """A small rung was not asked off the path: too many were under way."""
        self._shadow(route, rung, "dropped").inc()

    def stored(self, op: str, result: str) -> None:
        """Count one call of the store of responses."""
        self._stored(op, result).inc()

    def dropped(self, count: int = 1) -> None:
        """`Recorder(on_drop=...)`; from any thread."""
        self._dropped().inc(count)

    def findings(self, read: Callable[[], "Iterable[Finding]"]) -> None:
        """`read` says what is known of the rungs that are looked after: asked for each page."""
        self._findings = read

    def bypass(self, route: str, on: bool) -> None:
        """The switch of a route, or of ALL."""
        self._bypass(route).set(on)

    def available(self, rung: str, yes: bool) -> None:
        self._available(rung).set(yes)

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

    def render(self) -> bytes:
        """The page, `content_type`. Safe in a thread while the loop counts on. Raises nothing of its own."""
        out: list[str] = []
        with self._rendering:
            self._look()
            for family in self.registry.collect():
                name = f"{family.name}_total" if family.type == "counter" else family.name
                out.append(f"# HELP {name} {_escape(family.documentation)}\n# TYPE {name} {family.type}\n")
                # Children are only ever added, at the end: a sample stays at its place. But for the hash in force.
                starts = self._starts.setdefault(name, []) if name != "weir_config_info" else []
                starts.extend(_start(sample.name, sample.labels) for sample in family.samples[len(starts) :])
                out.extend(
                    f"{start}{_number(sample.value)}\n"
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
                for name, what in found.ledger.items():
                    if what != "unknown":
                        self._capability(found.backend, name).set(what == "enforced")
        except Exception:  # as with Records
            self._observer_errors().inc()

    def _fold(self, record: Record) -> None:
        route = record.route
        self._requests(route, record.outcome, record.mode).inc()
        if record.direct:
            self._direct(route, record.reason).inc()
        if record.reason in ("router_error", "router_timeout"):
            self._router_errors(record.reason.removeprefix("router_")).inc()
        if record.router_errors:
            self._router_errors("tier").inc(len(record.router_errors))
        if record.served:
            self._served(route, record.served).inc()
            if record.outcome == "accepted":
                self._accepted(route, record.served).inc()
            if record.seconds.first_byte is not None:
                self._first_byte(route, record.served).observe(_clip(record.seconds.first_byte))
        if record.outcome == "degraded":
            self._degraded(route).inc()
        if record.late_verdict:
            self._late(route, record.late_verdict).inc()
        if record.speculation:
            self._speculations(route, record.speculation).inc()
        if record.error:
            self._errors(record.error).inc()
        for lower, higher, reason in escalations(record):
            self._escalations(route, lower, higher, reason).inc()
        self._fold_attempts(record)
        self._counterfactual(route).inc(_clip(record.counterfactual_cost))
        seconds = record.seconds
        self._seconds(route, "router").observe(_clip(seconds.router))
        self._seconds(route, "upstream").observe(_clip(seconds.upstream))
        self._seconds(route, "check").observe(_clip(seconds.check))
        self._seconds(route, "total").observe(_clip(seconds.total))
        self._seconds(route, "overhead").observe(_clip(seconds.total - seconds.upstream))

    def _fold_attempts(self, record: Record) -> None:
        for attempt in record.attempts:
            rung, tokens = attempt.rung, attempt.tokens
            self._attempts(record.route, rung, attempt.outcome, attempt.reason).inc()
            self._attempt_seconds(rung).observe(_clip(attempt.seconds))
            if attempt.probability is not None and 0 <= attempt.probability <= 1:
                self._confidence(record.route).observe(attempt.probability)
            if tokens.input or tokens.output:
                given, taken = _clip(tokens.input), _clip(tokens.output)
                cached = min(_clip(tokens.cached_input), given)
                self._tokens(rung, "input").inc(given - cached)
                self._tokens(rung, "cached_input").inc(cached)
                self._tokens(rung, "output").inc(taken)
                if attempt.outcome != "delivered":
                    self._wasted(rung).inc(given + taken)
            if attempt.cost > 0:
                self._cost(record.route, rung).inc(_clip(attempt.cost))

    def _counter(self, name: str, meaning: str, **labels: Collection[str]) -> "_Family[Counter]":
        return _Family(Counter(f"weir_{name}_total", meaning, list(labels), registry=self.registry), labels.values())

    def _histogram(
        self, name: str, meaning: str, buckets: Sequence[float], **labels: Collection[str]
    ) -> "_Family[Histogram]":
        metric = Histogram(f"weir_{name}", meaning, list(labels), buckets=buckets, registry=self.registry)
        return _Family(metric, labels.values())

    def _gauge(self, name: str, meaning: str, **labels: Collection[str]) -> "_Family[Gauge]":
        return _Family(Gauge(f"weir_{name}", meaning, list(labels), registry=self.registry), labels.values())


class _Family(Generic[M]):
    """A metric and its children. `allowed`: per label the values that may become series."""

    def __init__(self, metric: M, allowed: Collection[Collection[str]]) -> None:
        self._metric: M = metric
        self._allowed = tuple(allowed)
        self._kept: dict[tuple[str, ...], M] = {}

    def __call__(self, *values: str) -> M:
        """The child for these label values, in the order of the labels."""
        kept = self._kept.get(values)
        if kept is None:
            clean = tuple(self._clean(value, ok) for value, ok in zip(values, self._allowed, strict=True))
            kept = self._metric.labels(*clean) if clean else self._metric
            # Only values of closed lists are remembered; remembering junk would be the leak that "other" prevents.
            if all(old in (new, "") for old, new in zip(values, clean, strict=True)):
                self._kept[values] = kept
        return kept

    @staticmethod
    def _clean(value: str, allowed: Collection[str]) -> str:
        return value if value in allowed else OTHER if value else NONE


def escalations(record: Record) -> list[tuple[str, str, str]]:
    """(from, to, reason) of every spill of one request: a small rung was rejected or failed, and a higher one was asked.

    The higher one is the first other rung that was asked after the failure, or the top rung whenever it was asked (it may have
    been started ahead). Tries of the same rung spill once, for the last try's reason. Second opinions are no rungs, and an early start that
    was thrown away is no spill.
    """
    spills: dict[tuple[str, str], str] = {}
    unneeded = ("agree", "sample", "early") if record.speculation == "wasted" else ("agree", "sample")
    asked = [attempt for attempt in record.attempts if attempt.purpose not in unneeded]
    for at, low in enumerate(asked):
        if low.outcome not in ("rejected", "error") or low.rung == record.top:
            continue
        end = low.start + low.seconds - 0.001  # clocks are read one after the other
        for high in asked[at + 1 :]:
            if high.rung != low.rung and (high.rung == record.top or high.start >= end):
                spills[low.rung, high.rung] = low.reason
                break
    return [(low_rung, high_rung, reason) for (low_rung, high_rung), reason in spills.items()]


def _clip(number: float) -> float:
    """Zero for what is negative, absurd or no number: one of them would spoil a sum until the restart."""
    return number if 0 <= number < 1e15 else 0.0


def _start(name: str, labels: dict[str, str]) -> str:
    """A line of the page up to its number; "" for what only OpenMetrics has, and which is a third of the page."""
    if name.endswith("_created"):
        return ""
    if not labels:
        return f"{name} "
    inside = ",".join(f'{key}="{_escape(value, quotes=True)}"' for key, value in labels.items())
    return f"{name}{{{inside}}} "


def _escape(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
