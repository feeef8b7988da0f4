"""One process per model for all workers: the supervisor runs it, a worker asks over its channel.

The queue stays one and bounded: who comes too late gets `Busy`, from whichever worker. A text takes 1.3 to 80 ms; the
way to the supervisor and back is one more hop over a socket pair.
"""

import asyncio
from pathlib import Path

from embed.client import Client
from embed.errors import Busy, EmbedError, WorkerDied
from gateway.workers.channel import Channel, Gone, Refused

START_SECONDS = 40.0
ANSWER_SECONDS = 15.0
_ERRORS: dict[str, type[EmbedError]] = {"Busy": Busy, "WorkerDied": WorkerDied}


class Lent:
    """In the supervisor: the processes, by folder, and the answers to what workers ask of them."""

    def __init__(self) -> None:
        self._running: dict[Path, Client] = {}
        self._starting = asyncio.Lock()

    async def answer(self, method: str, body: bytes) -> bytes:
        """Raises EmbedError."""
        folder, _, text = body.decode("utf-8", "surrogatepass").partition("\0")
        place = Path(folder)
        if method == "model.start":
            return await self._start(place)
        client = self._running[place]
        answer = await client.ask(text)
        return client.digest.encode() + b"\0" + answer  # which may be another since it was started anew

    async def close(self) -> None:
        for client in self._running.values():
            await client.close()

    async def _start(self, folder: Path) -> bytes:
        """The first that asks starts it; the others wait for that."""
        async with self._starting:
            if folder not in self._running:
                client = Client(folder)
                await client.start()
                self._running[folder] = client
            return self._running[folder].digest.encode()


class Borrowed:
    """In a worker: `embed.client.Worker`, but the process is somebody else's."""

    def __init__(self, folder: Path, channel: Channel) -> None:
        self._folder = folder
        self._channel = channel
        self._closed = False
        self.digest = ""

    @property
    def ready(self) -> bool:
        return self.started

    @property
    def started(self) -> bool:
        return bool(self.digest) and not self._closed

    async def start(self) -> None:
        self.digest = (await self._ask("model.start", "", START_SECONDS)).decode()

    async def close(self) -> None:
        self._closed = True

    async def ask(self, text: str) -> bytes:
        if not self.started:
            raise EmbedError(f"the client of the {self._folder.name} worker was closed, or not started")
        digest, _, answer = (await self._ask("model.ask", text, ANSWER_SECONDS)).partition(b"\0")
        self.digest = digest.decode()
        return answer

    async def _ask(self, method: str, text: str, seconds: float) -> bytes:
        try:
            body = f"{self._folder}\0{text}".encode("utf-8", "surrogatepass")
            return await self._channel.call(method, body, seconds)
        except Refused as exc:
            raise _ERRORS.get(exc.kind, EmbedError)(str(exc)) from exc
        except (Gone, TimeoutError) as exc:
            raise WorkerDied(f"the {self._folder.name} process did not answer") from exc
