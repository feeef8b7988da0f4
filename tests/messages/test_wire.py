"""Messages over a raw socket: errors in Anthropic's shape, both auth headers, pass-through, streams that break, callers who leave."""

import asyncio
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.backends.upstream import Asked, Handler, hang
from tests.line.world import completion, says
from tests.line.world import fails as openai_fails
from tests.messages.claude import ANSWER, HEAD, THOUGHT, events, fold, message, played
from tests.messages.claude import says as claude_says
from tests.messages.world import BAD, GOOD, TOOL, World, asks, hello, world
from tests.waiting import until

CANARY = "sk-ant-canary-0815"
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}


def keyed(key: str) -> str:
    return f'access: {{keys: [{{name: agent, hash: "sha256:{sha256(key.encode()).hexdigest()}"}}]}}'


def overloaded(status: int = 529) -> Handler:
    async def handler(asked: Asked) -> None:
        error = {
            "type": "error",
            "error": {"type": "overloaded_error", "message": "Overloaded"},
            "request_id": "req_up",
        }
        await asked.answer(orjson.dumps(error), status, {**HEAD, "retry-after": "3"})

    return handler


@pytest.mark.parametrize("path", ["/v1/messages", "/messages", "/v1/messages?beta=true", "/v1/messages?x=1&beta=true"])
def test_paths(tmp_path: Path, path: str) -> None:
    """With and without /v1, with any query."""

    async def run() -> None:
        async with world(tmp_path) as w:
            told = await w.post(hello(), path)
            assert told.status_code == 200
            assert told.json()["content"] == [{"type": "text", "text": "hello"}]
            assert told.headers["request-id"] == told.headers["x-request-id"]
            assert told.headers["x-weir-rung"] == "claude"

    asyncio.run(run())


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


@pytest.mark.parametrize("stream", [False, True])
def test_pass_through(tmp_path: Path, stream: bool) -> None:
    """A name that Anthropic knows itself, under bypass: bytes both ways as in direct traffic, with its head, and in the Record."""
    sent = orjson.dumps({**hello(model="claude-9", stream=stream), "future": [1]}, option=orjson.OPT_INDENT_2)

    async def run() -> None:
        async with world(tmp_path) as w:
            told = await w.served.client.post(
                "/v1/messages",
                content=sent,
                headers={
                    "anthropic-version": "2099-09-09",
                    "anthropic-beta": "b-1",
                    "x-api-key": CANARY,
                    "x-weir-bypass": "1",
                },
            )
            (asked,) = w.claude.asked
            assert asked.body == sent
            assert asked.headers["anthropic-version"] == "2099-09-09"
            assert asked.headers["anthropic-beta"] == "b-1"
            assert asked.headers["x-api-key"] == "sk-rung"
            assert told.content == (b"".join(events(ANSWER)) if stream else orjson.dumps(ANSWER))
            assert told.headers["request-id"] == "req_up"
            assert told.headers["anthropic-ratelimit-requests-remaining"] == "9"
            record = w.served.record(told)
            assert (record.outcome, record.served, record.tokens.input) == ("straight", "claude", 17)
            w.claude.handler = overloaded()
            told = await w.post(hello(model="claude-9"), x_weir_bypass="1")
            assert told.status_code == 529
            assert told.json()["request_id"] == "req_up"

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_is_lost(tmp_path: Path, stream: bool) -> None:
    """Routed to Anthropic, an answer keeps what only Anthropic says: citations, server tools, the order of blocks, raw counts,
    why it stopped and at which sequence."""
    content: list[dict[str, Any]] = [
        {**THOUGHT},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": [{"type": "web_search_result", "url": "u"}],
        },
        {"type": "text", "text": "so"},
        {"type": "tool_use", "id": "toolu_9", "name": "f", "input": {}},
    ]
    full = message(content, "stop_sequence", stop_sequence="END", usage={**ANSWER["usage"], "service_tier": "priority"})

    async def run() -> None:
        async with world(tmp_path, claude=played(full)) as w:
            told = await w.post(hello(model="route/general", stream=stream))
            got = fold(told.content) if stream else told.json()
            assert got["content"][0].pop("signature").endswith(THOUGHT["signature"])
            wanted = {**full, "id": got["id"], "model": "route/general"}
            assert {k: v for k, v in got.items() if k != "content"} == {
                k: v for k, v in wanted.items() if k != "content"
            }
            assert got["content"] == [{k: v for k, v in THOUGHT.items() if k != "signature"}, *content[1:]]

    asyncio.run(run())


