"""Questions and answers between a supervisor and a worker, both ways, over one socket pair.

Frames, little endian: u32 length of the payload, u8 kind, u32 number, payload. kind 0 ASK (u8 length of the method, method, body), 1 ANSWER
(body), 2 FAILURE (msgpack: type, message), 3 CANCEL. End of file means that the other one is gone.
"""

import asyncio
import itertools
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

ASK, ANSWER, FAILURE, CANCEL = range(4)
FRAME = struct.Struct("<IBI")
MOST = 512
"""Questions that are being answered at once; further ones are refused."""
LARGEST = 64 * 2**20

Handle = Callable[[str, bytes], Awaitable[bytes]]


class Gone(Exception):
    """The other process is not there any more."""


class Refused(Exception):
    """It could not answer."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message or kind)
        self.kind = kind
        """Name of the exception's type over there."""


class Channel:
    """One end. `run` must run for anything to be answered."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}
        self._gone = False

    @classmethod
    async def over(cls, sock: socket.socket) -> "Channel":
        return cls(*await asyncio.open_unix_connection(sock=sock))

    async def call(self, method: str, body: bytes = b"", seconds: float | None = None) -> bytes:
        """Raises Gone, Refused, TimeoutError. One that is cancelled is cancelled over there too."""
        if self._gone:
            raise Gone
        number = next(self._numbers) & 0xFFFFFFFF
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._send(ASK, number, bytes([len(method)]) + method.encode() + body)
                told: bytes = await answer
                return told
        except BaseException:
            if not answer.done() or answer.cancelled():
                self._write(CANCEL, number)
            raise
        finally:
            self._waiting.pop(number, None)

    async def run(self, handle: Handle) -> None:
        """Answer until the other end is gone; then whoever waits gets Gone."""
        try:
            async with asyncio.TaskGroup() as group:
                with suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
                    while True:
                        length, kind, number = FRAME.unpack(await self._reader.readexactly(FRAME.size))
                        if length > LARGEST:
                            raise ValueError
                        payload = await self._reader.readexactly(length)
                        if kind == ASK:
                            await self._asked(group, handle, number, payload)
                        elif kind == CANCEL:
                            if task := self._answering.get(number):
                                task.cancel()
                        else:
                            self._answered(kind, number, payload)
                for task in self._answering.values():
                    task.cancel()
        finally:
            self.close()

    def close(self) -> None:
        self._gone = True
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Gone())
        self._writer.close()

    async def _asked(self, group: asyncio.TaskGroup, handle: Handle, number: int, payload: bytes) -> None:
        if len(self._answering) >= MOST:
            await self._send(FAILURE, number, msgspec.msgpack.encode(("Busy", "too many questions at once")))
            return
        end = 1 + payload[0]
        task = group.create_task(self._answer(handle, number, payload[1:end].decode(), payload[end:]))
        self._answering[number] = task
        task.add_done_callback(lambda _: self._answering.pop(number, None))

    async def _answer(self, handle: Handle, number: int, method: str, body: bytes) -> None:
        try:
            kind, told = ANSWER, await handle(method, body)
        except Exception as exc:
            kind, told = FAILURE, msgspec.msgpack.encode((type(exc).__name__, str(exc)))
        with suppress(Gone):
            await self._send(kind, number, told)

    def _answered(self, kind: int, number: int, payload: bytes) -> None:
        answer = self._waiting.get(number)
        if answer is None or answer.done():
            return  # given up meanwhile
        if kind == ANSWER:
            answer.set_result(payload)
        else:
            answer.set_exception(Refused(*msgspec.msgpack.decode(payload, type=tuple[str, str])))

    def _write(self, kind: int, number: int, payload: bytes = b"") -> None:
        if not self._gone:
            self._writer.write(FRAME.pack(len(payload), kind, number) + payload)

    async def _send(self, kind: int, number: int, payload: bytes) -> None:
        try:
            self._write(kind, number, payload)
            await self._writer.drain()
        except ConnectionError as exc:
            raise Gone from exc
