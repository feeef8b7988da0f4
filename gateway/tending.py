"""What backends look after in the background (`backends.base.Tended`): begun, begun again when it fails, ended by a reload.

Nothing waits for it: not the start, no request, no reload.
"""

import asyncio
from collections.abc import Iterator, Mapping

from backends.base import Backend, facts
from gateway.log import Log
from gateway.metrics import Finding
from gateway.setup import Setup
from wire.errors import BackendError

AGAIN, LATEST = 1.0, 60.0
"""Seconds until one that has failed is begun again: doubled each time, up to the latter."""
RETIRE = 90.0
"""Seconds that a replaced backend may take to undo what it did."""


class Tending:
    def __init__(self, log: Log) -> None:
        self._log = log
        self._wanted: Mapping[str, Backend] = {}
        self._changed = asyncio.Event()

    def use(self, backends: Mapping[str, Backend]) -> None:
        """These are in use from now on. Those that were before, and are not among them, retire."""
        self._wanted = backends
        self._changed.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        under_way: dict[str, tuple[Backend, asyncio.Task[None]]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                wanted = self._wanted
                for name, (backend, task) in list(under_way.items()):
                    if wanted.get(name) is not backend:
                        del under_way[name]
                        task.cancel()
                        group.create_task(self._retire(name, backend, list(wanted.values())))
                for name, backend in wanted.items():
                    if name not in under_way and hasattr(backend, "tend"):
                        under_way[name] = backend, group.create_task(self._tend(name, backend))
                await self._changed.wait()

    async def _tend(self, name: str, backend: Backend) -> None:
        pause = AGAIN
        while True:
            begun = asyncio.get_running_loop().time()
            try:
                await backend.tend()  # type: ignore[attr-defined]  # optional, and looked for
                return
            except Exception as exc:
                self._log.event("tend_failed", level="error", backend=name, error=_name(exc))
            if asyncio.get_running_loop().time() - begun > LATEST:
                pause = AGAIN
            await asyncio.sleep(pause)
            pause = min(pause * 2, LATEST)

    async def _retire(self, name: str, backend: Backend, after: list[Backend]) -> None:
        retire = getattr(backend, "retire", None)
        if retire is None:
            return
        try:
            async with asyncio.timeout(RETIRE):
                await retire(after)
        except Exception as exc:
            self._log.event("retire_failed", level="error", backend=name, error=_name(exc))


def findings(setup: Setup) -> Iterator[Finding]:
    """What is known of the backends that are looked after."""
    for name, backend in setup.backends.items():
        if hasattr(backend, "tend"):
            rung = setup.rungs[name]
            ready = not rung.missing and not getattr(backend, "unready", "")
            seen = [one for one in facts(backend).get("replicas", ()) if one["seen"]]
            yield Finding(
                backend=name,
                available=ready,
                ledger=getattr(backend, "ledger", {}),
                running=sum(one["running"] for one in seen) if seen else None,
                waiting=sum(one["waiting"] for one in seen),
                kv=max((one["kv"] for one in seen), default=0.0),
                open=sum(one["open"] for one in seen),
            )


def _name(exc: Exception) -> str:
    inner = exc
    while isinstance(inner, ExceptionGroup):
        inner = inner.exceptions[0]
    # A BackendError's message is made for the log: it quotes neither prompt nor answer.
    return f"{type(inner).__name__}: {inner}" if isinstance(inner, BackendError) else type(inner).__name__
