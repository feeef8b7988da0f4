"""A small model, Anthropic and OpenAI, all played by the test, with a gateway between them and Anthropic's own client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from anthropic import AsyncAnthropic

from tests.backends.upstream import Handler, Upstream, upstream
from tests.line.world import says
from tests.messages.claude import ANSWER, played
from tests.serving import Served, serving
from tests.waiting import PATIENCE

CONFIG = """
backends:
  small: {{kind: vllm, base_url: "{small}/v1", model: slm, timeout: 40, context_length: 1000}}
  claude: {{kind: anthropic, base_url: "{claude}", api_key: sk-rung, model: claude-top, timeout: 40, price: {{input: 1, output: 2}}}}
  gpt: {{kind: openai, base_url: "{gpt}/v1", model: gpt-top, timeout: 40, price: {{input: 1, output: 2}}}}
  caller: {{kind: anthropic, base_url: "{claude}", auth: passthrough, price: {{input: 1, output: 2}}}}
  caller-gpt: {{kind: openai, base_url: "{gpt}/v1", auth: passthrough, price: {{input: 1, output: 2}}}}
router:
  use: {{kind: rules}}
  default: general
routes:
  labels: {{match: {{schema_name: label}}, ladder: [small, claude], mode: enforce}}
  labels-gpt: {{match: {{schema_name: label-gpt}}, ladder: [small, gpt], mode: enforce}}
  strict: {{match: {{schema_name: strict}}, ladder: [small, claude], mode: enforce, strict: true}}
  tooled: {{match: {{tools: true}}, ladder: [small, claude], mode: enforce}}
  general: {{ladder: [claude], mode: enforce}}
  gpt: {{ladder: [gpt], mode: enforce}}
  home: {{ladder: [small], mode: enforce}}
  own: {{ladder: [caller], mode: enforce}}
  own-gpt: {{ladder: [caller-gpt], mode: enforce}}
models:
  weir: {{use: routed}}
  claude-*: {{use: routed, through: claude}}
  straight: {{use: backend/claude}}
server: {{deadline: 45, idle: 40, {server}}}
{more}
"""

SCHEMA: dict[str, Any] = {
    "title": "label",
    "type": "object",
    "properties": {"label": {"enum": ["a", "b"]}},
    "required": ["label"],
    "additionalProperties": False,
}
GOOD = '{"label":"a"}'
BAD = '{"label":"z"}'
TOOL: dict[str, Any] = {
    "name": "f",
    "description": "does f",
    "input_schema": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
}


def hello(**more: Any) -> dict[str, Any]:
    return {"model": "weir", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}], **more}


def asks(title: str = "label", **more: Any) -> dict[str, Any]:
    """A request under a schema, which the routes tell apart by its title."""
    form = {"type": "json_schema", "schema": {**SCHEMA, "title": title}}
    return hello(output_config={"format": form}, **more)


def keyed(key: str) -> str:
    return f'access: {{keys: [{{name: agent, hash: "sha256:{sha256(key.encode()).hexdigest()}"}}]}}'


class World:
    def __init__(self, served: Served, small: Upstream, claude: Upstream, gpt: Upstream) -> None:
        self.served = served
        self.small = small
        self.claude = claude
        self.gpt = gpt

    async def post(self, body: Any, path: str = "/v1/messages", **headers: str) -> Any:
        """The HTTP answer itself."""
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.served.client.post(path, json=body, headers=told)


@asynccontextmanager
async def world(
    folder: Path,
    *,
    small: Handler | None = None,
    claude: Handler | None = None,
    gpt: Handler | None = None,
    server: str = "",
    more: str = "",
) -> AsyncIterator[World]:
    lower, anthropic, openai = small or says("never"), claude or played(ANSWER), gpt or says("never")
    async with upstream(lower) as low, upstream(anthropic) as top, upstream(openai) as other:
        text = CONFIG.format(small=low.url, claude=top.url, gpt=other.url, server=server, more=more)
        async with serving(text, folder) as served:
            yield World(served, low, top, other)


@asynccontextmanager
async def client(w: World, **settings: Any) -> AsyncIterator[Any]:
    """Anthropic's own client, which does not retry, for the gateway. `Any`: tests write requests as plain tables."""
    told = {"api_key": "sk-caller", "max_retries": 0, "timeout": PATIENCE, **settings}
    async with AsyncAnthropic(base_url=w.served.url, **told) as made:
        yield made
