"""Points 22 to 25 of the wire checklist, with the official client over a real socket."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError, omit
from pydantic import BaseModel

from tests.backends.upstream import Asked
from tests.line.world import GOOD, says, sse, world
from tests.responses.asking import CALL, TOOL, client, form, stream


class Label(BaseModel):
    label: str


async def _looks_then_answers(asked: Asked) -> None:
    """Asks for the weather once; then says it."""
    if asked.json["messages"][-1]["role"] == "tool":
        await says(f"it is {asked.json['messages'][-1]['content']}")(asked)
    else:
        await says(None, "tool_calls", tool_calls=[{**CALL, "index": 0}])(asked)


def test_point_22_text(tmp_path: Path) -> None:
    """A string in, text out, usage and the asked name with it; with and without /v1 in the path."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("hello")) as w, client(w) as c:
            response = await c.responses.create(model="gpt-5", input="hi", instructions="be brief")
            assert response.output_text == "hello"
            assert (response.model, response.status, response.object) == ("gpt-5", "completed", "response")
            assert response.usage is not None
            assert response.usage.total_tokens == 15
            assert response.instructions == "be brief"
            assert [m["role"] for m in w.cloud.asked[0].json["messages"]] == ["system", "user"]
            bare = await w.served.client.post("/responses", json={"model": "weir", "input": "hi"})
            assert bare.json()["output"][0]["content"][0]["text"] == "hello"
            assert bare.headers["x-weir-rung"] == "cloud"
            assert w.served.record(bare).dialect == "responses"

    asyncio.run(run())


@pytest.mark.parametrize("stored", [True, False])
def test_point_22_tool_loop(tmp_path: Path, stored: bool) -> None:
    """A call, its result, the answer: by previous_response_id, or with the whole history sent back as it came."""

    async def run() -> None:
        async with world(tmp_path, _looks_then_answers, _looks_then_answers) as w, client(w) as c:
            first = await c.responses.create(model="weir", input="weather?", tools=[TOOL], store=stored)
            (call,) = first.output
            assert call.type == "function_call"
            assert (call.name, call.arguments, call.call_id) == ("weather", '{"city":"Rome"}', "c1")
            result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
            history: Any = [{"role": "user", "content": "weather?"}, *[i.model_dump() for i in first.output], result]
            second = await c.responses.create(
                model="weir",
                input=[result] if stored else history,
                tools=[TOOL],
                previous_response_id=first.id if stored else omit,
                store=stored,
            )
            assert second.output_text == "it is sunny"
            assert second.previous_response_id == (first.id if stored else None)
            roles = [m["role"] for m in (w.small.asked or w.cloud.asked)[-1].json["messages"]]
            assert roles == ["user", "assistant", "tool"]
            assert w.served.last().reason == "tool_loop", "the rung that asked the question answers"

    asyncio.run(run())


def test_point_22_structured_output(tmp_path: Path) -> None:
    """`text.format` is the same constraint as chat's response_format: the route by its name, the small rung, the check."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("never")) as w, client(w) as c:
            response = await c.responses.create(model="weir", input="which?", text=form())
            assert response.output_text == GOOD
            record = w.served.last()
            assert (record.route, record.outcome, record.facts.schema_name) == ("labels", "accepted", "label")
            assert w.small.asked[0].json["response_format"]["json_schema"]["name"] == "label"

    asyncio.run(run())


def test_point_22_parse(tmp_path: Path) -> None:
    """`.parse` with a pydantic model gives an instance of it."""

    async def run() -> None:
        async with world(tmp_path, says("x"), says(GOOD)) as w, client(w) as c:
            parsed = await c.responses.parse(model="weir", input="which?", text_format=Label)
            assert parsed.output_parsed == Label(label="a")

    asyncio.run(run())


def test_point_23_stream_of_text(tmp_path: Path) -> None:
    """created, in_progress, the item, its deltas, done, completed; one id all along; the client's own accumulator agrees."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("hello")) as w, client(w) as c:
            told, response = await stream(w, input="hi")
            assert "".join(e["delta"] for e in told if e["type"] == "response.output_text.delta") == "hello"
            assert response["status"] == "completed"
            async with c.responses.stream(model="weir", input="hi") as streamed:
                kinds = [event.type async for event in streamed]
                final = await streamed.get_final_response()
            assert kinds[:2] == ["response.created", "response.in_progress"]
            assert kinds[-1] == "response.completed"
            assert final.output_text == "hello"
            assert (await c.responses.retrieve(final.id)).output_text == "hello", "kept before the last byte went out"

    asyncio.run(run())


