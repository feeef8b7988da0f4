"""An answer in steps, and the sink that gets what nobody need wait for."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest

from backends._steps import Hand, Steps
from wire.errors import Broken
from wire.openai import Reader
from wire.sse import encode
from wire.types import Chunk, Sink

STREAM = {"content-type": "text/event-stream"}


def chunk(text: str) -> Chunk:
    return Chunk(delta={"content": text})


def block(*texts: str) -> bytes:
    return b"".join(encode(b'{"choices":[{"index":0,"delta":{"content":"%b"}}]}' % text.encode()) for text in texts)


def test_one_by_one_and_in_steps() -> None:
    """Read one by one each chunk comes once; a step brings what is left of the one that was begun, then all that came together. A sink is
    told to the generator, and none is when nobody lends one."""
    lent: list[Sink | None] = []

    async def steps() -> AsyncGenerator[list[Chunk], Sink | None]:
        for texts in ("ab", "cde", "fg", "h"):
            lent.append((yield [chunk(text) for text in texts]))

    def sink(chunks: Sequence[Chunk]) -> bool:
        return False

    async def run() -> None:
        stream = Steps(steps())
        assert await anext(stream) == chunk("a")
        assert [*await stream.step(sink)] == [chunk("b")]
        assert lent == []
        assert await anext(stream) == chunk("c")
        assert [*await stream.step()] == [chunk("d"), chunk("e")]
        assert [*await stream.step(sink)] == [chunk("f"), chunk("g")]
        assert [*await stream.step()] == [chunk("h")]
        assert lent == [None, sink, None]
        with pytest.raises(StopAsyncIteration):
            await stream.step()

    asyncio.run(run())


def test_as_any_generator() -> None:
    """`async for` reads all of it, closing it closes what it is made of, and an exception that is thrown in arrives there."""
    ended: list[str] = []

    async def steps() -> AsyncGenerator[list[Chunk], Sink | None]:
        try:
            yield [chunk("a"), chunk("b")]
            yield [chunk("c")]
        except Broken:
            yield [chunk("thrown")]
        finally:
            ended.append("closed")

    async def run() -> None:
        assert [found async for found in Steps(steps())] == [chunk(text) for text in "abc"]
        left = Steps(steps())
        assert await anext(left) == chunk("a")
        await left.aclose()
        assert ended == ["closed", "closed"]
        with pytest.raises(StopAsyncIteration):
            await anext(left)
        thrown = Steps(steps())
        assert await thrown.asend(None) == chunk("a")
        assert await thrown.athrow(Broken("x")) == chunk("thrown")
        await thrown.aclose()

    asyncio.run(run())


def test_pings_are_for_whoever_counts_their_time() -> None:
    """A block that says nothing but makes a chunk, as an Anthropic ping does, goes to no sink: an upstream that only pings would keep the
    caller for ever."""

    class Pings:
        done, heard = False, 0

        def feed(self, block: bytes) -> list[Chunk]:
            self.heard += block != b"ping"
            return [Chunk()]

    given: list[Chunk] = []

    def sink(chunks: Sequence[Chunk]) -> bool:
        given.extend(chunks)
        return True

    async def run() -> None:
        hand = Hand(Pings())
        hand.sink = sink
        assert hand.take(b"text")
        assert not hand.take(b"ping")
        assert (len(hand.found), len(given)) == (1, 1)

    asyncio.run(run())


def test_what_a_hand_gives_on() -> None:
    """Chunks go to the sink that was lent, and whoever waits is needed for all else: no sink, one that takes nothing, [DONE], a block that
    says nothing. What the sink did not take is found, once."""
    given: list[Chunk] = []
    takes = True

    def sink(chunks: Sequence[Chunk]) -> bool:
        if takes:
            given.extend(chunks)
        return takes

    async def run() -> None:
        nonlocal takes
        hand = Hand(Reader("cloud", STREAM))
        assert not hand.take(block("a"))
        assert [found.delta for found in hand.found] == [{"content": "a"}]
        hand.sink = sink
        assert hand.take(block("b", "c"))
        assert (hand.found, given) == ([], [chunk("b"), chunk("c")])
        assert not hand.take(b": ping\n\n")
        assert hand.found == []
        takes = False
        assert not hand.take(block("d"))
        assert hand.found == [chunk("d")]
        takes = True
        assert not hand.take(block("e") + encode(b"[DONE]"))
        assert (hand.found, len(given)) == ([chunk("e")], 2)

    asyncio.run(run())


def test_how_long_nothing_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted from the first question after something was said; comments are nothing."""

    async def run() -> None:
        now = 100.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
        hand = Hand(Reader("cloud", STREAM))
        hand.take(block("a"))
        now = 110.0
        assert hand.silent() == 0.0
        hand.take(b": ping\n\n")
        now = 125.0
        assert hand.silent() == 15.0
        hand.take(block("b"))
        assert hand.silent() == 0.0

    asyncio.run(run())
