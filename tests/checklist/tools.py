"""What the checklist's tests share: reading a stream as a client does, and upstreams that misbehave."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import orjson

from tests.backends.upstream import Asked
from tests.line.world import Handler, World, sse, world

Run = Callable[[World], Awaitable[None]]

TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"x": {"type": "integer"}},
            "required": ["x"],
            "additionalProperties": False,
        },
    },
}
NO_ARGUMENTS = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}


def call(name: str = "add", arguments: str = '{"x":1}', id: str = "c1") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def check(folder: Path, small: Handler, cloud: Handler, run: Run, **more: Any) -> None:
    """Run `run` against a gateway between `small` and `cloud`."""

    async def go() -> None:
        context: AbstractAsyncContextManager[World] = world(folder, small, cloud, **more)
        async with context as w:
            await run(w)

    asyncio.run(go())


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """The JSON events of a stream, [DONE] left out."""
    lines = [line[6:] for line in response.text.split("\n\n") if line.startswith("data: ")]
    return [orjson.loads(line) for line in lines if line != "[DONE]"]


def choices(response: httpx.Response, index: int = 0) -> list[dict[str, Any]]:
    return [c for e in events(response) for c in e["choices"] if c["index"] == index]


def text(response: httpx.Response, index: int = 0) -> str:
    """The text of a whole answer or of a stream."""
    if response.headers["content-type"].startswith("text/event-stream"):
        return "".join(c["delta"].get("content") or "" for c in choices(response, index))
    found: str = response.json()["choices"][index]["message"]["content"]
    return found


def calls(response: httpx.Response) -> list[dict[str, Any]]:
    """The tool calls of a stream as openai-python accumulates them: every string is concatenated. Raises on a gap."""
    found: list[dict[str, Any]] = []
    for choice in choices(response):
        for delta in choice["delta"].get("tool_calls") or ():
            if delta["index"] == len(found):
                found.append({"id": "", "type": "", "name": "", "arguments": ""})
            one = found[delta["index"]]
            one["id"] += delta.get("id", "")
            one["type"] += delta.get("type", "")
            one["name"] += delta.get("function", {}).get("name", "")
            one["arguments"] += delta.get("function", {}).get("arguments", "")
    return found


def plays(*deltas: dict[str, Any], finish: str | None = "stop", done: bool = True, **event: Any) -> Handler:
    """An upstream that streams exactly these deltas of choice 0, then `finish`."""

    async def handler(asked: Asked) -> None:
        ends: Sequence[dict[str, Any]] = [{"index": 0, "delta": {}, "finish_reason": finish}] if finish else []
        parts = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        blocks = [sse({"id": "up", "created": 1, "model": "m", "choices": [p], **event}) for p in [*parts, *ends]]
        await asked.stream(*blocks, *([b"data: [DONE]\n\n"] if done else []))

    return handler


def raw(*blocks: bytes) -> Handler:
    """An upstream that streams exactly these blocks, one by one."""

    async def handler(asked: Asked) -> None:
        await asked.stream(end=False)
        for block in blocks:
            await asked.chunk(block)
            await asyncio.sleep(0.02)
        await asked.send(b"0\r\n\r\n")

    return handler


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **event: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "up", "created": 1, "model": "m", "choices": [choice], **event}
