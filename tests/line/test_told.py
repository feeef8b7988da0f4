"""What is told of a request waits for others (`gateway.setup.Live.tell`), and nobody who reads can see that."""

import asyncio
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway import setup as module
from gateway.log import Log
from gateway.record import Facts, Record
from gateway.recorder import stored
from gateway.setup import MANY, Live
from gateway.workers.worker import Desk
from tests.serving import Served, serving
from tests.waiting import until

CONFIG = """
backends: {small: {kind: scripted, default: "hello"}}
router: {use: {kind: rules}, default: general}
routes: {general: {ladder: [small], mode: enforce}}
models: {weir: routed}
responses: {store: "off"}
"""
ASK: dict[str, Any] = {"model": "weir", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def never_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is folded by whoever reads, or not at all."""
    monkeypatch.setattr(module, "SOON", 3600.0)


def made(id: str) -> Record:
    return Record(id=id, time=1.0, outcome="accepted", route="r", mode="enforce", reason="matched", facts=Facts("m"))


async def metrics(served: Served, id: str) -> None:
    page = (await served.client.get("/metrics")).text
    assert 'weir_requests_total{route="general",outcome="accepted",mode="enforce"} 1.0' in page


async def one(served: Served, id: str) -> None:
    assert (await served.client.get(f"/v1/weir/requests/{id}")).json()["id"] == id


async def recent(served: Served, id: str) -> None:
    assert [each["id"] for each in (await served.client.get("/v1/weir/requests")).json()] == [id]


async def page(served: Served, id: str) -> None:
    state = (await served.client.get("/ui/state")).json()
    assert [each["id"] for each in state["last"]] == [id]


async def decision(served: Served, id: str) -> None:
    assert (await served.client.get(f"/ui/decisions/{id}")).status_code == 200


async def supervisor(served: Served, id: str) -> None:
    """Of several workers: counted in the memory that it reads by the time its question for the gauges is answered."""
    desk = Desk()
    desk.app = served.app
    await desk.answer("gauges", b"")
    assert b'outcome="accepted"' in served.app.metrics.render()


async def sibling(served: Served, id: str) -> None:
    desk = Desk()
    desk.app = served.app
    assert orjson.loads(await desk.answer("find", id.encode()))["id"] == id


@pytest.mark.usefixtures("never_in_time")
@pytest.mark.parametrize("reads", [metrics, one, recent, page, decision, supervisor, sibling])
def test_whoever_reads_sees_all_that_was_told(tmp_path: Path, reads: Callable[[Served, str], Any]) -> None:
    """Right after an answer, whichever way is the first to be asked."""

    async def run() -> None:
        async with serving(CONFIG, tmp_path) as served:
            answer = await served.chat(ASK)
            await reads(served, answer.headers["x-weir-request-id"])

    asyncio.run(run())


def test_what_nobody_reads_is_counted_soon(tmp_path: Path) -> None:
    """In the memory that a supervisor reads when the worker was killed: the number itself, with no page asked for."""

    async def run() -> None:
        async with serving(CONFIG, tmp_path) as served:
            counted = served.app.metrics.series.requests("general", "accepted", "enforce")._value
            for _ in range(MANY + 2):
                await served.chat(ASK)
            await until(lambda: counted.get() == MANY + 2)
            await served.chat(ASK)
            await until(lambda: counted.get() == MANY + 3)

    asyncio.run(run())


@pytest.mark.usefixtures("never_in_time")
def test_an_orderly_end_loses_nothing(tmp_path: Path) -> None:
    """The line of log, the Record on disk and the count of each request are there once the gateway has ended, in order."""
    written = io.BytesIO()

    async def run() -> tuple[list[str], str]:
        async with serving(CONFIG, tmp_path, log=Log(written)) as served:
            ids = [(await served.chat(ASK)).headers["x-weir-request-id"] for _ in range(MANY + 3)]
        return ids, served.app.metrics.render().decode()

    ids, counted = asyncio.run(run())
    lines = [orjson.loads(line) for line in written.getvalue().splitlines()]
    assert [line["id"] for line in lines if line["event"] == "request"] == ids
    assert [record.id for record in stored(tmp_path / "var")] == ids
    assert f'outcome="accepted",mode="enforce"}} {len(ids)}.0' in counted


@pytest.mark.usefixtures("never_in_time")
def test_a_reload_counts_what_was_answered_before_it(tmp_path: Path) -> None:
    """Under the names of its configuration, and it is on the page when the reload is done."""

    async def run() -> None:
        async with serving(CONFIG, tmp_path) as served:
            await served.chat(ASK)
            served.rewrite(CONFIG.replace("general", "other"))
            await until(lambda: "other" in served.app.live.setup.routes)
            assert b'route="general",outcome="accepted"' in served.app.metrics.render()

    asyncio.run(run())


def test_records_come_together_in_order_and_never_more_than_many() -> None:
    """MANY that wait are handed over at the loop's next turn; what ended meanwhile comes with them, MANY at a time."""

    async def run() -> list[list[str]]:
        seen: list[list[str]] = []
        live = Live(None, [lambda records: seen.append([each.id for each in records])])  # type: ignore[arg-type]
        live.gather()
        live.in_flight = 2
        for number in range(MANY):
            live.observe(made(f"r{number}"))
        assert seen == []
        live.observe(made("late"))
        await until(lambda: bool(seen))
        live.settle()
        return seen

    assert asyncio.run(run()) == [[f"r{number}" for number in range(MANY)], ["late"]]


@pytest.mark.parametrize(("in_flight", "at_once"), [(1, True), (2, False)])
def test_a_record_waits_for_others_only_while_somebody_waits_for_an_answer(in_flight: int, at_once: bool) -> None:
    """The last request there is (it counts itself) is told at the loop's next turn: then nobody is kept waiting by it."""

    async def run() -> tuple[list[str], list[str]]:
        seen: list[Record] = []
        live = Live(None, [seen.extend])  # type: ignore[arg-type]
        live.gather()
        live.in_flight = in_flight
        live.observe(made("r"))
        before = [each.id for each in seen]
        await asyncio.sleep(0)
        return before, [each.id for each in seen]

    assert asyncio.run(run()) == ([], ["r"] if at_once else [])


def test_one_alone_comes_soon() -> None:
    """Nobody has to ask for it; and after the first such time there is a next one."""

    async def run() -> None:
        seen: list[Record] = []
        live = Live(None, [seen.extend])  # type: ignore[arg-type]
        live.gather()
        live.in_flight = 2
        for _ in range(2):
            live.observe(made("r"))
            assert seen == []
            await until(lambda: len(seen) == 1)
            seen.clear()

    asyncio.run(run())


def test_outside_its_time_a_record_waits_for_nobody() -> None:
    """Before `gather`, as in a command without a loop, and after `settle`, when nobody would come for it any more."""
    seen: list[Record] = []
    live = Live(None, [seen.extend])  # type: ignore[arg-type]
    live.observe(made("before"))
    assert len(seen) == 1

    async def run() -> None:
        live.gather()
        live.observe(made("waits"))
        live.settle()
        live.observe(made("after"))

    asyncio.run(run())
    assert [each.id for each in seen] == ["before", "waits", "after"]


def test_a_record_that_cannot_be_made_is_counted_and_hides_no_other() -> None:
    """Of those that wait together the others are told, in their order."""

    def fails() -> Record:
        raise RuntimeError

    async def run() -> tuple[list[str], int]:
        seen: list[Record] = []
        live = Live(None, [seen.extend])  # type: ignore[arg-type]
        live.gather()
        live.observe(made("before"))
        live.tell(fails)
        live.observe(made("after"))
        live.fold()
        return [each.id for each in seen], live.observer_errors

    assert asyncio.run(run()) == (["before", "after"], 1)


def test_only_requests_of_routes_that_want_it_are_looked_at_afterwards(tmp_path: Path) -> None:
    """A route that is shadowed or judged wants it; any other costs nothing."""
    config = CONFIG.replace(
        "routes: {general: {ladder: [small], mode: enforce}}",
        """routes:
  general: {ladder: [small], mode: enforce}
  judged: {ladder: [small], mode: enforce, judged: {by: small, criterion: right}}
  shadowed: {ladder: [small, large], mode: shadow}""",
    ).replace("backends: {", "backends: {large: {kind: scripted, default: hello}, ")

    async def run() -> tuple[frozenset[str], list[str]]:
        async with serving(config, tmp_path) as served:
            looked: list[str] = []
            live = served.app.live
            live.afterwards[:] = [lambda story: looked.append(story.route.name)]
            for route in ("general", "judged", "shadowed"):
                await served.chat({**ASK, "model": f"route/{route}"})
            return live.setup.aside, looked

    aside, looked = asyncio.run(run())
    assert aside == {"judged", "shadowed"}
    assert looked == ["judged", "shadowed"]


def test_an_observer_that_raises_takes_nothing_from_the_others() -> None:
    """It is counted; those after it get the same Records, and it gets the next ones."""
    tried: list[int] = []
    seen: list[Record] = []

    def raises(records: Sequence[Record]) -> None:
        tried.append(len(records))
        raise RuntimeError

    live = Live(None, [raises, seen.extend])  # type: ignore[arg-type]
    for number in range(2):
        live.observe(made(f"r{number}"))
    assert (tried, live.observer_errors, len(seen)) == ([1, 1], 2, 2)
