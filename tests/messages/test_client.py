"""Anthropic's own Python client against the gateway, over a real socket (wire checklist, point 55)."""

import asyncio
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.line.world import fails as openai_fails
from tests.line.world import says
from tests.messages.claude import ANSWER, THOUGHT, message, played
from tests.messages.claude import says as claude_says
from tests.messages.world import BAD, GOOD, TOOL, World, asks, client, hello, world

USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"x": 1}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}


@pytest.mark.parametrize("rung", ["claude", "gpt"])
def test_create(tmp_path: Path, rung: str) -> None:
    """A whole answer from either kind of rung: id, type, role, the name that was asked for, content, stop_reason, usage."""

    async def run() -> None:
        async with world(tmp_path, gpt=says("hello")) as w, client(w) as c:
            told = await c.messages.create(**hello(model="route/general" if rung == "claude" else "route/gpt"))
            assert told.id.startswith("msg_")
            assert (told.type, told.role, told.stop_reason, told.stop_sequence) == (
                "message",
                "assistant",
                "end_turn",
                None,
            )
            assert told.model == ("route/general" if rung == "claude" else "route/gpt")
            assert told.content[0].type == "text"
            assert told.content[0].text == "hello"
            if rung == "claude":
                usage = told.usage
                assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (10, 4, 5)
                assert w.served.last().tokens.input == 17
                assert w.served.last().tokens.cached_input == 4
            else:
                assert (told.usage.input_tokens, told.usage.output_tokens) == (10, 5)
                sent = w.gpt.asked[0].json
                assert sent["max_completion_tokens"] == 50
                assert not {"max_tokens", "system", "thinking"} & set(sent)
            assert told._request_id == w.served.last().id
            assert w.served.last().dialect == "messages"

    asyncio.run(run())


