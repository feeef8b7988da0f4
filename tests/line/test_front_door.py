"""One request, all the way, over a real socket."""

import asyncio
from pathlib import Path

import orjson

from tests.backends.upstream import Asked, upstream
from tests.serving import serving

CONFIG = """
backends:
  cloud: {{kind: openai, base_url: "{url}/v1", model: big, cloud: true, price: {{input: 1, output: 2}}}}
router:
  use: {{kind: rules}}
  default: general
routes:
  general: {{ladder: [cloud], mode: enforce}}
models:
  weir: {{use: routed}}
  gpt-*: {{use: routed, through: cloud}}
"""
ANSWER = {
    "id": "up-1",
    "object": "chat.completion",
    "created": 1,
    "model": "big",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}
HELLO = {"model": "weir", "messages": [{"role": "user", "content": "hi"}]}


async def _answer(asked: Asked) -> None:
    await asked.answer(orjson.dumps(ANSWER))


def test_one_request(tmp_path: Path) -> None:
    """An unchanged request comes back as OpenAI would answer it, and its Record knows what it cost."""

    async def run() -> None:
        async with upstream(_answer) as up, serving(CONFIG.format(url=up.url), tmp_path) as served:
            response = await served.chat(HELLO)
            body = response.json()
            assert response.status_code == 200
            assert body["choices"][0]["message"]["content"] == "hello"
            assert body["model"] == "weir"
            assert response.headers["x-weir-rung"] == "cloud"
            record = served.record(response)
            assert record.outcome == "direct"
            assert abs(record.cost - 20e-6) < 1e-12

    asyncio.run(run())
