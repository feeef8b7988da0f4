"""Free text of a small model that flows after a window and with a lag, and calls that are held until they were checked."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.backends.upstream import Asked
from tests.line.speaking import Piece, calibrated, speaks
from tests.line.world import hello, says, sse, world

FLOW = "flow: {{ladder: [small, cloud], mode: enforce, stream: {{window: 20, lag: 8}}{}}}"
WORDS = [f"word{number} " for number in range(12)]
TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}},
}


def words(*waits: tuple[int, asyncio.Event]) -> list[Piece]:
    """The words as tokens; before word n it waits for an event."""
    out: list[Piece] = []
    for number, word in enumerate(WORDS):
        out += [event for at, event in waits if at == number]
        out.append((word, 0.9))
    return out


def text_of(stream: str) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in choices(stream))


def finish_of(stream: str) -> list[str]:
    return [choice["finish_reason"] for choice in choices(stream) if choice["finish_reason"]]


def choices(stream: str) -> list[dict[str, Any]]:
    lines = [line[6:] for line in stream.splitlines() if line.startswith("data: {")]
    return [choice for line in lines for choice in orjson.loads(line).get("choices", ())]


def test_text_flows_before_it_is_complete(tmp_path: Path) -> None:
    """After the window the caller reads while the small model still writes; what is read lags behind, and in the end it is all there."""

    async def run() -> None:
        seen = asyncio.Event()
        async with world(tmp_path, speaks(*words((8, seen))), says("never"), routes=FLOW.format("")) as w:
            body, got = hello(model="route/flow", stream=True), ""
            async with w.served.client.stream("POST", "/v1/chat/completions", json=body) as response:
                async for piece in response.aiter_text():
                    got += piece
                    if not seen.is_set() and text_of(got):
                        # The small model waits for this: it cannot have finished.
                        assert len(text_of(got)) <= len("".join(WORDS[:8])) - 8
                        seen.set()
                assert response.headers["x-weir-rung"] == "small"
            assert text_of(got) == "".join(WORDS)
            assert finish_of(got) == ["stop"]
            record = w.served.last()
            assert (record.outcome, record.late_verdict, record.finish) == ("accepted", "", "stop")
            assert record.tokens.output == len(words()) + 1

    asyncio.run(run())


def test_under_a_risk_it_is_held_whole(tmp_path: Path) -> None:
    """A route that promises how sure it is lets no word out before that is known."""

    async def run() -> None:
        never = asyncio.Event()
        more = f", accept: {{risk: 0.01, calibration: '{calibrated(tmp_path)}'}}"
        small, routes = speaks(*words((8, never))), FLOW.format(more)
        async with world(tmp_path, small, says("from the cloud"), routes=routes, deadline="5") as w:
            response = await w.served.chat(hello(model="route/flow", stream=True))
            assert text_of(response.text) == "from the cloud"
            assert w.served.last().escalation == "timeout"

    asyncio.run(run())


def test_a_whole_answer_is_held_whole(tmp_path: Path) -> None:
    """Who wants one answer gets it after all checks: there is nothing to gain by a window."""

    async def run() -> None:
        more = ", accept: {validators: ['tests.line.test_windows:Short']}"
        async with world(tmp_path, speaks(*words()), says("brief"), routes=FLOW.format(more)) as w:
            response = await w.served.chat(hello(model="route/flow"))
            assert response.json()["choices"][0]["message"]["content"] == "brief"
            assert w.served.last().late_verdict == ""

    asyncio.run(run())


class Short:
    """A foreign hard check: no answer of more than thirty characters. It judges the end only."""

    from gateway.validators.base import ValidatorConfig as Config

    def __init__(self, config: Any) -> None:
        self.config = config

    def check(self, draft: Any, ask: Any) -> Any:
        from gateway.validators.base import PASS, Verdict

        return Verdict("fail", "refused", "short", "too long") if len(draft.text) > 30 and draft.whole else PASS


def test_a_late_failure_cuts_what_was_held_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that fails at the end, after text went out: the last characters never go out, the stream ends cleanly as one that was cut
    off, and the Record tells."""
    monkeypatch.setattr("gateway.judge.SECONDS", 30.0)

    async def run() -> None:
        more = ", accept: {validators: ['tests.line.test_windows:Short']}"
        async with world(tmp_path, speaks(*words()), says("never"), routes=FLOW.format(more)) as w:
            response = await w.served.chat(hello(model="route/flow", stream=True))
            told = text_of(response.text)
            assert "".join(WORDS).startswith(told)
            assert 20 - 8 <= len(told) <= len("".join(WORDS)) - 8
            assert finish_of(response.text) == ["length"]
            assert response.text.endswith("data: [DONE]\n\n")
            record = w.served.last()
            assert (record.late_verdict, record.served, record.finish) == ("refused", "small", "length")
            assert record.answer_chars == len(told)
            assert w.cloud.asked == []

    asyncio.run(run())


