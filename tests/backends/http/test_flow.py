"""Back-pressure both ways: whoever is slow slows the other side down, and neither costs memory; large bodies let the loop breathe."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from backends.http.base import Timeouts
from backends.http.connection import HIGH, Connection
from backends.http.local import LocalClient
from backends.http.outbox import Outbox
from tests.backends.http.local import Loop, settled
from tests.backends.http.playing import LONG, ask, echo
from tests.backends.upstream import Asked, Upstream
from tests.waiting import PATIENCE, until
from wire.errors import Broken, TimedOut

MIB = 2**20
END = b"the end"


def test_a_slow_reader_slows_the_server_down(loop: Loop) -> None:
    """What nobody reads is not taken from the socket: beyond the buffers the server waits, and nothing is lost afterwards."""
    body = bytes(range(256)) * 4096 * 16
    sent = 0

    async def handler(asked: Asked) -> None:
        nonlocal sent
        await asked.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 65536):
            await asked.send(body[start : start + 65536])
            sent = start + 65536

    async def test(client: LocalClient, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, LONG) as answer:
            blocks = answer.blocks()
            got = [await anext(blocks)]
            await _still(lambda: sent)
            assert sent < len(body)
            got += [block async for block in blocks]
        assert b"".join(got) == body
        assert max(map(len, got)) <= 3 * HIGH
        assert await ask(client, server.url) == body
        assert server.connections == 1

    loop(handler, test)


async def _still(value: Callable[[], int]) -> None:
    """Until `value` stands still."""
    async with asyncio.timeout(PATIENCE):
        before = -1
        while value() != before:
            before = value()
            await asyncio.sleep(0.05)


def test_left_while_the_socket_is_not_read(loop: Loop) -> None:
    """A stream that is left while its reader is behind closes its connection like any other."""

    async def handler(asked: Asked) -> None:
        await asked.stream(end=False)
        while True:
            await asked.chunk(b"x" * 65536)

    async def test(client: LocalClient, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, LONG) as answer:
            await anext(answer.blocks())
            await asyncio.sleep(0.1)
        await server.wait_left(1)
        await settled(client, 0)

    loop(handler, test)


class _Slow:
    """A server of plain sockets that reads when it is told to."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.setblocking(False)
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"

    async def accept(self) -> socket.socket:
        return (await asyncio.get_running_loop().sock_accept(self.listening))[0]


async def _slow(test: Callable[[LocalClient, _Slow], Any], client: LocalClient) -> None:
    slow = _Slow()
    try:
        async with asyncio.timeout(PATIENCE):
            await test(client, slow)
    finally:
        slow.listening.close()


def test_a_slow_server_slows_the_body_down(loop: Loop) -> None:
    """A large body goes out as fast as the server reads it; what the socket does not take is not copied into a buffer."""
    body = bytes(range(256)) * 4096 * 32 + END

    async def test(client: LocalClient, slow: _Slow) -> None:
        running = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(ask(client, slow.url, LONG, body=body))
            with await slow.accept() as sock:
                await until(lambda: _unwritten(client) > 0)  # the socket is full
                await asyncio.sleep(0.05)
                assert _unwritten(client) <= 6 * 65536
                got = bytearray()
                while not got.endswith(END):
                    got += await running.sock_recv(sock, MIB)
                await running.sock_sendall(sock, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                assert await task == b"ok"
            assert bytes(got).partition(b"\r\n\r\n")[2] == body

    async def outer(client: LocalClient, _: Upstream) -> None:
        await _slow(test, client)

    loop(echo, outer)


def _unwritten(client: LocalClient) -> int:
    """Bytes that were given to the transports and not yet to the sockets."""
    transports = [conn._transport for conn in client.connections]
    return sum(transport.get_write_buffer_size() for transport in transports if transport is not None)


@pytest.mark.parametrize("how", ["times out", "is cancelled"])
def test_a_server_that_never_reads(loop: Loop, how: str) -> None:
    """A body that the server does not take ends with the first-byte limit or with its caller, and the connection at once with it."""

    async def test(client: LocalClient, slow: _Slow) -> None:
        async with asyncio.TaskGroup() as group:
            limits = replace(LONG, first_byte=0.2) if how == "times out" else LONG
            task = group.create_task(_late(client, slow.url, limits))
            with await slow.accept() as sock:
                sock.setblocking(False)
                await asyncio.sleep(0.1)
                if how == "is cancelled":
                    task.cancel()
                await asyncio.wait([task])
                await settled(client, 0)

    async def outer(client: LocalClient, _: Upstream) -> None:
        await _slow(test, client)

    loop(echo, outer)


async def _late(client: LocalClient, url: str, limits: Timeouts) -> None:
    with pytest.raises(TimedOut):
        await ask(client, url, limits, body=b"x" * (32 * MIB))


@pytest.mark.parametrize("stays", [False, True])
def test_an_answer_before_the_whole_body_was_sent(loop: Loop, stays: bool) -> None:
    """A server may refuse a large body before it has read it: the refusal is the answer, the rest is not sent, and the connection,
    on which nobody knows what is expected next, is not used again."""

    async def test(client: LocalClient, slow: _Slow) -> None:
        running = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(ask(client, slow.url, LONG, body=b"x" * (32 * MIB)))
            with await slow.accept() as sock:
                await running.sock_recv(sock, 1024)
                await running.sock_sendall(sock, b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
                if not stays:
                    sock.shutdown(socket.SHUT_WR)
                assert await task == b"no"
                await settled(client, 0)

    async def outer(client: LocalClient, _: Upstream) -> None:
        await _slow(test, client)

    loop(echo, outer)


class _Greedy(asyncio.Transport):
    """Takes whatever it is given, at once."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[int] = []

    def write(self, data: Any) -> None:
        self.taken.append(len(data))

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.taken.append(-1)


class _Nobody:
    def made(self, conn: Connection) -> None: ...
    def ended(self, conn: Connection) -> None: ...
    def lost(self, conn: Connection) -> None: ...


def test_the_loop_breathes() -> None:
    """However fast the socket is, a large body goes out one slice a turn of the loop: others get their turn in between."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        conn = Connection(loop, 1000, _Nobody(), Outbox(loop))
        transport = _Greedy()
        conn.connection_made(transport)
        conn.ask(b"head", b"x" * 600_000, loop.time() + PATIENCE)
        assert transport.taken == [4, 262_144]
        await asyncio.sleep(0)
        assert transport.taken == [4, 262_144, 262_144]
        await asyncio.sleep(0)
        assert sum(transport.taken) == 600_004
        await asyncio.sleep(0)
        assert len(transport.taken) == 4
        conn.ask(b"head", b"x" * 65_536, loop.time() + PATIENCE)
        assert transport.taken[4:] == [65_540]

    asyncio.run(main())


def test_a_server_that_hangs_up_on_a_body(loop: Loop) -> None:
    """A server that reads nothing more and says nothing more is Broken at once, not when the body would have been sent."""

    async def test(client: LocalClient, slow: _Slow) -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(_broken(client, slow.url))
            with await slow.accept() as sock:
                await asyncio.sleep(0.1)
                sock.shutdown(socket.SHUT_WR)
                await asyncio.wait([task])
                await settled(client, 0)

    async def outer(client: LocalClient, _: Upstream) -> None:
        await _slow(test, client)

    loop(echo, outer)


async def _broken(client: LocalClient, url: str) -> None:
    with pytest.raises(Broken):
        await ask(client, url, LONG, body=b"x" * (32 * MIB))


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 262144, 262145, 700_001])
def test_bodies_of_every_size(loop: Loop, size: int) -> None:
    """At every border between one write and many slices, the body arrives as it is, and the connection is kept."""
    body = bytes(i % 251 for i in range(size))

    async def test(client: LocalClient, server: Upstream) -> None:
        for _ in range(2):
            assert await ask(client, server.url, body=body) == body
        assert server.connections == 1

    loop(echo, test)


