"""Writes that fall into one turn of the loop go out together, small ones.

A write to a socket whose other end sleeps wakes it, and the kernel does that on our time: with 64 requests under way a write costs 30 us,
most of it for waking a peer that has read the last one long ago. Written one after the other, the second and all that follow find the peer
awake. Measured end to end, 64 connections, two writes a request: 60 us of CPU per request less; one connection: no difference.

The first of a turn goes out at once, so nobody waits who is alone. The others wait for the end of the turn, at most `TOGETHER` of them.
What is written to one transport meanwhile is one write. So whoever knows that more follows, mostly in the same turn, says `later`.
"""

import asyncio

TOGETHER = 16
"""Writes that wait at once: at capacity, 16 requests' work."""
JOINED = 2**16
"""Bytes of what becomes one write."""


class Outbox:
    """Of one loop. Whoever closes a transport, or writes to it past the outbox, calls `flush` first where the order matters."""

    __slots__ = ("_loop", "_open", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open = False
        """Something was written in this turn."""
        self.waiting: list[tuple[asyncio.Transport, bytes]] = []

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Now or at the end of this turn; not at all when the transport is closed until then."""
        if not self._open:
            self._open = True
            self._loop.call_soon(self._turn)
            transport.write(data)
            return
        waiting = self.waiting
        if waiting and waiting[-1][0] is transport and len(waiting[-1][1]) + len(data) <= JOINED:
            data = waiting.pop()[1] + data
            if not waiting:
                if not transport.is_closing():
                    transport.write(data)
                return
        waiting.append((transport, data))
        if len(waiting) >= TOGETHER:
            self.flush()

    def later(self, transport: asyncio.Transport, data: bytes) -> None:
        """As `write`, but also the first of a turn waits: for its end, or for more of the same transport."""
        if not self._open:
            self._open = True
            self._loop.call_soon(self._turn)
            self.waiting.append((transport, data))
        else:
            self.write(transport, data)

    def flush(self) -> None:
        """Write what waits."""
        waiting = self.waiting
        if waiting:
            self.waiting = []
            for transport, data in waiting:
                if not transport.is_closing():
                    transport.write(data)

    def _turn(self) -> None:
        self._open = False
        if self.waiting:
            self.flush()