@pytest.mark.parametrize("small", [GOOD, BAD])
def test_held_stream(tmp_path: Path, small: str) -> None:
    """A stream that is held until its answer was checked is replayed as events, whoever answered; nothing rejected gets out."""

    async def run() -> None:
        async with world(tmp_path, small=says(small), claude=played(claude_says(GOOD))) as w:
            told = await w.post(asks("strict", stream=True))
            got = fold(told.content)
            assert got["content"] == [{"type": "text", "text": GOOD}]
            assert got["usage"]["output_tokens"] == 5
            assert BAD not in told.text.replace("\\", "")
            assert w.served.record(told).served == ("small" if small == GOOD else "claude")

    asyncio.run(run())


def test_parallel_calls(tmp_path: Path) -> None:
    """Calls whose pieces come interleaved are told one after the other, each whole."""

    async def handler(asked: Asked) -> None:
        def call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
            return {"index": index, **more, "function": {"arguments": arguments, **({"name": "f"} if more else {})}}

        deltas = [
            [call(0, '{"x"', id="c0"), call(1, '{"x"', id="c1")],
            [call(1, ":2}")],
            [call(0, ":1}"), call(2, "", id="c2")],
        ]
        chunks = [{"choices": [{"index": 0, "delta": {"tool_calls": delta}}]} for delta in deltas]
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
        await asked.stream(
            *(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in [*chunks, end]), b"data: [DONE]\n\n"
        )

    async def run() -> None:
        async with world(tmp_path, gpt=handler) as w:
            got = fold((await w.post(hello(model="route/gpt", tools=[TOOL], stream=True))).content)
            inputs = [(block["id"], block["input"]) for block in got["content"]]
            assert inputs == [("c0", {"x": 1}), ("c1", {"x": 2}), ("c2", {})]
            assert got["stop_reason"] == "tool_use"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("finish", "reason"), [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal")]
)
def test_stop_reasons(tmp_path: Path, finish: str, reason: str) -> None:
    """finish_reason becomes stop_reason, whole and as a stream."""

    async def run() -> None:
        async with world(tmp_path, gpt=says("x", finish)) as w:
            assert (await w.post(hello(model="route/gpt"))).json()["stop_reason"] == reason
            assert fold((await w.post(hello(model="route/gpt", stream=True))).content)["stop_reason"] == reason

    asyncio.run(run())


@pytest.mark.parametrize(("path", "sent"), [("/v1/messages", 850), ("/v1/chat/completions", 32000)])
def test_room(tmp_path: Path, path: str, sent: int) -> None:
    """A limit that Anthropic's API forces upon its callers is lowered to a small model's room; one that a chat client chose is not."""

    async def run() -> None:
        async with world(tmp_path, small=says("x")) as w:
            said = [{"role": "user", "content": "x" * 400}]
            limit = {"max_completion_tokens" if path.endswith("completions") else "max_tokens": 32000}
            await w.post({"model": "route/home", "messages": said, **limit}, path)
            assert w.small.asked[0].json["max_completion_tokens"] == sent

    asyncio.run(run())


def test_keep_alive(tmp_path: Path) -> None:
    """While a stream is held, comments are sent; the events behind them are a whole message."""

    async def slow(asked: Asked) -> None:
        await asyncio.sleep(0.3)
        await asked.answer(completion(GOOD))

    async def run() -> None:
        async with world(tmp_path, small=slow, server="keepalive_after: 0.05") as w:
            told = await w.post(asks(stream=True))
            assert told.text.startswith(": keep-alive")
            assert fold(told.content)["content"] == [{"type": "text", "text": GOOD}]

    asyncio.run(run())


