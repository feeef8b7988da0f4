"""Messages: every error in Anthropic's shape, whoever is to blame."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.backends.upstream import Asked
from tests.line.world import fails as openai_fails
from tests.messages.claude import ANSWER, events, overloaded
from tests.messages.world import TOOL, hello, keyed, world

CANARY = "sk-ant-canary-0815"

BROKEN: list[tuple[Any, str]] = [
    ([], "body"),
    ({"max_tokens": 1, "messages": []}, "model"),
    (hello(max_tokens=None), "max_tokens"),
    (hello(max_tokens="x"), "max_tokens"),
    (hello(messages=None), "messages"),
    (hello(messages=[]), "messages"),
    (hello(messages=[{"role": "bot", "content": "x"}]), "messages[0].role"),
    (hello(messages=[{"role": "user"}]), "messages[0].content"),
    (hello(messages=[{"role": "user", "content": [{"text": "x"}]}]), "messages[0].content[0].type"),
    (hello(messages=[{"role": "user", "content": [{"type": "text"}]}]), "messages[0].content[0].text"),
    (hello(messages=[{"role": "user", "content": [{"type": "tool_result"}]}]), "messages[0].content[0].tool_use_id"),
    (
        hello(messages=[{"role": "assistant", "content": [{"type": "tool_use", "id": "x"}]}]),
        "messages[0].content[0].name",
    ),
    (hello(messages=[{"role": "user", "content": [{"type": "image", "source": {}}]}]), "messages[0].content[0].source"),
    (hello(system=3), "system"),
    (hello(tools={}), "tools"),
    (hello(tools=[{"name": "f"}]), "tools[0].input_schema"),
    (hello(tool_choice={"type": "any"}), "tool_choice"),
    (hello(tools=[TOOL], tool_choice={"type": "some"}), "tool_choice.type"),
    (hello(temperature=1.5), "temperature"),
    (hello(stop_sequences="x"), "stop_sequences"),
    (hello(output_config={"format": {"type": "xml"}}), "output_config.format.type"),
    (
        hello(output_config={"format": {"type": "json_schema", "schema": {"type": "nonsense"}}}),
        "output_config.format.schema",
    ),
    (hello(stream="yes"), "stream"),
]


@pytest.mark.parametrize(("body", "field"), BROKEN, ids=[field for _, field in BROKEN])
def test_bad_requests(tmp_path: Path, body: Any, field: str) -> None:
    """Every mistake is a 400 in Anthropic's shape that names the field in the caller's own words."""

    async def run() -> None:
        async with world(tmp_path) as w:
            told = await w.post(body)
            assert told.status_code == 400
            error = told.json()
            assert set(error) == {"type", "error", "request_id"}
            assert (error["type"], error["error"]["type"]) == ("error", "invalid_request_error")
            assert f"(field: {field})" in error["error"]["message"]
            assert error["request_id"] == told.headers["request-id"]
            assert not w.claude.asked

    asyncio.run(run())


def test_typed_errors(tmp_path: Path) -> None:
    """404, 405, 413, malformed JSON and unknown paths have Anthropic's shape on these paths too."""

    async def run() -> None:
        async with world(tmp_path, more="limits: {body_bytes: 1024}") as w:
            http = w.served.client
            for told, status, kind in (
                (await w.post(hello(model="nobody")), 404, "not_found_error"),
                (await http.get("/v1/messages"), 405, "invalid_request_error"),
                (await http.get("/v1/messages/batches"), 404, "not_found_error"),
                (await w.post(hello(system="x" * 2000)), 413, "request_too_large"),
                (await http.post("/v1/messages", content=b"{"), 400, "invalid_request_error"),
                (await http.post("/v1/messages/count_tokens", content=b"{"), 400, "invalid_request_error"),
            ):
                assert (told.status_code, told.json()["error"]["type"]) == (status, kind)
                assert told.json()["request_id"] == told.headers["request-id"]

    asyncio.run(run())


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_auth(tmp_path: Path, path: str) -> None:
    """x-api-key or Bearer, in any case; without a key, or with a wrong one, 401 authentication_error. No key of the caller's goes up."""

    async def run() -> None:
        async with world(tmp_path, more=keyed(CANARY)) as w:
            assert (await w.post(hello(), path, x_api_key=CANARY)).status_code == 200
            assert (await w.post(hello(), path, authorization=f"bearer {CANARY}")).status_code == 200
            for headers in ({}, {"x_api_key": "wrong"}, {"authorization": "Bearer wrong"}):
                told = await w.post(hello(), path, **headers)
                assert told.status_code == 401
                assert told.json()["error"]["type"] == "authentication_error"
            assert len(w.claude.asked) == 2
            assert all(CANARY not in str(asked.headers) for asked in w.claude.asked)

    asyncio.run(run())


def test_upstream_errors(tmp_path: Path) -> None:
    """Overload is 529 with the wait that was asked for; our own refused credentials are nobody's 401; a long prompt says so."""

    async def run() -> None:
        async with world(tmp_path, claude=overloaded()) as w:
            told = await w.post(hello())
            assert told.status_code == 529
            assert told.json()["error"]["type"] == "overloaded_error"
            assert told.headers["retry-after"] == "3"
            w.claude.handler = overloaded(401)
            told = await w.post(hello(stream=True))
            assert (told.status_code, told.json()["error"]["type"]) == (502, "api_error")
            w.gpt.handler = openai_fails(400, "maximum context length is 10 tokens")
            told = await w.post(hello(model="route/gpt"))
            assert (told.status_code, told.json()["error"]["type"]) == (400, "invalid_request_error")
            assert "context_length_exceeded" in told.json()["error"]["message"]

    asyncio.run(run())


@pytest.mark.parametrize("native", [True, False])
def test_broken_stream(tmp_path: Path, native: bool) -> None:
    """What breaks after the first byte is an `error` event, never a silent end."""

    async def claude(asked: Asked) -> None:
        await asked.stream(*events(ANSWER)[:5], end=False)
        asked.writer.close()

    async def gpt(asked: Asked) -> None:
        chunk = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "he"}}]}
        await asked.stream(b"data: " + orjson.dumps(chunk) + b"\n\n", end=False)
        asked.writer.close()

    async def run() -> None:
        async with world(tmp_path, claude=claude, gpt=gpt) as w:
            told = await w.post(hello(model="route/general" if native else "route/gpt", stream=True))
            assert told.status_code == 200
            assert "message_stop" not in told.text
            last = told.text.strip().split("\n\n")[-1].split("\n")
            assert last[0] == "event: error"
            error = orjson.loads(last[1].removeprefix("data: "))
            assert error["error"]["type"] == "api_error"
            assert error["request_id"] == w.served.last().id

    asyncio.run(run())
