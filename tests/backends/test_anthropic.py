"""The Anthropic rung against a real server: what goes up, what comes back, whose key it is."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from backends.anthropic import Anthropic, AnthropicConfig
from backends.base import BackendResources
from tests.backends.upstream import Asked, Handler, Upstream, hang
from tests.backends.world import Resources, collect, text_of, world
from tests.contract.backend_case import asks
from tests.messages.claude import ANSWER, THOUGHT, events, message, played
from tests.waiting import PATIENCE
from wire.errors import (
    BackendError,
    Broken,
    ContextOverflow,
    Overloaded,
    Refused,
    TimedOut,
    Unavailable,
    Unsupported,
)
from wire.types import Call, Constraint, Credential

CASE = asks()

BODY = {"model": "claude-x", "messages": [{"role": "user", "content": "hi"}], "stream": True}
NATIVE = {
    "model": "claude-x", "max_tokens": 5, "stream": True, "top_k": 3, "metadata": {"user_id": "u"}, "unknown": {"a": [1]},
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]}],
}  # fmt: skip
CANARY = "sk-ant-canary-4711"

Test = Callable[[Anthropic, Upstream], Awaitable[None]]


def run(handler: Handler, test: Test, **config: Any) -> None:
    async def main() -> None:
        async with world(handler) as (resources, server):
            await test(made(server, resources, **config), server)

    asyncio.run(main())


def made(server: Upstream, resources: BackendResources, **config: Any) -> Anthropic:
    return Anthropic("claude", AnthropicConfig(**{"kind": "anthropic", "base_url": server.url, **config}), resources)


def call(**fields: Any) -> Call:
    return Call(**{"body": BODY, "seconds": PATIENCE, "model": "claude-x", **fields})


def native(**fields: Any) -> Call:
    return call(**{"native": NATIVE, "dialect": "messages", **fields})


def test_whole_answer() -> None:
    """Not live: one POST with Anthropic's headers, one chunk with text, usage in OpenAI's counting, and the upstream's head."""

    async def test(backend: Anthropic, server: Upstream) -> None:
        (only,) = await collect(backend, call(request_id="r1"))
        assert only.delta == {"role": "assistant", "content": "hello"}
        assert only.finish == "stop"
        assert only.usage is not None
        assert only.usage["prompt_tokens"] == 17
        assert only.usage["prompt_tokens_details"] == {"cached_tokens": 4, "cache_write_tokens": 3}
        assert only.native is None
        assert only.head is not None
        assert only.head["request-id"] == "req_up"
        (asked,) = server.asked
        assert asked.line == "POST /v1/messages HTTP/1.1"
        assert asked.json == {"model": "claude-x", "max_tokens": 8192, "messages": [{"role": "user", "content": "hi"}]}
        assert asked.headers["anthropic-version"] == "2023-06-01"
        assert asked.headers["x-request-id"] == "r1"
        assert "authorization" not in asked.headers

    run(played(ANSWER), test)


def test_live_answer() -> None:
    """Live: pieces as they come, one finish, usage whole; pings are empty chunks; the connection is free again."""

    async def test(backend: Anthropic, server: Upstream) -> None:
        for _ in range(2):
            found = await collect(backend, call(live=True))
            assert text_of(found) == "hello"
            assert [c.finish for c in found if c.finish] == ["stop"]
            assert [c.usage for c in found if c.usage][-1]["prompt_tokens"] == 17
            assert [bool(c.head) for c in found] == [True] + [False] * (len(found) - 1)
        assert server.asked[0].json["stream"] is True
        assert server.connections == 1

    run(played(ANSWER), test)


@pytest.mark.parametrize("live", [True, False])
def test_unchanged(live: bool) -> None:
    """With `raw`, exactly these bytes go up with the caller's own version and betas, and the upstream's bytes come back exactly."""
    sent = b'{ "model":"claude-x",  "messages":[] }'
    answered = b"".join(events(ANSWER)) if live else b" " + orjson.dumps(ANSWER) + b"\n"

    async def handler(asked: Asked) -> None:
        if live:
            await asked.stream(*[answered[at : at + 11] for at in range(0, len(answered), 11)])
        else:
            await asked.answer(answered)

    async def test(backend: Anthropic, server: Upstream) -> None:
        headers = {
            "anthropic-version": "2099-01-01",
            "anthropic-beta": "a-1,b-2",
            "x-weir-bypass": "1",
            "x-api-key": CANARY,
        }
        found = await collect(backend, native(raw=sent, live=live, headers=headers))
        (asked,) = server.asked
        assert asked.body == sent
        assert asked.headers["anthropic-version"] == "2099-01-01"
        assert asked.headers["anthropic-beta"] == "a-1,b-2"
        assert not any(name.startswith("x-weir-") for name in asked.headers)
        assert CANARY not in str(asked.headers)
        assert b"".join(c.raw for c in found) == answered
        assert text_of(found) == "hello"

    run(handler, test)