@pytest.mark.parametrize("rung", ["general", "gpt"])
def test_stream(tmp_path: Path, rung: str) -> None:
    """`messages.stream` folds the events into the message that the whole answer would have been."""

    async def run() -> None:
        async with world(tmp_path, gpt=says("hello")) as w, client(w) as c:
            async with c.messages.stream(**hello(model=f"route/{rung}")) as stream:
                text = "".join([piece async for piece in stream.text_stream])
                final = await stream.get_final_message()
            whole = await c.messages.create(**hello(model=f"route/{rung}"))
            assert text == "hello"
            a, b = final.model_dump(exclude={"id"}), whole.model_dump(exclude={"id"})
            for told in (a, b):
                for block in told["content"]:
                    block.pop("parsed_output", None)
            assert a == b

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("rung", ["small", "claude"])
def test_tool_loop(tmp_path: Path, rung: str, stream: bool) -> None:
    """A call, its result, the final answer: on a small model and on Anthropic, whole and as a stream."""

    async def ask(c: anthropic.AsyncAnthropic, body: dict[str, Any]) -> anthropic.types.Message:
        if not stream:
            made: anthropic.types.Message = await c.messages.create(**body)
            return made
        async with c.messages.stream(**body) as events:
            return await events.get_final_message()

    async def run() -> None:
        small = says(None, "tool_calls", tool_calls=[CALL])
        claude = played(message([{"type": "text", "text": "so"}, USE], "tool_use"), claude_says("done"))
        async with (
            world(tmp_path, small=small if rung == "small" else openai_fails(500), claude=claude) as w,
            client(w) as c,
        ):
            body = hello(tools=[TOOL], tool_choice={"type": "any"})
            first = await ask(c, body)
            assert first.stop_reason == "tool_use"
            use = next(block for block in first.content if block.type == "tool_use")
            assert (use.name, use.input) == ("f", {"x": 1})
            assert w.served.last().served == rung
            result = {
                "type": "tool_result",
                "tool_use_id": use.id,
                "content": [{"type": "text", "text": "2"}],
                "is_error": True,
            }
            history = [*body["messages"], {"role": "assistant", "content": first.content}]
            body = hello(tools=[TOOL], messages=[*history, {"role": "user", "content": [result]}])
            if rung == "small":
                w.small.handler = says("done")
            second = await ask(c, body)
            assert second.stop_reason == "end_turn"
            assert second.content[0].type == "text"
            assert second.content[0].text == "done"
            record = w.served.last()
            assert (record.served, record.reason) == (rung, "tool_loop")
            if rung == "small":
                sent = w.small.asked[-1].json["messages"]
                assert sent[-2]["tool_calls"][0]["id"] == "call_1"
                assert sent[-1] == {"role": "tool", "tool_call_id": "call_1", "content": "Error: 2"}
                assert w.small.asked[0].json["tool_choice"] == "required"
            else:
                sent = w.claude.asked[-1].json["messages"]
                assert sent[1]["content"] == [{"type": "text", "text": "so"}, USE]
                assert sent[2]["content"] == [result]

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_round_trip(tmp_path: Path, stream: bool) -> None:
    """Thinking comes through signed, and goes back to the model that thought it exactly as that model wrote it; another name in the
    request, another rung: it is never replayed."""
    redacted = {"type": "redacted_thinking", "data": "b3BhcXVl"}

    async def run() -> None:
        claude = played(message([THOUGHT, redacted, USE], "tool_use"), ANSWER)
        async with world(tmp_path, small=openai_fails(500), claude=claude, gpt=says("x")) as w, client(w) as c:
            thinking = {"type": "enabled", "budget_tokens": 1024}
            body = hello(model="route/general", max_tokens=2000, thinking=thinking, tools=[TOOL])
            if stream:
                async with c.messages.stream(**body) as events:
                    first = await events.get_final_message()
            else:
                first = await c.messages.create(**body)
            assert first.content[0].type == "thinking"
            assert first.content[0].thinking == THOUGHT["thinking"]
            assert first.content[0].signature.endswith(THOUGHT["signature"])
            assert first.content[0].signature != THOUGHT["signature"], (
                "marked: the caller named no model of Anthropic's"
            )
            history = [
                *body["messages"],
                {"role": "assistant", "content": first.content},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "2"}]},
            ]
            await c.messages.create(**{**body, "messages": history})
            sent = w.claude.asked[-1].json
            assert sent["messages"][1]["content"] == [THOUGHT, redacted, USE]
            assert sent["thinking"] == thinking
            # As if another model had thought it: a tool loop that it did not begin is answered without thinking.
            await c.messages.create(**{**body, "messages": history, "model": "route/gpt"})
            assert THOUGHT["signature"] not in w.gpt.asked[-1].body.decode()
            assert THOUGHT["thinking"] not in w.gpt.asked[-1].body.decode()
            bare = [history[0], {"role": "assistant", "content": [THOUGHT, redacted, USE]}, history[2]]
            await c.messages.create(**{**body, "messages": bare})
            sent = w.claude.asked[-1].json
            assert sent["messages"][1]["content"] == [USE]
            assert "thinking" not in sent

    asyncio.run(run())


def test_unsigned_thinking(tmp_path: Path) -> None:
    """A small model's reasoning is shown to who asked for thinking, goes back to it as reasoning, and never to Anthropic."""

    async def run() -> None:
        async with world(tmp_path, small=says("yes", reasoning="hm")) as w, client(w) as c:
            plain = await c.messages.create(**hello(model="route/home"))
            assert [block.type for block in plain.content] == ["text"]
            thinking = {"type": "enabled", "budget_tokens": 1024}
            told = await c.messages.create(**hello(model="route/home", max_tokens=2000, thinking=thinking))
            assert [block.type for block in told.content] == ["thinking", "text"]
            history = [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": told.content},
                {"role": "user", "content": "more"},
            ]
            await c.messages.create(**hello(model="route/home", messages=history))
            assert w.small.asked[-1].json["messages"][1]["reasoning_content"] == "hm"
            # Passed through to Anthropic, were it not for what Weir wrote into the history.
            await c.messages.create(**hello(model="claude-x", messages=history), extra_headers={"x-weir-bypass": "1"})
            assert w.claude.asked[-1].json["messages"][1]["content"] == [{"type": "text", "text": "yes"}]

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("top", ["claude", "gpt"])
def test_output_config(tmp_path: Path, top: str, stream: bool) -> None:
    """A schema is checked on a small model's answer; what does not fit goes up the ladder, held back to the last byte."""

    async def ask(w: World, c: anthropic.AsyncAnthropic) -> str:
        body = asks("label" if top == "claude" else "label-gpt")
        if stream:
            async with c.messages.stream(**body) as events:
                told = await events.get_final_message()
        else:
            told = await c.messages.create(**body)
        assert told.content[0].type == "text"
        return str(told.content[0].text)

    async def run() -> None:
        async with (
            world(tmp_path, small=says(GOOD), claude=played(claude_says(GOOD)), gpt=says(GOOD)) as w,
            client(w) as c,
        ):
            assert await ask(w, c) == GOOD
            assert (w.served.last().outcome, w.served.last().served) == ("accepted", "small")
            form = w.small.asked[0].json["response_format"]["json_schema"]
            assert (form["name"], form["strict"]) == ("label" if top == "claude" else "label-gpt", True)
            w.small.handler = says(BAD)
            assert await ask(w, c) == GOOD
            record = w.served.last()
            assert (record.outcome, record.served, record.escalation) == ("escalated", top, "schema")
            asked = w.claude if top == "claude" else w.gpt
            sent = asked.asked[-1].json
            if top == "claude":
                assert sent["output_config"]["format"]["schema"]["required"] == ["label"]
            else:
                assert sent["response_format"]["json_schema"]["name"] == "label-gpt"

    asyncio.run(run())


