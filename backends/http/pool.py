"""The connections to one upstream: so many at once, the one used last first (its buffers are warm, the others may age), and a queue.

A connection that dies between the pool and its next request is found out by `Connection.ask`, like any other that went stale.

A *lease* is the right to have one connection. `leased` + idle connections <= `limit`. Who has no lease waits its turn, first come first
served, and is handed a connection that comes back or, when that one is gone, the right to open another.
"""

import asyncio
import os
import socket
from collections import OrderedDict
from typing import Protocol

from backends.http.base import Timeouts
from backends.http.connection import Connection
from backends.http.head import Seen, Target
from backends.http.outbox import Outbox
from backends.http.rules import too_late
from wire.errors import BackendError, Broken, Overloaded

CLOSED = "the HTTP client is closed"


class House(Protocol):
    """The client, as far as its pools know it."""

    loop: asyncio.AbstractEventLoop
    outbox: Outbox
    limit: int
    waiting: int
    keepalive: float
    max_head: int
    closed: bool
    connections: set[Connection]
    patience: set[asyncio.Timeout]

    def emptied(self, pool: "Pool") -> None:
        """Nobody uses this pool any more."""


class Pool:
    def __init__(self, house: House, to: Target) -> None:
        self.to = to
        self.origin = "{}:{}".format(*to.place)
        self.leased = 0
        self.idle: list[Connection] = []
        self.seen = Seen()
        self._house = house
        self._turns: OrderedDict[asyncio.Future[Connection | None], None] = OrderedDict()

    # -- leases ---------------------------------------------------------------------------------------------------------------------

    def reuse(self) -> Connection | None:
        """An idle connection, leased, or None."""
        if not self.idle:
            return None
        self.leased += 1
        return self.idle.pop()

    async def obtain(self, begun: float, limits: Timeouts, *, fresh: bool = False) -> Connection:
        """A leased connection; `fresh`: a new one in place of one that was leased. When this raises, nothing is leased.

        begun: the loop time from which the request's own limits count. Raises TimedOut, Overloaded (too many wait already), Broken.
        """
        house = self._house
        until, seconds, phase = house.loop.time() + limits.connect, limits.connect, "connect"
        for other, name in ((limits.first_byte, "first_byte"), (limits.total, "total")):
            if other is not None and begun + other < until:
                until, seconds, phase = begun + other, other, name
        try:
            async with asyncio.timeout_at(until) as patience:
                house.patience.add(patience)
                try:
                    conn = None if fresh else await self._lease()
                    if conn is None:
                        conn = await self._connect()
                finally:
                    house.patience.discard(patience)
        except TimeoutError as exc:
            if house.closed:
                raise Broken(CLOSED) from exc
            if patience.expired():
                raise too_late(self.origin, phase, seconds) from exc
            raise self._unreachable(exc) from exc
        except OSError as exc:
            raise self._unreachable(exc) from exc
        except UnicodeError as exc:  # a host name that no name server would take
            raise Broken(f"{self.origin}: the host name cannot be resolved") from exc
        return conn

    def give_back(self, conn: Connection) -> None:
        """The lease ends; the connection stays when it can."""
        if self._turns and conn.reusable and self._next(conn):
            return
        house = self._house
        if conn.rest(house.loop.time() + house.keepalive):
            self.leased -= 1
            self.idle.append(conn)
        else:
            self.discard(conn)

    def discard(self, conn: Connection) -> None:
        """The lease ends, and so does the connection."""
        conn.abort()
        self._free()

    def close(self) -> None:
        """End what is idle and what waits."""
        for conn in self.idle[:]:
            conn.abort()
        while self._turns:
            turn, _ = self._turns.popitem(last=False)
            if not turn.done():
                turn.set_exception(Broken(CLOSED))

    # -- what connections say -------------------------------------------------------------------------------------------------------

    def made(self, conn: Connection) -> None:
        self._house.connections.add(conn)
        if self._house.closed:  # closed in this very turn, when it was too late to stop connecting
            conn.abort()

    def ended(self, conn: Connection) -> None:
        if conn.idle:
            conn.idle = False
            self.idle.remove(conn)
            self._tell()

    def lost(self, conn: Connection) -> None:
        self._house.connections.discard(conn)

    # -- inside ---------------------------------------------------------------------------------------------------------------------

    async def _lease(self) -> Connection | None:
        """A connection that came back; None: leave to open one."""
        house = self._house
        if self.leased + len(self.idle) < house.limit:
            self.leased += 1
            return None
        if len(self._turns) >= house.waiting:
            raise Overloaded(f"{self.origin}: {house.waiting} requests wait for a connection already")
        turn: asyncio.Future[Connection | None] = house.loop.create_future()
        self._turns[turn] = None
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._return(turn.result())  # handed over in the moment of leaving
            self._turns.pop(turn, None)
            raise

    async def _connect(self) -> Connection:
        """A new connection for a lease that is held. When this raises, it is held no longer."""
        house = self._house
        conn: Connection | None = None

        def make() -> Connection:
            nonlocal conn
            conn = Connection(house.loop, house.max_head, self, house.outbox, self.seen)
            return conn

        try:
            _, made = await self.dial(make)
        except BaseException:
            if conn is not None:  # cancelled in its first turn: uvloop closes the socket then, but does not say so
                conn.abort()
                self.lost(conn)
            self._free()
            raise
        return made

    async def dial(self, make: "Make") -> tuple[asyncio.BaseTransport, Connection]:
        """Name to addresses, and one after the other until one answers (`localhost`: ::1, then 127.0.0.1). Raises OSError."""
        return await self._house.loop.create_connection(make, *self.to.place)

    def _return(self, conn: Connection | None) -> None:
        if conn is None:
            self._free()
        else:
            self.give_back(conn)

    def _free(self) -> None:
        """A lease without a connection."""
        if not self._next(None):
            self.leased -= 1
            self._tell()

    def _next(self, conn: Connection | None) -> bool:
        """Hand a lease on. False: nobody waits."""
        while self._turns:
            turn, _ = self._turns.popitem(last=False)
            if not turn.done():
                turn.set_result(conn)
                return True
        return False

    def _tell(self) -> None:
        if not self.leased and not self.idle:
            self._house.emptied(self)

    def _unreachable(self, exc: OSError) -> BackendError:
        if isinstance(exc, socket.gaierror):
            return Broken(f"{self.origin}: the host name cannot be resolved")
        why = os.strerror(exc.errno) if exc.errno else type(exc).__name__
        return Broken(f"{self.origin}: cannot connect ({why})")


class Make(Protocol):
    def __call__(self) -> Connection: ...
