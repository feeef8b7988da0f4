"""Connections are counted: so many at once, the rest in a bounded queue, none left behind, whoever leaves and whenever."""

import asyncio

import pytest
from msgspec.structs import replace

from backends.http.connection import Connection
from backends.http.local import LocalClient
from tests.backends.http.local import Loop, one_block, settled, the
from tests.backends.http.playing import LONG, ask, echo
from tests.backends.upstream import Asked, Upstream, hang
from wire.errors import Broken, Overloaded


def test_the_last_used_is_used_next(loop: Loop) -> None:
    """Idle connections are taken last in, first out: what is not needed ages and goes."""

    async def test(client: LocalClient, server: Upstream) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(ask(client, server.url))
        assert server.connections == 3
        last = the(client).idle[-1]
        for _ in range(3):
            await ask(client, server.url)
            assert the(client).idle[-1] is last

    loop(echo, test)


def test_no_more_than_the_limit_at_once_and_in_turn(loop: Loop) -> None:
    """Twenty requests share three connections, first come first served, and every one is answered."""
    order: list[int] = []

    async def handler(asked: Asked) -> None:
        order.append(int(asked.body))
        await asyncio.sleep(0.002)
        await asked.answer(asked.body)

    async def test(client: LocalClient, server: Upstream) -> None:
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(ask(client, server.url, body=b"%d" % n)) for n in range(20)]
        assert [task.result() for task in asking] == [b"%d" % n for n in range(20)]
        assert server.connections == 3
        assert the(client).leased == 0
        assert sorted(order) == list(range(20))
        assert all(abs(place - n) < 3 for place, n in enumerate(order))

    loop(handler, test, limit=3)


def test_the_queue_is_bounded(loop: Loop) -> None:
    """Whoever comes when the queue is full is told so at once: Overloaded."""

    async def test(client: LocalClient, server: Upstream) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(client, server.url))]
            await server.wait_asked(1)
            tasks += [group.create_task(ask(client, server.url)) for _ in range(2)]
            await asyncio.sleep(0.01)
            with pytest.raises(Overloaded, match="2 requests wait"):
                await ask(client, server.url)
            for task in tasks:
                task.cancel()

    loop(hang, test, limit=1, waiting=2)


def test_who_leaves_the_queue_makes_room(loop: Loop) -> None:
    """A place in the queue that was given up is free again."""

    async def test(client: LocalClient, server: Upstream) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(client, server.url))]
            await server.wait_asked(1)
            for _ in range(3):
                tasks.append(group.create_task(ask(client, server.url)))
                await asyncio.sleep(0.01)
                assert not tasks[-1].done()
                tasks[-1].cancel()
                await asyncio.sleep(0.01)
            tasks[0].cancel()

    loop(hang, test, limit=1, waiting=1)


def test_one_slow_host_does_not_hold_up_another(loop: Loop) -> None:
    """The limit is per upstream."""

    async def test(client: LocalClient, server: Upstream) -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(ask(client, server.url))
            await server.wait_asked(1)
            server.handler = echo
            assert await ask(client, server.url.replace("127.0.0.1", "localhost")) == b"{}"
            task.cancel()

    loop(hang, test, limit=1)


@pytest.mark.parametrize("turns", range(12))
def test_cancelled_at_every_turn_of_the_loop(loop: Loop, turns: int) -> None:
    """Cancelled after any number of turns - queued, connecting, sending, waiting, reading - nothing stays leased, and the next one
    is answered."""

    async def test(client: LocalClient, server: Upstream) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(client, server.url, body=b"x" * 100_000)) for _ in range(4)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            for _ in range(turns):
                await asyncio.sleep(0)
            tasks[1].cancel()
        assert await ask(client, server.url) == b"{}"
        assert the(client).leased == 0
        await settled(client, len(the(client).idle))
        await asyncio.sleep(0.005)
        await server.wait_left(server.connections - len(client.connections))

    loop(echo, test, limit=2)


def test_cancelled_while_a_connection_is_handed_over(loop: Loop) -> None:
    """Cancelled in the same turn in which its turn came, a request hands on what it was given: the next in line gets it."""

    async def test(client: LocalClient, server: Upstream) -> None:
        async with asyncio.TaskGroup() as group:
            async with client.post(server.url, b"1", {}, LONG) as answer:
                second, third = (group.create_task(ask(client, server.url, body=b"%d" % n)) for n in (2, 3))
                await asyncio.sleep(0.02)
                await answer.read()
                second.cancel()
            assert await third == b"3"
        assert server.connections == 1
        assert the(client).leased == 0

    loop(echo, test, limit=1)


def test_a_whole_answer_holds_no_connection(loop: Loop) -> None:
    """Once it has come, its connection is the next one's, whether it was read or not; it can still be read, and read in blocks."""

    async def test(client: LocalClient, server: Upstream) -> None:
        async with client.post(server.url, b"1", {}, LONG) as first:
            async with client.post(server.url, b"2", {}, LONG) as second:
                assert (the(client).leased, len(the(client).idle)) == (0, 1)
                assert first.ended
                assert await ask(client, server.url, body=b"3") == b"3"
                assert [block async for block in second.blocks()] == [b"2"]
            assert await first.read() == b"1"
            assert await first.read() == b""
        assert server.connections == 1

    loop(echo, test, limit=1)


