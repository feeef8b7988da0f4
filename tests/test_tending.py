"""gateway/tending.py: what backends look after runs while they are in use, and nobody waits for it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from backends.base import Backend
from gateway import tending
from gateway.log import Log
from gateway.tending import Tending
from tests.backends.scripted_engine import ScriptedEngine
from tests.backends.test_vllm_engines import lora
from tests.backends.upstream import upstream
from tests.serving import Served, serving
from tests.waiting import PATIENCE, until
from wire.types import Call, Chunk


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine an engine may be late, and is none the worse for it."""
    monkeypatch.setattr("backends._vllm_fleet.ANSWER", (PATIENCE, PATIENCE))


class Told:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def event(self, name: str, **told: Any) -> None:
        self.events.append((name, told))


class Plain:
    """A backend that looks after nothing."""

    async def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        yield Chunk()


class Tended(Plain):
    def __init__(self, fails: int = 0, ends: bool = False) -> None:
        self.fails, self.ends = fails, ends
        self.begun = 0
        self.running = False
        self.after: Sequence[Backend] | None = None

    async def tend(self) -> None:
        self.begun += 1
        if self.begun <= self.fails:
            raise RuntimeError("no")
        if self.ends:
            return
        self.running = True
        try:
            await asyncio.sleep(3600)
        finally:
            self.running = False

    async def retire(self, after: Sequence[Backend]) -> None:
        self.after = after


@asynccontextmanager
async def running(made: Tending) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.run())
        yield
        task.cancel()


def make() -> tuple[Tending, Told]:
    told = Told()
    log: Any = told
    assert isinstance(Log(off=True), Log)
    return Tending(log), told


def test_while_in_use() -> None:
    """Begun when used, ended and retired when replaced, left alone when it stays."""

    async def run() -> None:
        made, _ = make()
        stays, goes, comes = Tended(), Tended(), Tended()
        made.use({"stays": stays, "goes": goes, "plain": Plain()})
        async with running(made):
            await until(lambda: stays.running and goes.running)
            made.use({"stays": stays, "goes": comes})
            await until(lambda: comes.running and goes.after is not None)
            assert not goes.running
            assert goes.after == [stays, comes]
            assert (stays.begun, stays.after) == (1, None)
        assert not stays.running, "the end of the lifespan ends it"
        assert stays.after is None, "and unloads nothing: others may use the engine"

    asyncio.run(run())


def test_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that fails is logged and begun again; one that has nothing to do is not; neither disturbs another."""
    monkeypatch.setattr(tending, "AGAIN", 0.01)

    async def run() -> None:
        made, told = make()
        fails, ends, other = Tended(fails=3), Tended(ends=True), Tended()
        made.use({"fails": fails, "ends": ends, "other": other})
        async with running(made):
            await until(lambda: fails.running)
            assert fails.begun == 4
            assert (ends.begun, other.begun) == (1, 1)
        assert told.events == [("tend_failed", {"level": "error", "backend": "fails", "error": "RuntimeError"})] * 3

    asyncio.run(run())


# -- through the front door -----------------------------------------------------------------------------------------

CONFIG = """
backends:
  small: {{kind: vllm, base_url: "{url}/v1", model: tiny, look: 0.05, adapter: intents, adapter_path: {path}, {more}}}
  big: {{kind: openai, base_url: "{cloud}/v1", model: tiny, cloud: true, price: {{input: 1, output: 2}}}}
router: {{use: {{kind: rules}}, default: one}}
routes: {{one: {{ladder: [{ladder}big], mode: enforce}}}}
models: {{weir: routed}}
"""
HELLO = {"model": "weir", "messages": [{"role": "user", "content": "hi"}]}


async def _facts(served: Served) -> Any:
    return (await served.client.get("/readyz")).json()["backends"]["small"]


def test_an_engine_is_looked_after(tmp_path: Path) -> None:
    """Loaded, probed, told: by /readyz and as a gauge; until the adapter is there the next rung answers. A reload without it unloads
    it, and engines that a reload keeps are not probed again."""

    async def run() -> None:
        engine, cloud = ScriptedEngine(), ScriptedEngine()
        engine.health = 503
        lora(tmp_path / "adapter")
        async with upstream(engine) as small, upstream(cloud) as big:

            def config(more: str = "", ladder: str = "small, ") -> str:
                path = tmp_path / "adapter"
                return CONFIG.format(url=small.url, cloud=big.url, path=path, more=more, ladder=ladder)

            async with serving(config(), tmp_path, tend=True) as served:
                response = await served.chat(HELLO)
                assert served.record(response).served == "big", "the start has waited for nothing"
                assert not (await _facts(served))["available"]
                engine.health = 200
                await until(lambda: served.metric('weir_capability{backend="small",capability="schema"}') == 1)
                facts = await _facts(served)
                assert facts["available"]
                assert facts["facts"]["capabilities"]["adapter"] == "enforced"
                assert facts["facts"]["digest"]
                assert served.metric('weir_backend_available{rung="small"}') == 1
                asked = engine.chats()
                assert served.record(await served.chat(HELLO)).served == "small"
                served.rewrite(config(more="timeout: 7"))
                await until(lambda: served.app.live.setup.rungs["small"].timeout == 7)
                assert served.record(await served.chat(HELLO)).served == "small"
                assert engine.chats() == asked + 2
                without = config(ladder="").replace("  small:", "  # small:")
                served.rewrite(without)
                await until(lambda: not engine.adapters)

    asyncio.run(run())


def test_switched_off(tmp_path: Path) -> None:
    """`server: {tend: false}`: nobody is asked for anything but answers."""

    async def run() -> None:
        engine = ScriptedEngine()
        async with upstream(engine) as small:
            text = CONFIG.format(url=small.url, cloud=small.url, path="/nowhere", more="", ladder="")
            async with serving(text, tmp_path) as served:
                await served.chat(HELLO)
            assert engine.seen == ["POST /v1/chat/completions"]

    asyncio.run(run())
