"""Where the time of a request goes: from its arrival until its last byte was handed over."""

import asyncio
from collections.abc import MutableMapping
from pathlib import Path
from time import perf_counter
from typing import Any

from gateway.surface.exchange import Exchange
from tests.line.world import GOOD, asks, hello, says, world
from tests.serving import Served
from tests.waiting import until

SPLIT = ("accept", "parse", "router", "upstream", "check", "write")


def _counts(served: Served, route: str) -> list[float]:
    name = "weir_request_seconds_count"
    return [served.metric(f'{name}{{route="{route}",stage="{stage}"}}') for stage in SPLIT]


def test_every_answer_counts_once_in_every_stage(tmp_path: Path) -> None:
    """Whole, streamed, passed through, and refused before there was a route; the Record of each knows how long it waited for its
    handler."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("ok")) as w:
            served = w.served
            sent = [asks(), asks(stream=True), hello(), hello(model="straight"), hello(model="nowhere")]
            for number, body in enumerate(sent, 1):
                await served.chat(body)
                record = served.last()
                assert record.seconds.accept is not None
                assert 0 < record.seconds.accept < record.seconds.accept + record.seconds.parse + record.seconds.total
                assert len(served.app.recorder.recent(9)) == number
            refused = await served.client.post("/v1/chat/completions", content=b"{")
            assert refused.status_code == 400
            assert served.last().seconds.accept is not None
            # What is written is counted after the last byte, so its caller may be faster.
            for route, count in {"labels": 2, "general": 1, "none": 3}.items():
                await until(lambda route=route, count=count: _counts(served, route) == [count] * 6)  # type: ignore[misc]

    asyncio.run(run())


class Sink:
    """A server that takes the first message, and waits with the others until `go`."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.waits = asyncio.Event()
        self.taken: list[str] = []

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if self.taken:
            self.waits.set()
            await self.go.wait()
        self.taken.append(message["type"])


async def _nothing() -> MutableMapping[str, Any]:
    raise AssertionError("nobody asks for the body")


def _exchange(sink: Sink) -> Exchange:
    scope = {"method": "GET", "path": "/", "headers": []}
    return Exchange(scope, _nothing, sink.send)


def test_writing_is_the_time_in_which_the_server_takes_what_is_sent() -> None:
    """All the while that it waits for a slow caller, and nothing of the time between two pieces."""

    async def run() -> None:
        sink = Sink()
        exchange = _exchange(sink)
        assert exchange.arrived is None  # a server that does not say
        begun = perf_counter()
        await exchange.start(200, {})
        async with asyncio.TaskGroup() as group:
            group.create_task(exchange.more(b"a"))
            await sink.waits.wait()
            waited = perf_counter()
            await asyncio.sleep(0.03)
            waited = perf_counter() - waited
            sink.go.set()
        before = exchange.writing
        assert waited <= before <= perf_counter() - begun
        between = perf_counter()
        await asyncio.sleep(0.03)
        between = perf_counter() - between
        await exchange.end(b"b")
        assert before < exchange.writing <= perf_counter() - begun - between
        assert len(sink.taken) == 3

    asyncio.run(run())


def test_a_caller_who_leaves_while_we_wait_has_let_us_wait() -> None:
    """The time until then is counted, and the end of the waiting is not held up."""

    async def run() -> None:
        sink = Sink()
        exchange = _exchange(sink)
        await exchange.start(200, {})
        async with asyncio.TaskGroup() as group:
            task = group.create_task(exchange.more(b"a"))
            await sink.waits.wait()
            before, waited = exchange.writing, perf_counter()
            await asyncio.sleep(0.03)
            waited = perf_counter() - waited
            task.cancel()
        assert task.cancelled()
        assert exchange.writing - before >= waited

    asyncio.run(run())
