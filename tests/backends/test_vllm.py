"""The vLLM rung: its words go up, its refusals of a grammar are Unsupported. The wording itself: tests/wire/test_vllm.py."""

import asyncio
from typing import Any

import orjson
import pytest

from backends.vllm import Vllm, VllmConfig
from tests.backends.test_openai import STREAM, whole
from tests.backends.upstream import Asked, Handler, Upstream, event
from tests.backends.world import collect, text_of, world
from tests.waiting import PATIENCE
from wire.errors import BackendError, Refused, Unsupported
from wire.types import Call, Constraint

MESSAGES = [{"role": "user", "content": "hi"}, {"role": "developer", "content": "be short"}]
XGRAMMAR = "The provided JSON schema contains features not supported by xgrammar."


def ask(handler: Handler, call: Call, **config: Any) -> tuple[Upstream, str | BackendError]:
    async def main() -> tuple[Upstream, str | BackendError]:
        async with world(handler) as (resources, server):
            backend = Vllm("small", VllmConfig(**{"kind": "vllm", "base_url": f"{server.url}/v1", **config}), resources)
            try:
                return server, text_of(await collect(backend, call))
            except BackendError as exc:
                return server, exc

    return asyncio.run(main())


def test_request() -> None:
    """Adapter, constraint, logprobs and vLLM's spelling in one body; `drop` has the last word."""
    body = {
        "messages": MESSAGES,
        "tools": [],
        "store": True,
        "temperature": None,
        "top_p": 0,
        "stream_options": {},
        "min_p": 0.1,
    }
    call = Call(body=body, seconds=PATIENCE, constraint=Constraint("choice", ["a", "b"]), logprobs=True)
    server, answer = ask(whole, call, model="qwen", adapter="intents", drop=["min_p"])
    assert answer == "hello"
    assert server.asked[0].json == {
        "model": "intents",
        "messages": [{"role": "system", "content": "be short"}, MESSAGES[0]],
        "top_p": 1e-5,
        "structured_outputs": {"choice": ["a", "b"]},
        "logprobs": True,
        "top_logprobs": 2,
    }


def test_model_names() -> None:
    """The adapter's name is sent when there is one, else the model's, else the caller's; the same name is the digest."""
    for config, name in (({"model": "m", "adapter": "a"}, "a"), ({"model": "m"}, "m"), ({}, "asked")):
        server, _ = ask(whole, Call(body={"messages": []}, seconds=PATIENCE, model="asked"), **config)
        assert server.asked[0].json["model"] == name
    assert VllmConfig(kind="vllm", model="m", adapter="a").digest() == "a"
    assert VllmConfig(kind="vllm", model="m").digest() == "m"


def test_at_home() -> None:
    """A vLLM rung does not leave the house unless the configuration says so."""
    assert VllmConfig(kind="vllm").cloud is False


@pytest.mark.parametrize("live", [False, True])
def test_grammar_refused(live: bool) -> None:
    """A schema that this server cannot compile is Unsupported: as a 400, and inside a 200 stream, where vLLM says it."""
    error = {"error": {"message": XGRAMMAR, "type": "BadRequestError", "param": None, "code": 400}}

    async def handler(asked: Asked) -> None:
        if live:
            await asked.stream(event(error), event("[DONE]"))
        else:
            await asked.answer(orjson.dumps(error), status=400)

    call = Call(body={"messages": []}, seconds=PATIENCE, live=live, constraint=Constraint("schema", {"type": "object"}))
    _, answer = ask(handler, call)
    assert isinstance(answer, Unsupported)
    assert answer.status == 400
    assert answer.detail == XGRAMMAR


def test_other_refusals_stay() -> None:
    """A 400 about something else is Refused."""

    async def handler(asked: Asked) -> None:
        await asked.answer(b'{"error":{"message":"temperature must be positive","code":400}}', status=400)

    _, answer = ask(handler, Call(body={"messages": []}, seconds=PATIENCE, constraint=Constraint("json", None)))
    assert type(answer) is Refused


def test_unsupported_before_asking() -> None:
    """What vLLM cannot do costs no request."""
    server, answer = ask(whole, Call(body={"functions": [{"name": "f"}]}, seconds=PATIENCE))
    assert isinstance(answer, Unsupported)
    assert not server.asked


def test_live() -> None:
    """Live, usage is asked for, and events come as they are."""

    async def handler(asked: Asked) -> None:
        await asked.stream(*STREAM)

    server, answer = ask(handler, Call(body={"messages": []}, seconds=PATIENCE, live=True))
    assert answer == "hello"
    assert server.asked[0].json["stream_options"] == {"include_usage": True}
