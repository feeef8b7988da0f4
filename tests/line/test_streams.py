"""Streams through the whole gateway: the commit point, and what may happen on either side of it."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.backends.upstream import Asked
from tests.line.world import GOOD, asks, hello, says, sse, world
from tests.waiting import until


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


def _delta(text: str, **choice: Any) -> bytes:
    return sse({"id": "u", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None, **choice}]})


_END = [sse({"id": "u", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}), b"data: [DONE]\n\n"]


def _content(events: list[dict[str, Any]]) -> list[str]:
    return [
        e["choices"][0]["delta"]["content"] for e in events if e["choices"] and e["choices"][0]["delta"].get("content")
    ]


@pytest.mark.parametrize("together", [1, 7, 300])
def test_each_piece_is_an_event_of_its_own(tmp_path: Path, together: int) -> None:
    """However many come at once, and whatever is among them: the same events in the same order, counted in the Record; and nobody gets
    log-probabilities that he did not ask for."""
    pieces = [_delta(f"{n} ") for n in range(100)]
    pieces[50] = _delta("\u20ac ", logprobs={"content": [{"token": "x", "logprob": -1.0}]})
    pieces[60] = sse({"choices": [{"index": 0, "delta": {"reasoning": "why"}}]})
    pieces[70] = b": ping\n\n"

    async def streams(asked: Asked) -> None:
        await asked.stream(end=False)
        for at in range(0, 100, together):
            await asked.chunk(b"".join(pieces[at : at + together]))
            await asyncio.sleep(0.001)
        await asked.chunk(b"".join(_END))
        await asked.send(b"0\r\n\r\n")

    async def run() -> None:
        async with world(tmp_path, says(GOOD), streams) as w:
            response = await w.served.chat(hello(stream=True))
            events: list[Any] = _events(response.text)
            wanted = [f"{n} " if n != 50 else "\u20ac " for n in range(100) if n not in (60, 70)]
            assert _content(events) == wanted
            assert [e["choices"][0]["delta"].get("reasoning_content") for e in events].count("why") == 1
            assert not any(e["choices"][0]["logprobs"] for e in events)
            assert response.text.endswith("data: [DONE]\n\n")
            assert w.served.record(response).outcome == "direct"

    asyncio.run(run())


def test_a_caller_who_does_not_read_stops_the_upstream(tmp_path: Path) -> None:
    """What he has not read is held up to a bound, then the upstream is not read any more; when he reads again, all of it comes."""
    text, sent = "x" * 10_000, 0

    async def floods(asked: Asked) -> None:
        nonlocal sent
        await asked.stream(end=False)
        for n in range(4000):
            await asked.chunk(_delta(f"{n} {text}"))
            sent += 1
        await asked.chunk(b"".join(_END))
        await asked.send(b"0\r\n\r\n")

    async def run() -> None:
        async with world(tmp_path, says(GOOD), floods) as w:
            body = orjson.dumps(hello(stream=True))
            reader, writer = await asyncio.open_connection("127.0.0.1", w.served.port, limit=2**16)
            head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
            writer.write(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))
            before = -1
            while sent != before or sent == 0:  # until nothing moves any more
                before = sent
                await asyncio.sleep(0.3)
            assert sent < 3900
            found = b""
            while not found.endswith(b"\r\n0\r\n\r\n"):
                read = await reader.read(2**16)
                assert read
                found += read
            assert [found.count(b'"content":"%d ' % n) for n in (0, 1999, 3999)] == [1, 1, 1]
            assert found.count(text.encode()) == 4000
            writer.close()

    asyncio.run(run())


def test_an_upstream_that_stops_sending(tmp_path: Path) -> None:
    """`server.idle` counts from the last piece, however long the answer takes; then it is an error event, and the upstream is left."""

    async def stops(asked: Asked) -> None:
        await asked.stream(end=False)
        for n in range(12):
            await asked.chunk(_delta(f"{n} "))
            await asyncio.sleep(0.1)
        await asyncio.sleep(60)

    async def run() -> None:
        async with world(tmp_path, says(GOOD), stops) as w:
            w.served.rewrite(w.served.config.read_text().replace("idle: 40", "idle: 0.8"))
            await until(lambda: w.served.app.live.setup.settings.server.idle == 0.8)
            response = await w.served.chat(hello(stream=True))
            events: list[Any] = _events(response.text)
            assert "error" in events[-1]
            assert _content(events[:-1]) == [f"{n} " for n in range(12)]
            assert "[DONE]" not in response.text
            await w.cloud.wait_left(1)

    asyncio.run(run())
