"""The client of the local worker process, against a worker without a model that does what the text says."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
import pytest

from backends._local_client import Event, LocalWorker
from backends._local_order import Order
from tests.waiting import PATIENCE, run, until
from wire.errors import BackendError, Broken, ContextOverflow, Overloaded, TimedOut, Unavailable


def worker(how: str = "good", waiting: int = 4, hang: float = PATIENCE) -> LocalWorker:
    return LocalWorker("small", (sys.executable, "-m", "tests.backends.local_worker", how), waiting=waiting, hang=hang)


@asynccontextmanager
async def running(**given: Any) -> AsyncIterator[LocalWorker]:
    client = worker(**given)
    client.start()
    try:
        await until(lambda: client.ready)
        yield client
    finally:
        await client.aclose()


async def ask(client: LocalWorker, text: str, seconds: float = PATIENCE, live: bool = False) -> list[Event]:
    told = msgspec.to_builtins(Order(messages=[{"role": "user", "content": text}], live=live))
    return [event async for event in client.answer(told, seconds, live)]


def said(events: list[Event]) -> str:
    return " ".join(token[0] for event in events for token in event["tokens"])


def test_answers_in_order() -> None:
    """Every caller gets its own answer, whole or in pieces, however many ask at once."""

    async def test() -> None:
        async with running(waiting=20) as client:
            found = await asyncio.gather(*(ask(client, f"a {i}", live=i % 2 == 0) for i in range(12)))
            assert [said(events) for events in found] == [f"a {i}" for i in range(12)]
            assert [len(events) for events in found[:2]] == [3, 1]

    run(test)


def test_a_full_queue() -> None:
    """Beyond the queue a caller is refused at once."""

    async def test() -> None:
        async with running(waiting=2) as client, asyncio.TaskGroup() as tasks:
            stuck = tasks.create_task(ask(client, "stuck"))
            await until(lambda: client.waiting == 0 and client.busy)
            waiting = [tasks.create_task(ask(client, "x")) for _ in range(2)]
            await until(lambda: client.waiting == 2)
            with pytest.raises(Overloaded, match="2 answers wait"):
                await ask(client, "x")
            stuck.cancel()
            await asyncio.wait(waiting)
            assert [said(task.result()) for task in waiting] == ["x", "x"]

    run(test)


def test_giving_up_stops_the_work() -> None:
    """An answer that nobody wants any more ends between two tokens, in the same worker, and the next begins."""

    async def test() -> None:
        async with running() as client:
            before = client.pid
            order = msgspec.to_builtins(Order(messages=[{"role": "user", "content": "one stuck"}], live=True))
            async with aclosing(client.answer(order, PATIENCE, True)) as events:
                assert said([await anext(events)]) == "one"
            assert said(await ask(client, "pid")) == str(before)

    run(test)


def test_giving_up_before_its_turn() -> None:
    """A caller who leaves the queue is never answered: the worker does not see its text."""

    async def test() -> None:
        async with running() as client, asyncio.TaskGroup() as tasks:
            stuck = tasks.create_task(ask(client, "stuck"))
            await until(lambda: client.busy)
            killer = tasks.create_task(ask(client, "die"))
            await until(lambda: client.waiting == 1)
            killer.cancel()
            await until(lambda: client.waiting == 0)
            stuck.cancel()
            assert said(await ask(client, "x")) == "x"
            assert client.restarts == 0

    run(test)


@pytest.mark.parametrize("live", [False, True])
def test_its_seconds(live: bool) -> None:
    """Nothing in time is TimedOut, and the work is stopped; a stream that has begun may go on."""

    async def test() -> None:
        async with running() as client:
            with pytest.raises(TimedOut) as caught:
                await ask(client, "stuck", 0.05, live)
            assert caught.value.phase == ("first_byte" if live else "total")
            assert said(await ask(client, "x")) == "x"

    run(test)


def test_a_stream_that_has_begun_has_time() -> None:
    """The seconds of a live answer end with its first token."""

    async def test() -> None:
        async with running() as client:
            words = "now" + " slow" * 8
            assert said(await ask(client, words, 1.5, live=True)) == words

    run(test)


@pytest.mark.parametrize("how", ["die", "deaf", "kill"])
def test_a_lost_worker(how: str) -> None:
    """A worker that dies or hangs fails everybody who waits as Broken, is named, and is started anew without being asked."""

    async def test() -> None:
        async with running(hang=0.5 if how == "deaf" else PATIENCE) as client, asyncio.TaskGroup() as tasks:
            before = client.pid
            assert before
            lost = tasks.create_task(_error(client.wrong()))
            first = tasks.create_task(_error(ask(client, "stuck" if how == "kill" else how)))
            second = tasks.create_task(_error(ask(client, "x")))
            if how == "kill":
                await until(lambda: client.waiting == 1)
                os.kill(before, signal.SIGKILL)
            await asyncio.wait([first, second, lost])
            assert {type(task.result()) for task in (first, second, lost)} == {Broken}
            client._hang = PATIENCE
            await until(lambda: client.ready)
            assert client.pid != before
            assert said(await ask(client, "x")) == "x"
            assert client.restarts == 1

    run(test)


async def _error(asked: Awaitable[Any]) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await asked
    return caught.value


def test_a_bad_job_takes_nobody_with_it() -> None:
    """What goes wrong in one answer is that caller's alone; the message for the log quotes nothing of the prompt."""

    async def test() -> None:
        async with running() as client:
            broken = await _error(ask(client, "bad"))
            assert isinstance(broken, Broken)
            assert "RuntimeError" in broken.message
            assert "secret" not in broken.message
            assert isinstance(await _error(ask(client, "long")), ContextOverflow)
            assert said(await ask(client, "x")) == "x"
            assert client.restarts == 0

    run(test)


