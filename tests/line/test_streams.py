"""Streams through the whole gateway: the commit point, and what may happen on either side of it."""

import asyncio
from pathlib import Path
from typing import Any

import orjson

from tests.backends.upstream import Asked
from tests.line.world import GOOD, asks, hello, says, sse, world


def _events(text: str) -> list[dict[str, object]]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    return [orjson.loads(line) for line in lines if line != "[DONE]"]


async def _breaks(asked: Asked) -> None:
    await asked.stream(sse({"choices": [{"index": 0, "delta": {"role": "assistant", "content": "half"}}]}), end=False)
    await asyncio.sleep(0.05)
    asked.writer.close()


async def _slow(asked: Asked) -> None:
    await asyncio.sleep(0.3)
    await says(GOOD)(asked)


def test_a_stream_that_breaks_is_an_error(tmp_path: Path) -> None:
    """After the first byte: an error event, no finish_reason, no [DONE]. Never a silent end."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), _breaks) as w:
            response = await w.served.chat(hello(stream=True))
            assert response.status_code == 200
            events = _events(response.text)
            assert "error" in events[-1]
            assert "[DONE]" not in response.text
            assert "half" in response.text
            record = w.served.record(response)
            assert (record.outcome, record.error) == ("failed", "upstream_error")

    asyncio.run(run())


def test_a_broken_answer_that_nobody_saw_is_a_502(tmp_path: Path) -> None:
    """`stream: false`: the same failure still gets its status."""

    async def cut(asked: Asked) -> None:
        await asked.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{")
        asked.writer.close()

    async def run() -> None:
        async with world(tmp_path, says(GOOD), cut) as w:
            assert (await w.served.chat(hello())).status_code == 502

    asyncio.run(run())


def test_replayed_stream_is_one_answer(tmp_path: Path) -> None:
    """A held answer is replayed with one id, one model, one role, one finish, and usage only when it was asked for."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("never")) as w:
            for usage in (False, True):
                options: dict[str, Any] = {"stream_options": {"include_usage": True}} if usage else {}
                response = await w.served.chat(asks(stream=True, **options))
                events = _events(response.text)
                assert len({(e["id"], e["created"], e["model"]) for e in events}) == 1
                assert events[0]["model"] == "weir"
                choices = [e["choices"][0] for e in events if e["choices"]]  # type: ignore[index]
                assert [c["delta"].get("role") for c in choices].count("assistant") == 1
                assert [c["finish_reason"] for c in choices if c["finish_reason"]] == ["stop"]
                assert "".join(c["delta"].get("content") or "" for c in choices) == GOOD
                assert ("usage" in events[0]) is usage
                assert bool(events[-1].get("usage")) is usage
                assert response.text.endswith("data: [DONE]\n\n")

    asyncio.run(run())


def test_keep_alive_while_the_gate_is_shut(tmp_path: Path) -> None:
    """With `keepalive_after` a held stream gets its 200 and comments early, and may still escalate."""

    async def run() -> None:
        async with world(tmp_path, says("bad"), _slow, server="keepalive_after: 0.05") as w:
            response = await w.served.chat(asks(stream=True))
            assert response.status_code == 200
            assert ": keep-alive\n\n" in response.text
            assert w.served.last().escalation == "schema"
            events = _events(response.text)
            assert "".join(e["choices"][0]["delta"].get("content") or "" for e in events) == GOOD  # type: ignore[index]

    asyncio.run(run())


def test_failure_after_keep_alive(tmp_path: Path) -> None:
    """The 200 has gone out, so the failure is an error event."""

    async def late(asked: Asked) -> None:
        await asyncio.sleep(0.2)
        await asked.answer(b"{}", 500)

    async def run() -> None:
        async with world(tmp_path, says("bad"), late, server="keepalive_after: 0.05") as w:
            response = await w.served.chat(asks(stream=True))
            assert response.status_code == 200
            assert "error" in _events(response.text)[-1]

    asyncio.run(run())


def test_fifty_streams_do_not_cross(tmp_path: Path) -> None:
    """Each caller gets its own answer and its own id."""

    async def echo(asked: Asked) -> None:
        await says(asked.json["messages"][0]["content"])(asked)

    async def run() -> None:
        async with world(tmp_path, says(GOOD), echo) as w:
            texts = [f"caller {i} " * 3 for i in range(50)]
            bodies = [{"model": "weir", "messages": [{"role": "user", "content": t}], "stream": True} for t in texts]
            responses = await asyncio.gather(*(w.served.chat(body) for body in bodies))
            ids = set()
            for text, response in zip(texts, responses, strict=True):
                events = _events(response.text)
                ids.add(events[0]["id"])
                assert "".join(e["choices"][0]["delta"].get("content") or "" for e in events) == text  # type: ignore[index]
            assert len(ids) == 50

    asyncio.run(run())


def test_tool_loop_stays_on_its_rung(tmp_path: Path) -> None:
    """While the last message is a tool result, the rung that asked for it answers, whatever the router would say."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

    async def run() -> None:
        async with world(tmp_path, says("bad", "length"), says(None, "tool_calls", tool_calls=[call])) as w:
            first = await w.served.chat(hello(tools=[tool]))
            assert w.served.record(first).served == "cloud"
            messages = [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": "4"},
            ]
            second = await w.served.chat(hello(messages=messages, tools=[tool]))
            record = w.served.record(second)
            assert (record.reason, record.served, len(record.attempts)) == ("tool_loop", "cloud", 1)

    asyncio.run(run())
