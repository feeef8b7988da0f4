"""The page of several workers, from the outside: real processes, a connection to each of them, and a client that counts for itself."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.workers.test_serve import CONFIG, FREE, LABEL, SLOW, Instance, instance

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc"),
    pytest.mark.timeout(240),
]

State = dict[str, Any]
TEXT = CONFIG.replace(
    "router:",
    """  wrong: {kind: scripted, default: "no label"}
router:""",
).replace(
    "  general:",
    """  spills: {match: {schema_name: spill}, ladder: [wrong, cloud], mode: enforce}
  general:""",
)
SPILL = json.loads(json.dumps(LABEL).replace('"name": "label"', '"name": "spill"'))
MIX = (LABEL, LABEL, SPILL, FREE)


@asynccontextmanager
async def connections(weir: Instance) -> AsyncIterator[dict[int, httpx.AsyncClient]]:
    """Process id of each worker > a client whose one connection leads there. A feed uses it up: closing it closes the connection."""
    found: dict[int, httpx.AsyncClient] = {}
    deadline = asyncio.get_running_loop().time() + SLOW
    async with AsyncExitStack() as stack:
        while set(found) != set(weir.workers()):
            assert asyncio.get_running_loop().time() < deadline
            client = httpx.AsyncClient(
                base_url=weir.client.base_url, timeout=60, limits=httpx.Limits(max_connections=1)
            )
            process = (await client.get("/ui/state")).json()["process"]
            if process in found:
                await client.aclose()
            else:
                found[process] = client
                stack.push_async_callback(client.aclose)
        yield found


@asynccontextmanager
async def feed(client: httpx.AsyncClient) -> AsyncIterator[Callable[[Callable[[State], bool]], Any]]:
    """An open page: `await when(done)` is the first state from now on of which `done` is true."""
    async with client.stream("GET", "/ui/events") as answer:
        lines = answer.aiter_lines()

        async def when(done: Callable[[State], bool]) -> State:
            async with asyncio.timeout(SLOW):
                async for line in lines:
                    if line.startswith("data: ") and done(state := json.loads(line[6:])):
                        return dict(state)
            raise EOFError

        yield when


async def mix(client: httpx.AsyncClient, rounds: int) -> list[str]:
    """The ids of what was asked."""
    ids = []
    for body in MIX * rounds:
        answer = await client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        ids.append(answer.headers["x-weir-request-id"])
    return ids


def requests(count: int) -> Callable[[State], bool]:
    """So many, and both workers have told of theirs."""
    return lambda state: bool(state["ever"]["requests"] == count and state["scope"].startswith("2 workers"))


def test_every_workers_page_shows_all(tmp_path: Path) -> None:
    """Requests over both workers are in the feed of each, to the unit, and each opens the decisions of the other. One is killed: the
    other's feed goes on, what the dead one had told stays, and who takes its place shows it from its first state on."""

    async def go() -> None:
        async with (
            instance(tmp_path, 2, text=TEXT) as weir,
            connections(weir) as workers,
            connections(weir) as watched,
            connections(weir) as again,
        ):
            first, second = workers
            mine, its = await mix(workers[first], 3), await mix(workers[second], 2)
            for process, client in workers.items():
                async with feed(watched[process]) as when:
                    state = await when(requests(20))
                assert state["process"] == process
                assert state["scope"].startswith("2 workers")
                assert {told["id"] for told in state["last"]} == {*mine, *its}
                now = state["now"]
                assert (now["accepted"], now["escalated"], now["direct"]) == (10, 5, 5)
                assert now["reasons"] == {"schema": 5}
                assert sum(state["series"]["reasons"]["schema"]) == 5
                assert {rung["name"]: rung["count"] for rung in state["rungs"]} == {
                    "small": 10,
                    "cloud": 10,
                    "wrong": 5,
                }
                routes = {route["name"]: route["requests"] for route in state["routes"]}
                assert routes == {"labels": 10, "spills": 5, "general": 5}
                assert now["counterfactual"] > now["cost"] > 0
                for id in (mine[2], its[2]):
                    story = (await client.get(f"/ui/decisions/{id}")).json()
                    assert story["record"]["escalation"] == "schema"
                    assert story["would_change"]

            async with feed(again[first]) as when:
                before = await when(requests(20))
                os.kill(second, signal.SIGKILL)
                await weir.told("worker_died")
                await mix(weir.client, 1)
                after = await when(lambda state: requests(24)(state) and state["scope"].startswith("2 workers"))
                assert after["process"] == first
                assert after["started"] == before["started"]
            async with connections(weir) as workers:
                (newcomer,) = set(workers) - {first}
                async with feed(workers[newcomer]) as when:
                    state = await when(lambda _: True)
                assert (state["process"], state["ever"]["requests"]) == (newcomer, 24)
                assert set(its) <= {told["id"] for told in state["last"]}
                story = await workers[newcomer].get(f"/ui/decisions/{its[0]}")
                assert story.json()["record"]["id"] == its[0]

    asyncio.run(go())


def test_a_supervisor_that_stands_still_holds_up_nobody(tmp_path: Path) -> None:
    """Requests are answered and the page stays, and says how old it is; what was counted meanwhile is told when the supervisor is back."""

    async def go() -> None:
        async with instance(tmp_path, 2, text=TEXT) as weir, connections(weir) as workers:
            one, other = workers.values()
            await mix(one, 1)
            async with feed(other) as when:
                await when(requests(4))
                weir.process.send_signal(signal.SIGSTOP)
                try:
                    await mix(one, 2)
                    state = await when(lambda state: "the supervisor does not answer" in state["scope"])
                    assert state["ever"]["requests"] <= 12
                finally:
                    weir.process.send_signal(signal.SIGCONT)
                state = await when(requests(12))
                assert len(state["last"]) == 12

    asyncio.run(go())


def test_where_the_page_is_off_nothing_is_told(tmp_path: Path) -> None:
    """`ui: off`: no page at any worker, and requests are answered as ever; a reload brings the page, which shows what comes from then
    on."""

    async def go() -> None:
        async with instance(tmp_path, 2, text=TEXT, more="ui: off\n") as weir:
            assert (await weir.client.get("/ui/state")).status_code == 404
            await mix(weir.client, 1)
            weir.config.write_text(weir.config.read_text().replace("ui: off", "ui: on"))
            weir.process.send_signal(signal.SIGHUP)
            await weir.told("reloaded")
            async with connections(weir) as workers:
                for client in workers.values():
                    await mix(client, 1)
                for client in workers.values():
                    async with feed(client) as when:
                        assert (await when(requests(8)))["scope"].startswith("2 workers")

    asyncio.run(go())