def test_idle_counts_from_the_wait(loop: Loop) -> None:
    """A reader that takes its time between two blocks is not told that the server was silent."""
    goes_on = asyncio.Event()

    async def handler(asked: Asked) -> None:
        await asked.stream(b"one", end=False)
        await goes_on.wait()
        await asked.chunk(b"two")
        await asked.send(b"0\r\n\r\n")

    async def test(client: LocalClient, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, replace(LONG, first_byte=1.5, idle=1.5)) as answer:
            blocks = answer.blocks()
            got = await anext(blocks)
            await asyncio.sleep(1.6)
            goes_on.set()
            async for block in blocks:
                got += block
        assert got == b"onetwo"

    loop(handler, test)


def test_a_limit_that_is_longer_than_the_one_before(loop: Loop) -> None:
    """The limit of a later wait holds also where the timer of an earlier, shorter one still runs, and the other way round."""

    async def handler(asked: Asked) -> None:
        await asyncio.sleep(0.05)
        await asked.stream(b"one", end=False)
        await asyncio.sleep(60)

    async def test(client: LocalClient, server: Upstream) -> None:
        for limits in (replace(LONG, first_byte=1.0, idle=1.1), replace(LONG, idle=0.1)):
            begun = client.loop.time()
            with pytest.raises(TimedOut) as caught:
                await ask(client, server.url, limits)
            assert caught.value.phase == "idle"
            assert client.loop.time() - begun >= 0.04 + limits.idle

    loop(handler, test)


def test_total_ends_a_stream_that_never_pauses(loop: Loop) -> None:
    """`total` holds also where the next block is always there already."""

    async def handler(asked: Asked) -> None:
        await asked.stream(end=False)
        while True:
            await asked.chunk(b"x" * 1000)

    async def test(client: LocalClient, server: Upstream) -> None:
        with pytest.raises(TimedOut) as caught:
            await ask(client, server.url, replace(LONG, total=0.1))
        assert caught.value.phase == "total"
        await server.wait_left(1)

    loop(handler, test)


def test_many_streams_at_once(loop: Loop) -> None:
    """Fifty streams beside each other keep their blocks apart."""

    async def handler(asked: Asked) -> None:
        await asked.stream(end=False)
        for n in range(20):
            await asked.chunk(asked.body + b"-%d;" % n)
        await asked.send(b"0\r\n\r\n")

    async def test(client: LocalClient, server: Upstream) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(client, server.url, body=b"%d" % n)) for n in range(50)]
        for n, task in enumerate(tasks):
            assert task.result() == b"".join(b"%d-%d;" % (n, i) for i in range(20))

    loop(handler, test, limit=50)
