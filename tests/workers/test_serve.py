"""`weir serve --workers N` from the outside: real processes, real signals, and a client that counts for itself."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.recorder import stored
from models.rebuild.snips import data
from tests.waiting import until

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="several workers share a socket as POSIX knows it"),
    pytest.mark.timeout(240),
]

CONFIG = """
backends:
  small: {kind: scripted, default: first_enum}
  cloud: {kind: scripted, default: "from the cloud", cloud: true, price: {input: 3, output: 9}, delay: {median: DELAY}}
router: {use: {kind: rules}, default: general}
routes:
  labels: {match: {schema_name: label}, ladder: [small, cloud], mode: enforce}
  general: {ladder: [cloud], mode: enforce}
models: {weir: routed}
responses: {store: "off"}
server: {port: 0, drain: 20, watch: 3600, state_dir: "STATE"}
"""
SCHEMA = {"type": "object", "properties": {"label": {"enum": ["a", "b"]}}, "required": ["label"]}
FREE: dict[str, Any] = {"model": "weir", "messages": [{"role": "user", "content": "hello"}]}
LABEL = FREE | {"response_format": {"type": "json_schema", "json_schema": {"name": "label", "schema": SCHEMA}}}
BAD = b'{"model": "weir"'
HOME = Path(__file__).resolve().parents[2]
SLOW = 90.0
"""Seconds that starting may take on a busy machine."""


class Instance:
    def __init__(self, process: Process, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.config = folder / "weir.yaml"
        self.asked = 0
        self.lost = 0
        self.client: httpx.AsyncClient

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = (self.folder / "log").read_bytes().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"\n")]
        return [event for event in found if event["event"] == name]

    async def told(self, name: str, count: int = 1) -> dict[str, Any]:
        await until(lambda: len(self.events(name)) >= count or self.process.returncode is not None, SLOW)
        return self.events(name)[count - 1]

    async def ask(self, number: int) -> None:
        """One of a mix, counted when it was answered whole."""
        kinds: tuple[dict[str, Any], ...] = ({"json": FREE}, {"json": LABEL}, {"json": FREE | {"stream": True}})
        try:
            answer = await self.client.post("/v1/chat/completions", **kinds[number % 3])
        except httpx.TransportError:
            self.lost += 1
            return
        assert answer.status_code == 200, answer.text
        self.asked += 1

    async def crowd(self, count: int, at_once: int = 8) -> None:
        numbers = iter(range(count))

        async def one() -> None:
            for number in numbers:
                await self.ask(number)

        await asyncio.gather(*(one() for _ in range(at_once)))

    async def series(self) -> dict[str, float]:
        """Sums over labels. Gauges are those of the workers that told them in time: one at least."""
        async with asyncio.timeout(SLOW):
            while True:
                page = (await self.client.get("/metrics")).text
                sums: dict[str, float] = {}
                for family in text_string_to_metric_families(page):
                    for sample in family.samples:
                        sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
                if "weir_config_info" in sums:
                    return sums

    async def counted(self) -> float:
        return (await self.series())["weir_requests_total"]

    def workers(self) -> list[int]:
        """Process ids, from the kernel."""
        return _children(self.process.pid)

    async def end(self) -> int:
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(SLOW):
            return await self.process.wait()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_model(pid: int) -> bool:
    return b"embed.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@asynccontextmanager
async def instance(
    folder: Path, workers: int, delay: float = 0.0, more: str = "", text: str = CONFIG
) -> AsyncIterator[Instance]:
    config = folder / "weir.yaml"
    config.write_text(text.replace("DELAY", str(delay)).replace("STATE", str(folder / "var")) + more)
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.cli", "serve", "-c", str(config), "--workers", str(workers)),
            stdout=log,
            stderr=log,
            cwd=HOME,
        )
    told = Instance(process, folder)
    try:
        url = (await told.told("listening"))["url"]
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            told.client = client
            yield told
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_counts_are_the_clients_own(tmp_path: Path) -> None:
    """To the unit, on every page, whichever worker answers: after traffic, after a reload under traffic, and at the end of a drain. A wrong
    file changes nothing anywhere. Records on disk are whole and as many."""

    async def go() -> None:
        async with instance(tmp_path, 2) as weir:
            await weir.crowd(150)
            assert {await weir.counted() for _ in range(6)} == {weir.asked}
            before = (await weir.client.get("/readyz")).json()["config"]
            good = weir.config.read_text()

            weir.config.write_text(good.replace("default: general", "default: nowhere"))
            weir.process.send_signal(signal.SIGHUP)
            await weir.told("reload_refused")
            assert {(await weir.client.get("/readyz")).json()["config"] for _ in range(4)} == {before}

            weir.config.write_text(good.replace("price: {input: 3,", "price: {input: 4,"))
            _, told = await asyncio.gather(weir.crowd(150), _reloaded(weir))
            assert told["workers"] == 2
            assert told["config"] != before
            seen = await weir.series()
            assert seen["weir_requests_total"] == weir.asked == 300
            assert seen["weir_config_reloads_total"] == 2
            assert seen["weir_request_seconds_count"] % 300 == 0
            assert seen["weir_config_info"] == 1
            assert {(await weir.client.get("/readyz")).json()["config"] for _ in range(4)} == {told["config"]}

            refused = await weir.client.post("/v1/chat/completions", content=BAD)
            assert refused.status_code == 400
            weir.asked += 1
            seen = await weir.series()
            assert (seen["weir_errors_total"], seen["weir_requests_total"]) == (1, weir.asked)
            await weir.crowd(10)
            workers = weir.workers()
            assert await weir.end() == 0
            assert (await weir.told("stopped"))["requests"] == weir.asked
            assert not any(map(_alive, workers))
        assert weir.lost == 0
        assert len({record.id for record in stored(tmp_path / "var")}) == weir.asked

    asyncio.run(go())


async def _reloaded(weir: Instance) -> dict[str, Any]:
    weir.process.send_signal(signal.SIGHUP)
    return await weir.told("reloaded")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_a_worker_that_is_killed(tmp_path: Path) -> None:
    """The others serve on, it is started again, also while the file is wrong, and what it had counted stays: at most its requests in
    flight, which the client saw fail, are missing."""

    async def go() -> None:
        async with instance(tmp_path, 2, delay=0.05) as weir:
            await weir.crowd(60)
            assert await weir.counted() == weir.asked
            weir.config.write_text("routes: nonsense")
            victim = weir.workers()[0]

            async def kill() -> None:
                await asyncio.sleep(0.1)
                os.kill(victim, signal.SIGKILL)

            await asyncio.gather(weir.crowd(200), kill())
            died = await weir.told("worker_died")
            assert died["reason"] == "ended by signal 9"
            assert weir.lost <= 8
            assert weir.asked <= await weir.counted() <= weir.asked + weir.lost

            async def serves() -> bool:
                return (await weir.series())["weir_workers"] == 2

            async with asyncio.timeout(SLOW):
                while not await serves():  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            before, counted = weir.asked, await weir.counted()
            await weir.crowd(40)
            seen = await weir.series()
            assert seen["weir_requests_total"] - counted == weir.asked - before == 40
            assert seen["weir_worker_restarts_total"] == 1
            assert await weir.end() == 0

    asyncio.run(go())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_a_killed_supervisor_leaves_nobody(tmp_path: Path) -> None:
    """SIGKILL: it can tell its workers nothing, and they end all the same."""

    async def go() -> None:
        async with instance(tmp_path, 2) as weir:
            workers = weir.workers()
            assert len(workers) == 2
            weir.process.kill()
            await weir.process.wait()
            await until(lambda: not any(map(_alive, workers)), SLOW)

    asyncio.run(go())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_one_minilm_for_all(tmp_path: Path) -> None:
    """One process, the supervisor's, answers the texts of all workers; it ends with them."""

    async def go() -> None:
        async with instance(tmp_path, 2, more="embeddings: {mini: {kind: minilm}}") as weir:

            async def embedded() -> int:
                # A connection of its own each time, so that both workers are asked.
                async with httpx.AsyncClient(base_url=weir.client.base_url, timeout=60) as client:
                    answer = await client.post("/v1/embeddings", json={"model": "mini", "input": "hello"})
                assert answer.status_code != 200 or len(answer.json()["data"][0]["embedding"]) == 384
                return answer.status_code

            async with asyncio.timeout(SLOW):
                while await embedded() != 200:  # noqa: ASYNC110 - until it is up its callers are told to do without
                    await asyncio.sleep(0.2)
                while {await embedded() for _ in range(8)} != {200}:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            below = weir.workers()
            assert sum(map(_is_model, below)) == 1
            assert not [child for pid in below for child in _children(pid)]
            assert await weir.end() == 0
            assert not any(map(_alive, below))

    asyncio.run(go())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_one_tagger_for_all(tmp_path: Path) -> None:
    """A tagger's process is the supervisor's too, and every worker's calls are its."""
    text = CONFIG.replace("router:", "  tagger: {kind: tagger, specialist: models/snips-tagger}\nrouter:").replace(
        "general: {ladder: [cloud]", "general: {ladder: [tagger, cloud]"
    )

    async def go() -> None:
        async with instance(tmp_path, 2, text=text) as weir:
            utterance = data.splits()["development"][0]

            async def rung() -> str:
                async with httpx.AsyncClient(base_url=weir.client.base_url, timeout=60) as client:
                    asked = data.request(utterance) | {"model": "weir"}
                    answer = await client.post("/v1/chat/completions", json=asked)
                assert answer.status_code == 200, answer.text
                if answer.headers["x-weir-rung"] == "tagger":
                    called = answer.json()["choices"][0]["message"]["tool_calls"][0]["function"]
                    assert called["name"] == utterance.intent
                return answer.headers["x-weir-rung"]

            async with asyncio.timeout(SLOW):
                while {await rung() for _ in range(8)} != {"tagger"}:  # noqa: ASYNC110 - until it is up the next rung answers
                    await asyncio.sleep(0.2)
            assert sum(map(_is_model, weir.workers())) == 1

    asyncio.run(go())


def test_what_several_workers_cannot_do(tmp_path: Path) -> None:
    """Is said before anything is started, with the field and the way out."""

    async def go() -> None:
        config = tmp_path / "weir.yaml"
        config.write_text(CONFIG.replace("DELAY", "0").replace('responses: {store: "off"}', ""))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.cli", "serve", "-c", str(config), "--workers", "2"),
            stderr=asyncio.subprocess.PIPE,
            cwd=HOME,
        )
        _, told = await process.communicate()
        assert process.returncode == 1
        assert b"responses.store" in told
        assert b"store: redis" in told

    asyncio.run(go())
