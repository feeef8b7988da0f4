"""How long the caller is there: the scope in which a request is answered."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from msgspec import Struct

from gateway.surface.exchange import ClientLeft, Exchange

T = TypeVar("T")


class Presence(Struct, eq=False):
    """`async with Presence(exchange) as group`: what lasts as long as the caller is there. When he goes before his answer is complete, all
    of it is cancelled and it ends in ClientLeft. After `Exchange.body`, in the task that the application is called in. A task group, which
    is made when it gets its first task: most requests have none (a TaskGroup takes 2.3 us).

    Where the server cannot call (`Responder.watch`), a task of the group waits for the message that says so: 10 us a request more.
    """

    exchange: Exchange
    host: asyncio.Task[Any] | None = None
    """The task that has entered, until it leaves."""
    _group: asyncio.TaskGroup | None = None
    _waiter: asyncio.Task[None] | None = None
    _gone: bool = False
    _before: int = 0

    def create_task(self, coro: Coroutine[Any, Any, T], /) -> asyncio.Task[T]:
        """As TaskGroup's. The first time, from the task that has entered."""
        group = self._group
        if group is None:
            group = asyncio.TaskGroup()
            with suppress(StopIteration):
                group.__aenter__().send(None)  # it waits for nothing
            self._group = group
        return group.create_task(coro)

    async def __aenter__(self) -> Self:
        responder = self.exchange.responder
        host: asyncio.Task[Any] | None = responder.task if responder is not None else None
        if host is None:
            host = asyncio.current_task()
            assert host is not None
        self.host = host
        self._before = host.cancelling()
        if responder is not None:
            responder.watch(self._leave)
        else:
            self._waiter = self.create_task(self._wait())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._group is None and not self._gone:  # as nearly all end
            self.host = None
            return
        if self._waiter is not None:
            self._waiter.cancel()
            self._waiter = None  # its end would keep all of this alive until garbage is collected
        try:
            if self._group is not None:
                await self._group.__aexit__(kind, error, trace)
            elif error is not None:
                raise error
        except asyncio.CancelledError:
            if not self._end():
                raise
            raise ClientLeft from None
        except BaseException:
            self._end()
            raise
        if self._end():
            raise ClientLeft

    async def _wait(self) -> None:
        await self.exchange.left()
        self._leave()

    def _leave(self) -> None:
        if self.host is not None and not self._gone:
            self._gone = True
            self.host.cancel()

    def _end(self) -> bool:
        """Our own cancel is taken back, whatever became of it. Has the caller left, and nobody else cancelled?"""
        host, self.host = self.host, None
        return self._gone and host is not None and host.uncancel() <= self._before
