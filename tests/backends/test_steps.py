"""An answer in steps, and the sink that gets what nobody need wait for."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

import pytest

from backends._steps import Body, Reading, Steps
from wire.errors import Broken
from wire.openai import Reader
from wire.sse import encode
from wire.types import Call, Chunk, Sink

STREAM = {"content-type": "text/event-stream"}


def chunk(text: str) -> Chunk:
    return Chunk(delta={"content": text})


def block(*texts: str) -> bytes:
    return b"".join(encode(b'{"choices":[{"index":0,"delta":{"content":"%b"}}]}' % text.encode()) for text in texts)


def read_by(reader: Reading) -> Body:
    """As far as it needs no upstream."""
    return Body(cast(Any, None), Call(body={}, seconds=1), cast(Any, None), cast(Any, None), reader, Steps())


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


def test_what_comes_whole() -> None:
    """Asked for with the first step, read at once or one by one, and over then, however often it is asked again."""

    async def begin(steps: Steps) -> Sequence[Chunk]:
        asked.append(steps)
        await asyncio.sleep(0)
        steps.over = True
        return [chunk("a"), chunk("b")]

    asked: list[Steps] = []

    async def run() -> None:
        at_once = Steps(begin=begin)
        assert asked == []
        assert not at_once.over
        assert [*await at_once.step()] == [chunk("a"), chunk("b")]
        assert asked == [at_once]
        assert at_once.over
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await at_once.step()
        assert [found async for found in Steps(begin=begin)] == [chunk("a"), chunk("b")]
        mixed = Steps(begin=begin)
        assert await anext(mixed) == chunk("a")
        assert [*await mixed.step()] == [chunk("b")]
        assert mixed.over
        with pytest.raises(StopAsyncIteration):
            await anext(mixed)

    asyncio.run(run())


def test_what_has_more_to_come() -> None:
    """What follows the first step is read where that one left it, a sink is told to it, and it is closed with the rest."""
    ended: list[str] = []
    lent: list[Sink | None] = []

    async def rest() -> AsyncGenerator[Sequence[Chunk], Sink | None]:
        try:
            lent.append((yield [chunk("a")]))
            lent.append((yield [chunk("b")]))
            yield [chunk("c")]
        finally:
            ended.append("closed")

    async def begin(steps: Steps) -> Sequence[Chunk]:
        steps.rest = rest()
        return await anext(steps.rest)

    def sink(chunks: Sequence[Chunk]) -> bool:
        return False

    async def run() -> None:
        assert [found async for found in Steps(begin=begin)] == [chunk(text) for text in "abc"]
        left = Steps(begin=begin)
        assert [*await left.step()] == [chunk("a")]
        assert not left.over
        assert [*await left.step(sink)] == [chunk("b")]
        await left.aclose()
        assert (ended, lent) == (["closed", "closed"], [None, None, sink])
        with pytest.raises(StopAsyncIteration):
            await anext(left)

    asyncio.run(run())


def test_what_is_left_before_it_is_asked() -> None:
    """Closed, or thrown at, before its first step, nothing is asked any more; after it failed, nothing comes."""

    async def fails(steps: Steps) -> Sequence[Chunk]:
        asked.append(steps)
        raise Broken("down")

    asked: list[Steps] = []

    async def run() -> None:
        closed, thrown = Steps(begin=fails), Steps(begin=fails)
        await closed.aclose()
        with pytest.raises(Broken, match="thrown"):
            await thrown.athrow(Broken("thrown"))
        for over in (closed, thrown):
            with pytest.raises(StopAsyncIteration):
                await anext(over)
        assert asked == []
        failed = Steps(begin=fails)
        with pytest.raises(Broken, match="down"):
            await anext(failed)
        with pytest.raises(StopAsyncIteration):
            await anext(failed)

    asyncio.run(run())


def test_pings_are_for_whoever_counts_their_time() -> None:
    """A block that says nothing but makes a chunk, as an Anthropic ping does, goes to no sink: an upstream that only pings would keep the
    caller for ever."""

    class Pings:
        done, heard, streaming, over = False, 0, True, False

        def feed(self, block: bytes) -> list[Chunk]:
            self.heard += block != b"ping"
            return [Chunk()]

        def close(self) -> list[Chunk]:
            return []

    given: list[Chunk] = []

    def sink(chunks: Sequence[Chunk]) -> bool:
        given.extend(chunks)
        return True

    async def run() -> None:
        body = read_by(Pings())
        body.sink = sink
        assert body.take(b"text")
        assert not body.take(b"ping")
        assert (len(body.found), len(given)) == (1, 1)

    asyncio.run(run())


def test_what_a_body_gives_on() -> None:
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
        body = read_by(Reader("cloud", STREAM))
        assert not body.take(block("a"))
        assert [found.delta for found in body.found] == [{"content": "a"}]
        body.sink = sink
        assert body.take(block("b", "c"))
        assert (body.found, given) == ([], [chunk("b"), chunk("c")])
        assert not body.take(b": ping\n\n")
        assert body.found == []
        takes = False
        assert not body.take(block("d"))
        assert body.found == [chunk("d")]
        takes = True
        assert not body.take(block("e") + encode(b"[DONE]"))
        assert (body.found, len(given)) == ([chunk("e")], 2)

    asyncio.run(run())


def test_how_long_nothing_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted from the first question after something was said; comments are nothing."""

    async def run() -> None:
        now = 100.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
        body = read_by(Reader("cloud", STREAM))
        body.take(block("a"))
        now = 110.0
        assert body.silent() == 0.0
        body.take(b": ping\n\n")
        now = 125.0
        assert body.silent() == 15.0
        body.take(block("b"))
        assert body.silent() == 0.0

    asyncio.run(run())


def test_what_was_left_is_forgotten_once_something_is_thrown_in() -> None:
    """As a generator does: after `athrow` nothing of before comes any more."""

    async def chunks() -> AsyncGenerator[Sequence[Chunk], Sink | None]:
        yield [Chunk(delta={"content": word}) for word in "abc"]

    async def begin(steps: Steps) -> Sequence[Chunk]:
        return [Chunk(delta={"content": word}) for word in "abc"]

    async def rest(steps: Steps) -> list[Chunk]:
        await anext(steps)
        with pytest.raises(ValueError, match="now"):
            await steps.athrow(ValueError("now"))
        return [chunk async for chunk in steps]

    assert asyncio.run(rest(Steps(chunks()))) == []
    assert asyncio.run(rest(Steps(begin=begin))) == []
