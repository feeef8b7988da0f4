"""gateway/engines/supervisor.py over real processes: `fake_vllm.py` in the engine's place."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.engines.plan import Process
from gateway.engines.supervisor import Pace, Supervisor
from tests.engines.fakes import alive, fake, gone, notes, pids
from tests.ports import free_port
from tests.waiting import until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX")

FAST = Pace(look=0.02, ask=0.05, answer=2.0, failures=3, first=0.05, longest=0.2, stood=30.0, loop=3)


class World:
    """A supervisor, what it told, and what its metrics say."""

    def __init__(self, folder: Path, pace: Pace) -> None:
        self.folder = folder
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.up: dict[str, bool] = {}
        self.restarts: list[str] = []
        self.supervisor = Supervisor(folder / "engines", self._say, self, pace)

    def _say(self, name: str, /, *, level: str = "info", **fields: Any) -> None:
        self.told.append((name, fields))

    def engine_up(self, engine: str, up: bool) -> None:
        self.up[engine] = up

    def engine_restarted(self, engine: str) -> None:
        self.restarts.append(engine)

    def want(self, *wanted: Process) -> None:
        self.supervisor.want(wanted, dict(os.environ))

    def events(self, name: str = "") -> list[str]:
        return [event for event, fields in self.told if not name or fields.get("engine") == name]

    def phase(self, name: str = "base") -> str:
        return str(self.supervisor.states().get(name, {}).get("phase", ""))


@asynccontextmanager
async def running(folder: Path, *wanted: Process, pace: Pace = FAST) -> AsyncIterator[World]:
    """A supervisor in a task group, as the lifespan has it; afterwards it has ended everything."""
    world = World(folder, pace)
    world.want(*wanted)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.supervisor.run())
        try:
            yield world
        finally:
            task.cancel()
    assert not [pid for pid in pids(folder) if alive(pid)]


def check(test: Callable[[], Any]) -> None:
    asyncio.run(test())


def test_started_ready_and_ended(tmp_path: Path) -> None:
    """Ready once /health answers, told with its seconds; on the way out nothing of it is left, its own processes neither."""

    async def go() -> None:
        (tmp_path / "held").touch()
        async with running(tmp_path, fake(tmp_path, "slow child")) as w:
            await until(lambda: w.phase() == "starting")
            assert w.up == {"base": False}
            (tmp_path / "held").unlink()
            await until(lambda: w.phase() == "ready")
            assert w.up == {"base": True}
            ready = dict(w.told)["engine_ready"]
            assert ready["seconds"] >= 0.5
            assert w.supervisor.states()["base"] == {
                "ready": True, "phase": "ready", "url": ready["url"], "restarts": 0,
            }  # fmt: skip
        assert w.up == {"base": False}
        assert w.events() == ["engine_started", "engine_ready", "engine_stopped"]
        assert gone(tmp_path)
        assert (tmp_path / "engines" / "base.log").exists()

    check(go)


def test_a_crash_at_start_is_tried_again(tmp_path: Path) -> None:
    """It comes up at the second try; why the first one failed, and where the log stands, is told."""

    async def go() -> None:
        async with running(tmp_path, fake(tmp_path, "once")) as w:
            await until(lambda: w.phase() == "ready")
            died = dict(w.told)["engine_died"]
            assert (died["reason"], died["ready_seconds"]) == ("ended with status 3", 0.0)
            assert w.restarts == ["base"]
            assert "reason" not in w.supervisor.states()["base"]
            logs.append(died["log"])

    logs: list[str] = []
    check(go)
    assert "no memory left" in Path(logs[0]).read_text()


def test_a_crash_loop_is_told_once_and_tried_on(tmp_path: Path) -> None:
    """The pauses grow to the longest one; the loop is an event of its own."""

    async def go() -> None:
        async with running(tmp_path, fake(tmp_path, "crash")) as w:
            await until(lambda: len(w.restarts) >= 5)
            assert w.events().count("engine_crash_loop") == 1
            pauses = [fields["restart_in"] for event, fields in w.told if event == "engine_died"]
            assert pauses[:5] == [0.05, 0.1, 0.2, 0.2, 0.2]
            assert w.supervisor.states()["base"]["reason"] == "ended with status 3"
            assert w.up == {"base": False}

    check(go)


def test_one_that_dies_later_comes_back(tmp_path: Path) -> None:
    """It is down while it is down, and then up again."""

    async def go() -> None:
        async with running(tmp_path, fake(tmp_path, "brief")) as w:
            await until(lambda: "engine_died" in w.events())
            await until(lambda: w.events().count("engine_ready") >= 2)
            assert dict(w.told)["engine_died"]["reason"] == "ended with status 4"
            assert w.supervisor.states()["base"]["restarts"] >= 1

    check(go)


def test_one_that_stood_counts_anew(tmp_path: Path) -> None:
    """Deaths far apart are no loop: the pause stays the first one."""

    async def go() -> None:
        pace = Pace(look=0.02, ask=0.05, answer=2.0, failures=3, first=0.05, longest=10, stood=1e-9, loop=2)
        async with running(tmp_path, fake(tmp_path, "brief"), pace=pace) as w:
            await until(lambda: w.events().count("engine_died") >= 3)
            assert {fields["restart_in"] for event, fields in w.told if event == "engine_died"} == {0.05}
            assert "engine_crash_loop" not in w.events()

    check(go)


def test_one_that_does_not_answer_for_a_while(tmp_path: Path) -> None:
    """A few failed looks are borne."""

    async def go() -> None:
        async with running(tmp_path, fake(tmp_path), pace=structs.replace(FAST, failures=1_000_000)) as w:
            await until(lambda: w.phase() == "ready")
            (tmp_path / "sick").touch()
            await until(lambda: w.phase() == "failing")
            assert w.up == {"base": False}
            (tmp_path / "sick").unlink()
            await until(lambda: w.phase() == "ready")
            assert w.up == {"base": True}
            assert w.restarts == []

    check(go)


def test_one_that_runs_but_does_not_answer(tmp_path: Path) -> None:
    """After so many failed looks in a row it is ended and started anew."""

    async def go() -> None:
        async with running(tmp_path, fake(tmp_path)) as w:
            await until(lambda: w.phase() == "ready")
            (tmp_path / "sick").touch()
            await until(lambda: "engine_died" in w.events())
            assert "did not answer" in dict(w.told)["engine_died"]["reason"]
            (tmp_path / "sick").unlink()
            await until(lambda: w.phase() == "ready")
            assert len(w.restarts) == 1

    check(go)


def test_one_that_never_answers_is_ended(tmp_path: Path) -> None:
    """`start_seconds` bounds the wait."""

    async def go() -> None:
        (tmp_path / "sick").touch()
        async with running(tmp_path, fake(tmp_path, start_seconds=2.0)) as w:
            await until(lambda: "engine_died" in w.events())
            assert "start_seconds" in dict(w.told)["engine_died"]["reason"]
            assert not alive(pids(tmp_path)[0])

    check(go)


def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """After `stop_seconds`."""

    async def go() -> None:
        async with running(tmp_path, fake(tmp_path, "stubborn", stop_seconds=2.0)) as w:
            await until(lambda: w.phase() == "ready")
        assert dict(w.told)["engine_stopped"]["status"] == 128 + 9
        assert any(line.endswith("SIGTERM") for line in notes(tmp_path))
        assert gone(tmp_path)

    check(go)


def test_ended_while_it_starts(tmp_path: Path) -> None:
    """A shutdown waits for no start."""

    async def go() -> None:
        (tmp_path / "held").touch()
        async with running(tmp_path, fake(tmp_path)) as w:
            await until(lambda: len(pids(tmp_path)) == 1 and w.events() == ["engine_started"])
        assert w.events() == ["engine_started", "engine_stopped"]
        assert gone(tmp_path)

    check(go)


def test_the_same_device_one_after_the_other(tmp_path: Path) -> None:
    """The second starts when the first is up; another device waits for nobody."""

    async def go() -> None:
        (tmp_path / "sick").touch()
        first, second = (fake(tmp_path, name=name, devices=(0, 1)) for name in ("a", "b"))
        other = fake(tmp_path, name="c", devices=(2,))
        async with running(tmp_path, first, second, other) as w:
            await until(lambda: {f"{one.port} up" for one in (first, other)} <= set(notes(tmp_path)))
            assert [w.phase(name) for name in "abc"] == ["starting", "waiting", "starting"]
            (tmp_path / "sick").unlink()
            await until(lambda: all(w.phase(name) == "ready" for name in "abc"))
        told = [(event, fields["engine"]) for event, fields in w.told]
        assert told.index(("engine_ready", "a")) < told.index(("engine_started", "b"))

    check(go)


def test_a_port_that_somebody_has(tmp_path: Path) -> None:
    """Somebody else's server is not taken for the engine, though it answers /health."""

    async def go() -> None:
        (tmp_path / "other").mkdir()
        port = free_port()
        async with running(tmp_path / "other", fake(tmp_path / "other", name="other", port=port)) as other:
            await until(lambda: other.phase("other") == "ready")
            async with running(tmp_path, fake(tmp_path, port=port)) as w:
                await until(lambda: "engine_died" in w.events())
                assert f"port {port} is somebody else's" in dict(w.told)["engine_died"]["reason"]
                assert pids(tmp_path) == []

    check(go)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """Told as a death like any other: nothing but this engine is affected."""

    async def go() -> None:
        async with running(tmp_path, fake(tmp_path, argv=(str(tmp_path / "vllm"),))) as w:
            await until(lambda: "engine_died" in w.events())
            assert dict(w.told)["engine_died"]["reason"] == "could not be started"

    check(go)