def test_a_failure_on_the_way_closes_the_upstream(tmp_path: Path) -> None:
    """A call that can never fit begins after text has gone out: nothing of the call is seen, and the small model is let go."""

    async def small(asked: Asked) -> None:
        await asked.stream(end=False)
        for piece in ("Let me look that up. ", "It will take ", "a moment"):
            await asked.chunk(delta({"content": piece}))
        await asked.chunk(delta({"tool_calls": [call("f", '{"x": "no')]}))
        await asyncio.sleep(60)

    async def run() -> None:
        async with world(tmp_path, small, says("never"), routes=FLOW.format("")) as w:
            response = await w.served.chat(hello(model="route/flow", stream=True, tools=[TOOL]))
            assert text_of(response.text) == "Let me look that up. It will take "  # the last words were held back
            assert "tool_calls" not in response.text
            assert finish_of(response.text) == ["length"]
            assert w.served.last().late_verdict == "tool_arguments"
            await w.small.wait_left(1)

    asyncio.run(run())


@pytest.mark.parametrize(("name", "late", "called"), [("f", "", True), ("delete", "policy", False)])
def test_a_call_behind_text_waits_for_the_end(tmp_path: Path, name: str, late: str, called: bool) -> None:
    """Text flows, the call that follows is held whole until it was checked; one that a small model may not make never goes out."""

    async def small(asked: Asked) -> None:
        await asked.stream(end=False)
        for piece in ("Let me look that up. ", "It will take ", "a moment"):
            await asked.chunk(delta({"content": piece}))
        await asked.chunk(delta({"tool_calls": [call(name, '{"x":')]}))
        await asked.chunk(delta({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}))
        await asked.chunk(delta({}, "tool_calls"))
        await asked.chunk(b"data: [DONE]\n\n")
        await asked.send(b"0\r\n\r\n")

    async def run() -> None:
        tools = [TOOL, {"type": "function", "function": {"name": "delete", "parameters": {"type": "object"}}}]
        async with world(tmp_path, small, says("never"), routes=FLOW.format(", writes: [delete]")) as w:
            response = await w.served.chat(hello(model="route/flow", stream=True, tools=tools))
            assert text_of(response.text).startswith("Let me look that up. ")
            assert ('"tool_calls":[' in response.text) == called
            assert finish_of(response.text) == ["tool_calls" if called else "length"]
            assert w.served.last().late_verdict == late

    asyncio.run(run())


def test_a_call_is_held_until_it_was_checked(tmp_path: Path) -> None:
    """`tool_choice: auto`, and the first content is a call: it does not flow, and a bad one is never seen."""

    async def small(asked: Asked) -> None:
        await asked.stream(end=False)
        await asked.chunk(delta({"role": "assistant", "content": None}))
        await asked.chunk(delta({"tool_calls": [call("f", '{"x": "a lot of text that fills the window')]}))
        await asyncio.sleep(60)

    async def run() -> None:
        async with world(tmp_path, small, says("the cloud"), routes=FLOW.format("")) as w:
            response = await w.served.chat(hello(model="route/flow", stream=True, tools=[TOOL]))
            assert text_of(response.text) == "the cloud"
            assert "a lot of text" not in response.text
            record = w.served.last()
            assert (record.outcome, record.escalation) == ("escalated", "tool_arguments")

    asyncio.run(run())


def test_a_stream_that_breaks_after_the_window_says_so(tmp_path: Path) -> None:
    """The small model's connection breaks while its text flows: an error event, never a silent end."""

    async def small(asked: Asked) -> None:
        await asked.stream(end=False)
        for word in WORDS:
            await asked.chunk(delta({"content": word}))
        asked.writer.close()

    async def run() -> None:
        async with world(tmp_path, small, says("never"), routes=FLOW.format("")) as w:
            response = await w.served.chat(hello(model="route/flow", stream=True))
            assert "".join(WORDS).startswith(text_of(response.text.partition('data: {"error"')[0]))
            assert '"error"' in response.text
            assert w.served.last().outcome == "failed"

    asyncio.run(run())


def test_keepalive_while_a_window_fills(tmp_path: Path) -> None:
    """The 200 and comments go out while the window is not yet full, and the text after them."""

    async def run() -> None:
        waits = asyncio.Event()
        async with world(
            tmp_path, speaks(*words((1, waits))), says("never"), routes=FLOW.format(""), server="keepalive_after: 0.05"
        ) as w:
            body, got = hello(model="route/flow", stream=True), ""
            async with w.served.client.stream("POST", "/v1/chat/completions", json=body) as response:
                async for piece in response.aiter_text():
                    got += piece
                    waits.set()
            assert got.startswith(": keep-alive")
            assert text_of(got) == "".join(WORDS)

    asyncio.run(run())


def delta(value: dict[str, Any], finish: str | None = None) -> bytes:
    return sse({"id": "up-1", "choices": [{"index": 0, "delta": value, "finish_reason": finish}]})


def call(name: str, arguments: str) -> dict[str, Any]:
    return {"index": 0, "id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}
