"""Several workers' pages against one that has seen everything."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dashboard.data import BUCKETS, LAST, NAMES, STEP, Window, latencies, rates, total
from gateway.dashboard.joined import LONGEST, Board, Share, worst
from gateway.record import AttemptRecord, Facts, Record, Seconds
from tests.dashboard.records import record

WORKERS = 3
happenings = st.lists(
    st.tuples(
        st.integers(0, WORKERS - 1),
        st.sampled_from(["accepted", "escalated", "direct", "refused", "tell", "die", "refuse", "pass"]),
    ),
    max_size=120,
)


class World:
    """Workers that fold, tell, die and come back, under one supervisor. `all`: what was told, as one process would have counted it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.number = 0
        self.board = Board(self.now)
        self.shares = [Share(self.now, self.now) for _ in range(WORKERS)]
        self.untold: list[list[tuple[float, Record]]] = [[] for _ in range(WORKERS)]
        self.all: list[tuple[float, Record]] = []

    def fold(self, worker: int, outcome: str = "accepted", **more: Any) -> None:
        self.number += 1
        told = record(outcome, id=f"req_{self.number:05}", time=self.now + self.number * 1e-4, **more)
        self.shares[worker].fold([told], self.now)
        self.untold[worker].append((self.now, told))

    def tell(self, worker: int, backends: list[dict[str, Any]] | None = None) -> int:
        """The size of both messages."""
        share = self.shares[worker]
        report = share.report(self.now, in_flight=worker + 1, backends=backends or [])
        answer = self.board.take(worker, report)
        share.take(answer)
        self.all += self.untold[worker]
        self.untold[worker] = []
        return len(report) + len(answer)

    def die(self, worker: int) -> None:
        self.board.left(worker)
        self.shares[worker] = Share(self.now, self.now)
        self.untold[worker] = []

    def one(self) -> Window:
        window = Window(1000.0)
        for at, told in sorted(self.all, key=lambda one: one[0]):
            window.fold([told], at)
        return window


def shown(window: Window, now: float) -> tuple[Any, ...]:
    """What a page makes of it, without the last digits of sums that were added in another order."""
    buckets = window.buckets(now)
    found = [rates(bucket.all) if bucket else None for bucket in buckets]
    whole = msgspec.to_builtins([rates(window.ever), found])
    routes = {name for bucket in buckets if bucket for name in bucket.routes}
    each = {name: rates(total(b.routes[name] for b in buckets if b and name in b.routes)).requests for name in routes}
    return _rounded(whole), each, latencies(buckets)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


@given(happenings)
def test_every_worker_shows_what_one_process_would_have_counted(happenings: list[tuple[int, str]]) -> None:
    """Whoever counts, tells, is refused, dies and comes back, in whatever order: after a round each worker shows everything that was told,
    once, and the last decisions in the order in which they ended."""
    world = World()
    for worker, what in happenings:
        if what == "tell":
            world.tell(worker)
        elif what == "die":
            world.die(worker)
        elif what == "refuse":
            world.shares[worker].report(world.now, 0, [])
            world.shares[worker].put_back()
        elif what == "pass":
            world.now += 2 * STEP
        else:
            world.fold(worker, what)
    for _ in range(2):  # the second time everybody knows what everybody has told
        for worker in range(WORKERS):
            world.tell(worker)
    expected = shown(world.one(), world.now)
    last = [told.id for _, told in sorted(world.all, key=lambda one: one[1].time)][-LAST:]
    for share in world.shares:
        assert shown(share.shown, world.now) == expected
        assert [told.id for told in share.shown.last] == last
        assert (share.workers, share.in_flight) == (WORKERS, sum(range(1, WORKERS + 1)))


def test_a_round_costs_what_is_new() -> None:
    """The messages of a round do not grow with what has been counted before: a quarter of an hour later they are as long."""
    world = World()
    sizes = []
    for _ in range(3 * BUCKETS):
        for worker in range(WORKERS):
            world.fold(worker)
        sizes.append(max(world.tell(worker) for worker in range(WORKERS)))
        world.now += STEP
    assert max(sizes[-10:]) < 1.1 * max(sizes[:10])


