"""Bytes and keys that are passed through, to one host and to no other."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import orjson
import pytest

from backends.base import BackendConfig, BackendResources
from tests.line.world import says
from tests.messages.claude import ANSWER, events, overloaded
from tests.messages.world import hello, keyed, world
from tests.serving import serving
from wire.types import Call, Chunk

CANARY = "sk-ant-canary-0815"


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
            w.served.app.live.fold()
            told_all = [refused.text, w.served.app.metrics.render().decode(), repr(w.served.app.recorder.recent(50))]
            await w.served.app.recorder.close()
            told_all += files(tmp_path)
            assert len(told_all) > 3
            assert not [text for text in told_all if CANARY in text or weir in text]

    asyncio.run(run())


def test_counting_tells_the_upstream_what_its_api_knows_and_nothing_more(tmp_path: Path) -> None:
    """The version and the beta of Anthropic's API go on; a question beside the request is no part of the caller's trace."""

    async def run() -> None:
        async with world(tmp_path) as w:
            told = await w.post(
                hello(model="route/own"),
                "/v1/messages/count_tokens",
                x_api_key=CANARY,
                anthropic_version="2023-06-01",
                anthropic_beta="one",
                traceparent=f"00-{'a' * 32}-{'b' * 16}-01",
                tracestate="a=b",
            )
            assert told.status_code == 200
            sent = w.claude.asked[-1].headers
            assert (sent["anthropic-version"], sent["anthropic-beta"]) == ("2023-06-01", "one")
            assert not {"traceparent", "tracestate"} & set(sent)

    asyncio.run(run())


def files(folder: Path) -> list[str]:
    return [path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()]


SEEN: list[Call] = []


class Spy:
    """A backend that keeps what it is asked with."""

    class Config(BackendConfig):
        auth: str = "key"

    def __init__(self, name: str, config: Config, resources: BackendResources) -> None:
        self.name = name

    async def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        SEEN.append(call)
        yield Chunk(delta={"content": "x"}, finish="stop")


SPIES = """
backends:
  theirs: {kind: "tests.messages.test_passthrough:Spy", auth: passthrough}
  ours: {kind: "tests.messages.test_passthrough:Spy"}
router: {use: {kind: rules}, default: theirs}
routes:
  theirs: {ladder: [theirs], mode: enforce}
  ours: {ladder: [ours], mode: enforce}
"""


def test_only_who_is_asked_with_it_gets_it(tmp_path: Path) -> None:
    """The caller's key travels to rungs with `auth: passthrough` only: any other does not even see it, and nobody prints it."""

    async def run() -> None:
        SEEN.clear()
        async with serving(SPIES, tmp_path) as served:
            for name in ("theirs", "ours"):
                told = await served.client.post(
                    "/v1/messages", json=hello(model=f"route/{name}"), headers={"x-api-key": CANARY}
                )
                assert told.status_code == 200
        assert [str(call.credential) for call in SEEN] == [CANARY, ""]
        assert CANARY not in repr(SEEN)

    asyncio.run(run())
