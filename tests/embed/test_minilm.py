"""MiniLM through its worker process: the vectors are those of the model in this process."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from embed.client import Client
from embed.errors import EmbedError
from embed.minilm import MiniLM
from embed.onnx import Onnx
from tests.waiting import PATIENCE

MODEL = Path(__file__).resolve().parents[2] / "models" / "minilm-int8"


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(2 * PATIENCE):
            await test()

    asyncio.run(main())


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
        worker = Client(MODEL)
        client = MiniLM(worker)
        await worker.start()
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
            await worker.close()

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
            await Client(tmp_path).start()

    run(test)
