"""What is asked of the whole instance, be it one process or several workers under a supervisor (`gateway.workers`).

`/metrics`, `/v1/weir/requests` and the page ask here, whichever worker the connection has reached.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from gateway.metrics import Metrics
from gateway.record import Record
from gateway.recorder import Recorder

Engines = Callable[[], dict[str, Any]]
"""Local engine > how it is; {} when this process starts none."""


class Instance(Protocol):
    async def page(self) -> bytes:
        """Every series of all processes, in Prometheus' text format. Raises OSError when the supervisor does not answer."""

    async def recent(self, n: int) -> list[Record]:
        """The last Records of all processes, newest first."""

    async def find(self, id: str) -> Record | None:
        """The Record of one request, while a process remembers it."""

    async def engines(self) -> dict[str, Any]:
        """Local engine > how it is; {} when nobody here starts any."""


class Alone:
    """The one process."""

    def __init__(self, metrics: Metrics, recorder: Recorder, engines: Engines, fold: Callable[[], None]) -> None:
        """fold: hands over what was told and not counted yet."""
        self._metrics, self._recorder, self._engines, self._fold = metrics, recorder, engines, fold

    async def page(self) -> bytes:
        self._fold()
        # Off the loop: the page of 40 routes (11,400 lines) takes 32 ms to write.
        return await asyncio.to_thread(self._metrics.render)

    async def recent(self, n: int) -> list[Record]:
        self._fold()
        return self._recorder.recent(n)

    async def find(self, id: str) -> Record | None:
        self._fold()
        return self._recorder.find(id)

    async def engines(self) -> dict[str, Any]:
        return self._engines()
