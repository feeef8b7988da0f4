"""Routing, checks, escalation, errors and leaving work the same on /v1/responses as on chat."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from openai import APIStatusError, BadRequestError

from tests.backends.upstream import Asked
from tests.dialects.responses_reading import events, response_of
from tests.line.world import BAD, GOOD, Handler, fails, says, sse, world
from tests.responses.asking import TOOL, client, form, stream
from tests.waiting import until


def labels(**more: Any) -> dict[str, Any]:
    return {"model": "weir", "input": "which?", "text": form(), **more}


async def _silent(asked: Asked) -> None:
    await asyncio.sleep(60)


async def _half(asked: Asked) -> None:
    await asked.stream(sse({"choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]}), end=False)
    await asyncio.sleep(60)


async def _breaks(asked: Asked) -> None:
    await asked.stream(sse({"choices": [{"index": 0, "delta": {"role": "assistant", "content": "half"}}]}), end=False)
    await asyncio.sleep(0.05)
    asked.writer.close()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_bad_answer_escalates(tmp_path: Path, streamed: bool) -> None:
    """Nothing of the rejected answer is seen; the response is the large model's, under one id."""

    async def run() -> None:
        async with world(tmp_path, says(BAD), says(GOOD)) as w:
            if streamed:
                told, response = await stream(w, **{k: v for k, v in labels().items() if k != "model"})
                assert "z" not in "".join(event.get("delta", "") for event in told)
            else:
                response = (await w.served.client.post("/v1/responses", json=labels())).json()
            assert response["output"][0]["content"][0]["text"] == GOOD
            record = w.served.last()
            assert (record.outcome, record.escalation, record.served) == ("escalated", "schema", "cloud")

    asyncio.run(run())


def test_a_held_answer_is_replayed_as_a_stream(tmp_path: Path) -> None:
    """The small rung's answer is checked whole, then told event by event."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("never")) as w:
            told, response = await stream(w, input="which?", text=form())
            assert response["output"][0]["content"][0]["text"] == GOOD
            assert told[-1]["type"] == "response.completed"
            assert (w.served.last().outcome, len(w.cloud.asked)) == ("accepted", 0)

    asyncio.run(run())


def test_tool_arguments_are_checked(tmp_path: Path) -> None:
    """A small rung's call that does not fit the tool's parameters never reaches the caller."""
    wrong = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"town":1}'}}
    right = {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}

    async def run() -> None:
        small = says(None, "tool_calls", tool_calls=[{**wrong, "index": 0}])
        cloud = says(None, "tool_calls", tool_calls=[{**right, "index": 0}])
        async with world(tmp_path, small, cloud) as w:
            _, response = await stream(w, input="weather?", tools=[TOOL])
            assert response["output"][0]["arguments"] == '{"city":"Rome"}'
            assert w.served.last().escalation == "tool_arguments"

    asyncio.run(run())


def test_a_cut_answer_is_incomplete(tmp_path: Path) -> None:
    """The top rung's truncated answer is delivered and says so, in both modes."""

    async def run() -> None:
        async with world(tmp_path, says("x"), says("and so", "length")) as w:
            whole = (await w.served.client.post("/v1/responses", json={"model": "weir", "input": "hi"})).json()
            told, response = await stream(w, input="hi", max_output_tokens=16)
            assert told[-1]["type"] == "response.incomplete"
            for found in (whole, response):
                assert found["status"] == "incomplete"
                assert found["incomplete_details"] == {"reason": "max_output_tokens"}
            assert w.cloud.asked[-1].json["max_completion_tokens"] == 16

    asyncio.run(run())


@pytest.mark.parametrize("streamed", [False, True])
def test_errors_before_the_first_token(tmp_path: Path, streamed: bool) -> None:
    """A real status and OpenAI's error object, also for a stream; parameters by this API's names."""

    async def run() -> None:
        async with world(tmp_path, says("x"), fails(500)) as w, client(w) as c:
            with pytest.raises(APIStatusError) as caught:
                await c.responses.create(model="weir", input="hi", stream=streamed)
            assert caught.value.status_code == 502
            with pytest.raises(APIStatusError) as unknown:
                await c.responses.create(model="nobody", input="hi", stream=streamed)
            assert (unknown.value.status_code, unknown.value.code) == (404, "model_not_found")
            bad: Any = {"format": {"type": "json_schema", "name": "x", "schema": {"type": 7}}}
            with pytest.raises(BadRequestError) as schema:
                await c.responses.create(model="weir", input="hi", stream=streamed, text=bad)
            assert schema.value.param == "text.format.schema"
            assert schema.value.code == "invalid_json_schema"
            response = await w.served.client.post("/v1/responses", content=b"{")
            assert response.status_code == 400
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}

    asyncio.run(run())


