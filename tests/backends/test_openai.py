"""The OpenAI rung against a real server: what goes up, what comes back, what a failure is."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from backends._steps import Steps
from backends.base import BackendResources
from backends.openai import OpenAI, OpenAIConfig
from tests.backends.upstream import Asked, Handler, Upstream, event, hang
from tests.backends.world import Resources, collect, text_of, world
from tests.waiting import PATIENCE
from wire.errors import BackendError, Broken, ContextOverflow, Overloaded, Refused, TimedOut, Unavailable
from wire.types import Call, Constraint

BODY = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}], "stream": True, "x_unknown": {"a": 1}}
ANSWER = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": {"prompt_tokens": 2, "completion_tokens": 1},
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
}  # fmt: skip


def chunk(delta: Any = None, finish: str | None = None, **beside: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return event({"id": "c", "object": "chat.completion.chunk", "choices": [choice], **beside})


STREAM = (
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "hel"}),
    b": keep-alive\n\n",
    chunk({"content": "lo"}),
    chunk(finish="stop"),
    event({"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 1}}),
    event("[DONE]"),
)

Test = Callable[[OpenAI, Upstream], Awaitable[None]]


def run(handler: Handler, test: Test, **config: Any) -> None:
    async def main() -> None:
        async with world(handler) as (resources, server):
            await test(made(server, resources, **config), server)

    asyncio.run(main())


def made(server: Upstream, resources: BackendResources, **config: Any) -> OpenAI:
    return OpenAI("cloud", OpenAIConfig(**{"kind": "openai", "base_url": f"{server.url}/v1/", **config}), resources)


def call(**fields: Any) -> Call:
    return Call(**{"body": BODY, "seconds": PATIENCE, "model": "gpt-5", **fields})


async def whole(asked: Asked) -> None:
    await asked.answer(
        orjson.dumps(ANSWER), headers={"x-request-id": "u1", "openai-version": "1", "x-ratelimit-limit-tokens": "9"}
    )


async def streamed(asked: Asked) -> None:
    await asked.stream(*STREAM, headers={"x-request-id": "u1"})


def test_whole_answer() -> None:
    """Not live: one POST without `stream`, one chunk with the whole message, usage and the upstream's head."""

    async def test(backend: OpenAI, server: Upstream) -> None:
        (only,) = await collect(backend, call(request_id="r1"))
        assert only.delta == {"role": "assistant", "content": "hello"}
        assert only.finish == "stop"
        assert only.usage == {"prompt_tokens": 2, "completion_tokens": 1}
        assert only.head == {
            "content-type": "application/json", "x-request-id": "u1", "openai-version": "1", "x-ratelimit-limit-tokens": "9",
        }  # fmt: skip
        (asked,) = server.asked
        assert asked.line == "POST /v1/chat/completions HTTP/1.1"
        assert asked.json == {"model": "gpt-5", "messages": BODY["messages"], "x_unknown": {"a": 1}}
        assert asked.headers["x-request-id"] == "r1"
        assert asked.headers["content-type"] == "application/json"

    run(whole, test)


