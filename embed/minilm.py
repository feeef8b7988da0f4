"""MiniLM for the event loop: texts in, vectors out, by way of a worker process (`embed.client`)."""

import numpy as np
import numpy.typing as npt

from embed.client import View
from embed.onnx import MAX_CHARS, SHAPE

Vector = npt.NDArray[np.float32]


class MiniLM(View):
    """What a worker of models/minilm-int8 says, read as vectors."""

    async def encode(self, text: str) -> Vector:
        """The sentence embedding: (384,) float32 of length 1. Raises Busy, WorkerDied, EmbedError."""
        sentence: Vector = (await self.layers(text))[-1]
        return sentence

    async def layers(self, text: str) -> Vector:
        """The pooled layers that heads read (embed.onnx): (layers, 384) float32. Raises Busy, WorkerDied, EmbedError.

        A caller who is cancelled leaves the queue; a text that is already on its way is computed for nobody.
        """
        told = await self._worker.ask(text[:MAX_CHARS])
        return np.frombuffer(told, np.float32, offset=SHAPE.size).reshape(SHAPE.unpack_from(told))