def test_strict(tmp_path: Path) -> None:
    """Where the route is strict, Anthropic's answer must fit too: a typed error otherwise."""

    async def run() -> None:
        async with world(tmp_path, small=says(BAD), claude=played(claude_says(BAD))) as w, client(w) as c:
            with pytest.raises(anthropic.InternalServerError) as caught:
                await c.messages.create(**asks("strict"))
            assert caught.value.status_code == 502
            assert caught.value.type == "api_error"

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_parse(tmp_path: Path, stream: bool) -> None:
    """The client's own typed output works through the gateway."""
    from pydantic import BaseModel

    class Label(BaseModel):
        label: str

    async def run() -> None:
        async with world(tmp_path, claude=played(claude_says(GOOD))) as w, client(w) as c:
            if stream:
                async with c.messages.stream(**hello(), output_format=Label) as events:
                    told = await events.get_final_message()
            else:
                told = await c.messages.parse(**hello(), output_format=Label)
            assert told.parsed_output == Label(label="a")

    asyncio.run(run())


def test_count_tokens(tmp_path: Path) -> None:
    """Anthropic counts where a name leads there; elsewhere, and when it cannot, an estimate is given and called one."""

    async def run() -> None:
        async with world(tmp_path) as w, client(w) as c:
            body = {"messages": [{"role": "user", "content": "x" * 400}]}
            raw = await c.messages.with_raw_response.count_tokens(**body, model="claude-9", tools=[TOOL])
            assert (await raw.parse()).input_tokens == 42
            assert raw.headers["x-weir-count"] == "upstream"
            assert w.claude.asked[0].line.startswith("POST /v1/messages/count_tokens ")
            assert w.claude.asked[0].json == {**body, "model": "claude-top", "tools": [TOOL]}
            assert w.claude.asked[0].headers["x-api-key"] == "sk-rung"
            raw = await c.messages.with_raw_response.count_tokens(**body, model="route/home")
            assert (await raw.parse()).input_tokens == 100
            assert raw.headers["x-weir-count"] == "estimate"
            w.claude.handler = openai_fails(500)
            raw = await c.messages.with_raw_response.count_tokens(**body, model="weir")
            assert raw.headers["x-weir-count"] == "estimate"
            beta = await c.beta.messages.count_tokens(**body, model="weir")
            assert beta.input_tokens == 100
            with pytest.raises(anthropic.NotFoundError):
                await c.messages.count_tokens(**body, model="nobody")
            with pytest.raises(anthropic.BadRequestError):
                await c.messages.count_tokens(messages=[], model="weir")

    asyncio.run(run())


def test_beta(tmp_path: Path) -> None:
    """`?beta=true` and whatever betas an agent sends are taken; Anthropic gets them unchanged."""

    async def run() -> None:
        async with world(tmp_path) as w, client(w) as c:
            told = await c.beta.messages.create(**hello(), betas=["x-1", "y-2"])
            assert told.content[0].type == "text"
            assert w.claude.asked[0].headers["anthropic-beta"] == "x-1,y-2"
            assert w.claude.asked[0].headers["anthropic-version"] == c.default_headers["anthropic-version"]

    asyncio.run(run())