def test_a_whole_answer_has_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it the answer is Broken, before it fills the memory."""

    async def test(backend: OpenAI, server: Upstream) -> None:
        size = len(orjson.dumps(ANSWER))
        monkeypatch.setattr("backends.openai.MOST_BODY", size)
        assert text_of(await collect(backend, call())) == "hello"
        monkeypatch.setattr("backends.openai.MOST_BODY", size - 1)
        with pytest.raises(Broken, match="longer than"):
            await collect(backend, call())

    run(whole, test)


def test_live_answer() -> None:
    """Live: events as they come, usage always asked for; the connection is free again afterwards."""

    async def test(backend: OpenAI, server: Upstream) -> None:
        for _ in range(2):
            found = await collect(backend, call(live=True))
            assert text_of(found) == "hello"
            assert [c.finish for c in found if c.finish] == ["stop"]
            assert found[-1].usage == {"prompt_tokens": 2, "completion_tokens": 1}
            assert [bool(c.head) for c in found] == [True] + [False] * (len(found) - 1)
        assert server.asked[0].json["stream_options"] == {"include_usage": True}
        assert server.asked[0].json["stream"] is True
        assert server.connections == 1

    run(streamed, test)


@pytest.mark.parametrize("live", [True, False])
def test_first_chunk_is_not_held(live: bool) -> None:
    """A chunk is given when its event has come, while the upstream still works, also of a stream that nobody asked for; and who leaves
    then ends that work."""

    async def handler(asked: Asked) -> None:
        await asked.stream(STREAM[0], end=False)
        await asyncio.sleep(60)

    async def test(backend: OpenAI, server: Upstream) -> None:
        stream = backend.stream(call(live=live))
        assert (await anext(stream)).delta["role"] == "assistant"
        await stream.aclose()
        await server.wait_left(1)

    run(handler, test)


@pytest.mark.parametrize("handler", [whole, streamed])
@pytest.mark.parametrize("live", [True, False])
def test_unexpected_kind_of_answer(handler: Handler, live: bool) -> None:
    """A server that streams unasked, or does not although asked, is understood: its content-type says what it sent."""

    async def test(backend: OpenAI, server: Upstream) -> None:
        assert text_of(await collect(backend, call(live=live))) == "hello"

    run(handler, test)


@pytest.mark.parametrize("live", [True, False])
def test_unchanged(live: bool) -> None:
    """With `raw`, exactly these bytes go up and exactly the upstream's bytes come back, [DONE] and comments included."""
    sent = b'{ "model":"gpt-5",  "messages":[], "stream": true }'
    answered = b"".join(STREAM) if live else b" " + orjson.dumps(ANSWER) + b"\n"

    async def handler(asked: Asked) -> None:
        if live:
            cut = [answered[at : at + 11] for at in range(0, len(answered), 11)]
            await asked.stream(*cut)
        else:
            await asked.answer(answered)

    async def test(backend: OpenAI, server: Upstream) -> None:
        found = await collect(backend, call(raw=sent, live=live))
        assert server.asked[0].body == sent
        assert b"".join(c.raw for c in found) == answered
        assert text_of(found) == "hello"
        assert found[0].head is not None
        assert found[0].head["content-type"].startswith("text/event-stream" if live else "application/json")

    run(handler, test, model="other", drop=["messages"])


def test_refusal_can_be_replayed() -> None:
    """An upstream's error keeps its status, head and bytes, so that a caller who was to get it unchanged can."""
    body = b'{"error": {"message": "Bad", "type": "invalid_request_error", "param": "x", "code": null}}'

    async def handler(asked: Asked) -> None:
        await asked.answer(body, status=400, headers={"x-request-id": "u1"})

    async def test(backend: OpenAI, server: Upstream) -> None:
        with pytest.raises(Refused) as caught:
            await collect(backend, call(raw=b"{}"))
        exc = caught.value
        assert (exc.status, exc.body, exc.param, exc.detail) == (400, body, "x", "Bad")
        assert exc.head == {"content-type": "application/json", "x-request-id": "u1"}

    run(handler, test)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, b'{"error":{"code":"rate_limit_exceeded"}}', Overloaded),
        (503, b"", Overloaded),
        (500, b"<html>", Broken),
        (401, b'{"error":"Unauthorized"}', Broken),
        (307, b"", Broken),
        (400, b'{"error":{"code":"context_length_exceeded"}}', ContextOverflow),
        (200, b"<html>", Broken),
        (200, b'{"error":{"message":"x","code":429}}', Overloaded),
    ],
)
def test_failures(status: int, body: bytes, kind: type[BackendError]) -> None:
    """What the upstream answered decides which error it is; the key is in none of them."""

    async def handler(asked: Asked) -> None:
        await asked.answer(body, status=status, headers={"retry-after": "7", "location": "/x"})

    async def test(backend: OpenAI, server: Upstream) -> None:
        with pytest.raises(BackendError) as caught:
            await collect(backend, call())
        assert type(caught.value) is kind
        assert caught.value.retry_after == 7 or status in (200, 307)
        assert "secret" not in repr(caught.value.args)
        assert len(server.asked) == 1

    run(handler, test, api_key="secret")


