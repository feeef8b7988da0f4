"""POST /v1/completions through a whole gateway and real sockets (point 54 of the checklist)."""

import asyncio
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest

from tests.backends.upstream import Asked, hang
from tests.line.world import BAD, GOOD, SCHEMA, World, completion, fails, says, sse, world
from tests.waiting import until

ROUTES = """ticket: {match: {text: ticket}, ladder: [small, cloud], mode: enforce,
             schema: {type: object, properties: {label: {enum: [a, b]}}, required: [label]}, render: "{label}"}
  seen: {match: {text: watched}, ladder: [small, cloud]}"""
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


async def complete(the: World, prompt: Any = "once", **more: Any) -> Any:
    return await the.served.client.post("/v1/completions", json={"model": "weir", "prompt": prompt, **more})


def said(text: str) -> str:
    """The text of a whole answer or of a stream."""
    blocks = [block.removeprefix("data: ") for block in text.split("\n\n") if block and "[DONE]" not in block]
    return "".join(choice["text"] for block in blocks for choice in orjson.loads(block)["choices"])


def official(the: World) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{the.served.url}/v1", api_key="x", max_retries=0)


def test_54_a_completion(tmp_path: Path) -> None:
    """The rung gets a chat, the caller a text_completion under the name it asked for; with and without /v1; one Record."""

    async def run() -> None:
        async with world(tmp_path, fails(500), says(" upon a time")) as the:
            found = await complete(the, "once", max_tokens=7)
            told = found.json()
            assert told["id"].startswith("cmpl-")
            assert (told["object"], told["model"], told["usage"]) == ("text_completion", "weir", USAGE)
            choice = {"text": " upon a time", "index": 0, "logprobs": None, "finish_reason": "stop"}
            assert told["choices"] == [choice]
            asked = the.cloud.asked[0]
            assert asked.line.split()[1] == "/v1/chat/completions"
            assert asked.json["messages"] == [{"role": "user", "content": "once"}]
            assert asked.json["max_tokens"] == 7
            assert "prompt" not in asked.json
            record = the.served.record(found)
            assert (record.dialect, record.outcome, record.served) == ("completions", "direct", "cloud")
            assert found.headers["x-weir-rung"] == "cloud"
            again = await the.served.client.post("/completions", json={"model": "weir", "prompt": "x"})
            assert again.status_code == 200

    asyncio.run(run())


def test_54_the_official_client(tmp_path: Path) -> None:
    """openai-python, whole and streamed: the same text, finish_reason, model and usage."""

    async def run() -> None:
        async with world(tmp_path, fails(500), says("ab", "length")) as the, official(the) as client:
            whole = await client.completions.create(model="weir", prompt=["once"], echo=True)
            assert whole.choices[0].text == "onceab"
            assert whole.choices[0].finish_reason == "length"
            assert whole.usage is not None
            stream = await client.completions.create(
                model="weir", prompt="once", stream=True, stream_options={"include_usage": True}
            )
            events = [event async for event in stream]
            assert "".join(choice.text for event in events for choice in event.choices) == "ab"
            assert [c.finish_reason for e in events for c in e.choices if c.finish_reason] == ["length"]
            assert events[-1].usage is not None
            assert events[-1].usage.total_tokens == 15
            assert {event.id for event in events} == {events[0].id}
            assert {(event.object, event.model) for event in events} == {("text_completion", "weir")}

    asyncio.run(run())


def test_54_a_stream_on_the_wire(tmp_path: Path) -> None:
    """Server-sent events with the completion's object, ended by [DONE]; no usage that nobody asked for."""

    async def run() -> None:
        async with world(tmp_path, fails(500), says("ab")) as the:
            found = await complete(the, stream=True)
            assert found.headers["content-type"].startswith("text/event-stream")
            blocks = found.text.split("\n\n")
            assert blocks[-2:] == ["data: [DONE]", ""]
            events = [orjson.loads(block.removeprefix("data: ")) for block in blocks[:-2]]
            assert [event["choices"][0]["text"] for event in events] == ["a", "b", ""]
            assert not any("usage" in event for event in events)

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_escalation_works_as_in_chat(tmp_path: Path, stream: bool) -> None:
    """A small model's bad answer is never seen: the next rung's is, and headers and Record tell why."""

    async def run() -> None:
        async with world(tmp_path, says(BAD), says(GOOD), routes=ROUTES) as the:
            found = await complete(the, "which ticket?", stream=stream)
            record = the.served.record(found)
            assert (record.route, record.outcome, record.escalation) == ("ticket", "escalated", "schema")
            assert found.headers["x-weir-reason"] == "schema"
            assert said(found.text) == GOOD
            assert the.small.asked[0].json["messages"][-1]["content"] == "which ticket?"

    asyncio.run(run())