def test_what_is_kept_and_sent_is_bounded() -> None:
    """However much a worker has counted before it could tell, and whatever a caller has named: so many buckets, names and decisions, and a
    long name of a model is cut."""
    world = World()
    for at in range(3 * BUCKETS):
        world.now = 1000.0 + at * STEP
        world.fold(0, route=f"route{at}", facts=Facts(model="x" * 50_000, tool_names=["y" * 50_000]))
    for at in range(3 * NAMES):
        rungs = [AttemptRecord(0, f"rung{at}", "delivered", calls=["z" * 50_000])]
        world.fold(1, route=f"route{at}", attempts=rungs)
    assert world.tell(0) < 200_000
    assert world.tell(1) < 200_000 + LAST * (LONGEST + 2000)
    window = world.shares[1].shown
    assert len(window.kept()) == BUCKETS
    assert len(window.last) == LAST
    newest = window.buckets(world.now)[-1]
    assert newest is not None
    assert len(newest.routes) <= NAMES + 1
    assert len(newest.latency) <= NAMES + 1
    assert window.ever.outcomes["accepted"] == 3 * BUCKETS + 3 * NAMES
    assert all(len(told.facts.model) < LONGEST for told in window.last)


def test_a_record_that_cannot_be_told_costs_itself_only() -> None:
    """It is counted, and missing among the decisions."""
    world = World()
    world.fold(0, facts=Facts(model="\ud800"))
    world.fold(0)
    world.tell(0)
    shown = world.shares[0].shown
    assert shown.ever.outcomes == {"accepted": 2}
    assert [told.id for told in shown.last] == ["req_00002"]


def test_a_decision_of_a_dead_worker_can_still_be_opened() -> None:
    """The supervisor has its Record, and so has every worker."""
    world = World()
    world.fold(0, "escalated", seconds=Seconds(total=0.25))
    world.tell(0)
    world.die(0)
    world.tell(1)
    assert msgspec.json.decode(world.board.find("req_00001"))["escalation"] == "schema"
    assert world.board.find("req_00002") == b""
    (told,) = world.shares[1].shown.last
    assert (told.id, told.outcome, told.seconds.total) == ("req_00001", "escalated", 0.25)


def test_requests_per_second_are_those_of_the_living() -> None:
    """Three workers with 2, 4 and 6 requests a second: 12; one dies: what it did a second ago is no rate any more."""
    world = World()
    for _ in range(20):
        world.now += 1.0
        for worker in range(WORKERS):
            for _ in range(2 * (worker + 1)):
                world.fold(worker)
        for worker in range(WORKERS):
            world.tell(worker)
    assert world.shares[2].per_second == pytest.approx(12.0)
    world.die(1)
    world.tell(0)
    assert world.shares[0].per_second == pytest.approx(8.0)
    assert world.shares[0].workers == 2


def backend(available: bool = True, ledger: str = "unknown", **more: Any) -> dict[str, Any]:
    why = "" if available else "no replica answers"
    return {
        "name": "slm",
        "available": available,
        "why": why,
        "replicas": [],
        "ledger": [["json_schema", ledger]],
        **more,
    }


def test_the_worst_view_of_a_backend_is_shown_and_says_whose_it_is() -> None:
    """One worker that cannot reach it is what people must see; where all agree nothing is said of views."""
    (agreed,) = worst({0: [backend()], 1: [backend()]}, [])
    assert (agreed["available"], agreed["view"]) == (True, "")
    (told,) = worst({0: [backend()], 1: [backend(False)], 2: [backend(False)]}, [])
    assert (told["available"], told["why"]) == (False, "no replica answers")
    assert told["view"] == "worst of 3 workers: worker 1"
    half = backend(replicas=[{"url": "a", "seen": True}, {"url": "b", "seen": False}])
    (told,) = worst({0: [backend(replicas=[{"url": "a", "seen": True}])], 1: [half]}, [])
    assert told["view"] == "worst of 2 workers: worker 1"


def test_what_engines_enforce_is_what_the_first_worker_found() -> None:
    """All show it, and say so; also while the first worker is dead, whose view of health then counts no more."""
    world = World()
    world.tell(1, [backend()])
    assert world.shares[1].seen["slm"]["ledger"] == []
    world.tell(0, [backend(False, ledger="enforced")])
    world.tell(1, [backend()])
    row = world.shares[1].seen["slm"]
    assert (row["ledger"], row["ledger_of"]) == ([["json_schema", "enforced"]], "worker 0")
    assert row["available"] is False
    world.die(0)
    world.tell(1, [backend()])
    row = world.shares[1].seen["slm"]
    assert (row["ledger"], row["available"]) == ([["json_schema", "enforced"]], True)


def test_a_report_that_cannot_be_read_counts_nothing() -> None:
    """Refused whole, and told again by the next one."""
    world = World()
    world.fold(0)
    share = world.shares[0]
    report = share.report(world.now, 0, [])
    with pytest.raises(msgspec.MsgspecError):
        world.board.take(0, report[:-3])
    share.put_back()
    world.tell(0)
    assert share.shown.ever.outcomes == {"accepted": 1}
