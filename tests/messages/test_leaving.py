"""Messages: a caller who leaves ends the work upstream, in every phase."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.backends.upstream import Asked, Handler, hang
from tests.line.world import says
from tests.messages.claude import ANSWER, events, played
from tests.messages.world import World, asks, hello, world
from tests.waiting import until


async def _half_claude(asked: Asked) -> None:
    await asked.stream(*events(ANSWER)[:5], end=False)
    await asyncio.sleep(60)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("small", "claude", "body", "at"),
    [
        (hang, played(ANSWER), asks, "small"),
        (says("no json"), hang, asks, "claude"),
        (says("x"), hang, hello, "claude"),
        (says("x"), _half_claude, hello, "claude"),
    ],
    ids=["before the first token", "while escalating", "direct", "mid-stream"],
)
def test_leaving(
    tmp_path: Path, small: Handler, claude: Handler, body: Callable[..., dict[str, Any]], at: str, stream: bool
) -> None:
    """A caller who leaves ends the upstream's work at once, in every phase, and is in the Record."""

    async def run() -> None:
        async with world(tmp_path, small=small, claude=claude) as w:
            asked = w.small if at == "small" else w.claude
            await _leave(w, orjson.dumps(body(stream=stream)), lambda: len(asked.asked) == 1)
            await until(lambda: asked.left == 1)
            await until(lambda: bool(w.served.app.recorder.recent(1)))
            record = w.served.last()
            assert (record.outcome, record.dialect, record.attempts[-1].rung) == ("cancelled", "messages", at)
            await until(lambda: w.served.app.live.in_flight == 0)

    asyncio.run(run())


def test_leaving_a_count(tmp_path: Path) -> None:
    """Who leaves while tokens are counted ends the counting too."""

    async def run() -> None:
        async with world(tmp_path, claude=hang) as w:
            body = orjson.dumps(hello())
            await _leave(w, body, lambda: len(w.claude.asked) == 1, path=b"/v1/messages/count_tokens")
            await until(lambda: w.claude.left == 1)
            await until(lambda: w.served.app.live.in_flight == 0)

    asyncio.run(run())


async def _leave(w: World, body: bytes, when: Callable[[], bool], path: bytes = b"/v1/messages") -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", w.served.port)
    writer.write(b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (path, len(body), body))
    await writer.drain()
    await until(when)
    writer.close()
    await writer.wait_closed()
