"""One page for several workers: what each has counted goes to the supervisor once a second, which adds it up and tells each the sum.

    worker      fold > Share.report ---Report---> Board.take        supervisor
                Share.take <-----------Joined---- (what is new since the worker's last one)

A Report holds what came since the one before: so nothing is kept per worker, and what a worker has told stays when it dies; what it counted
in its last second goes with it when it is killed. Both messages hold the few buckets that changed, at most LAST decisions, and how the
backends are: some kilobytes, however long the instance runs and however many requests come. Pure: who calls brings clock and channel.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct, structs

from gateway.dashboard.data import LAST, Bucket, Sums, Window
from gateway.record import Record, decode, encode

FIRST = 0
"""The worker that probes what engines enforce; the others do not know it."""
REPORTS = 10
"""Of a worker's last ones its rate of requests is made."""
LONGEST = 4096
"""Characters of what a caller has named in one Record (model, tools, schema); beyond, those names are cut or left out."""
CUT = 80

Row = dict[str, Any]
"""A backend, as `view.backends` tells it."""


class Line(Struct, frozen=True, array_like=True):
    id: str
    at: float
    """Unix seconds when it was over."""
    record: bytes
    """JSON."""


class Report(Struct, frozen=True, array_like=True):
    """What one worker has counted since its last one."""

    since: int
    """Of the last Joined that it has taken; 0: none."""
    buckets: list[Bucket]
    ever: Sums
    lines: list[Line]
    in_flight: int
    per_second: float
    backends: Sequence[Row] | None
    """None: as told before."""


class Joined(Struct, frozen=True, array_like=True):
    """Of all workers. Buckets and lines are those that changed since the worker's last one, the buckets whole."""

    sequence: int
    start: float
    """Unix seconds at which the instance began."""
    workers: int
    """Those that live and have told something."""
    buckets: list[Bucket]
    ever: Sums
    lines: list[Line]
    in_flight: int
    per_second: float
    backends: list[Row]


_reports = msgspec.msgpack.Decoder(Report)
_joined = msgspec.msgpack.Decoder(Joined)


class Share:
    """A worker's end."""

    def __init__(self, now: float, clock: float) -> None:
        """now: Unix seconds. clock: monotonic seconds."""
        self.shown = Window(now)
        """What all workers have counted, as last told."""
        self.seen: Mapping[str, Row] = {}
        """Backend > how all workers see it."""
        self.in_flight = self.workers = 0
        self.per_second = 0.0
        self._fresh = Window(now)
        self._told: Window | None = None
        """In a Report that is not answered yet."""
        self._sequence = 0
        self._backends: Sequence[Row] | None = None
        self._folded = 0
        self._rate = deque([(clock, 0)], maxlen=REPORTS + 1)

    def fold(self, records: Sequence[Record], now: float) -> None:
        """As `Window.fold`."""
        self._fresh.fold(records, now)
        self._folded += len(records)

    def report(self, clock: float, in_flight: int, backends: Sequence[Row]) -> bytes:
        """A Report of what is new. `take` or `put_back` must follow before the next."""
        told = self._told = self._fresh
        self._fresh = Window(clock)
        known, self._backends = self._backends, backends
        began, before = self._rate[0]
        self._rate.append((clock, self._folded))
        report = Report(
            since=self._sequence,
            buckets=told.kept(),
            ever=told.ever,
            lines=list(_lines(told.last)),
            in_flight=in_flight,
            per_second=(self._folded - before) / max(clock - began, 1.0),
            backends=None if backends == known else backends,
        )
        return msgspec.msgpack.encode(report)

    def put_back(self) -> None:
        """The last Report was not taken: the next one tells it again."""
        self._backends = None
        if self._told is not None:
            told, since, self._told = self._told, self._fresh, None
            told.add(since.kept(), since.ever)
            told.last.extend(since.last)
            self._fresh = told

    def take(self, answer: bytes) -> None:
        """A Joined, the answer to the last Report. Raises msgspec.DecodeError."""
        self._told = None
        told = _joined.decode(answer)
        shown, self._sequence = self.shown, told.sequence
        shown.start, shown.ever = told.start, told.ever
        for bucket in told.buckets:
            shown.put(bucket)
        last = sorted([*shown.last, *(decode(line.record) for line in told.lines)], key=_in_order)
        shown.last = deque(last, maxlen=LAST)
        self.seen = {row["name"]: row for row in told.backends}
        self.in_flight, self.workers, self.per_second = told.in_flight, told.workers, told.per_second