def test_context_overflow_names_the_input(tmp_path: Path) -> None:
    """With the phrases that clients look for, and this API's field."""

    async def run() -> None:
        said = "This model's maximum context length is 8 tokens"
        async with world(tmp_path, says("x"), fails(400, said)) as w, client(w) as c:
            with pytest.raises(BadRequestError) as caught:
                await c.responses.create(model="weir", input="hi")
            assert caught.value.code == "context_length_exceeded"
            assert caught.value.param == "input"
            assert "context_length_exceeded" in str(caught.value)

    asyncio.run(run())


def test_an_error_after_the_first_token(tmp_path: Path) -> None:
    """`response.failed` with the response's id; the client's accumulator raises when asked for the final response."""

    async def run() -> None:
        async with world(tmp_path, says("x"), _breaks) as w, client(w) as c:
            told, response = await stream(w, input="hi")
            assert told[-1]["type"] == "response.failed"
            assert response["output"][0]["content"][0]["text"] == "half"
            assert response["error"]["code"] == "server_error"
            assert w.served.last().outcome == "failed"
            async with c.responses.stream(model="weir", input="hi") as streamed:
                async for _ in streamed:
                    pass
                with pytest.raises(RuntimeError):
                    await streamed.get_final_response()
            kept = await w.served.client.get(f"/v1/responses/{response['id']}")
            assert kept.status_code == 404, "half an answer is not kept"

    asyncio.run(run())


def test_an_error_after_a_keep_alive(tmp_path: Path) -> None:
    """The 200 is out: a stream that begins and fails, with one id."""

    async def late(asked: Asked) -> None:
        await asyncio.sleep(0.2)
        await asked.answer(b"{}", 500)

    async def run() -> None:
        async with world(tmp_path, says("bad"), late, server="keepalive_after: 0.05") as w:
            response = await w.served.client.post("/v1/responses", json=labels(stream=True))
            assert response.status_code == 200
            assert b": keep-alive\n\n" in response.content
            told = events(response.content)
            assert response_of(told)["status"] == "failed"
            assert len(told) == 3

    asyncio.run(run())


@pytest.mark.parametrize("choice", ["auto", {"type": "web_search"}])
def test_hosted_tools_are_left_out_unless_forced(tmp_path: Path, choice: Any) -> None:
    """No rung can search the web: agents send the tool by default and are told that it was left out; who insists gets a 400."""

    async def run() -> None:
        async with world(tmp_path, says("y"), says("y")) as w, client(w) as c:
            body: Any = {
                "model": "gpt-5",
                "input": "hi",
                "tools": [TOOL, {"type": "web_search"}],
                "tool_choice": choice,
            }
            if choice != "auto":
                with pytest.raises(BadRequestError) as caught:
                    await c.responses.create(**body)
                assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "tool_choice")
                assert "web_search" in str(caught.value)
                assert not w.small.asked + w.cloud.asked
                return
            raw = await c.responses.with_raw_response.create(**body)
            assert raw.headers["x-weir-dropped"] == "tools.web_search"
            assert [tool.type for tool in raw.parse().tools] == ["function", "web_search"]
            (asked,) = w.small.asked + w.cloud.asked
            assert [tool["function"]["name"] for tool in asked.json["tools"]] == ["weather"]

    asyncio.run(run())


@pytest.mark.parametrize("streamed", [False, True])
def test_a_namespace_is_flat_for_models_only(tmp_path: Path, streamed: bool) -> None:
    """As Codex sends and wants it: the model calls one name, the caller reads namespace and name, and may send both back."""
    space: Any = {"type": "namespace", "name": "n", "description": "d", "tools": [TOOL]}
    call = {"index": 0, "id": "c1", "type": "function"}
    called = {**call, "function": {"name": "n__weather", "arguments": '{"city":"Rome"}'}}

    async def run() -> None:
        calls = says(None, "tool_calls", tool_calls=[called])
        async with world(tmp_path, calls, calls) as w, client(w) as c:
            if streamed:
                _, response = await stream(w, input="hi", tools=[space])
            else:
                response = (await c.responses.create(model="weir", input="hi", tools=[space])).to_dict()
            (item,) = response["output"]
            assert (item["namespace"], item["name"], item["call_id"]) == ("n", "weather", "c1")
            assert response["tools"][0]["type"] == "namespace"
            result: Any = {"type": "function_call_output", "call_id": "c1", "output": "sunny"}
            await c.responses.create(model="weir", input=[item, result], tools=[space])
            sent = (w.small.asked + w.cloud.asked)[-1].json
            assert [tool["function"]["name"] for tool in sent["tools"]] == ["n__weather"]
            assert sent["messages"][0]["tool_calls"][0]["function"]["name"] == "n__weather"

    asyncio.run(run())