def test_a_small_models_good_answer_is_accepted_and_rendered(tmp_path: Path) -> None:
    """The route's own schema and `render` hold for a completion too."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), fails(500), routes=ROUTES) as the:
            found = await complete(the, "which ticket?")
            assert found.json()["choices"][0]["text"] == "a"
            assert the.served.record(found).outcome == "accepted"

    asyncio.run(run())


def test_a_callers_own_schema_is_checked(tmp_path: Path) -> None:
    """`response_format`, as vLLM's completions take it, means what it means in chat."""

    async def run() -> None:
        async with world(tmp_path, says(BAD), says(GOOD)) as the:
            form = {"type": "json_schema", "json_schema": {"name": "label", "schema": SCHEMA}}
            found = await complete(the, response_format=form)
            assert found.json()["choices"][0]["text"] == GOOD
            assert the.served.record(found).outcome == "escalated"

    asyncio.run(run())


def test_logprobs_come_in_the_older_form(tmp_path: Path) -> None:
    """Asked of the rung in chat's words, answered in those of completions."""
    entry = {
        "token": "ab",
        "logprob": -0.5,
        "bytes": None,
        "top_logprobs": [
            {"token": "ab", "logprob": -0.5, "bytes": None},
            {"token": "x", "logprob": -1.5, "bytes": None},
        ],
    }

    async def answers(asked: Asked) -> None:
        told = orjson.loads(completion("ab"))
        told["choices"][0]["logprobs"] = {"content": [entry]}
        await asked.answer(orjson.dumps(told))

    async def run() -> None:
        async with world(tmp_path, fails(500), answers) as the, official(the) as client:
            found = await client.completions.create(model="weir", prompt="once", logprobs=1)
            assert the.cloud.asked[0].json["logprobs"] is True
            logprobs = found.choices[0].logprobs
            assert logprobs is not None
            assert logprobs.tokens == ["ab"]
            assert logprobs.token_logprobs == [-0.5]
            assert logprobs.top_logprobs == [{"ab": -0.5}]
            assert logprobs.text_offset == [0]
            plain = await client.completions.create(model="weir", prompt="once")
            assert plain.choices[0].logprobs is None

    asyncio.run(run())


def test_in_observe_a_chat_upstream_gets_a_chat(tmp_path: Path) -> None:
    """No rung speaks completions: the bytes are not passed through to one that would not understand them."""

    async def run() -> None:
        async with world(tmp_path, fails(500), says("fine"), routes=ROUTES) as the:
            found = await complete(the, "watched", model="gpt-5")
            assert found.json()["object"] == "text_completion"
            assert found.json()["model"] == "gpt-5"
            record = the.served.record(found)
            assert (record.outcome, record.mode, record.would) == ("straight", "observe", "small")
            assert the.cloud.asked[0].json["messages"] == [{"role": "user", "content": "watched"}]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"prompt": ["a", "b"]}, "prompt", None),
        ({"prompt": [1, 2]}, "prompt", None),
        ({"prompt": None}, "prompt", None),
        ({"suffix": "x"}, "suffix", "unsupported_parameter"),
        ({"model": "nobody"}, "model", "model_not_found"),
    ],
)
def test_a_bad_request_is_refused_in_shape(tmp_path: Path, body: Any, param: str, code: Any) -> None:
    """All four keys, the field's name; nobody is asked."""

    async def run() -> None:
        async with world(tmp_path, fails(500), fails(500)) as the:
            found = await complete(the, **{"prompt": "x", **body})
            assert found.status_code in (400, 404)
            error = found.json()["error"]
            assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
            assert not the.cloud.asked

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstreams_failure_is_an_error_in_shape(tmp_path: Path, stream: bool) -> None:
    """A status before the first byte, also for a stream; an overflow names the prompt."""

    async def run() -> None:
        async with world(tmp_path, fails(500), fails(400, "maximum context length is 10 tokens")) as the:
            found = await complete(the, stream=stream)
            assert found.status_code == 400
            error = found.json()["error"]
            assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")

    asyncio.run(run())


def test_13_a_stream_that_breaks_ends_with_an_error(tmp_path: Path) -> None:
    """After the first byte: an error event, no [DONE], never a finish_reason."""

    async def breaks(asked: Asked) -> None:
        event = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
        await asked.stream(sse(event))

    async def run() -> None:
        async with world(tmp_path, fails(500), breaks) as the:
            found = await complete(the, stream=True)
            blocks = [orjson.loads(block.removeprefix("data: ")) for block in found.text.strip().split("\n\n")]
            assert blocks[0]["choices"][0]["text"] == "a"
            assert blocks[-1]["error"]["code"] == "upstream_error"
            assert "[DONE]" not in found.text
            assert '"stop"' not in found.text

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_26_a_caller_who_leaves_stops_the_upstream(tmp_path: Path, stream: bool) -> None:
    """Its connection is closed, and the Record says cancelled."""

    async def run() -> None:
        async with world(tmp_path, hang, hang) as the:
            async with asyncio.TaskGroup() as group:
                body = {"model": "weir", "prompt": "x", "stream": stream}
                caller = group.create_task(the.served.client.post("/v1/completions", json=body))
                await the.cloud.wait_asked(1)
                caller.cancel()
            await the.cloud.wait_left(1)
            await until(lambda: the.served.app.live.in_flight == 0)
            assert the.served.last().outcome == "cancelled"
            assert the.served.last().dialect == "completions"

    asyncio.run(run())
