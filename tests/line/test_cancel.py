"""A caller who leaves ends the upstream's work, in every phase, and is in the Record."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from gateway.pipeline import TOGETHER
from tests.backends.upstream import Asked
from tests.line.world import GOOD, Handler, World, asks, hello, says, sse, world
from tests.waiting import until


async def _silent(asked: Asked) -> None:
    await asyncio.sleep(60)


async def _half(asked: Asked) -> None:
    await asked.stream(sse({"choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]}), end=False)
    await asyncio.sleep(60)


async def _leave(w: World, body: bytes, when: Callable[[], bool]) -> None:
    """Post on a raw socket and close it when `when()`."""
    _, writer = await asyncio.open_connection("127.0.0.1", w.served.port)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    writer.write(head + body)
    await writer.drain()
    await until(when)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("small", "cloud", "body", "at"),
    [
        (_silent, says("x"), asks, "small"),
        (says("no json"), _silent, asks, "cloud"),
        (says("x"), _silent, hello, "cloud"),
        (says("x"), _half, hello, "cloud"),
    ],
    ids=["before the first token", "while escalating", "direct", "mid-stream"],
)
def test_the_upstream_is_closed(
    tmp_path: Path, small: Handler, cloud: Handler, body: Callable[..., object], at: str, stream: bool
) -> None:
    """Queued, before the first token, mid-stream, while escalating; stream or not."""

    async def run() -> None:
        async with world(tmp_path, small, cloud) as w:
            asked = w.small if at == "small" else w.cloud
            before = asked.left
            await _leave(w, orjson.dumps(body(stream=stream)), lambda: len(asked.asked) == 1)
            await until(lambda: asked.left == before + 1)
            await until(lambda: bool(w.served.app.recorder.recent(1)))
            record = w.served.last()
            assert record.outcome == "cancelled"
            assert record.attempts[-1].rung == at
            assert record.attempts[-1].outcome == "stopped"
            await until(lambda: w.served.app.live.in_flight == 0)

    asyncio.run(run())


@pytest.mark.parametrize("pieces", [1, 5, TOGETHER, 2 * TOGETHER + 3])
def test_all_that_he_got_is_told(tmp_path: Path, pieces: int) -> None:
    """However many pieces of a stream had gone out when the caller left, also such as nobody waited for: the Record counts them."""

    async def talks(asked: Asked) -> None:
        def said(**delta: str) -> bytes:
            return sse({"choices": [{"index": 0, "delta": delta}]})

        await asked.stream(said(role="assistant", content=""), end=False)
        for number in range(pieces):
            await asked.chunk(said(content=f"piece {number};"))
            await until(lambda number=number: f"piece {number};".encode() in got)  # type: ignore[misc]
        await asyncio.sleep(60)

    got = bytearray()

    async def run() -> None:
        async with world(tmp_path, says("x"), talks) as w:
            reader, writer = await asyncio.open_connection("127.0.0.1", w.served.port)
            body = orjson.dumps(hello(stream=True))
            writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body
            )
            while f"piece {pieces - 1};".encode() not in got:
                got.extend(await reader.read(2**16))
            writer.close()
            await until(lambda: bool(w.served.app.recorder.recent(1)))
            record = w.served.last()
            assert record.outcome == "cancelled"
            assert record.attempts[0].chunks == pieces + 1
            assert record.answer_chars == sum(len(f"piece {number};") for number in range(pieces))

    asyncio.run(run())


def test_cancelled_work_is_paid_for(tmp_path: Path) -> None:
    """What was sent to a paid rung before the caller left is in the Record as an estimate."""

    async def run() -> None:
        async with world(tmp_path, says("x"), _half) as w:
            await _leave(w, orjson.dumps(hello(stream=True, pad="y")), lambda: len(w.cloud.asked) == 1)
            await until(lambda: bool(w.served.app.recorder.recent(1)))
            attempt = w.served.last().attempts[0]
            assert attempt.tokens.estimated
            assert attempt.cost > 0

    asyncio.run(run())


def test_leaving_before_the_body_is_sent(tmp_path: Path) -> None:
    """A connection that breaks inside the body costs nothing and leaves nothing."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("x")) as w:
            _, writer = await asyncio.open_connection("127.0.0.1", w.served.port)
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\n\r\n{")
            await writer.drain()
            await until(lambda: w.served.app.live.in_flight == 1)
            writer.close()
            await writer.wait_closed()
            await until(lambda: w.served.app.live.in_flight == 0)

    asyncio.run(run())
