"""A wire without a socket: the test says byte for byte what the server sends, and in which turn of the loop."""

import asyncio
from collections.abc import Iterable
from typing import Any, Literal, cast

from backends.http.connection import Connection
from backends.http.head import Target
from backends.http.local import LocalClient
from backends.http.pool import Make, Pool

End = Literal["open", "close", "reset"]
RIGHT = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nright"


class Wire(asyncio.Transport):
    """Answers the first request with `pieces` and `end`, every later one with RIGHT."""

    def __init__(self, protocol: Connection, pieces: Iterable[bytes], end: End) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._pieces = list(pieces)
        self._end = end
        self._paused = self._closing = False
        self.requests = 0
        self.lost = False
        protocol.connection_made(self)

    def write(self, data: Any) -> None:
        assert not self._closing
        self.requests += 1
        if self.requests > 1:
            self._pieces = [RIGHT]
            self._end = "open"
        self._loop.call_soon(self._play)

    def _play(self) -> None:
        if self._closing or self._paused:
            return
        if self._pieces:
            self._protocol.data_received(self._pieces.pop(0))
            self._loop.call_soon(self._play)
        elif self._end == "close":
            self._protocol.eof_received()
            self.abort()
        elif self._end == "reset":
            self._close(ConnectionResetError())

    def stop(self) -> None:
        self._pieces = []
        self._end = "open"

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._loop.call_soon(self._play)

    def is_closing(self) -> bool:
        return self._closing

    def abort(self) -> None:
        self._close(None)

    def _close(self, exc: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._lose, exc)

    def _lose(self, exc: Exception | None) -> None:
        assert not self.lost
        self.lost = True
        self._protocol.connection_lost(exc)


class WiredClient(LocalClient):
    """A client whose first connection plays a script, and whose later ones are well behaved."""

    def __init__(self, pieces: Iterable[bytes], end: End, **options: Any) -> None:
        super().__init__(**options)
        self.script: tuple[Iterable[bytes], End] = (pieces, end)
        self.wires: list[Wire] = []
        self.lingers = True
        """Whether connecting takes another turn after the connection is there, as it does on the real loops."""

    def behave(self) -> None:
        """No more surprises: what was not sent by now never is."""
        self.script = ([RIGHT], "open")
        for wire in self.wires:
            wire.stop()

    def pool(self, to: Target) -> Pool:
        pool = self.pools[to.place] = _WiredPool(self, to)
        return pool


class _WiredPool(Pool):
    async def dial(self, make: Make) -> tuple[asyncio.BaseTransport, Connection]:
        await asyncio.sleep(0)
        client = cast(WiredClient, self._house)
        conn = make()
        wire = Wire(conn, *client.script)
        client.script = ([RIGHT], "open")
        client.wires.append(wire)
        if client.lingers:
            try:
                await asyncio.sleep(0)
            except BaseException:
                wire.abort()
                raise
        return wire, conn
