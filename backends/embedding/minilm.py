"""The embedded MiniLM: 384 numbers a text, on the CPU, without a key.

It shares the one MiniLM worker with routers and specialists, whose requests must not wait behind a batch of 2,048 texts. So of all
embedding requests together never more than PARALLEL texts are in the worker's queue (as many as it computes ahead), first come first
served, and of requests never more than `queue` wait for that; the next one is told to come back, at once.

What it refuses, rather than answering something else: token ids (they are another tokenizer's), other dimensions (the model was not
trained to be cut), and, unless `truncate: true`, texts longer than the 256 word pieces that it reads.
"""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from backends.base import BackendResources
from backends.embedding.base import Batch, Embedded, EmbedderConfig, Matrix
from embed.client import IN_FLIGHT
from embed.errors import Busy, EmbedError, WorkerDied
from embed.onnx import MAX_CHARS, MAX_PIECES
from embed.pieces import Pieces
from wire.errors import BackendError, Broken, ContextOverflow, Overloaded, Unavailable, Unsupported
from wire.types import Tokens

PARALLEL = IN_FLIGHT
"""Texts of all requests that are with the worker at once."""
COME_BACK = 1.0
"""Seconds: `retry-after` of a full queue and of a worker that starts anew."""


class MinilmConfig(EmbedderConfig):
    """`kind: minilm`."""

    folder: Path = Field(Path("models/minilm-int8"), description="model folder with its manifest.json")
    queue: int = Field(16, ge=1, description="requests that may be under way at once; one more gets 503")
    truncate: bool = Field(
        False, description="true: of a longer text only the first 256 word pieces are read, instead of a 400"
    )


class MiniLM:
    """See the module."""

    Config = MinilmConfig

    def __init__(self, name: str, config: MinilmConfig, resources: BackendResources) -> None:
        """Raises EmbedError when the model folder cannot be used."""
        self.name = name
        self.config = config
        self._pieces = Pieces(resources.resolve(config.folder))
        self._client = resources.minilm(config.folder)
        self._slots = asyncio.Semaphore(PARALLEL)
        self._under_way = 0
        try:
            self.dimensions = int(self._pieces.manifest.facts["dim"])
        except (KeyError, TypeError, ValueError) as exc:
            raise EmbedError(f"{config.folder}: manifest.json must say facts.dim") from exc

    async def embed(self, batch: Batch) -> Embedded:
        """Raises BackendError."""
        self._check(batch)
        if self._client is None:
            raise Unavailable(f"{self.name}: the MiniLM worker is switched off")
        if self._under_way >= self.config.queue:
            raise Overloaded(
                f"{self.name}: {self._under_way} embedding requests are under way, no more may", retry_after=COME_BACK
            )
        self._under_way += 1
        try:
            counts = await asyncio.to_thread(self._pieces.count, batch.texts)
            read = self._fitting(batch.texts, counts)
            vectors = np.empty((len(batch.texts), self.dimensions), np.float32)
            await self._fill(vectors, batch.texts)
            return Embedded(vectors, Tokens(input=read), self._pieces.manifest.digest)
        finally:
            self._under_way -= 1

    def _check(self, batch: Batch) -> None:
        if batch.ids:
            raise Unsupported(
                f"'{self.name}' cannot read token ids: they belong to another model's tokenizer. Send the texts as strings "
                "(LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))",
                param="input",
            )
        if batch.dimensions is not None and batch.dimensions != self.dimensions:
            raise Unsupported(
                f"'{self.name}' gives {self.dimensions} dimensions and was not trained to be cut: leave 'dimensions' out",
                param="dimensions",
            )

    def _fitting(self, texts: Sequence[str], counts: Sequence[int]) -> int:
        """The word pieces that are read. Raises ContextOverflow for the first text that has more."""
        if not self.config.truncate:
            for place, (text, count) in enumerate(zip(texts, counts, strict=True)):
                if count > MAX_PIECES or len(text) > MAX_CHARS:
                    raise ContextOverflow(
                        f"input[{place}] has {count} tokens in {len(text)} characters; '{self.name}' reads at most "
                        f"{MAX_PIECES} tokens and {MAX_CHARS} characters: split the text",
                        param="input",
                    )
        return sum(min(count, MAX_PIECES) for count in counts)

    async def _fill(self, vectors: Matrix, texts: Sequence[str]) -> None:
        left = iter(enumerate(texts))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(PARALLEL, len(texts))):
                    group.create_task(self._work(vectors, left))
        except* BackendError as failed:
            raise failed.exceptions[0] from None

    async def _work(self, vectors: Matrix, left: Iterator[tuple[int, str]]) -> None:
        assert self._client is not None
        for place, text in left:
            async with self._slots:
                try:
                    vector = await self._client.encode(text)
                except Busy as exc:
                    raise Overloaded(f"{self.name}: the MiniLM worker's queue is full", retry_after=COME_BACK) from exc
                except WorkerDied as exc:
                    raise Overloaded(f"{self.name}: the MiniLM worker is starting", retry_after=COME_BACK) from exc
                except EmbedError as exc:
                    raise Broken(f"{self.name}: the MiniLM worker gave no vector") from exc
            vectors[place] = vector