def test_a_model_that_cannot_be_loaded() -> None:
    """A worker that says why it cannot is not tried again and again; every call names the reason. A new configuration tries anew."""

    async def test() -> None:
        client = worker("refuses")
        client.start()
        with pytest.raises(Broken, match="no such weights"):
            await client.wrong()
        with pytest.raises(Unavailable, match="no such weights"):
            await ask(client, "x")
        client.start()
        with pytest.raises(Unavailable):
            await ask(client, "x")
        client.start(anew=True)
        with pytest.raises(Broken, match="no such weights"):
            await client.wrong()
        await client.aclose()

    run(test)


def test_a_worker_that_crashes_while_it_starts() -> None:
    """It is tried again, later each time; calls are Broken meanwhile."""

    async def test() -> None:
        client = worker("crash")
        client.start()
        for _ in range(2):
            with pytest.raises(Broken, match="ended"):
                await client.wrong()
        with pytest.raises(Broken):
            await ask(client, "x")
        await client.aclose()

    run(test)


def test_no_such_interpreter() -> None:
    """A command that cannot be run is said once."""

    async def test() -> None:
        client = LocalWorker("small", ("/no/such/python",), waiting=1)
        client.start()
        with pytest.raises(Broken, match="cannot be started"):
            await client.wrong()
        await client.aclose()

    run(test)


def test_retiring() -> None:
    """A worker that nobody will ask any more answers those who have asked, and ends; it can be taken back."""

    async def test() -> None:
        async with running() as client:
            async with asyncio.TaskGroup() as tasks:
                slow = tasks.create_task(ask(client, "slow"))
                await until(lambda: client.busy)
                client.retire()
            assert said(slow.result()) == "slow"
            await until(lambda: client.pid is None)
            client.start()
            await until(lambda: client.ready)
            assert said(await ask(client, "x")) == "x"

    run(test)


def test_closing_fails_who_waits() -> None:
    """Nobody waits for a worker that was closed; closing twice is no error."""

    async def test() -> None:
        client = worker()
        client.start()
        await until(lambda: client.ready)
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(_error(ask(client, "stuck"))) for _ in range(2)]
            await until(lambda: client.waiting == 1)
            await client.aclose()
        assert {type(task.result()) for task in waiting} == {Broken}
        await client.aclose()

    run(test)
