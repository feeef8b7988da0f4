"""Two scripted models on real sockets, each with its own time: `async with playing(handler) as url: ...`.

Small says, token by token with their log-probabilities, what the real specialist once said to that text; Large says the right call after
its own time, and counts what it is asked.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson

from benchmarks.quality._bfcl_data import Spoken
from benchmarks.quality._house import MEDIAN, large_seconds
from benchmarks.quality._oracle import asked_text, whole
from gateway.calibrate.collect import Answer

Handler = Callable[[dict[str, Any], asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_USAGE = {"prompt_tokens": 40, "completion_tokens": 30, "total_tokens": 70}
_HEAD = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "scripted"}
FIRST = 0.2
"""Share of the small model's time until its first token. Seen of the SNIPS specialist behind vLLM on two busy cores: mean 0.19 one at a
time, 0.21 four at a time, 0.32 to 0.34 sixteen and more at a time (it waits for its turn); the median is 0.14, 0.15 and 0.3."""
SPREAD = 0.2
"""Sigma of the small model's log-normal time. Its other tokens come evenly, as they were seen to."""


@asynccontextmanager
async def playing(handler: Handler) -> AsyncIterator[str]:
    """Serve on a free port of 127.0.0.1; the URL without a path."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                sizes = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                body = await reader.readexactly(int(sizes[0].split(b":")[1]) if sizes else 0)
                await handler(orjson.loads(body or b"{}"), reader, writer)
        writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


class Large:
    """asked: requests that came."""

    def __init__(self, answers: Mapping[str, Spoken]) -> None:
        self._answers = answers
        self.asked = 0
        self.draw = 0
        """Of the times that answers take."""

    async def __call__(self, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        text = asked_text(body)
        try:
            async with asyncio.timeout(large_seconds(text, self.draw)):
                await reader.read(1)
            raise ConnectionResetError
        except TimeoutError:
            await _send(writer, orjson.dumps(whole(self._answers[text])))


class Small:
    """ratio: its median time as a share of the large model's."""

    def __init__(self, answers: Mapping[str, Answer], ratio: float) -> None:
        self._answers = answers
        self._ratio = ratio
        self.draw = 0

    async def __call__(self, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = asked_text(body)
        draft = self._answers[text].drafts[0]
        seconds = self._ratio * MEDIAN * random.Random(f"small {self.draw} {text}").lognormvariate(0, SPREAD)
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in draft.tool_calls
        ]
        if not body.get("stream"):
            await asyncio.sleep(seconds)
            message = {"role": "assistant", "content": draft.text or None, "tool_calls": calls}
            choice = {
                "index": 0,
                "message": message,
                "finish_reason": draft.finish,
                "logprobs": {"content": draft.logprobs},
            }
            await _send(
                writer, orjson.dumps({**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _USAGE})
            )
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        await asyncio.sleep(FIRST * seconds)
        pause = (1 - FIRST) * seconds / max(1, len(draft.logprobs))
        for token in draft.logprobs:
            await _event(writer, {"delta": {}, "logprobs": {"content": [token]}})
            await asyncio.sleep(pause)
        deltas = [{"index": i, **call} for i, call in enumerate(calls)]
        await _event(
            writer, {"delta": {"role": "assistant", "tool_calls": deltas} if deltas else {"content": draft.text}}
        )
        await _event(writer, {"delta": {}, "finish_reason": draft.finish})
        await _chunk(
            writer, b"data: " + orjson.dumps({**_HEAD, "choices": [], "usage": _USAGE}) + b"\n\ndata: [DONE]\n\n"
        )
        await _chunk(writer, b"")


async def _event(writer: asyncio.StreamWriter, choice: Mapping[str, Any]) -> None:
    event = {**_HEAD, "object": "chat.completion.chunk", "choices": [{"index": 0, **choice}]}
    await _chunk(writer, b"data: " + orjson.dumps(event) + b"\n\n")


async def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    await writer.drain()


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode())
    writer.write(data)
    await writer.drain()
