"""Records > numbers: each is sorted into its kinds, and those of one kind are counted together."""

import threading
from collections.abc import Sequence

from gateway.metrics.family import MOST, clip
from gateway.metrics.kinds import AttemptKind, Children, RequestKind, keep
from gateway.metrics.labels import TOKENS
from gateway.metrics.series import Series
from gateway.metrics.spills import escalations, had_to
from gateway.record import AttemptRecord, Record
from gateway.slo import failure
from gateway.suspects import Suspects

TOGETHER = 64
"""Records that wait to be counted, many at once. Measured between all that requests do: 5 us each of eight, 3 of 32, 2.5 of 64, which hold
the loop for 0.17 ms; more gain nothing. Who is told to `settle` every 10 ms (`gateway.setup.Live.counted`) comes to that many at 6,400
Records a second only."""


class Counting:
    """The one observer of Records: what they say, in `series`. One thread at a time counts."""

    def __init__(self, series: Series) -> None:
        self._series = series
        self._lock = threading.Lock()
        self._sorted = 0
        """Records that are not counted yet; their amounts are in the rows of `_waiting`."""
        self._waiting: list[Children] = []
        self._suspects = Suspects()
        self._of_requests: dict[tuple[str | bool, ...], Children] = {}
        self._of_attempts: dict[tuple[str | bool, ...], Children] = {}

    def forget(self) -> None:
        """The kinds: what was "other" may have a name now."""
        self._of_requests.clear()
        self._of_attempts.clear()

    def observe(self, records: Sequence[Record]) -> None:
        """Fold them into every series, TOGETHER at once, or when somebody reads. Raises nothing: a Record that cannot be counted is counted
        as that."""
        with self._lock:
            for record in records:
                try:
                    self._sort(record)
                except Exception:  # a metric is never worth a request
                    self._series.observer_errors().inc()
            self._sorted += len(records)
            if self._sorted >= TOGETHER:
                self._count()

    def settle(self) -> None:
        """Count what still waits for that. Whoever reads the registry has it done; who reads what it counts in (`gateway.workers.memory`)
        asks for it. From any thread."""
        with self._lock:
            self._count()

    def _count(self) -> None:
        waiting, self._waiting, self._sorted = self._waiting, [], 0
        for children in waiting:
            if lost := children.count():
                self._series.observer_errors().inc(lost)

    def error(self, code: str) -> None:
        """A caller got an error for a request that has no Record (bad JSON, no key, no such path)."""
        with self._lock:
            self._series.errors(code).inc()

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
            self._series.router_errors("tier").inc(len(record.router_errors))
        for suspect in self._suspects.look(record):
            self._series.suspected[suspect].inc()
        attempts = record.attempts
        if len(attempts) > 1:
            for lower, higher, reason in escalations(record):
                self._series.escalations[route, lower, higher, reason].inc()
        for attempt in attempts:
            self._sort_attempt(record, attempt)

    def _of_request(self, kind: RequestKind) -> Children:
        series, route = self._series, kind.route
        once = [series.requests(route, kind.outcome, kind.mode)]
        if kind.llm:
            once.append(series.llm(route))
        if kind.failed:
            once.append(series.failures(route))
        if kind.direct:
            once.append(series.direct(route, kind.reason))
        if kind.reason in ("router_error", "router_timeout"):
            once.append(series.router_errors(kind.reason.removeprefix("router_")))
        if kind.served:
            once.append(series.served(route, kind.served))
            if kind.outcome == "accepted":
                once.append(series.accepted(route, kind.served))
        if kind.outcome == "degraded":
            once.append(series.degraded(route))
        if kind.late:
            once.append(series.late(route, kind.late))
        if kind.speculation:
            once.append(series.speculations(route, kind.speculation))
        if kind.error:
            once.append(series.errors(kind.error))
        tier = [series.router_seconds(kind.router.partition(":")[0])] if kind.router else []
        return Children.of(
            once,
            [
                [series.seconds(route, "router"), *tier],
                [series.seconds(route, "upstream")],
                [series.seconds(route, "check")],
                [series.seconds(route, "total")],
                [series.seconds(route, "overhead")],
                [series.seconds(route, "rest")],
                [series.seconds(route, "parse")],
                [series.counterfactual(route)],
                [series.seconds(route, "accept")] if kind.accept else [],
                [series.first_byte(route, kind.served)] if kind.first and kind.served else [],
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
        series, route, rung = self._series, kind.route, kind.rung
        delivered = kind.outcome == "delivered"
        sure = kind.known and kind.request == "accepted" and delivered
        once, costs = [series.attempts(route, rung, kind.outcome, kind.reason)], []
        if sure:
            once.append(series.known(route, rung))
        if kind.paid:
            costs.append(series.cost(route, rung))
            if rung == kind.top and not (kind.request == "accepted" and delivered):
                costs.append(series.llm_cost(route))
            if kind.purpose == "early" and kind.speculation == "wasted":
                costs.append(series.early_cost(route))
        fresh, reread, output = TOKENS
        return Children.of(
            once,
            [
                [series.attempt_seconds(rung)],
                [series.first_token(rung)] if kind.first else [],
                [series.gap(rung)] if kind.many else [],
                [series.confidence(route)] if kind.known else [],
                [series.expected(route, rung)] if sure else [],
                [series.tokens(rung, fresh)] if kind.counted else [],
                [series.tokens(rung, reread)] if kind.counted else [],
                [series.tokens(rung, output)] if kind.counted else [],
                [series.wasted(rung)] if kind.counted and not delivered else [],
                costs,
            ],
        )
