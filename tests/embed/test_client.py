"""The client of a worker process, against a fake worker that does what the text says."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from embed.client import Client
from embed.errors import Busy, EmbedError, WorkerDied
from tests.waiting import PATIENCE, run, until

FAKE = (sys.executable, "-m", "tests.embed.fake_worker")


@asynccontextmanager
async def running(waiting: int = 64, hang: float = PATIENCE) -> AsyncIterator[Client]:
    client = Client(Path("unused"), waiting=waiting, hang=hang, command=FAKE)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def taken(client: Client) -> None:
    """Until the worker was sent what was asked just now."""
    await asyncio.sleep(0)
    await until(lambda: client.waiting == 0)


def test_answers_in_order() -> None:
    """Every caller gets the answer to its own text, however many ask at once."""

    async def test() -> None:
        async with running() as client:
            assert client.ready
            assert client.digest == "fake"
            found = await asyncio.gather(*(client.ask(f"text {i}") for i in range(20)))
            assert found == [f"text {i}".encode() for i in range(20)]

    run(test)


def test_busy(tmp_path: Path) -> None:
    """Beyond the bounded queue a caller is refused at once instead of made to wait."""

    async def test() -> None:
        async with running(waiting=3) as client, asyncio.TaskGroup() as tasks:
            for _ in range(2):  # on their way
                tasks.create_task(client.ask(f"until:{tmp_path / 'go'}"))
            await taken(client)
            for _ in range(3):  # waiting
                tasks.create_task(client.ask("x"))
            await asyncio.sleep(0)
            assert client.waiting == 3
            with pytest.raises(Busy, match="3 texts wait"):
                await client.ask("x")
            (tmp_path / "go").touch()

    run(test)


def test_cancelled_while_waiting(tmp_path: Path) -> None:
    """A caller who gives up before its turn leaves the queue, and its text is never computed."""
    go, mark = tmp_path / "go", tmp_path / "computed"

    async def test() -> None:
        async with running() as client, asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(client.ask(f"until:{go}"))
            await taken(client)
            waiting = tasks.create_task(client.ask(f"touch:{mark}"))
            await asyncio.sleep(0)
            assert client.waiting == 1
            waiting.cancel()
            await asyncio.sleep(0)
            assert client.waiting == 0
            go.touch()
            await client.ask("x")

    run(test)
    assert not mark.exists()


def test_cancelled_on_its_way(tmp_path: Path) -> None:
    """A caller who gives up late does not shift the answers of the others."""

    async def test() -> None:
        async with running() as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.ask(f"until:{tmp_path / 'go'}")
            (tmp_path / "go").touch()
            with pytest.raises(EmbedError, match="bad text"):
                await client.ask("bad")
            assert await client.ask("x") == b"x"

    run(test)


@pytest.mark.parametrize("how", ["die", "hang"])
def test_worker_dies(how: str) -> None:
    """A worker that dies or hangs fails everybody who waits, at once, and is started anew without being asked."""

    async def test() -> None:
        async with running(hang=0.3 if how == "hang" else PATIENCE) as client:
            pid = client.pid
            found = await asyncio.gather(*(client.ask(t) for t in (how, "x", "y")), return_exceptions=True)
            assert all(isinstance(v, WorkerDied) for v in found), found
            client._hang = PATIENCE
            await until(lambda: client.ready and client.pid != pid)
            assert client.restarts == 1
            assert await client.ask("x") == b"x"

    run(test)


def test_worker_is_killed_while_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The death of an idle worker is seen without a request having to find out."""
    monkeypatch.setattr("embed.client.BACKOFF", (1.5,))  # long enough to be seen

    async def test() -> None:
        async with running() as client:
            assert client.pid is not None
            os.kill(client.pid, signal.SIGKILL)
            await until(lambda: not client.ready)
            with pytest.raises(WorkerDied, match="not running"):
                await client.ask("x")
            await until(lambda: client.ready)

    run(test)


def test_refuses_to_start() -> None:
    """A worker that cannot load its model says why; start raises that and leaves nothing running."""

    async def test() -> None:
        client = Client(Path("unused"), command=(*FAKE, "refuse"))
        with pytest.raises(EmbedError, match="SHA-256 is wrong"):
            await client.start()
        assert not client.started
        missing = Client(Path("unused"), command=("/nonexistent/worker",))
        with pytest.raises(EmbedError, match="cannot be started"):
            await missing.start()

    run(test)


def test_closed_and_not_started() -> None:
    """Before start and after close an answer is refused, never awaited; close ends whoever still waits."""

    async def test() -> None:
        client = Client(Path("unused"), command=FAKE)
        with pytest.raises(WorkerDied, match="not started"):
            await client.ask("x")
        await client.start()
        with pytest.raises(EmbedError, match="started before"):
            await client.start()
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(_outcome(client)) for _ in range(5)]
            await asyncio.sleep(0.05)  # some on their way, some not
            await client.close()
        assert all(isinstance(task.result(), EmbedError) for task in waiting)
        await client.close()
        with pytest.raises(EmbedError, match="closed"):
            await client.ask("x")

    run(test)


async def _outcome(client: Client) -> object:
    try:
        return await client.ask("hang")
    except EmbedError as exc:
        return exc
