"""What is lent to routers and backends: the ways out, the tables, small models. One of each per process, whatever is reloaded."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from backends.http.base import Http
from backends.http.both import HttpClient
from backends.http.control import Control
from embed.client import Client, Worker
from embed.errors import EmbedError
from embed.minilm import MiniLM
from embed.static import StaticTable
from embed.tagger import Tagger
from gateway import build as building
from gateway.log import Log
from gateway.setup import Setup
from wire.errors import Broken

T = TypeVar("T")


class Resources:
    """What is lent to routers and backends. Made without a loop; `open` and `close` belong to the lifespan."""

    def __init__(self, folder: Path, worker: Callable[[Path], Worker] = Client) -> None:
        """worker: makes the client of a model folder; with several workers the process behind it is shared."""
        self._folder = folder
        self._make_worker = worker
        self._http = HttpClient()
        self._control = Control()
        self._kept: dict[tuple[str, ...], Any] = {}
        self._tables: dict[Path, StaticTable] = {}
        self._workers: dict[Path, Worker] = {}

    @property
    def http(self) -> Http:
        return self._http

    @property
    def control(self) -> Control:
        return self._control

    def kept(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        if key not in self._kept:  # no more of them than configurations have named
            self._kept[key] = make()
        kept: T = self._kept[key]
        return kept

    def resolve(self, path: Path) -> Path:
        return building.resolve(self._folder, path)

    def static_table(self, folder: Path) -> StaticTable:
        place = self.resolve(folder).resolve()
        if place not in self._tables:
            self._tables[place] = StaticTable.load(place)
        return self._tables[place]

    def minilm(self, folder: Path) -> MiniLM | None:
        return MiniLM(self._worker(folder))

    def tagger(self, folder: Path) -> Tagger:
        return Tagger(self._worker(folder))

    def _worker(self, folder: Path) -> Worker:
        place = self.resolve(folder).resolve()
        if place not in self._workers:
            self._workers[place] = self._make_worker(place)
        return self._workers[place]

    async def open(self) -> None:
        await self._http.open()

    async def warm(self, setup: Setup) -> None:
        """Have the TLS client ready before the first request needs it: its import takes 0.2 to 0.4 s."""
        urls = (getattr(config, "base_url", "") for config in setup.settings.backends.values() if not config.missing())
        if any(url.startswith("https:") for url in urls):
            with suppress(Broken):
                await self._http.prepare()

    async def workers(self, log: Log, started: set[Path]) -> list[str]:
        """Start the workers that a Setup asked for and that do not run yet. Until one is up its callers do without it. Returns why some
        could not be started: for these the next Setup gets new ones."""
        troubles: list[str] = []
        for place, worker in list(self._workers.items()):
            if place not in started:
                started.add(place)
                try:
                    await worker.start()
                except EmbedError as exc:
                    started.discard(place)
                    self._workers.pop(place, None)
                    troubles.append(f"{place.name}: {exc}")
                    log.event("model_unavailable", level="error", model=place.name, error=str(exc))
        return troubles

    async def close(self) -> None:
        for worker in self._workers.values():
            await worker.close()
        for kept in self._kept.values():
            if hasattr(kept, "aclose"):  # a process of its own
                await kept.aclose()
        await self._control.close()
        await self._http.close()
