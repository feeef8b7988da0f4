"""The registry of one process: what the rest of the gateway tells it, and its page."""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from msgspec import Struct
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from backends.base import Ledger
from gateway.metrics.counting import Counting
from gateway.metrics.family import clip
from gateway.metrics.labels import ERROR_CODES, JUDGED_RESULTS, SHADOW_RESULTS
from gateway.metrics.page import escape, number, start
from gateway.metrics.series import FORGETFUL, Series
from gateway.record import JudgedRecord, Record, ShadowRecord


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
        self.series = Series(self.registry, routes, rungs, version=version, tiers=tiers, codes=codes)
        self.counting = Counting(self.series)
        self._findings: Callable[[], Iterable[Finding]] = tuple
        self._starts: dict[str, list[str]] = {}
        self._rendering = threading.Lock()

    def reconfigure(self, routes: Collection[str], rungs: Collection[str], tiers: Collection[str] = ()) -> None:
        """Names of a new configuration may become labels too. Those of the old one stay."""
        self.series.admit(routes, rungs, tiers)
        self.counting.forget()

    def observe(self, records: Sequence[Record]) -> None:
        """`Counting.observe`."""
        self.counting.observe(records)

    def settle(self) -> None:
        """`Counting.settle`."""
        self.counting.settle()

    def error(self, code: str) -> None:
        """`Counting.error`."""
        self.counting.error(code)

    def wrote(self, route: str, seconds: float) -> None:
        """An answer has been handed to the server whole, or as far as its caller stayed: the one stage that is counted after the
        last byte (`gateway.surface.exchange.Exchange.writing`). Raises nothing."""
        try:
            self.series.seconds[route, "write"].observe(seconds)
        except Exception:
            self.series.observer_errors().inc()

    def in_flight(self, read: Callable[[], float]) -> None:
        """`read` says how many requests are being answered: asked for each page, so that counting costs a request nothing."""
        self.series.in_flight.set_function(read)

    def shadow(self, record: ShadowRecord) -> None:
        """Count what a small rung said off the path."""
        self.series.shadow(record.route, record.rung, record.result).inc()
        if record.accepted and record.result in SHADOW_RESULTS[:2]:
            self.series.shadow_accepted(record.route, record.rung, record.result).inc()
        if record.cost > 0:
            self.series.shadow_cost(record.route, record.rung).inc(record.cost)

    def judged(self, record: JudgedRecord) -> None:
        """Count what a judge said off the path."""
        self.series.judged(record.route, record.rung, record.result).inc()
        if record.probability is not None and record.result in JUDGED_RESULTS[:2]:
            self.series.judged_confidence(record.route, record.result).observe(record.probability)
        if record.cost > 0:
            self.series.judged_cost(record.route, record.by).inc(record.cost)

    def judged_dropped(self, route: str, rung: str) -> None:
        """An answer of the sample was not judged: too many were under way."""
        self.series.judged(route, rung, "dropped").inc()

    def shadow_dropped(self, route: str, rung: str) -> None:
        """A small rung was not asked off the path: too many were under way."""
        self.series.shadow(route, rung, "dropped").inc()

    def stored(self, op: str, result: str) -> None:
        """Count one call of the store of responses."""
        self.series.stored(op, result).inc()

    def spans_dropped(self, count: int = 1) -> None:
        """Spans were not exported (`gateway.tracing`): the queue was full, or the collector away."""
        self.series.spans_dropped().inc(count)

    def dropped(self, count: int = 1) -> None:
        """`Recorder(on_drop=...)`; from any thread."""
        self.series.dropped().inc(count)

    def queue(self, name: str, read: Callable[[], float]) -> None:
        """`read` says how many jobs wait there: asked for each page."""
        self.series.queue(name).set_function(read)

    def held(self, routes: Mapping[str, Held]) -> None:
        """What the routes of the configuration in force are held to. What the one before said is forgotten."""
        for family in (self.series.target, self.series.promised, self.series.threshold):
            family.clear()
        for route, held in routes.items():
            for slo, share in held.slos.items():
                self.series.target(route, slo).set(share)
            for rung, threshold in held.thresholds.items():
                self.series.threshold(route, rung).set(threshold)
                if held.risk is not None:
                    self.series.promised(route, rung).set(held.risk)

    def findings(self, read: Callable[[], "Iterable[Finding]"]) -> None:
        """`read` says what is known of the rungs that are looked after: asked for each page."""
        self._findings = read

    def bypass(self, route: str, on: bool) -> None:
        """The switch of a route, or of ALL."""
        self.series.bypass(route).set(on)

    def available(self, rung: str, yes: bool) -> None:
        self.series.available(rung).set(yes)

    def local(self, rung: str, yes: bool) -> None:
        self.series.local(rung).set(yes)

    def energy(self, gpu: str, uuid: str, joules: float) -> None:
        """A card of this machine took so much more (`gateway.energy`); from any thread. There are as many series as cards."""
        for known, name in zip(self.series.cards, (gpu, uuid), strict=True):
            known.add(name)
        self.series.energy(gpu, uuid).inc(clip(joules))

    def engines(self, names: Collection[str]) -> None:
        """These local engines may become labels too."""
        self.series.engine_names.update(names)
        for name in names:
            self.series.engine_restarts(name)  # shown as 0 from the start

    def engine_up(self, engine: str, up: bool) -> None:
        self.series.engine_up(engine).set(up)

    def engine_restarted(self, engine: str) -> None:
        self.series.engine_restarts(engine).inc()

    def config(self, digest: str) -> None:
        """The configuration in force. The one before is forgotten: its hash is no label any more."""
        self.series.config.clear()
        self.series.config.labels(digest).set(1)

    def reloaded(self, ok: bool) -> None:
        self.series.reloads("ok" if ok else "failed").inc()

    def gauges(self) -> list[Metric]:
        """How it is in this process now. What is counted, and not just looked at, lies in memory that several workers may share
        (`gateway.workers.memory`), and is no part of it."""
        self._look()
        return [
            family
            for gauge in (*self.series.gauges, self.series.config, self.series.build)
            for family in gauge.collect()
        ]

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
                self.series.available(found.backend).set(found.available)
                if found.running is not None:
                    self.series.load(found.backend, "running").set(found.running)
                    self.series.load(found.backend, "waiting").set(found.waiting)
                    self.series.kv(found.backend).set(found.kv)
                    self.series.open(found.backend).set(found.open)
                for name, what in found.ledger.items():
                    if what != "unknown":
                        self.series.capability(found.backend, name).set(what == "enforced")
        except Exception:  # as with Records
            self.series.observer_errors().inc()
