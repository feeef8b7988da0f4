"""What the composition root lends to backends, as small as tests need it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from backends.base import Backend, BackendResources
from backends.http.base import Http
from backends.http.client import AiohttpClient
from backends.http.control import Control
from tests.backends.upstream import Handler, Upstream, upstream
from wire.types import Call, Chunk

if TYPE_CHECKING:
    from embed.minilm import MiniLM
    from embed.static import StaticTable
    from embed.tagger import Tagger

T = TypeVar("T")


class Resources:
    """`BackendResources` with a real HTTP client and no embedding."""

    def __init__(self, http: Http | None = None, folder: Path = Path()) -> None:
        self._http = http
        self._folder = folder
        self._kept: dict[tuple[str, ...], Any] = {}
        self.control = Control()

    @property
    def http(self) -> Http:
        return self._http or AiohttpClient()  # one that was never opened: asking it is an error

    def static_table(self, folder: Path) -> "StaticTable":
        raise NotImplementedError

    def minilm(self, folder: Path) -> "MiniLM | None":
        return None

    def tagger(self, folder: Path) -> "Tagger":
        raise NotImplementedError

    def resolve(self, path: Path) -> Path:
        return self._folder / path

    def kept(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        made: T = self._kept.setdefault(key, make())
        return made


@asynccontextmanager
async def world(handler: Handler) -> AsyncIterator[tuple[BackendResources, Upstream]]:
    """Resources with an open client, and a server that plays `handler`."""
    client = AiohttpClient(limit=8)
    await client.open()
    resources = Resources(client)
    try:
        async with upstream(handler) as server:
            yield resources, server
            await resources.control.close()
            await client.close()
    finally:
        await resources.control.close()
        await client.close()


async def collect(backend: Backend, call: Call) -> list[Chunk]:
    return [chunk async for chunk in backend.stream(call)]


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.delta.get("content") or "" for chunk in chunks)