class Board:
    """The supervisor's end."""

    def __init__(self, now: float) -> None:
        """now: Unix seconds."""
        self._window = Window(now)
        self._sequence = 0
        self._changed: dict[int, int] = {}
        """Number of a bucket > sequence of its last change."""
        self._lines: list[tuple[int, Line]] = []
        self._parts: dict[int, Report] = {}
        """The last Report of each worker that lives."""
        self._views: dict[int, Sequence[Row]] = {}

    def take(self, worker: int, body: bytes) -> bytes:
        """A worker's Report > what it shall show. Raises msgspec.DecodeError, and nothing was counted."""
        report = _reports.decode(body)
        self._sequence += 1
        self._window.add(report.buckets, report.ever)
        self._changed |= {bucket.number: self._sequence for bucket in report.buckets}
        kept = {bucket.number for bucket in self._window.kept()}
        self._changed = {number: at for number, at in self._changed.items() if number in kept}
        lines = [*self._lines, *((self._sequence, line) for line in report.lines)]
        self._lines = sorted(lines, key=lambda one: (one[1].at, one[1].id))[-LAST:]
        if report.backends is not None:
            self._views[worker] = report.backends
        self._parts[worker] = structs.replace(report, buckets=[], lines=[])
        return self._answer(report.since)

    def left(self, worker: int) -> None:
        """It has died: what it counted stays. The first one's findings about the engines do too, until it has others."""
        self._parts.pop(worker, None)
        if worker != FIRST:
            self._views.pop(worker, None)

    def find(self, id: str) -> bytes:
        """The Record of one of the last decisions, as JSON; b"" when it is not among them."""
        return next((line.record for _, line in self._lines if line.id == id), b"")

    def _answer(self, since: int) -> bytes:
        new = {number for number, at in self._changed.items() if at > since}
        living = {worker: view for worker, view in self._views.items() if worker in self._parts}
        return msgspec.msgpack.encode(
            Joined(
                sequence=self._sequence,
                start=self._window.start,
                workers=len(self._parts),
                buckets=self._window.kept(new),
                ever=self._window.ever,
                lines=[line for at, line in self._lines if at > since],
                in_flight=sum(part.in_flight for part in self._parts.values()),
                per_second=sum(part.per_second for part in self._parts.values()),
                backends=list(worst(living, self._views.get(FIRST, ()))),
            )
        )


def worst(views: Mapping[int, Sequence[Row]], first: Sequence[Row]) -> Iterator[Row]:
    """Each backend as the worker sees it that thinks worst of it; `view` says which, where they do not agree. views: by worker. first: as
    the one worker sees them that knows what they enforce."""
    ledgers = {row["name"]: row["ledger"] for row in first}
    seen: dict[str, list[tuple[int, Row]]] = {}
    for worker in sorted(views):
        for row in views[worker]:
            seen.setdefault(row["name"], []).append((worker, row))
    for name, rows in seen.items():
        worker, row = min(rows, key=lambda one: _health(one[1]))  # the first of those that are equal
        differ = len({_health(other) for _, other in rows}) > 1
        view = f"worst of {len(rows)} workers: worker {worker}" if differ else ""
        yield {**row, "view": view, "ledger": ledgers.get(name, []), "ledger_of": f"worker {FIRST}"}


def _health(row: Row) -> tuple[bool, int]:
    """The smaller, the worse."""
    return bool(row["available"]), -sum(not replica.get("seen") for replica in row["replicas"])


def _lines(records: Iterable[Record]) -> Iterator[Line]:
    for record in records:
        with suppress(Exception):  # foreign values in a Record: it is counted, and shown by nobody
            yield Line(record.id, _ended(record), encode(_short(record)))


def _ended(record: Record) -> float:
    return record.time + record.seconds.total


def _in_order(record: Record) -> tuple[float, str]:
    return _ended(record), record.id


def _short(record: Record) -> Record:
    """Without the names that a caller has made up, where those are endless."""
    facts, attempts = record.facts, record.attempts
    names = [facts.model, facts.schema_name, *facts.tool_names, *(call for one in attempts for call in one.calls)]
    if sum(map(len, names)) <= LONGEST:
        return record
    short = structs.replace(facts, model=facts.model[:CUT], schema_name=facts.schema_name[:CUT], tool_names=())
    return structs.replace(record, facts=short, attempts=[structs.replace(one, calls=()) for one in attempts])