async def _half_claude(asked: Asked) -> None:
    await asked.stream(*events(ANSWER)[:5], end=False)
    await asyncio.sleep(60)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("small", "claude", "body", "at"),
    [
        (hang, played(ANSWER), asks, "small"),
        (says("no json"), hang, asks, "claude"),
        (says("x"), hang, hello, "claude"),
        (says("x"), _half_claude, hello, "claude"),
    ],
    ids=["before the first token", "while escalating", "direct", "mid-stream"],
)
def test_leaving(
    tmp_path: Path, small: Handler, claude: Handler, body: Callable[..., dict[str, Any]], at: str, stream: bool
) -> None:
    """A caller who leaves ends the upstream's work within a second, in every phase, and is in the Record."""

    async def run() -> None:
        async with world(tmp_path, small=small, claude=claude) as w:
            asked = w.small if at == "small" else w.claude
            await _leave(w, orjson.dumps(body(stream=stream)), lambda: len(asked.asked) == 1)
            await until(lambda: asked.left == 1, 1.0)
            await until(lambda: bool(w.served.app.recorder.recent(1)), 1.0)
            record = w.served.last()
            assert (record.outcome, record.dialect, record.attempts[-1].rung) == ("cancelled", "messages", at)
            await until(lambda: w.served.app.live.in_flight == 0, 1.0)

    asyncio.run(run())


def test_leaving_a_count(tmp_path: Path) -> None:
    """Who leaves while tokens are counted ends the counting too."""

    async def run() -> None:
        async with world(tmp_path, claude=hang) as w:
            body = orjson.dumps(hello())
            await _leave(w, body, lambda: len(w.claude.asked) == 1, path=b"/v1/messages/count_tokens")
            await until(lambda: w.claude.left == 1, 1.0)
            await until(lambda: w.served.app.live.in_flight == 0, 1.0)

    asyncio.run(run())


async def _leave(w: World, body: bytes, when: Callable[[], bool], path: bytes = b"/v1/messages") -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", w.served.port)
    writer.write(b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (path, len(body), body))
    await writer.drain()
    await until(when)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/chat/completions"])
def test_passthrough_key(tmp_path: Path, path: str) -> None:
    """`auth: passthrough`: the caller's own key goes to that rung and to no other, Weir's key to none, and neither is in any Record,
    metric or error."""
    weir = "weir-agents-own-key"

    async def run() -> None:
        async with world(tmp_path, small=says("x"), gpt=says("hello"), more=keyed(weir)) as w:
            both = {"authorization": f"Bearer {weir}", "x_api_key": CANARY}
            told = await w.post(hello(model="route/own"), path, **both)
            assert told.status_code == 200
            assert w.claude.asked[-1].headers["x-api-key"] == CANARY
            assert weir not in str(w.claude.asked[-1].headers)
            if not path.endswith("count_tokens"):
                told = await w.post(
                    hello(model="route/own-gpt"), path, authorization=f"Bearer {CANARY}", x_api_key=weir
                )
                assert told.status_code == 200
                assert w.gpt.asked[-1].headers["authorization"] == f"Bearer {CANARY}"
                await w.post(hello(model="route/gpt"), path, **both)
                await w.post(hello(model="route/home"), path, **both)
                assert CANARY not in str(w.gpt.asked[-1].headers)
                assert CANARY not in str(w.small.asked[-1].headers)
                alone = await w.post(hello(model="route/own"), path, authorization=f"Bearer {weir}")
                assert alone.status_code == 401, "Weir's own key is no key of Anthropic's"
            w.claude.handler = overloaded(401)
            refused = await w.post(hello(model="route/own"), path, **both)
            assert refused.status_code == (200 if path.endswith("count_tokens") else 401)
            told_all = [refused.text, w.served.app.metrics.render().decode(), repr(w.served.app.recorder.recent(50))]
            await w.served.app.recorder.close()
            told_all += files(tmp_path)
            assert len(told_all) > 3
            assert not [text for text in told_all if CANARY in text or weir in text]

    asyncio.run(run())


def files(folder: Path) -> list[str]:
    return [path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()]
