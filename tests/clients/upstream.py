"""Two scripted models behind one real HTTP server on 127.0.0.1: `/small/v1` is weak (`manners`), `/cloud/v1` is not.

    python -m tests.clients.upstream [--broken status|answers]

Prints its port as the first line. GET /stats tells how many requests run now, how many came and how many of their clients left before
the end. `--broken` is for proving that a suite can fail: every answer a 500, or every answer the same wrong text.
"""

import argparse
import asyncio
import base64
import hashlib
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
import uvicorn

from tests.clients import manners
from tests.clients.answers import Answer, answer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DIMENSIONS = 8
WRONG = Answer(["nothing ", "of ", "the ", "kind"])


class Models:
    """The ASGI application."""

    def __init__(self, broken: str = "") -> None:
        self._broken = broken
        self._running = 0
        self._asked = 0
        self._left = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        who, _, endpoint = str(scope["path"]).strip("/").partition("/v1/")
        if scope["path"] == "/stats":
            await _json(send, {"running": self._running, "asked": self._asked, "left": self._left})
            return
        body = await _body(receive)
        self._asked += 1
        self._running += 1
        try:
            async with asyncio.TaskGroup() as group:
                work = group.create_task(self._answer(who, endpoint, body, send))
                gone = group.create_task(_gone(receive))
                await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
                self._left += not work.done()
                work.cancel()
                gone.cancel()
        finally:
            self._running -= 1

    async def _answer(self, who: str, endpoint: str, raw: bytes, send: Send) -> None:
        if self._broken == "status":
            await _error(send, 500, "broken on purpose")
            return
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict):
            await _error(send, 400, "no JSON object")
        elif endpoint == "chat/completions":
            try:
                await self._chat(who, body, send)
            except (TypeError, ValueError, AttributeError, KeyError, IndexError, ArithmeticError, RecursionError):
                # Nonsense that the gateway has no opinion about (a fuzzer's tool parameters) is a 400 at a real server too.
                await _error(send, 400, "the request makes no sense")
        elif endpoint == "embeddings":
            await _json(send, embeddings(body))
        else:
            await _error(send, 404, f"no such endpoint: {endpoint}")

    async def _chat(self, who: str, body: dict[str, Any], send: Send) -> None:
        given = WRONG if self._broken == "answers" else answer(body)
        how: manners.Manner = manners.manner(body) if who == "small" and not given.pause else "tidy"
        if how == "spoiled":
            given = manners.spoil(given)
        name = str(body.get("model", who))
        await asyncio.sleep(given.wait)
        if not body.get("stream"):
            await asyncio.sleep(given.pause * len(given.pieces))
            await _json(send, manners.whole(body, given, name))
            return
        await _start(send, 200, "text/event-stream; charset=utf-8")
        for paused, block in manners.stream(body, given, name, how):
            if paused and given.pause:
                await asyncio.sleep(given.pause)
            await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """Vectors made of the inputs' hashes: the same input has the same vector."""
    given = body.get("input", "")
    inputs = given if isinstance(given, list) and not all(isinstance(item, int) for item in given) else [given]
    rows = []
    for index, item in enumerate(inputs):
        digest = hashlib.sha256(orjson.dumps(item)).digest()
        vector: Any = [(byte - 127.5) / 127.5 for byte in digest[: body.get("dimensions") or DIMENSIONS]]
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        rows.append({"object": "embedding", "index": index, "embedding": vector})
    return {
        "object": "list",
        "data": rows,
        "model": body.get("model", ""),
        "usage": {"prompt_tokens": len(inputs), "total_tokens": len(inputs)},
    }


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _start(send: Send, status: int, kind: str) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind.encode())]})


async def _json(send: Send, value: Any, status: int = 200) -> None:
    await _start(send, status, "application/json")
    await send({"type": "http.response.body", "body": orjson.dumps(value), "more_body": False})


async def _error(send: Send, status: int, message: str) -> None:
    await _json(send, {"error": {"message": message, "type": "scripted", "param": None, "code": None}}, status)


def main() -> None:
    parser = argparse.ArgumentParser(description="Scripted models for the client suites.")
    parser.add_argument("--broken", choices=("", "status", "answers"), default="")
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        print(listening.getsockname()[1], flush=True)  # noqa: T201
        config = uvicorn.Config(
            Models(parser.parse_args().broken),
            lifespan="off",
            log_config=None,
            access_log=False,
            http="httptools",
            loop="uvloop",
            timeout_graceful_shutdown=1,
        )
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