def test_a_connection_that_dies_while_it_is_handed_over(loop: Loop) -> None:
    """Handed a connection that is closed before it could be used, a request opens another one."""
    ends = asyncio.Event()

    async def handler(asked: Asked) -> None:
        if asked.body == b"2":
            await echo(asked)
            return
        await asked.stream(asked.body, end=False)
        await ends.wait()
        await asked.send(b"0\r\n\r\n")

    async def test(client: LocalClient, server: Upstream) -> None:
        async with asyncio.TaskGroup() as group:
            async with client.post(server.url, b"1", {}, LONG) as answer:
                second = group.create_task(ask(client, server.url, body=b"2"))
                await asyncio.sleep(0.02)
                ends.set()
                await answer.read()
                for conn in list(client.connections):
                    conn.abort()
            assert await second == b"2"
        assert server.connections == 2

    loop(handler, test, limit=1)


def test_idle_connections_are_closed(loop: Loop) -> None:
    """An idle connection is kept for `keepalive` seconds after its last use, not after its first."""

    kept = 0.3
    limits = replace(LONG, first_byte=3600.0)  # no other timer of the connection's ends it

    async def test(client: LocalClient, server: Upstream) -> None:
        for _ in range(5):
            used = client.loop.time()
            assert await ask(client, server.url, limits) == b"{}"
            await asyncio.sleep(kept / 3)
            still_there = len(client.connections) == 1
            assert still_there or client.loop.time() - used > kept - 0.01, "or the machine stood still for that long"
        await settled(client, 0)
        assert client.loop.time() - used > kept - 0.01
        assert not client.pools
        await server.wait_left(server.connections)

    loop(echo, test, keepalive=kept)


def test_the_server_closes_an_idle_connection(loop: Loop) -> None:
    """A connection that the server closes while it is idle is gone before it could be used again."""

    async def handler(asked: Asked) -> None:
        await asked.answer(asked.body)
        asked.writer.close()

    async def test(client: LocalClient, server: Upstream) -> None:
        for number in range(3):
            assert await ask(client, server.url) == b"{}"
            await settled(client, 0)
            assert server.connections == number + 1
        assert not client.pools

    loop(handler, test)


def test_left_with_the_whole_answer_there(loop: Loop) -> None:
    """Who leaves an answer unread that has come whole need not close its connection."""

    async def test(client: LocalClient, server: Upstream) -> None:
        for _ in range(3):
            async with client.post(server.url, b"{}", {}, LONG) as answer:
                assert answer.status == 200
                await asyncio.sleep(0.01)
        assert server.connections == 1

    loop(echo, test)


def test_left_unread_for_the_next_in_line(loop: Loop) -> None:
    """Who leaves an answer unread leaves nothing of it to the one who gets the connection next."""

    async def test(client: LocalClient, server: Upstream) -> None:
        async with asyncio.TaskGroup() as group:
            async with client.post(server.url, b"mine", {}, LONG):
                task = group.create_task(ask(client, server.url, body=b"yours"))
                await asyncio.sleep(0.02)
            assert await task == b"yours"
        assert server.connections == 1

    loop(echo, test, limit=1)


def test_read_on_after_leaving(loop: Loop) -> None:
    """Blocks that are asked for after the context was left are an error, not an end."""

    async def test(client: LocalClient, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, LONG) as answer:
            blocks = answer.blocks()
            assert await anext(blocks) == b"one"
        with pytest.raises(Broken, match="left"):
            await anext(blocks)
        await server.wait_left(1)

    loop(one_block, test)


def test_a_wait_that_was_cancelled_can_be_taken_up_again(loop: Loop) -> None:
    """A reader may give up waiting for a block, do something else, and wait again: not a byte is lost."""
    given_up = asyncio.Event()

    async def handler(asked: Asked) -> None:
        await asked.stream(b"one", end=False)
        await given_up.wait()
        await asked.chunk(b"two")
        await asked.send(b"0\r\n\r\n")

    async def test(client: LocalClient, server: Upstream) -> None:
        async with client.post(server.url, b"{}", {}, LONG) as answer:
            blocks = answer.blocks()
            assert await anext(blocks) == b"one"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await anext(blocks)
            given_up.set()
            assert [block async for block in blocks] == [b"two"]

    loop(handler, test)


def test_the_second_try_is_in_the_same_budget(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is sent again has no second budget: what the first try took is gone."""

    ends: list[float] = []
    send = Connection.ask

    def noted(self: Connection, head: bytes, body: bytes, until: float) -> asyncio.Future[bool]:
        ends.append(until)
        return send(self, head, body, until)

    monkeypatch.setattr(Connection, "ask", noted)

    async def handler(asked: Asked) -> None:
        if asked.number == 2:
            await asyncio.sleep(0.1)
            asked.writer.close()
        else:
            await asked.answer(b"1")

    async def test(client: LocalClient, server: Upstream) -> None:
        await ask(client, server.url)
        ends.clear()
        assert await ask(client, server.url) == b"1"
        assert [asked.connection for asked in server.asked] == [1, 1, 2]
        assert len(ends) == 2, "both tries have waited"
        assert len(set(ends)) == 1, "until the same moment"

    loop(handler, test)
