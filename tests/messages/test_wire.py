"""Messages over a raw socket: paths, what is kept, held streams, calls."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.backends.upstream import Asked
from tests.line.world import completion, says
from tests.messages.claude import ANSWER, THOUGHT, fold, message, played
from tests.messages.claude import says as claude_says
from tests.messages.world import BAD, GOOD, TOOL, asks, hello, world


@pytest.mark.parametrize("path", ["/v1/messages", "/messages", "/v1/messages?beta=true", "/v1/messages?x=1&beta=true"])
def test_paths(tmp_path: Path, path: str) -> None:
    """With and without /v1, with any query."""

    async def run() -> None:
        async with world(tmp_path) as w:
            told = await w.post(hello(), path)
            assert told.status_code == 200
            assert told.json()["content"] == [{"type": "text", "text": "hello"}]
            assert told.headers["request-id"] == told.headers["x-request-id"]
            assert told.headers["x-weir-rung"] == "claude"

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_is_lost(tmp_path: Path, stream: bool) -> None:
    """Routed to Anthropic, an answer keeps what only Anthropic says: citations, server tools, the order of blocks, raw counts,
    why it stopped and at which sequence."""
    content: list[dict[str, Any]] = [
        {**THOUGHT},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": [{"type": "web_search_result", "url": "u"}],
        },
        {"type": "text", "text": "so"},
        {"type": "tool_use", "id": "toolu_9", "name": "f", "input": {}},
    ]
    full = message(content, "stop_sequence", stop_sequence="END", usage={**ANSWER["usage"], "service_tier": "priority"})

    async def run() -> None:
        async with world(tmp_path, claude=played(full)) as w:
            told = await w.post(hello(model="route/general", stream=stream))
            got = fold(told.content) if stream else told.json()
            assert got["content"][0].pop("signature").endswith(THOUGHT["signature"])
            wanted = {**full, "id": got["id"], "model": "route/general"}
            assert {k: v for k, v in got.items() if k != "content"} == {
                k: v for k, v in wanted.items() if k != "content"
            }
            assert got["content"] == [{k: v for k, v in THOUGHT.items() if k != "signature"}, *content[1:]]

    asyncio.run(run())


@pytest.mark.parametrize("small", [GOOD, BAD])
def test_held_stream(tmp_path: Path, small: str) -> None:
    """A stream that is held until its answer was checked is replayed as events, whoever answered; nothing rejected gets out."""

    async def run() -> None:
        async with world(tmp_path, small=says(small), claude=played(claude_says(GOOD))) as w:
            told = await w.post(asks("strict", stream=True))
            got = fold(told.content)
            assert got["content"] == [{"type": "text", "text": GOOD}]
            assert got["usage"]["output_tokens"] == 5
            assert BAD not in told.text.replace("\\", "")
            assert w.served.record(told).served == ("small" if small == GOOD else "claude")

    asyncio.run(run())


def test_parallel_calls(tmp_path: Path) -> None:
    """Calls whose pieces come interleaved are told one after the other, each whole."""

    async def handler(asked: Asked) -> None:
        def call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
            return {"index": index, **more, "function": {"arguments": arguments, **({"name": "f"} if more else {})}}

        deltas = [
            [call(0, '{"x"', id="c0"), call(1, '{"x"', id="c1")],
            [call(1, ":2}")],
            [call(0, ":1}"), call(2, "", id="c2")],
        ]
        chunks = [{"choices": [{"index": 0, "delta": {"tool_calls": delta}}]} for delta in deltas]
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
        await asked.stream(
            *(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in [*chunks, end]), b"data: [DONE]\n\n"
        )

    async def run() -> None:
        async with world(tmp_path, gpt=handler) as w:
            got = fold((await w.post(hello(model="route/gpt", tools=[TOOL], stream=True))).content)
            inputs = [(block["id"], block["input"]) for block in got["content"]]
            assert inputs == [("c0", {"x": 1}), ("c1", {"x": 2}), ("c2", {})]
            assert got["stop_reason"] == "tool_use"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("finish", "reason"), [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal")]
)
def test_stop_reasons(tmp_path: Path, finish: str, reason: str) -> None:
    """finish_reason becomes stop_reason, whole and as a stream."""

    async def run() -> None:
        async with world(tmp_path, gpt=says("x", finish)) as w:
            assert (await w.post(hello(model="route/gpt"))).json()["stop_reason"] == reason
            assert fold((await w.post(hello(model="route/gpt", stream=True))).content)["stop_reason"] == reason

    asyncio.run(run())


@pytest.mark.parametrize(("path", "sent"), [("/v1/messages", 850), ("/v1/chat/completions", 32000)])
def test_room(tmp_path: Path, path: str, sent: int) -> None:
    """A limit that Anthropic's API forces upon its callers is lowered to a small model's room; one that a chat client chose is not."""

    async def run() -> None:
        async with world(tmp_path, small=says("x")) as w:
            said = [{"role": "user", "content": "x" * 400}]
            limit = {"max_completion_tokens" if path.endswith("completions") else "max_tokens": 32000}
            await w.post({"model": "route/home", "messages": said, **limit}, path)
            assert w.small.asked[0].json["max_completion_tokens"] == sent

    asyncio.run(run())


def test_keep_alive(tmp_path: Path) -> None:
    """While a stream is held, comments are sent; the events behind them are a whole message."""

    async def slow(asked: Asked) -> None:
        await asyncio.sleep(0.3)
        await asked.answer(completion(GOOD))

    async def run() -> None:
        async with world(tmp_path, small=slow, server="keepalive_after: 0.05") as w:
            told = await w.post(asks(stream=True))
            assert told.text.startswith(": keep-alive")
            assert fold(told.content)["content"] == [{"type": "text", "text": GOOD}]

    asyncio.run(run())