@pytest.mark.parametrize(
    ("blocks", "kind"),
    [
        (STREAM[:2], Broken),
        (
            (STREAM[0], event({"error": {"message": "x", "type": "BadRequestError", "code": 400}}), event("[DONE]")),
            Refused,
        ),
        ((event({"error": {"message": "x", "code": "rate_limit_exceeded"}}),), Overloaded),
        ((b"data: {no json}\n\n",), Broken),
        ((event("[DONE]"),), Broken),
    ],
)
def test_broken_streams(blocks: tuple[bytes, ...], kind: type[BackendError]) -> None:
    """An error event, an unreadable one and a stream that ends before its answer: never a silent end."""

    async def handler(asked: Asked) -> None:
        await asked.stream(*blocks)

    async def test(backend: OpenAI, server: Upstream) -> None:
        with pytest.raises(BackendError) as caught:
            await collect(backend, call(live=True))
        assert type(caught.value) is kind

    run(handler, test)


@pytest.mark.parametrize("finish", ["stop", None])
@pytest.mark.parametrize("ended", [True, False])
def test_an_end_that_came_with_the_last_chunks(finish: str | None, ended: bool) -> None:
    """Is known with them, where the body has ended as well and the answer is complete; else it is told by the next step."""
    go = asyncio.Event()

    async def handler(asked: Asked) -> None:
        await asked.stream(STREAM[1], end=False)
        await go.wait()
        last = chunk({"content": "lo"}, finish) + event("[DONE]")
        await asked.send(b"%x\r\n%b\r\n" % (len(last), last) + b"0\r\n\r\n" * ended)
        if not ended:
            await asyncio.sleep(60)

    async def test(backend: OpenAI, server: Upstream) -> None:
        stream = backend.stream(call(live=True))
        assert isinstance(stream, Steps)
        assert text_of(list(await stream.step())) == "hel"
        assert not stream.over
        go.set()
        assert text_of(list(await stream.step())) == "lo"
        assert stream.over == (ended and finish is not None)
        for error in (StopAsyncIteration if finish else Broken, StopAsyncIteration):
            with pytest.raises(error):
                await stream.step()

    run(handler, test)


def test_stream_without_done() -> None:
    """A stream that finished and then just ends is complete."""

    async def handler(asked: Asked) -> None:
        await asked.stream(*STREAM[:5])

    async def test(backend: OpenAI, server: Upstream) -> None:
        assert text_of(await collect(backend, call(live=True))) == "hello"

    run(handler, test)


def test_done_ends_the_stream() -> None:
    """A server that says [DONE] and keeps the connection open does not hold the answer until the idle timeout."""

    async def handler(asked: Asked) -> None:
        await asked.stream(*STREAM, end=False)
        await asyncio.sleep(60)

    async def test(backend: OpenAI, server: Upstream) -> None:
        async with asyncio.timeout(PATIENCE):
            assert text_of(await collect(backend, call(live=True))) == "hello"
            await server.wait_left(1)

    run(handler, test, idle=60)


@pytest.mark.parametrize("begun", [False, True])
def test_keep_alives_are_no_answer(begun: bool) -> None:
    """A stream of nothing but comments runs into the timeout of its phase, although bytes come all the time."""

    async def handler(asked: Asked) -> None:
        await asked.stream(*STREAM[:begun], end=False)
        while True:
            await asked.chunk(b": keep-alive\n\n")
            await asyncio.sleep(0.02)

    async def test(backend: OpenAI, server: Upstream) -> None:
        with pytest.raises(TimedOut) as caught:
            await collect(backend, call(live=True))
        assert caught.value.phase == ("idle" if begun else "first_byte")
        await server.wait_left(1)

    run(handler, test, **({"first_byte": PATIENCE, "idle": 0.2} if begun else {"first_byte": 0.2, "idle": PATIENCE}))


