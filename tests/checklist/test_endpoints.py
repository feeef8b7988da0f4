"""Points 54 and 55 of the wire checklist: the older endpoints of OpenAI's API, and Anthropic's, through a real server and socket."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from tests.backends.upstream import Asked, upstream
from tests.checklist.tools import check
from tests.embeddings.test_door import CONFIG
from tests.line.world import World, fails, says
from tests.messages import claude
from tests.messages import world as anthropic
from tests.serving import serving

USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"x": 1}}


# --- 54: embeddings, completions --------------------------------------------------------------------------------------------------


async def _embeds(asked: Asked) -> None:
    """A vector for each input, last one first: its length, and minus that."""
    sizes = [len(one) for one in asked.json["input"]]
    data = [{"index": at, "embedding": [size, -size]} for at, size in enumerate(sizes)]
    await asked.answer(
        orjson.dumps({"object": "list", "data": data[::-1], "model": "up", "usage": {"prompt_tokens": 7}})
    )


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
@pytest.mark.parametrize("given", [["a", "bbb", "cc"], [[5], [5, 6, 7], [8, 9]]], ids=["texts", "tokens"])
def test_point_54_embeddings(tmp_path: Path, given: Any, encoding: str | None) -> None:
    """Numbers unless base64 is asked for; texts or LangChain's token ids; always in the order of the inputs."""

    async def run() -> None:
        async with upstream(_embeds) as server:
            more = f"  text-*: {{kind: openai, base_url: '{server.url}/v1', price: {{input: 1}}}}\n"
            async with serving(CONFIG + more, tmp_path) as served:
                form = {"encoding_format": encoding} if encoding else {}
                body = {"model": "text-3", "input": given, "dimensions": 2.0, **form}
                for path in ("/v1/embeddings", "/embeddings"):
                    found = await served.client.post(path, json=body)
                    assert found.status_code == 200, found.text
                    told = found.json()
                    vectors = [item["embedding"] for item in told["data"]]
                    if encoding == "base64":
                        vectors = [np.frombuffer(base64.b64decode(one), "<f4").tolist() for one in vectors]
                    assert vectors == [[1, -1], [3, -3], [2, -2]]
                    assert [item["index"] for item in told["data"]] == [0, 1, 2]
                    assert (told["object"], told["model"], told["usage"]["prompt_tokens"]) == ("list", "text-3", 7)
                assert server.asked[0].json["input"] == given
                assert server.asked[0].json["dimensions"] == 2

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_point_54_completions(tmp_path: Path, stream: bool) -> None:
    """A chat model answers as a text_completion, whole and as a stream that ends with [DONE]."""

    async def run(w: World) -> None:
        body = {"model": "weir", "prompt": "once", "stream": stream, "stream_options": {"include_usage": True}}
        found = await w.served.client.post("/v1/completions", json=body if stream else {**body, "stream_options": None})
        assert found.status_code == 200, found.text
        blocks = found.text.split("\n\n")[:-1] if stream else [found.text]
        assert (blocks[-1] == "data: [DONE]") is stream
        told = [orjson.loads(block.removeprefix("data: ")) for block in blocks if "[DONE]" not in block]
        choices = [choice for event in told for choice in event["choices"]]
        assert "".join(choice["text"] for choice in choices) == " upon a time"
        assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
        assert {(event["object"], event["model"]) for event in told} == {("text_completion", "weir")}
        assert told[-1]["usage"]["total_tokens"] == 15
        assert w.cloud.asked[0].json["messages"] == [{"role": "user", "content": "once"}]

    check(tmp_path, fails(500), says(" upon a time"), run)


# --- 55: messages -----------------------------------------------------------------------------------------------------------------


def _folded(found: Any, stream: bool) -> dict[str, Any]:
    assert found.status_code == 200, found.text
    told: dict[str, Any] = claude.fold(found.content) if stream else found.json()
    return told


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("rung", ["general", "gpt"])
def test_point_55_text(tmp_path: Path, rung: str, stream: bool) -> None:
    """From Anthropic's own wire and from another's: the same message, with `?beta=true` too."""

    async def run() -> None:
        async with anthropic.world(tmp_path, gpt=says("hello")) as w:
            for path in ("/v1/messages", "/v1/messages?beta=true"):
                body = anthropic.hello(model=f"route/{rung}", stream=stream)
                told = _folded(await w.post(body, path, anthropic_beta="x-1"), stream)
                assert told["id"].startswith("msg_")
                assert (told["type"], told["role"], told["stop_reason"]) == ("message", "assistant", "end_turn")
                assert [block["text"] for block in told["content"]] == ["hello"]
                assert told["model"] == f"route/{rung}"
                assert told["usage"]["output_tokens"] == 5

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("rung", ["small", "claude"])
def test_point_55_tools(tmp_path: Path, rung: str, stream: bool) -> None:
    """A tool_use block, its tool_result sent back, and the answer."""
    call = {"index": 0, "id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
    small = says(None, "tool_calls", tool_calls=[call]) if rung == "small" else fails(500)
    top = claude.played(claude.message([USE], "tool_use"), claude.says("done"))

    async def run() -> None:
        async with anthropic.world(tmp_path, small=small, claude=top) as w:
            body = anthropic.hello(tools=[anthropic.TOOL], stream=stream)
            first = _folded(await w.post(body), stream)
            assert (first["stop_reason"], first["content"]) == ("tool_use", [USE])
            w.small.handler = says("done") if rung == "small" else fails(500)
            result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "2"}
            more = [{"role": "assistant", "content": first["content"]}, {"role": "user", "content": [result]}]
            second = _folded(await w.post({**body, "messages": [*body["messages"], *more]}), stream)
            assert (second["stop_reason"], second["content"][0]["text"]) == ("end_turn", "done")
            sent = (w.small if rung == "small" else w.claude).asked[-1].json["messages"]
            assert sent[-1] == (
                {"role": "tool", "tool_call_id": "toolu_1", "content": "2"} if rung == "small" else more[1]
            )

    asyncio.run(run())


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_point_55_keys_and_errors(tmp_path: Path, path: str) -> None:
    """x-api-key or Bearer; every error has Anthropic's shape and names its request."""

    async def run() -> None:
        async with anthropic.world(tmp_path, more=anthropic.keyed("k-1")) as w:
            body = anthropic.hello()
            assert (await w.post(body, path, x_api_key="k-1")).status_code == 200
            assert (await w.post(body, path, authorization="Bearer k-1")).status_code == 200
            for sent, key, status, kind in (
                (body, "wrong", 401, "authentication_error"),
                ({**body, "messages": 7}, "k-1", 400, "invalid_request_error"),
                ({**body, "model": "nobody"}, "k-1", 404, "not_found_error"),
            ):
                found = await w.post(sent, path, x_api_key=key)
                told = found.json()
                assert (found.status_code, told["type"], told["error"]["type"]) == (status, "error", kind)
                assert told["request_id"] == found.headers["request-id"]

    asyncio.run(run())


def test_point_55_count_tokens(tmp_path: Path) -> None:
    """Anthropic's count where a name leads there, else an estimate."""

    async def run() -> None:
        async with anthropic.world(tmp_path) as w:
            body = {"messages": [{"role": "user", "content": "x" * 400}]}
            for model, count in (("claude-9", 42), ("route/home", 100)):
                found = await w.post({**body, "model": model}, "/v1/messages/count_tokens")
                assert (found.status_code, found.json()) == (200, {"input_tokens": count})

    asyncio.run(run())