def test_custom_tools_go_to_the_cloud(tmp_path: Path) -> None:
    """vLLM has none, OpenAI's chat has them: Codex's apply_patch works after an escalation."""
    call = {"index": 0, "id": "c1", "type": "custom", "custom": {"name": "apply_patch", "input": "*** Begin Patch"}}

    async def run() -> None:
        async with world(tmp_path, says("x"), says(None, "tool_calls", tool_calls=[call])) as w, client(w) as c:
            tools: Any = [{"type": "custom", "name": "apply_patch", "description": "edits"}]
            response = await c.responses.create(model="weir", input="fix it", tools=tools)
            (item,) = response.output
            assert item.type == "custom_tool_call"
            assert (item.name, item.input, item.call_id) == ("apply_patch", "*** Begin Patch", "c1")
            told, streamed = await stream(w, input="fix it", tools=tools)
            assert streamed["output"][0]["input"] == "*** Begin Patch"
            assert "response.custom_tool_call_input.done" in [event["type"] for event in told]
            assert w.cloud.asked[0].json["tools"][0]["type"] == "custom"
            assert w.served.last().escalation == "unsupported"

    asyncio.run(run())


def test_log_probabilities_by_include(tmp_path: Path) -> None:
    """Asked for: with every token. Not asked for: an empty list."""
    entry = {"token": "ok", "logprob": -0.1, "bytes": [111, 107], "top_logprobs": []}

    async def upstream(asked: Asked) -> None:
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": "ok"},
            "finish_reason": "stop",
        }
        if asked.json.get("logprobs"):
            choice["logprobs"] = {"content": [entry]}
        await asked.answer(orjson.dumps({"choices": [choice]}))

    async def run() -> None:
        async with world(tmp_path, says("x"), upstream) as w, client(w) as c:
            for include, found in ((["message.output_text.logprobs"], ["ok"]), ([], [])):
                response = await c.responses.create(model="weir", input="hi", include=include)  # type: ignore[arg-type]
                (message,) = response.output
                assert message.type == "message"
                (part,) = message.content
                assert part.type == "output_text"
                assert [logprob.token for logprob in part.logprobs or ()] == found

    asyncio.run(run())


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("small", "cloud", "body", "at"),
    [
        (_silent, says("x"), labels, "small"),
        (says("no json"), _silent, labels, "cloud"),
        (says("x"), _half, lambda **more: {"model": "weir", "input": "hi", **more}, "cloud"),
    ],
    ids=["before the first token", "while escalating", "mid-stream"],
)
def test_a_caller_who_leaves(
    tmp_path: Path, small: Handler, cloud: Handler, body: Callable[..., object], at: str, streamed: bool
) -> None:
    """The upstream's work ends, the Record tells it, no slot stays taken, and nothing is kept."""

    async def run() -> None:
        async with world(tmp_path, small, cloud) as w:
            asked = w.small if at == "small" else w.cloud
            before = asked.left
            data = orjson.dumps(body(stream=streamed))
            _, writer = await asyncio.open_connection("127.0.0.1", w.served.port)
            writer.write(b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
            await writer.drain()
            await until(lambda: len(asked.asked) == 1)
            writer.close()
            await writer.wait_closed()
            await until(lambda: asked.left == before + 1)
            await until(lambda: bool(w.served.app.recorder.recent(1)))
            assert w.served.last().outcome == "cancelled"
            await until(lambda: w.served.app.live.in_flight == 0)
            assert w.served.metric('weir_response_store_total{op="put",result="ok"}') == 0

    asyncio.run(run())


def test_fifty_streams_do_not_cross(tmp_path: Path) -> None:
    """Each caller gets its own words under its own id."""

    async def echo(asked: Asked) -> None:
        await says(asked.json["messages"][0]["content"])(asked)

    async def run() -> None:
        async with world(tmp_path, says("x"), echo) as w:
            texts = [f"caller {i} " * 3 for i in range(50)]
            found = await asyncio.gather(*(stream(w, input=text) for text in texts))
            assert [response["output"][0]["content"][0]["text"] for _, response in found] == texts
            assert len({response["id"] for _, response in found}) == 50

    asyncio.run(run())