def test_a_whole_answer_has_its_seconds() -> None:
    """Not live, the head comes with the end of the answer: `seconds` bounds it, not `first_byte`."""

    async def handler(asked: Asked) -> None:
        await asyncio.sleep(0.2 if asked.number == 1 else 60)
        await whole(asked)

    async def test(backend: OpenAI, server: Upstream) -> None:
        assert text_of(await collect(backend, call())) == "hello"
        with pytest.raises(TimedOut):
            await collect(backend, call(seconds=0.1))

    run(handler, test, first_byte=0.05)


def test_a_live_answer_may_last() -> None:
    """Live, `seconds` bounds the way to the first byte; after that only silence ends a stream."""

    async def handler(asked: Asked) -> None:
        await asked.stream(STREAM[0], end=False)
        for block in STREAM[1:]:
            await asyncio.sleep(0.3)
            await asked.chunk(block)
        await asked.send(b"0\r\n\r\n")

    async def test(backend: OpenAI, server: Upstream) -> None:
        assert text_of(await collect(backend, call(live=True, seconds=1.5))) == "hello"

    run(handler, test)


def test_credentials_and_headers() -> None:
    """Ours go up, the caller's never do, whatever the surface lets through; the rest of the headers does."""

    async def test(backend: OpenAI, server: Upstream) -> None:
        theirs = {
            "Authorization": "Bearer theirs", "Cookie": "theirs", "X-Api-Key": "theirs", "Api-Key": "theirs",
            "OpenAI-Organization": "theirs", "X-Weir-Route": "theirs", "Host": "theirs", "Content-Length": "9999",
            "User-Agent": "agent/1", "X-Trace": "t1",
        }  # fmt: skip
        await collect(backend, call(headers=theirs, request_id="r1"))
        headers = server.asked[0].headers
        assert headers["authorization"] == "Bearer ours"
        assert headers["openai-organization"] == "org"
        assert headers["openai-project"] == "proj"
        assert headers["user-agent"] == "agent/1"
        assert headers["x-trace"] == "t1"
        assert headers["x-fixed"] == "1"
        assert headers["x-request-id"] == "r1"
        assert "theirs" not in headers.values()
        await collect(backend, call(request_id="r2"))
        again = server.asked[1].headers
        assert again["x-request-id"] == "r2"
        assert {"user-agent", "x-trace"}.isdisjoint(name for name in again if again[name] == headers[name])
        assert (again["authorization"], again["x-fixed"]) == ("Bearer ours", "1")

    run(whole, test, api_key="ours", organization="org", project="proj", headers={"X-Fixed": "1"})


def test_key_in_another_header() -> None:
    """Some servers want the key in a header of their own, without Bearer."""

    async def test(backend: OpenAI, server: Upstream) -> None:
        await collect(backend, call())
        assert server.asked[0].headers["api-key"] == "ours"
        assert "authorization" not in server.asked[0].headers

    run(whole, test, api_key="ours", key_header="api-key")


