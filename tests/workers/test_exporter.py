"""Counting in shared memory, and one page over several processes' numbers. Both ends in this process, over the same memory."""

import os
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Metrics
from gateway.workers.exporter import Exporter, pack
from gateway.workers.memory import Memory, Name, create


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    """`install` is for processes that do nothing else."""
    before = values.ValueClass
    yield
    values.ValueClass = before


class Process:
    """One that counts, with a counter, a histogram and a gauge."""

    def __init__(self, exporter: Exporter | None, name: str) -> None:
        """exporter: None: it shares nothing."""
        if exporter is not None:
            fd = create()
            self.memory = Memory(fd)
            exporter.add(name, Memory(fd))
            os.close(fd)
        self._shared = exporter is not None
        self.registry = CollectorRegistry()
        self.asked = Counter("asked", "Asked.", ["by"], registry=self.registry)
        self.seconds = Histogram("seconds", 'Of "it".', ["by"], buckets=(0.1, 1), registry=self.registry)
        self.open = Gauge("weir_in_flight", "Open.", registry=self.registry)
        self.state = Gauge("state", "A state.", ["of"], registry=self.registry)

    def count(self, by: str, times: float, seconds: float) -> None:
        """Children are made here: in this process's own memory, as if it were one."""
        before = values.ValueClass
        if self._shared:
            self.memory.install()
        self.asked.labels(by).inc(times)
        self.seconds.labels(by).observe(seconds)
        values.ValueClass = before

    def gauges(self) -> bytes:
        return pack([*self.open.collect(), *self.state.collect()])


def read(page: bytes, *but: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if not sample.name.endswith("_created") and sample.name not in but
    }


def test_the_page_is_the_sum() -> None:
    """Counters, buckets, counts and sums of two processes are what one would show that had seen it all."""
    exporter = Exporter()
    one, two = Process(exporter, "0"), Process(exporter, "1")
    values.ValueClass = values.MutexValue
    alone = Process(None, "alone")
    for number, process in enumerate((one, two, one)):
        for each in (process, alone):
            each.count(f'a "{number % 2}"\n', number + 1, 0.05 * 10**number)
    assert read(exporter.page([], {})) == read(generate_latest(alone.registry), "weir_in_flight")
    assert exporter.total("asked_total") == 6


def test_the_dead_are_counted_on() -> None:
    """What a process had counted stays when it is gone, once; its gauges go; a new one of its name adds to it."""
    exporter = Exporter()
    first = Process(exporter, "0")
    first.count("x", 5, 0.5)
    exporter.retire("0")
    assert exporter.total("asked_total") == 5
    again = Process(exporter, "0")
    again.count("x", 2, 3)
    seen = read(exporter.page([], {}))
    assert seen["asked_total", (("by", "x"),)] == 7
    assert seen["seconds_bucket", (("by", "x"), ("le", "1.0"))] == 1
    assert seen["seconds_count", (("by", "x"),)] == 2
    assert seen["seconds_sum", (("by", "x"),)] == 3.5


def test_gauges() -> None:
    """Requests in flight add up; of a state the largest counts; what no process says is not there."""
    exporter = Exporter()
    one, two = Process(exporter, "0"), Process(exporter, "1")
    for process, value in ((one, 2), (two, 3)):
        process.open.set_function(lambda value=value: value)  # type: ignore[misc]
        process.state.labels("a").set(value)
    one.state.labels("b").set(0)
    seen = read(exporter.page([one.gauges(), two.gauges()], {}))
    assert seen == {("weir_in_flight", ()): 5, ("state", (("of", "a"),)): 3, ("state", (("of", "b"),)): 0}


def test_what_the_kernel_knows_is_told_by_process() -> None:
    """A sum over processes would fall when one is started anew."""
    seen = read(Exporter().page([], {"7": os.getpid()}))
    assert seen["process_cpu_seconds_total", (("worker", "7"),)] > 0


def test_a_full_memory_turns_numbers_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted, and whoever counts them goes on."""
    monkeypatch.setattr("gateway.workers.memory.SLOTS", 2)
    memory = Memory(create())
    for number in range(2):
        memory.place(Name("counter", "a", f"a{number}", (), ""))
    assert memory.place(Name("counter", "a", "a1", (), "")) == 1
    with pytest.raises(MemoryError):
        memory.place(Name("counter", "a", "b", (), ""))
    memory.install()
    counter = Counter("c", "C.", registry=None)
    counter.inc()
    assert memory.turned_away == 2


def test_every_series_of_ours_goes_through_the_memory() -> None:
    """All counters and histograms of `Metrics` are on the shared page, with the values that its own page shows."""
    from tests.metrics.test_metrics import attempt, record

    exporter = Exporter()
    fd = create()
    Memory(fd).install()
    exporter.add("0", Memory(fd))
    os.close(fd)
    metrics = Metrics(["r"], ["slm", "llm"], version="1")
    metrics.observe([record(attempt("slm"), route="r")])
    ours = {key: value for key, value in read(metrics.render()).items() if not key[0].startswith("process_")}
    assert any(value for (name, _), value in ours.items() if name == "weir_requests_total")
    assert ours[("weir_observer_errors_total", ())] == 0
    assert read(exporter.page([pack(metrics.gauges())], {})) == ours