def test_a_new_plan(tmp_path: Path) -> None:
    """New ones are started, removed ones ended, changed ones told; what stays is not touched."""

    async def go() -> None:
        stays, leaves = fake(tmp_path, name="stays"), fake(tmp_path, name="leaves")
        async with running(tmp_path, stays, leaves) as w:
            await until(lambda: all(w.phase(name) == "ready" for name in ("stays", "leaves")))
            w.want(fake(tmp_path, "sick", "stays", stays.port), fake(tmp_path, name="comes"))
            await until(lambda: w.phase("comes") == "ready")
            assert w.events("leaves") == ["engine_started", "engine_ready", "engine_stopped"]
            assert w.events("stays") == ["engine_started", "engine_ready", "restart_needed"]
            assert set(w.supervisor.states()) == {"stays", "comes"}
            assert w.up == {"stays": True, "leaves": False, "comes": True}

    check(go)


def test_a_new_address_moves_the_engine(tmp_path: Path) -> None:
    """The old process is gone before the new one starts: both would not fit the device."""

    async def go() -> None:
        old, new = fake(tmp_path, "child"), fake(tmp_path)
        async with running(tmp_path, old) as w:
            await until(lambda: w.phase() == "ready")
            w.want(new)
            await until(lambda: w.events().count("engine_ready") == 2)
            assert w.events() == ["engine_started", "engine_ready", "engine_stopped", "engine_started", "engine_ready"]
            assert w.supervisor.states()["base"]["url"] == new.url

    check(go)


@given(deaths=st.integers(1, 10_000))
def test_pauses_are_bounded(deaths: int) -> None:
    """They grow, and never beyond the longest."""
    pace = Pace()
    assert 0 < pace.pause(deaths) <= pace.pause(deaths + 1) <= pace.longest