def test_point_23_stream_of_calls(tmp_path: Path) -> None:
    """Reasoning, text and two calls in one stream: four items in order."""
    deltas = [
        {"role": "assistant", "reasoning": "hm"},
        {"content": "let me look"},
        {"tool_calls": [{**CALL, "index": 0}]},
        {
            "tool_calls": [
                {"index": 1, "id": "c2", "type": "function", "function": {"name": "weather", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 1, "function": {"arguments": '{"city":"Oslo"}'}}]},
    ]

    async def upstream(asked: Asked) -> None:
        blocks = [sse({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) for delta in deltas]
        end = sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
        await asked.stream(*blocks, end, b"data: [DONE]\n\n")

    async def run() -> None:
        async with world(tmp_path, upstream, upstream) as w, client(w) as c:
            _, response = await stream(w, model="straight", input="hi", tools=[TOOL])
            kinds = [item["type"] for item in response["output"]]
            assert kinds == ["reasoning", "message", "function_call", "function_call"]
            assert [item["call_id"] for item in response["output"][2:]] == ["c1", "c2"]
            async with c.responses.stream(model="straight", input="hi", tools=[TOOL]) as streamed:
                final = await streamed.get_final_response()
            calls = [item for item in final.output if item.type == "function_call"]
            assert [call.parsed_arguments for call in calls] == [{"city": "Rome"}, {"city": "Oslo"}]

    asyncio.run(run())


def test_point_24_replayed_items(tmp_path: Path) -> None:
    """As Codex sends its history back: without ids and status, with reasoning, and with a result as a list of parts."""
    items: Any = [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "rules"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "q"}]},
        {"type": "reasoning", "summary": [], "content": None, "encrypted_content": "gAAA"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "let me look"}]},
        {"type": "function_call", "name": "weather", "arguments": '{"city":"Rome"}', "call_id": "c1"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "sunny"}]},
    ]

    async def run() -> None:
        async with world(tmp_path, says("small"), says("large")) as w, client(w) as c:
            response = await c.responses.create(
                model="weir", input=items, store=False, include=["reasoning.encrypted_content"]
            )
            assert response.output_text == "large"
            sent = w.cloud.asked[0].json["messages"]
            assert [m["role"] for m in sent] == ["developer", "user", "assistant", "tool"]
            assert sent[2]["content"] == "let me look"
            assert sent[3]["content"] == "sunny"
            assert b"gAAA" not in w.cloud.asked[0].body, "one model's reasoning is never shown to another"

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_point_24_unknown_items(tmp_path: Path, stream: bool) -> None:
    """A clear 400 that names the item, also for a stream."""
    items: Any = [{"role": "user", "content": "q"}, {"type": "computer_call", "id": "x", "call_id": "c"}]

    async def run() -> None:
        async with world(tmp_path, says("x"), says("y")) as w, client(w) as c:
            with pytest.raises(BadRequestError) as caught:
                await c.responses.create(model="weir", input=items, stream=stream)
            assert caught.value.param == "input[1].type"
            assert caught.value.type == "invalid_request_error"

    asyncio.run(run())


def test_point_25_previous_response(tmp_path: Path) -> None:
    """A chain of three: each sees all before it; instructions are those of its own request; the first can be continued twice."""

    async def run() -> None:
        async with world(tmp_path, says("x"), says("ok")) as w, client(w) as c:
            one = await c.responses.create(model="weir", input="1", instructions="old")
            two = await c.responses.create(model="weir", input="2", previous_response_id=one.id, instructions="new")
            await c.responses.create(model="weir", input="3", previous_response_id=two.id)
            await c.responses.create(model="weir", input="other", previous_response_id=one.id)
            sent = [[m["content"] for m in asked.json["messages"]] for asked in w.cloud.asked]
            assert sent[1:] == [
                ["new", "1", "ok", "2"],
                ["1", "ok", "2", "ok", "3"],
                ["1", "ok", "other"],
            ]

    asyncio.run(run())


def test_point_25_unknown_and_unstored(tmp_path: Path) -> None:
    """`store: false` keeps nothing; an unknown id is a 400 with a code of its own, and looking it up a 404."""

    async def run() -> None:
        async with world(tmp_path, says("x"), says("ok")) as w, client(w) as c:
            unstored = await c.responses.create(model="weir", input="1", store=False)
            assert unstored.to_dict()["store"] is False
            for id in (unstored.id, "resp_0", "nonsense/../x"):
                with pytest.raises(BadRequestError) as bad:
                    await c.responses.create(model="weir", input="2", previous_response_id=id)
                assert bad.value.code == "previous_response_not_found"
                assert bad.value.param == "previous_response_id"
            for id in (unstored.id, "resp_0"):
                with pytest.raises(NotFoundError):
                    await c.responses.retrieve(id)
            assert len(w.cloud.asked) == 1

    asyncio.run(run())
