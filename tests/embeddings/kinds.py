"""An embedder out of somebody else's module: its vectors are played by the test's texts."""

import asyncio

import numpy as np
from pydantic import Field

from backends.embedding.base import Batch, Embedded, EmbedderConfig
from wire.errors import Overloaded
from wire.types import Tokens


class Played:
    """The first number of a vector is its text's length. "hang" never comes, "busy" is Overloaded, "bug" raises, "key" wants one."""

    class Config(EmbedderConfig):
        wants: str = Field("", description="a variable")

        def missing(self) -> str:
            return self.wants

    def __init__(self, name: str, config: Config, resources: object) -> None:
        self.name = name
        self.batches: list[Batch] = []
        self.left = 0

    async def embed(self, batch: Batch) -> Embedded:
        self.batches.append(batch)
        if "hang" in batch.texts:
            try:
                await asyncio.sleep(60)
            finally:
                self.left += 1
        if "busy" in batch.texts:
            raise Overloaded(f"{self.name}: full", retry_after=3)
        if "bug" in batch.texts:
            raise RuntimeError("the text of a request")
        vectors = np.array([[len(text), 0.5] for text in batch.texts], np.float32)
        return Embedded(vectors, Tokens(input=1000 * len(batch.texts)), "played-1")