def test_own_words_go_up_as_they_are() -> None:
    """A request in Anthropic's own words goes up with all it says, cache marks and unknown fields; only model and stream are ours."""

    async def test(backend: Anthropic, server: Upstream) -> None:
        await collect(backend, native(headers={"anthropic-beta": "x-9"}))
        (asked,) = server.asked
        assert asked.json == {**{k: v for k, v in NATIVE.items() if k != "stream"}, "model": "claude-top"}
        assert asked.headers["anthropic-beta"] == "x-9"

    run(played(ANSWER), test, model="claude-top")


def test_other_dialects_bring_no_betas() -> None:
    """What a chat client says in `anthropic-*` headers is not Anthropic's to read; this backend's own betas are sent."""

    async def test(backend: Anthropic, server: Upstream) -> None:
        await collect(backend, call(headers={"anthropic-beta": "x", "traceparent": "t"}))
        assert server.asked[0].headers["anthropic-beta"] == "mine,too"
        assert server.asked[0].headers["traceparent"] == "t"

    run(played(ANSWER), test, beta=("mine", "too"))


def test_thinking_belongs_to_its_model() -> None:
    """A signature goes back to the model that wrote it, exactly as it was; to any other model never, nor unsigned."""

    async def test(backend: Anthropic, server: Upstream) -> None:
        (chunk,) = await collect(backend, call(model="weir"))
        (block,) = chunk.delta["thinking_blocks"]
        assert block["signature"] != THOUGHT["signature"], (
            "marked: the caller named another model than the one that thought"
        )
        history: list[dict[str, Any]] = [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "hello", "thinking_blocks": [block]},
            {"role": "user", "content": "more"},
        ]
        await collect(backend, call(model="weir", body={"messages": history}))
        assert server.asked[1].json["messages"][1]["content"][0] == THOUGHT
        other = made(server, Resources(backend._http), model="claude-small")
        await collect(other, call(model="weir", body={"messages": history}))
        assert server.asked[2].json["messages"][1] == {"role": "assistant", "content": "hello"}
        bare = [history[0], {**history[1], "thinking_blocks": [THOUGHT]}, history[2]]
        await collect(other, call(model="claude-top", body={"messages": bare}))
        assert "signature" not in server.asked[3].body.decode()
        await collect(backend, call(model="claude-top", body={"messages": bare}))
        assert server.asked[4].json["messages"][1]["content"][0] == THOUGHT

    run(played(message([THOUGHT, {"type": "text", "text": "hello"}])), test, model="claude-top")


def test_the_key() -> None:
    """The configured key goes up in x-api-key; without it the rung is unavailable, and says which variable to set."""

    async def test(backend: Anthropic, server: Upstream) -> None:
        await collect(backend, call(headers={"authorization": f"Bearer {CANARY}"}, credential=Credential(CANARY)))
        assert server.asked[0].headers["x-api-key"] == "sk-rung"
        assert CANARY not in str(server.asked[0].headers)
        nowhere = made(server, Resources(backend._http), api_key="${WEIR_TEST_UNSET}")
        assert nowhere.config.missing() == "WEIR_TEST_UNSET"
        with pytest.raises(Unavailable) as caught:
            await collect(nowhere, call())
        assert caught.value.variable == "WEIR_TEST_UNSET"

    run(played(ANSWER), test, api_key="sk-rung")


@pytest.mark.parametrize(("sent", "header"), [(CANARY, "x-api-key"), (f"Bearer {CANARY}", "authorization")])
def test_passthrough(sent: str, header: str) -> None:
    """The caller's own key goes up in the header that it came in, and prints itself nowhere; a 401 is then the caller's own."""

    async def test(backend: Anthropic, server: Upstream) -> None:
        asked = call(credential=Credential(sent))
        assert CANARY not in repr(asked)
        with pytest.raises(Refused) as caught:
            await collect(backend, asked)
        assert server.asked[0].headers[header] == sent
        assert len({"x-api-key", "authorization"} & set(server.asked[0].headers)) == 1
        assert caught.value.status == 401
        assert CANARY not in caught.value.message
        with pytest.raises(Refused) as caught:
            await collect(backend, call())
        assert caught.value.status == 401
        assert len(server.asked) == 1, "nobody is asked without a key"

    run(fails(401, "authentication_error"), test, auth="passthrough", api_key="sk-rung")


def fails(status: int, kind: str, text: str = "no", **headers: str) -> Handler:
    async def handler(asked: Asked) -> None:
        error = {"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_up"}
        await asked.answer(orjson.dumps(error), status, headers)

    return handler


