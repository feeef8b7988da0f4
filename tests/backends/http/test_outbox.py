"""Small writes of one turn of the loop go out together: the first at once, the rest at the turn's end, in order, and nothing is lost."""

import asyncio
from collections.abc import Awaitable, Callable

from hypothesis import given
from hypothesis import strategies as st

from backends.http.outbox import JOINED, TOGETHER, Outbox


class Socket(asyncio.Transport):
    """Keeps what is written, in one list for all sockets."""

    def __init__(self, name: str, written: list[tuple[str, bytes]]) -> None:
        super().__init__()
        self.name = name
        self.written = written
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.written.append((self.name, bytes(data)))

    def is_closing(self) -> bool:
        return self.closed


def outbox(body: Callable[[Outbox, Callable[[str], Socket], list[tuple[str, bytes]]], Awaitable[None]]) -> None:
    """Runs `body` with an outbox, what makes a socket, and what all of them have written."""

    async def run() -> None:
        written: list[tuple[str, bytes]] = []
        await body(Outbox(asyncio.get_running_loop()), lambda name: Socket(name, written), written)

    asyncio.run(run())


def test_the_first_at_once_the_rest_at_the_end_of_the_turn() -> None:
    """Whoever is alone waits for nothing; the next turn has a first of its own."""

    async def body(box: Outbox, socket: Callable[[str], Socket], written: list[tuple[str, bytes]]) -> None:
        for turn in (b"1", b"2"):
            written.clear()
            for name in "abc":
                box.write(socket(name), turn)
            assert written == [("a", turn)]
            await asyncio.sleep(0)
            assert written == [("a", turn), ("b", turn), ("c", turn)]
            await asyncio.sleep(0)

    outbox(body)


def test_a_socket_that_closes_meanwhile() -> None:
    """Nothing is written to it; the others get theirs."""

    async def body(box: Outbox, socket: Callable[[str], Socket], written: list[tuple[str, bytes]]) -> None:
        gone = socket("gone")
        for one in (socket("a"), gone, socket("b")):
            box.write(one, b"x")
        gone.closed = True
        await asyncio.sleep(0)
        assert [name for name, _ in written] == ["a", "b"]

    outbox(body)


def test_what_is_written_to_one_socket_is_one_write() -> None:
    """At once, where it was held for that and nobody else waits; up to a size, and never past what was written to others before."""

    async def body(box: Outbox, socket: Callable[[str], Socket], written: list[tuple[str, bytes]]) -> None:
        a, b = socket("a"), socket("b")
        box.later(a, b"head ")
        assert written == []
        box.later(a, b"first")
        assert written == [("a", b"head first")]
        box.write(b, b"1")
        box.write(b, b"2")
        box.write(a, b"3")
        box.later(a, b"4")
        box.write(b, b"5")
        await asyncio.sleep(0)
        assert written[1:] == [("b", b"12"), ("a", b"34"), ("b", b"5")]
        written.clear()
        box.later(a, b"x")
        await asyncio.sleep(0)
        assert written == [("a", b"x")]
        box.later(a, b"y" * JOINED)
        box.write(a, b"z")
        assert written == [("a", b"x")]
        await asyncio.sleep(0)
        assert [len(data) for _, data in written] == [1, JOINED, 1]

    outbox(body)


def test_what_was_held_for_a_socket_that_closes() -> None:
    """It is dropped with what follows it."""

    async def body(box: Outbox, socket: Callable[[str], Socket], written: list[tuple[str, bytes]]) -> None:
        gone = socket("gone")
        box.later(gone, b"x")
        gone.closed = True
        box.write(gone, b"y")
        await asyncio.sleep(0)
        assert written == []

    outbox(body)


def test_flushed() -> None:
    """What waits goes out at once, and once."""

    async def body(box: Outbox, socket: Callable[[str], Socket], written: list[tuple[str, bytes]]) -> None:
        for name in "abc":
            box.write(socket(name), b"x")
        box.flush()
        assert [name for name, _ in written] == ["a", "b", "c"]
        await asyncio.sleep(0)
        assert len(written) == 3

    outbox(body)


@given(st.lists(st.integers(0, 3 * TOGETHER), max_size=4))
def test_all_that_was_written_goes_out_in_order(turns: list[int]) -> None:
    """However many: never more than `TOGETHER` wait, and none past the end of the turn."""

    async def body(box: Outbox, socket: Callable[[str], Socket], written: list[tuple[str, bytes]]) -> None:
        for count in turns:
            written.clear()
            for number in range(count):
                box.write(socket(str(number)), b"x")
                assert len(box.waiting) < TOGETHER
            await asyncio.sleep(0)
            assert [name for name, _ in written] == [str(number) for number in range(count)]
            assert not box.waiting

    outbox(body)
