"""`kind: minilm`: the embedded model, with a worker played by the test (`test_door.py` asks the real one)."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from backends.embedding.base import Batch
from backends.embedding.minilm import PARALLEL, MiniLM, MinilmConfig
from embed.errors import Busy, EmbedError, WorkerDied
from embed.minilm import MiniLM as Client
from tests.backends.world import Resources
from wire.errors import BackendError, Broken, ContextOverflow, Overloaded, Unavailable, Unsupported

Vector = npt.NDArray[np.float32]
HOME = Path(__file__).parent.parent.parent


class Worker:
    """The MiniLM client as embedders use it. `answer`: what becomes of a text."""

    def __init__(self, answer: Callable[[str], float | Exception] = lambda text: float(len(text))) -> None:
        self.answer = answer
        self.at_once = self.most = 0
        self.texts: list[str] = []
        self.gate: asyncio.Event | None = None

    async def encode(self, text: str) -> Vector:
        self.texts.append(text)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await (self.gate.wait() if self.gate else asyncio.sleep(0.001 if len(text) % 2 else 0))
            found = self.answer(text)
        finally:
            self.at_once -= 1
        if isinstance(found, Exception):
            raise found
        return np.full(384, found, np.float32)


class Lent(Resources):
    def __init__(self, worker: Worker | None) -> None:
        super().__init__(folder=HOME)
        self._worker = worker

    def minilm(self, folder: Path) -> Client | None:
        return cast("Client | None", self._worker)


def embedder(worker: Worker | None, **config: Any) -> MiniLM:
    return MiniLM("e", MinilmConfig(kind="minilm", **config), Lent(worker))


def fails(batch: Batch, worker: Worker | None = None, **config: Any) -> BackendError:
    with pytest.raises(BackendError) as caught:
        asyncio.run(embedder(worker or Worker(), **config).embed(batch))
    return caught.value


def test_rows_stand_in_the_order_of_the_texts() -> None:
    """However the worker's answers come back."""
    texts = ["x" * (1 + at % 7) for at in range(40)]
    found = asyncio.run(embedder(Worker()).embed(Batch(texts)))
    assert found.vectors.shape == (40, 384)
    assert found.vectors[:, 0].tolist() == [float(len(text)) for text in texts]


def test_pieces_are_counted() -> None:
    """Usage is the model's own count, [CLS] and [SEP] included, not a guess."""
    found = asyncio.run(embedder(Worker()).embed(Batch(["hello world", "hello"])))
    assert found.tokens.input == 4 + 3
    assert not found.tokens.estimated


def test_few_texts_are_with_the_worker_at_once() -> None:
    """All requests together, not each: a router's text waits for two at most."""
    worker = Worker()

    async def run() -> None:
        one = embedder(worker)
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(one.embed(Batch(["ab", "c"] * 10)))

    asyncio.run(run())
    assert worker.most == PARALLEL
    assert len(worker.texts) == 80


def test_a_small_request_does_not_wait_for_a_large_one() -> None:
    """First come first served by text, not by request: one text passes a batch of a thousand."""
    worker = Worker()

    async def run() -> int:
        one = embedder(worker)
        async with asyncio.TaskGroup() as group:
            large = group.create_task(one.embed(Batch(["a"] * 1000)))
            while len(worker.texts) < 10:  # noqa: ASYNC110 - the fake sets no event
                await asyncio.sleep(0)
            await one.embed(Batch(["small"]))
            assert not large.done()
            large.cancel()
        return worker.texts.index("small")

    assert asyncio.run(run()) < 1000


def test_a_full_queue_says_so_at_once() -> None:
    """Never an unbounded wait: one request too many is Overloaded, with the time to come back; afterwards there is room again."""
    worker = Worker()

    async def run() -> None:
        worker.gate = asyncio.Event()
        one = embedder(worker, queue=1)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(one.embed(Batch(["a"])))
            while not worker.texts:  # noqa: ASYNC110 - the fake sets no event
                await asyncio.sleep(0.001)
            with pytest.raises(Overloaded) as caught:
                await one.embed(Batch(["b"]))
            assert caught.value.retry_after
            worker.gate.set()
            await first
        await one.embed(Batch(["c"]))

    asyncio.run(run())


def test_cancelling_stops_the_work() -> None:
    """A caller who leaves: no further text is computed, and the place is free."""
    worker = Worker()

    async def run() -> None:
        worker.gate = asyncio.Event()
        one = embedder(worker, queue=1)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(one.embed(Batch(["a"] * 100)))
            while not worker.texts:  # noqa: ASYNC110 - the fake sets no event
                await asyncio.sleep(0.001)
            task.cancel()
        assert worker.at_once == 0
        worker.gate = None
        await one.embed(Batch(["b"]))

    asyncio.run(run())
    assert len(worker.texts) <= PARALLEL + 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [(Busy("full"), Overloaded), (WorkerDied("gone"), Overloaded), (EmbedError("hidden words"), Broken)],
)
def test_the_workers_errors_become_ours(error: Exception, expected: type[BackendError]) -> None:
    """Translated where they enter, one error and no group, without the worker's own words."""
    found = fails(Batch(["a", "b", "c"]), Worker(lambda _: error))
    assert type(found) is expected
    assert "hidden" not in found.message


def test_token_ids_are_refused_with_the_way_out() -> None:
    """They are another tokenizer's: decoding them with this one would embed something else."""
    found = fails(Batch(ids=[[1, 2]]))
    assert isinstance(found, Unsupported)
    assert found.param == "input"
    assert "check_embedding_ctx_length" in found.message


def test_other_dimensions_are_refused() -> None:
    """The model was not trained to be cut; its own number is taken."""
    found = fails(Batch(["a"], dimensions=128))
    assert isinstance(found, Unsupported)
    assert found.param == "dimensions"
    assert asyncio.run(embedder(Worker()).embed(Batch(["a"], dimensions=384))).vectors.shape == (1, 384)


@pytest.mark.parametrize("text", ["word " * 255, "x" * 4097])
def test_a_text_longer_than_the_model_reads_is_refused(text: str) -> None:
    """Never silently cut: the error names the input and its length, not its words, and nothing is computed."""
    worker = Worker()
    found = fails(Batch(["short", text]), worker)
    assert isinstance(found, ContextOverflow)
    assert "input[1]" in found.message
    assert "word" not in found.message
    assert not worker.texts


def test_the_longest_text_is_taken() -> None:
    """254 words and the two marks are 256 pieces."""
    assert asyncio.run(embedder(Worker()).embed(Batch(["word " * 254]))).tokens.input == 256


def test_truncate_reads_the_beginning() -> None:
    """`truncate: true`: what is read is counted."""
    found = asyncio.run(embedder(Worker(), truncate=True).embed(Batch(["word " * 300, "hello"])))
    assert found.tokens.input == 256 + 3


def test_without_a_worker_it_is_unavailable() -> None:
    """The worker is switched off."""
    with pytest.raises(Unavailable):
        asyncio.run(embedder(None).embed(Batch(["a"])))


def test_a_folder_that_is_no_model_is_a_mistake_at_once(tmp_path: Path) -> None:
    """Found when the configuration is built, not at the first request."""
    with pytest.raises(EmbedError):
        embedder(Worker(), folder=tmp_path)
