"""One page for all workers: what they count in shared memory, summed when somebody asks.

Counters and histograms: the sum over the living, plus what the dead had counted. Gauges: of those that live and answer, the largest, or
the sum of those in `SUMMED`. What the kernel knows of a process has a label `worker`: as a sum it would fall when a worker is started
anew, and be no counter.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Lock

import msgspec
from msgspec import Struct
from prometheus_client import Metric, ProcessCollector

from gateway.metrics.page import escape, number, start
from gateway.workers.memory import Memory, Name

SUMMED = frozenset({"weir_in_flight", "weir_queue", "weir_workers"})

Labels = tuple[tuple[str, str], ...]


class Gauges(Struct, frozen=True):
    """A family of gauges as one process sees it."""

    name: str
    help: str
    values: list[tuple[dict[str, str], float]]


def pack(gauges: Iterable[Metric]) -> bytes:
    """For the way from a worker to its supervisor."""
    families = (Gauges(g.name, g.documentation, [(s.labels, s.value) for s in g.samples]) for g in gauges)
    return msgspec.msgpack.encode([family for family in families if family.values])


class _Child(Struct):
    """Lines that belong together: one number, or a histogram's buckets and its sum."""

    name: str
    labels: dict[str, str]
    at: int = -1
    starts: list[str] = []
    buckets: list[int] = []


class _Family(Struct):
    type: str
    help: str
    children: dict[Labels, _Child] = {}


class _Source(Struct):
    memory: Memory
    rows: list[int] = []


class Exporter:
    def __init__(self) -> None:
        self._lock = Lock()  # pages are made in threads
        self._sources: dict[str, _Source] = {}
        self._names: list[Name] = []
        self._rows: dict[tuple[str, Labels], int] = {}
        self._families: dict[str, _Family] = {}
        self._past: list[float] = []

    def add(self, source: str, memory: Memory) -> None:
        """Count what stands in `memory` too. A source of that name must have been retired."""
        with self._lock:
            assert source not in self._sources
            self._sources[source] = _Source(memory)

    def retire(self, source: str) -> None:
        """Its process has ended: what it had counted stays. Closes the memory."""
        with self._lock:
            gone = self._sources.pop(source)
            for row, value in zip(self._learn(gone), gone.memory.numbers(), strict=True):
                self._past[row] += value
            gone.memory.close()

    def total(self, sample: str) -> float:
        """Of a counter, over all its labels."""
        with self._lock:
            totals = self._totals()
        return sum(totals[at] for at, name in enumerate(self._names) if name.sample == sample)

    def page(self, gauges: Sequence[bytes], processes: Mapping[str, int]) -> bytes:
        """The text format. gauges: from `pack`, of every process. processes: name > process id."""
        out: list[str] = []
        with self._lock:
            totals = self._totals()
            for name, family in self._families.items():
                out.append(_head(name, family.help, family.type))
                for child in family.children.values():
                    out.extend(_lines(child, totals))
        out.extend(_gauges(gauges))
        out.extend(_processes(processes))
        return "".join(out).encode()

    def _totals(self) -> list[float]:
        """By row."""
        read = [(self._learn(source), source.memory.numbers()) for source in self._sources.values()]
        totals = self._past.copy()
        for rows, values in read:
            for row, value in zip(rows, values, strict=True):
                totals[row] += value
        return totals

    def _learn(self, source: _Source) -> list[int]:
        """The rows of a source's numbers, with those that it has begun since the last look."""
        source.rows.extend(map(self._row, source.memory.names()))
        return source.rows

    def _row(self, name: Name) -> int:
        key = (name.sample, name.labels)
        if key not in self._rows:
            self._rows[key] = len(self._names)
            self._names.append(name)
            self._past.append(0.0)
            self._show(name, self._rows[key])
        return self._rows[key]

    def _show(self, name: Name, row: int) -> None:
        shown = name.sample if name.type == "counter" else name.family
        family = self._families.setdefault(shown, _Family(name.type, name.help))
        bucket = name.sample.endswith("_bucket") and name.type == "histogram"
        labels = name.labels[:-1] if bucket else name.labels
        child = family.children.setdefault(labels, _Child(name.family, dict(labels)))
        if bucket:
            child.starts.append(start(name.sample, dict(name.labels)))
            child.buckets.append(row)
        else:
            child.at = row
            if name.type == "counter":
                child.starts.append(start(name.sample, child.labels))


def _head(name: str, about: str, type_: str) -> str:
    return f"# HELP {name} {escape(about)}\n# TYPE {name} {type_}\n"


def _lines(child: _Child, totals: list[float]) -> Iterator[str]:
    if not child.buckets:
        for begin in child.starts:
            yield f"{begin}{number(totals[child.at])}\n"
        return
    count = 0.0
    for begin, at in zip(child.starts, child.buckets, strict=True):
        count += totals[at]
        yield f"{begin}{number(count)}\n"
    yield f"{start(child.name + '_count', child.labels)}{number(count)}\n"
    yield f"{start(child.name + '_sum', child.labels)}{number(totals[child.at])}\n"


def _gauges(packed: Iterable[bytes]) -> Iterator[str]:
    families: dict[str, tuple[str, dict[str, float]]] = {}
    for one in packed:
        for family in msgspec.msgpack.decode(one, type=list[Gauges]):
            values = families.setdefault(family.name, (family.help, {}))[1]
            for labels, value in family.values:
                line = start(family.name, labels)
                together = (
                    values.get(line, 0.0) + value if family.name in SUMMED else max(values.get(line, value), value)
                )
                values[line] = together
    for name, (about, values) in families.items():
        yield _head(name, about, "gauge")
        yield from (f"{line}{number(value)}\n" for line, value in values.items())


def _processes(processes: Mapping[str, int]) -> Iterator[str]:
    families: dict[str, list[str]] = {}
    for worker, pid in processes.items():
        for metric in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
            shown = f"{metric.name}_total" if metric.type == "counter" else metric.name
            lines = families.setdefault(shown, [_head(shown, metric.documentation, metric.type)])
            lines.extend(f"{start(s.name, {'worker': worker})}{number(s.value)}\n" for s in metric.samples)
    for lines in families.values():
        yield from lines
