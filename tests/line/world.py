"""A small model and a cloud, both played by the test, with a gateway between them and the test's client."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from tests.backends.upstream import Asked, Upstream, hang, upstream
from tests.serving import Served, serving

Handler = Callable[[Asked], Awaitable[None]]

CONFIG = """
backends:
  small: {{kind: vllm, base_url: "{small}/v1", model: slm, timeout: 40}}
  cloud: {{kind: openai, base_url: "{cloud}/v1", model: big, cloud: true, timeout: 40, price: {{input: 1, output: 2}}}}
  keyless: {{kind: openai, base_url: "{cloud}/v1", api_key: "${{WEIR_TEST_UNSET}}", model: big, cloud: true,
             price: {{input: 1, output: 2}}}}
  {backends}
router:
  use: {{kind: rules}}
  default: general
routes:
  labels: {{match: {{schema_name: label}}, ladder: [small, cloud], mode: enforce}}
  strict: {{match: {{schema_name: strict}}, ladder: [small, cloud], mode: enforce, strict: true}}
  alone: {{match: {{schema_name: alone}}, ladder: [small, keyless], mode: enforce}}
  watched: {{match: {{schema_name: watched}}, ladder: [small, cloud]}}
  tooled: {{match: {{tools: true}}, ladder: [small, cloud], mode: enforce}}
  general: {{ladder: [cloud], mode: enforce}}
  {routes}
models:
  weir: {{use: routed}}
  gpt-*: {{use: routed, through: cloud}}
  straight: {{use: backend/cloud}}
server: {{deadline: {deadline}, idle: 40, {server}}}
{more}
"""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"label": {"enum": ["a", "b"]}},
    "required": ["label"],
    "additionalProperties": False,
}
GOOD = '{"label":"a"}'
BAD = '{"label":"z"}'


def completion(content: str | None, finish: str = "stop", **message: Any) -> bytes:
    """A chat.completion as an upstream sends it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return orjson.dumps(
        {
            "id": "up-1",
            "object": "chat.completion",
            "created": 1,
            "model": "served",
            "choices": [choice],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }
    )


def says(content: str | None, finish: str = "stop", **message: Any) -> Handler:
    """An upstream that answers so, as a stream when it was asked for one."""

    async def handler(asked: Asked) -> None:
        if not asked.json.get("stream"):
            await asked.answer(completion(content, finish, **message))
            return
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": piece} for piece in (content or "")]
        deltas += [message] if message else []
        events: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        events.append({"index": 0, "delta": {}, "finish_reason": finish})
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        blocks = [sse({"id": "up-1", "created": 1, "model": "served", "choices": [event]}) for event in events]
        blocks.append(sse({"id": "up-1", "created": 1, "model": "served", "choices": [], "usage": usage}))
        await asked.stream(*blocks, b"data: [DONE]\n\n")

    return handler


def fails(status: int, message: str = "no", **headers: str) -> Handler:
    async def handler(asked: Asked) -> None:
        error = {"error": {"message": message, "type": "x", "param": None, "code": None}}
        await asked.answer(orjson.dumps(error), status, headers)

    return handler


def sse(event: Any) -> bytes:
    return b"data: " + orjson.dumps(event) + b"\n\n"


def asks(name: str = "label", **more: Any) -> dict[str, Any]:
    """A request under a schema, which the routes tell apart by its name."""
    form = {"type": "json_schema", "json_schema": {"name": name, "schema": SCHEMA}}
    return {"model": "weir", "messages": [{"role": "user", "content": "which?"}], "response_format": form, **more}


def hello(**more: Any) -> dict[str, Any]:
    return {"model": "weir", "messages": [{"role": "user", "content": "hi"}], **more}


class World:
    def __init__(self, served: Served, small: Upstream, cloud: Upstream, other: Upstream) -> None:
        self.served = served
        self.small = small
        self.cloud = cloud
        self.other = other


@asynccontextmanager
async def world(
    folder: Path,
    small: Handler,
    cloud: Handler,
    *,
    routes: str = "",
    server: str = "",
    more: str = "",
    deadline: str = "45",
    other: Handler | None = None,
) -> AsyncIterator[World]:
    """other: a second small model, `other`, beside the first. The time limits are for slow machines: a test of one sets its own."""
    async with upstream(small) as lower, upstream(cloud) as upper, upstream(other or hang) as beside:
        second = f'other: {{kind: vllm, base_url: "{beside.url}/v1", model: slm2, timeout: 40}}' if other else ""
        text = CONFIG.format(
            small=lower.url,
            cloud=upper.url,
            routes=routes,
            server=server,
            more=more,
            deadline=deadline,
            backends=second,
        )
        async with serving(text, folder) as served:
            yield World(served, lower, upper, beside)