@pytest.mark.parametrize(
    ("status", "kind", "text", "wanted"),
    [
        (400, "invalid_request_error", "no", Refused),
        (400, "invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum", ContextOverflow),
        (413, "request_too_large", "no", ContextOverflow),
        (401, "authentication_error", "no", Broken),
        (403, "permission_error", "no", Broken),
        (404, "not_found_error", "model: claude-x", Refused),
        (429, "rate_limit_error", "no", Overloaded),
        (500, "api_error", "no", Broken),
        (529, "overloaded_error", "Overloaded", Overloaded),
    ],
)
def test_errors(status: int, kind: str, text: str, wanted: type[BackendError]) -> None:
    """Every status of Anthropic's has its place in our tree; the wait it asks for is kept."""

    async def test(backend: Anthropic, server: Upstream) -> None:
        with pytest.raises(BackendError) as caught:
            await collect(backend, call())
        assert type(caught.value) is wanted
        assert caught.value.status == status
        assert caught.value.retry_after == 7
        assert text not in caught.value.message or text == "no"

    run(fails(status, kind, text, **{"retry-after": "7"}), test)


def test_error_in_a_stream() -> None:
    """An `error` event after the first byte is an error, never a silent end."""
    broken = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'

    async def handler(asked: Asked) -> None:
        await asked.stream(*events(ANSWER)[:4], broken)

    async def test(backend: Anthropic, server: Upstream) -> None:
        with pytest.raises(Overloaded):
            await collect(backend, call(live=True))

    run(handler, test)


def test_a_stream_that_ends_early() -> None:
    """Without a stop_reason the answer has not come to its end, however cleanly the connection closed."""

    async def handler(asked: Asked) -> None:
        await asked.stream(*events(ANSWER)[:4])

    async def test(backend: Anthropic, server: Upstream) -> None:
        with pytest.raises(Broken):
            await collect(backend, call(live=True))

    run(handler, test)


def test_pings_only() -> None:
    """A server that pings is waited for longer than `idle`, but not for ever."""

    async def handler(asked: Asked) -> None:
        await asked.stream(events(ANSWER)[0], end=False)
        while True:
            await asked.chunk(b'event: ping\ndata: {"type": "ping"}\n\n')
            await asyncio.sleep(0.02)

    async def test(backend: Anthropic, server: Upstream) -> None:
        with pytest.raises(TimedOut) as caught:
            await collect(backend, call(live=True))
        assert caught.value.phase == "idle"
        await server.wait_left(1)

    run(handler, test, idle=0.1, silence=0.4)


def test_what_cannot_be_asked() -> None:
    """Several choices are refused before anybody is asked, naming the field."""

    async def test(backend: Anthropic, server: Upstream) -> None:
        with pytest.raises(Unsupported) as caught:
            await collect(backend, call(body={**BODY, "n": 2}))
        assert caught.value.param == "n"
        assert not server.asked

    run(hang, test)


def test_schema() -> None:
    """A schema constraint becomes output_config.format; a caller's own format is left as it is."""
    schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}, "required": ["a"]}

    async def test(backend: Anthropic, server: Upstream) -> None:
        await collect(backend, call(constraint=Constraint("schema", schema)))
        form = server.asked[0].json["output_config"]["format"]
        assert form["schema"]["additionalProperties"] is False
        assert form["schema"]["properties"]["a"]["description"] == "{maxLength: 3}"
        own = {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object", "x": 1}}}
        await collect(backend, native(native={**NATIVE, "output_config": own}, constraint=Constraint("schema", schema)))
        assert server.asked[1].json["output_config"] == own

    run(played(ANSWER), test)


def test_drop() -> None:
    """`drop` takes fields out that an upstream refuses."""

    async def test(backend: Anthropic, server: Upstream) -> None:
        await collect(backend, native())
        assert "top_k" not in server.asked[0].json

    run(played(ANSWER), test, drop=("top_k",))


def test_count() -> None:
    """Tokens are counted under a path of their own, with the prompt and without what only an answer needs."""

    async def handler(asked: Asked) -> None:
        await asked.answer(b'{"input_tokens": 42}')

    async def test(backend: Anthropic, server: Upstream) -> None:
        assert await backend.count(native()) == 42
        (asked,) = server.asked
        assert asked.line == "POST /v1/messages/count_tokens HTTP/1.1"
        assert asked.json["messages"] == NATIVE["messages"]
        assert not {"max_tokens", "stream", "metadata"} & set(asked.json)

    run(handler, test)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"oops", b'{"input_tokens": "3"}', b'{"input_tokens": -1}'])
def test_no_count(body: bytes) -> None:
    """What is no count is Broken."""

    async def handler(asked: Asked) -> None:
        await asked.answer(body)

    async def test(backend: Anthropic, server: Upstream) -> None:
        with pytest.raises(Broken):
            await backend.count(native())

    run(handler, test)


@pytest.mark.parametrize("url", ["ftp://x", "http://u:p@x", "http://x?y=1", "x"])
def test_urls(url: str) -> None:
    """A base_url is plain http(s)."""
    with pytest.raises(ValidationError):
        AnthropicConfig(kind="anthropic", base_url=url)


def test_url_with_version() -> None:
    """The path's version may be written or not."""
    assert AnthropicConfig(kind="anthropic", base_url="http://x/v1/").base_url == "http://x"
