"""A model that is always right, as an OpenAI-compatible server on a real socket: `async with oracle(answers) as served: ...`.

It knows an answer per request (text and tools, to the last character: a request that was changed on its way up has none, and gets 404).
Its JSON is written as servers do it and clients have to bear it: spaces, escapes, arguments cut in the middle of a word or an
escape, events that span packets.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson

from benchmarks.quality._bfcl_data import Spoken, key

PIECE = 17
"""Characters of one event's text or arguments at most."""
PACKET = 700
"""Bytes that are written at once at most."""
SEED = 4
MODEL = "oracle"


class Oracle:
    """The server's state."""

    def __init__(self, answers: Mapping[bytes, Spoken]) -> None:
        self.answers = answers
        self.url = ""
        """Without a path."""
        self.asked = 0
        self.unknown = 0
        """Requests that are in no item: changed on their way."""
        self.streamed = 0
        self.open: dict[asyncio.Task[Any] | None, asyncio.StreamWriter] = {}
        """Connections, by the task that serves them."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        chance = random.Random(SEED)
        self.open[asyncio.current_task()] = writer
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET "):  # a gateway looks whether its engine is well
                    await _write(writer, *_seen(head.split(b" ")[1]))
                else:
                    await self._reply(orjson.loads(await reader.readexactly(_length(head))), writer, chance)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it has gone, as clients do
        finally:
            self.open.pop(asyncio.current_task(), None)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _reply(self, body: dict[str, Any], writer: asyncio.StreamWriter, chance: random.Random) -> None:
        self.asked += 1
        answer = self.answers.get(key(asked_text(body), [told(tool["function"]) for tool in body.get("tools") or ()]))
        if answer is None:
            self.unknown += 1
            await _write(
                writer, 404, "application/json", [b'{"error": {"message": "no such request", "type": "oracle"}}']
            )
        elif body.get("stream"):
            self.streamed += 1
            usage = bool((body.get("stream_options") or {}).get("include_usage"))
            await _write(writer, 200, "text/event-stream", _packets(b"".join(events(answer, usage, chance)), chance))
        else:
            await _write(writer, 200, "application/json", _packets(json.dumps(whole(answer)).encode(), chance))


@asynccontextmanager
async def oracle(answers: Mapping[bytes, Spoken]) -> AsyncIterator[Oracle]:
    """Serve `answers` (benchmarks.quality._bfcl_data.key > answer) on a free port of 127.0.0.1."""
    found = Oracle(answers)
    server = await asyncio.start_server(found.handle, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        server.close()
        ending = [task for task in found.open if task is not None]
        for writer in found.open.values():
            writer.transport.abort()
        await asyncio.gather(*ending, return_exceptions=True)
        await server.wait_closed()


def asked_text(body: Mapping[str, Any]) -> str:
    """The last message's text, as a string or as parts."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def told(function: Mapping[str, Any]) -> dict[str, Any]:
    """A tool without `strict`, which dialects and backends have their own opinions of."""
    return {name: value for name, value in function.items() if name != "strict"}


def _length(head: bytes) -> int:
    """The content-length in a request's head; 0 without one."""
    lines = head.lower().split(b"\r\n")
    return next((int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")), 0)


def _seen(path: bytes) -> tuple[int, str, list[bytes]]:
    """What is answered to a look: well, with one model, and without figures."""
    if path.endswith(b"/models"):
        models = {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "oracle"}]}
        return 200, "application/json", [json.dumps(models).encode()]
    return (200, "text/plain", []) if path.endswith(b"/health") else (404, "text/plain", [])


def arguments(value: Any) -> str:
    """JSON as a model writes it: with spaces, and with escapes for what is not ASCII."""
    return json.dumps(value)


def whole(answer: Spoken) -> dict[str, Any]:
    """An answer that is not streamed."""
    calls = [
        {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": arguments(value)}}
        for i, (name, value) in enumerate(answer.calls)
    ]
    message = {"role": "assistant", "content": answer.text or None} | ({"tool_calls": calls} if calls else {})
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    return {**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _USAGE}


def events(answer: Spoken, usage: bool, chance: random.Random) -> Iterator[bytes]:
    """An answer as server-sent events, [DONE] included."""
    yield _event({"role": "assistant", "content": None if answer.calls else ""})
    for piece in pieces(answer.text, chance):
        yield _event({"content": piece})
    for i, (name, value) in enumerate(answer.calls):
        function = {"name": name, "arguments": ""}
        yield _event({"tool_calls": [{"index": i, "id": f"call_{i}", "type": "function", "function": function}]})
        for piece in pieces(arguments(value), chance):
            yield _event({"tool_calls": [{"index": i, "function": {"arguments": piece}}]})
    yield _event({}, "tool_calls" if answer.calls else "stop")
    if usage:
        yield _data({**_HEAD, "object": "chat.completion.chunk", "choices": [], "usage": _USAGE})
    yield b"data: [DONE]\n\n"


def pieces(text: str, chance: random.Random) -> Iterator[str]:
    """`text` in parts of 1 to PIECE characters."""
    at = 0
    while at < len(text):
        size = chance.randint(1, PIECE)
        yield text[at : at + size]
        at += size


_HEAD = {"id": "chatcmpl-oracle", "created": 1_700_000_000, "model": MODEL}
_USAGE = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}


def _event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _data({**_HEAD, "object": "chat.completion.chunk", "choices": [choice]})


def _data(table: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(table, ensure_ascii=False).encode() + b"\n\n"


def _packets(data: bytes, chance: random.Random) -> list[bytes]:
    """Cut anywhere, in the middle of a character too."""
    found, at = [], 0
    while at < len(data):
        size = chance.randint(1, PACKET)
        found.append(data[at : at + size])
        at += size
    return found


async def _write(writer: asyncio.StreamWriter, status: int, kind: str, packets: Sequence[bytes]) -> None:
    length = sum(len(packet) for packet in packets)
    writer.write(f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n".encode())
    for packet in packets:
        writer.write(packet)
        await writer.drain()
        await asyncio.sleep(0)  # what reads gets its turn: packets stay apart
