"""One MiniLM process for all workers: the supervisor runs it, a worker asks over its channel.

The queue stays one and bounded: who comes too late gets `Busy`, from whichever worker. A text takes 1.3 to 80 ms; the
way to the supervisor and back is one more hop over a socket pair.
"""

import asyncio
import struct
from pathlib import Path

import numpy as np

from embed.errors import Busy, EmbedError, WorkerDied
from embed.minilm import MAX_CHARS, MiniLM, Vector
from gateway.workers.channel import Channel, Gone, Refused

SHAPE = struct.Struct("<II")
START_SECONDS = 40.0
ANSWER_SECONDS = 15.0
_ERRORS: dict[str, type[EmbedError]] = {"Busy": Busy, "WorkerDied": WorkerDied}


class Lent:
    """In the supervisor: the processes, by folder, and the answers to what workers ask of them."""

    def __init__(self) -> None:
        self._running: dict[Path, MiniLM] = {}
        self._starting = asyncio.Lock()

    async def answer(self, method: str, body: bytes) -> bytes:
        """Raises EmbedError."""
        folder, _, text = body.decode("utf-8", "surrogatepass").partition("\0")
        place = Path(folder)
        if method == "minilm.start":
            return await self._start(place)
        layers = await self._running[place].layers(text)
        return SHAPE.pack(*layers.shape) + layers.tobytes()

    async def close(self) -> None:
        for client in self._running.values():
            await client.close()

    async def _start(self, folder: Path) -> bytes:
        """The first that asks starts it; the others wait for that."""
        async with self._starting:
            if folder not in self._running:
                client = MiniLM(folder)
                await client.start()
                self._running[folder] = client
            return self._running[folder].digest.encode()


class Borrowed(MiniLM):
    """In a worker: as `MiniLM`, but the process is somebody else's."""

    def __init__(self, folder: Path, channel: Channel) -> None:
        super().__init__(folder)
        self._folder = folder
        self._channel = channel

    @property
    def ready(self) -> bool:
        return self.started

    async def start(self) -> None:
        self.digest = (await self._ask("minilm.start", "", START_SECONDS)).decode()

    async def close(self) -> None:
        self._closed = True

    async def layers(self, text: str) -> Vector:
        if self._closed or not self.digest:
            raise EmbedError("the MiniLM client was closed, or not started")
        told = await self._ask("minilm.layers", text[:MAX_CHARS], ANSWER_SECONDS)
        return np.frombuffer(told, np.float32, offset=SHAPE.size).reshape(SHAPE.unpack_from(told))

    async def _ask(self, method: str, text: str, seconds: float) -> bytes:
        try:
            body = f"{self._folder}\0{text}".encode("utf-8", "surrogatepass")
            return await self._channel.call(method, body, seconds)
        except Refused as exc:
            raise _ERRORS.get(exc.kind, EmbedError)(str(exc)) from exc
        except (Gone, TimeoutError) as exc:
            raise WorkerDied("the MiniLM process did not answer") from exc