def test_missing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unset variable makes the rung unavailable and is named; nothing is sent. Set later, or to another value, it is used at once."""
    monkeypatch.delenv("WEIR_TEST_KEY", raising=False)

    async def test(backend: OpenAI, server: Upstream) -> None:
        assert backend.config.missing() == "WEIR_TEST_KEY"
        with pytest.raises(Unavailable) as caught:
            await collect(backend, call())
        assert caught.value.variable == "WEIR_TEST_KEY"
        assert not server.asked
        monkeypatch.setenv("WEIR_TEST_KEY", "now")
        assert backend.config.missing() == ""
        await collect(backend, call())
        assert server.asked[0].headers["authorization"] == "Bearer now"
        monkeypatch.setenv("WEIR_TEST_KEY", "then")
        for live in (False, True):
            await collect(backend, call(live=live))
            assert server.asked[-1].headers["authorization"] == "Bearer then"
        monkeypatch.setenv("WEIR_TEST_KEY", "")
        with pytest.raises(Unavailable):
            await collect(backend, call())

    run(whole, test, api_key="${WEIR_TEST_KEY}")


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("config", "fields", "body", "told"),
    [
        ({"model": "gpt-5"}, {"model": "weir"}, {"model": "weir"}, {"model": "gpt-5"}),
        ({}, {"model": "gpt-4"}, {"model": "weir"}, {"model": "gpt-4"}),
        ({"tokens_field": "max_completion_tokens"}, {}, {"max_tokens": 5}, {"max_completion_tokens": 5}),
        (
            {"tokens_field": "max_completion_tokens"},
            {},
            {"max_tokens": 5, "max_completion_tokens": 6},
            {"max_completion_tokens": 6},
        ),
        ({"tokens_field": "max_tokens"}, {}, {"max_completion_tokens": 6}, {"max_tokens": 6}),
        ({}, {}, {"max_tokens": 5}, {"max_tokens": 5}),
        ({"drop": ["logprobs", "top_logprobs", "stop"]}, {"logprobs": True}, {"stop": "x"}, {}),
        ({}, {"logprobs": True}, {}, {"logprobs": True, "top_logprobs": 2}),
        ({}, {"logprobs": True}, {"top_logprobs": 5}, {"logprobs": True, "top_logprobs": 5}),
        ({}, {"constraint": Constraint("schema", SCHEMA)}, {}, {"response_format": FORMAT}),
        ({}, {"constraint": Constraint("json", None)}, {}, {"response_format": {"type": "json_object"}}),
        ({}, {"constraint": Constraint("choice", ["a"])}, {"response_format": FORMAT}, {"response_format": FORMAT}),
        (
            {},
            {"constraint": Constraint("schema", {})},
            {"response_format": FORMAT},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {}}}},
        ),
        ({}, {}, {"stream": True, "stream_options": {"include_obfuscation": False}}, {}),
        (
            {},
            {"live": True},
            {"stream_options": {"include_obfuscation": False}},
            {"stream": True, "stream_options": {"include_obfuscation": False, "include_usage": True}},
        ),
    ],
)
def test_body(config: dict[str, Any], fields: dict[str, Any], body: dict[str, Any], told: dict[str, Any]) -> None:
    """The body goes up with only what this rung must say differently."""
    backend = OpenAI("cloud", OpenAIConfig(kind="openai", **config), Resources())
    before = repr(body)
    got = backend.body(Call(**{"body": body, "seconds": 1, "model": "m", **fields}))
    assert {"model": "m", **told} == got
    assert repr(body) == before


def test_body_that_is_no_json() -> None:
    """A value that cannot be written is an error of this rung, not of the process."""

    async def test(backend: OpenAI, server: Upstream) -> None:
        with pytest.raises(Broken):
            await collect(backend, call(body={"seed": 2**70}))

    run(whole, test)


@pytest.mark.parametrize(
    "url", ["api.openai.com/v1", "ftp://x/v1", "https://user:pass@x/v1", "https://x/v1?key=1", "https://", ""]
)
def test_base_url(url: str) -> None:
    """A base_url is plain http(s): a key in it would be logged."""
    with pytest.raises(ValidationError):
        OpenAIConfig(kind="openai", base_url=url)


def test_key_is_never_printed() -> None:
    """Neither the configuration's text nor its JSON shows a key that was written into the file."""
    config = OpenAIConfig(kind="openai", api_key="sk-secret")
    assert "sk-secret" not in repr(config) + config.model_dump_json()


def test_hanging_upstream_is_left_on_cancel() -> None:
    """Cancelled before the first byte, the request upstream ends too."""

    async def test(backend: OpenAI, server: Upstream) -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(collect(backend, call(live=True)))
            await server.wait_asked(1)
            task.cancel()
        await server.wait_left(1)

    run(hang, test)
