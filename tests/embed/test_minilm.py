"""The MiniLM client against a fake worker that does what the text says, and once against the real one."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from embed.errors import Busy, EmbedError, WorkerDied
from embed.minilm import MiniLM
from embed.onnx import Onnx
from tests.waiting import PATIENCE, until

FAKE = (sys.executable, "-m", "tests.embed.fake_worker")
MODEL = Path(__file__).resolve().parents[2] / "models" / "minilm-int8"


@asynccontextmanager
async def running(waiting: int = 64, hang: float = PATIENCE) -> AsyncIterator[MiniLM]:
    client = MiniLM(Path("unused"), waiting=waiting, hang=hang, command=FAKE)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        async with asyncio.timeout(2 * PATIENCE):
            await test()
        assert asyncio.all_tasks() == before, "close leaves no task behind"

    asyncio.run(main())


async def taken(client: MiniLM) -> None:
    """Until the worker was sent what was asked just now."""
    await asyncio.sleep(0)
    await until(lambda: client.waiting == 0)


def test_answers_in_order() -> None:
    """Every caller gets its own text's vector, however many ask at once."""

    async def test() -> None:
        async with running() as client:
            assert client.ready
            assert client.digest == "fake"
            found = await asyncio.gather(*(client.encode(f"text {i}") for i in range(20)))
            assert all(np.array_equal(v, [1.0, 0.0]) for v in found)

    run(test)


def test_busy(tmp_path: Path) -> None:
    """Beyond the bounded queue a caller is refused at once instead of made to wait."""

    async def test() -> None:
        async with running(waiting=3) as client, asyncio.TaskGroup() as tasks:
            for _ in range(2):  # on their way
                tasks.create_task(client.encode(f"until:{tmp_path / 'go'}"))
            await taken(client)
            for _ in range(3):  # waiting
                tasks.create_task(client.encode("x"))
            await asyncio.sleep(0)
            assert client.waiting == 3
            with pytest.raises(Busy, match="3 texts wait"):
                await client.encode("x")
            (tmp_path / "go").touch()

    run(test)


def test_cancelled_while_waiting(tmp_path: Path) -> None:
    """A caller who gives up before its turn leaves the queue, and its text is never computed."""
    go, mark = tmp_path / "go", tmp_path / "computed"

    async def test() -> None:
        async with running() as client, asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(client.encode(f"until:{go}"))
            await taken(client)
            waiting = tasks.create_task(client.encode(f"touch:{mark}"))
            await asyncio.sleep(0)
            assert client.waiting == 1
            waiting.cancel()
            await asyncio.sleep(0)
            assert client.waiting == 0
            go.touch()
            await client.encode("x")

    run(test)
    assert not mark.exists()


def test_cancelled_on_its_way(tmp_path: Path) -> None:
    """A caller who gives up late does not shift the answers of the others."""

    async def test() -> None:
        async with running() as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.encode(f"until:{tmp_path / 'go'}")
            (tmp_path / "go").touch()
            with pytest.raises(EmbedError, match="bad text"):
                await client.encode("bad")
            assert np.array_equal(await client.encode("x"), [1.0, 0.0])

    run(test)


@pytest.mark.parametrize("how", ["die", "hang"])
def test_worker_dies(how: str) -> None:
    """A worker that dies or hangs fails everybody who waits, at once, and is started anew without being asked."""

    async def test() -> None:
        async with running(hang=0.3 if how == "hang" else PATIENCE) as client:
            pid = client.pid
            found = await asyncio.gather(*(client.encode(t) for t in (how, "x", "y")), return_exceptions=True)
            assert all(isinstance(v, WorkerDied) for v in found), found
            client._hang = PATIENCE
            await until(lambda: client.ready and client.pid != pid)
            assert client.restarts == 1
            assert np.array_equal(await client.encode("x"), [1.0, 0.0])

    run(test)


def test_worker_is_killed_while_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The death of an idle worker is seen without a request having to find out."""
    monkeypatch.setattr("embed.minilm.BACKOFF", (1.5,))  # long enough to be seen

    async def test() -> None:
        async with running() as client:
            assert client.pid is not None
            os.kill(client.pid, signal.SIGKILL)
            await until(lambda: not client.ready)
            with pytest.raises(WorkerDied, match="not running"):
                await client.encode("x")
            await until(lambda: client.ready)

    run(test)


def test_refuses_to_start() -> None:
    """A worker that cannot load its model says why; start raises that and leaves nothing running."""

    async def test() -> None:
        client = MiniLM(Path("unused"), command=(*FAKE, "refuse"))
        with pytest.raises(EmbedError, match="SHA-256 is wrong"):
            await client.start()
        assert not client.started
        missing = MiniLM(Path("unused"), command=("/nonexistent/worker",))
        with pytest.raises(EmbedError, match="cannot be started"):
            await missing.start()

    run(test)


def test_closed_and_not_started() -> None:
    """Before start and after close an answer is refused, never awaited; close ends whoever still waits."""

    async def test() -> None:
        client = MiniLM(Path("unused"), command=FAKE)
        with pytest.raises(WorkerDied, match="not started"):
            await client.encode("x")
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
            await client.encode("x")

    run(test)


async def _outcome(client: MiniLM) -> object:
    try:
        return await client.encode("hang")
    except EmbedError as exc:
        return exc


def test_worker_leaves_with_its_parent() -> None:
    """End of input ends the real worker: it never outlives a gateway that was killed."""

    async def test() -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "embed.worker", str(MODEL)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdout.readexactly(5)
        process.stdin.close()
        assert await process.wait() == 0

    run(test)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_real_worker(loop: str) -> None:
    """The worker's vectors are those of the model in process: (layers, 384), every row of length 1."""

    async def test() -> None:
        client = MiniLM(MODEL)
        await client.start()
        try:
            here = Onnx(MODEL)
            for text in ("what is on my to do list", "", "long " * 3000, "ünïcode \ud800"):
                there = await client.layers(text)
                assert there.shape == here.shape
                if "\ud800" not in text:
                    assert np.array_equal(there, here.layers(text))
                assert np.allclose(np.linalg.norm(there, axis=1), 1.0, atol=1e-5)
            assert client.digest == here.digest
        finally:
            await client.close()

    if loop == "uvloop":
        uvloop = pytest.importorskip("uvloop")
        uvloop.run(test())
    else:
        run(test)


def test_wrong_model_is_refused(tmp_path: Path) -> None:
    """A changed model file is refused by name, through the worker, and nothing is served."""
    for file in MODEL.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes() if file.name != "model.onnx" else b"not the model")

    async def test() -> None:
        with pytest.raises(EmbedError, match=r"model\.onnx: SHA-256"):
            await MiniLM(tmp_path).start()

    run(test)
