"""OpenAI's clients against a route whose top rung is Anthropic: an escalated answer loses nothing that chat can say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest

from tests.line.world import asks, says
from tests.messages.claude import ANSWER, THOUGHT, message, played
from tests.messages.claude import says as claude_says
from tests.messages.world import BAD, GOOD, World, world

TOOL: Any = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}},
}
USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"x": 1}}
HI: Any = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]


@asynccontextmanager
async def client(w: World) -> AsyncIterator[Any]:
    async with openai.AsyncOpenAI(base_url=f"{w.served.url}/v1", api_key="sk-caller", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("stream", [False, True])
def test_text(tmp_path: Path, stream: bool) -> None:
    """Text, finish_reason and usage with cached tokens, as OpenAI counts them."""

    async def run() -> None:
        async with world(tmp_path) as w, client(w) as c:
            if stream:
                options: Any = {"include_usage": True}
                async with c.chat.completions.stream(model="weir", messages=HI, stream_options=options) as events:
                    told = await events.get_final_completion()
            else:
                told = await c.chat.completions.create(model="weir", messages=HI)
            assert told.choices[0].message.content == "hello"
            assert told.choices[0].finish_reason == "stop"
            assert told.usage is not None
            assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (17, 5)
            assert told.usage.prompt_tokens_details is not None
            assert told.usage.prompt_tokens_details.cached_tokens == 4
            assert w.claude.asked[0].json["system"] == "be brief"

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_tools_and_thinking(tmp_path: Path, stream: bool) -> None:
    """A call with its thinking, replayed with the result: Anthropic gets its own blocks back; a rung of another kind does not."""
    answer = message([THOUGHT, {"type": "text", "text": "so"}, USE, {**USE, "id": "toolu_2", "input": {}}], "tool_use")

    async def run() -> None:
        async with world(tmp_path, claude=played(answer, ANSWER), gpt=says("x"), small=says("x")) as w, client(w) as c:
            asked: Any = {"model": "route/general", "messages": HI, "tools": [TOOL], "parallel_tool_calls": False}
            if stream:
                async with c.chat.completions.stream(**asked) as events:
                    told = await events.get_final_completion()
            else:
                told = await c.chat.completions.create(**asked)
            said = told.choices[0].message
            assert told.choices[0].finish_reason == "tool_calls"
            assert said.tool_calls is not None
            assert [(call.id, call.function.arguments) for call in said.tool_calls] == [
                ("toolu_1", '{"x":1}'),
                ("toolu_2", "{}"),
            ]
            assert said.model_extra is not None
            assert said.model_extra["reasoning_content"] == THOUGHT["thinking"]
            assert w.claude.asked[0].json["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
            kept = said.model_dump(exclude_none=True, exclude={"parsed", "tool_calls"})
            kept["tool_calls"] = [
                call.model_dump(exclude={"function": {"parsed_arguments"}, "index": True}) for call in said.tool_calls
            ]
            results = [{"role": "tool", "tool_call_id": f"toolu_{n}", "content": "2"} for n in (1, 2)]
            history: Any = [*HI, kept, *results]
            await c.chat.completions.create(**{**asked, "messages": history})
            sent = w.claude.asked[1].json["messages"]
            assert sent[1]["content"] == [
                THOUGHT,
                {"type": "text", "text": "so"},
                USE,
                {**USE, "id": "toolu_2", "input": {}},
            ]
            assert [block["tool_use_id"] for block in sent[2]["content"]] == ["toolu_1", "toolu_2"]
            for name, other in (("gpt", w.gpt), ("home", w.small)):
                await c.chat.completions.create(**{**asked, "messages": history, "model": f"route/{name}"})
                assert THOUGHT["signature"] not in other.asked[-1].body.decode()

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_escalated_schema(tmp_path: Path, stream: bool) -> None:
    """A small model's answer that does not fit is given by Anthropic under the same schema."""

    async def run() -> None:
        async with world(tmp_path, small=says(BAD), claude=played(claude_says(GOOD))) as w:
            told = await w.served.chat(asks(stream=stream))
            assert told.status_code == 200
            lines = [line for line in told.text.splitlines() if line.startswith("data: {")] if stream else []
            pieces = [orjson.loads(line[6:])["choices"][0]["delta"].get("content") or "" for line in lines]
            assert ("".join(pieces) if stream else told.json()["choices"][0]["message"]["content"]) == GOOD
            record = w.served.record(told)
            assert (record.outcome, record.served, record.escalation) == ("escalated", "claude", "schema")
            assert w.claude.asked[0].json["output_config"]["format"]["schema"]["required"] == ["label"]

    asyncio.run(run())


def test_refusal(tmp_path: Path) -> None:
    """A refusal of Anthropic's is OpenAI's `refusal`, with its explanation."""
    details = {"type": "refusal", "category": "cyber", "explanation": "not this"}
    refused = message([], "refusal", stop_details=details)

    async def run() -> None:
        async with world(tmp_path, claude=played(refused)) as w, client(w) as c:
            told = await c.chat.completions.create(model="weir", messages=HI)
            assert told.choices[0].message.refusal == "not this"
            assert told.choices[0].message.content is None
            assert told.choices[0].finish_reason == "content_filter"
            async with c.chat.completions.stream(model="weir", messages=HI) as events:
                with pytest.raises(openai.ContentFilterFinishReasonError):
                    await events.get_final_completion()

    asyncio.run(run())


def test_what_anthropic_cannot(tmp_path: Path) -> None:
    """Audio is a 400 that names the part, and several choices one that names the field; nobody is asked."""

    async def run() -> None:
        async with world(tmp_path) as w:
            told = await w.served.chat({"model": "weir", "messages": HI, "n": 2})
            assert (told.status_code, told.json()["error"]["param"]) == (400, "n")
            audio = {"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}}
            told = await w.served.chat({"model": "weir", "messages": [{"role": "user", "content": [audio]}]})
            assert told.status_code == 400
            assert not w.claude.asked

    asyncio.run(run())
