"""An answer of which all has come, for a caller who wants it whole."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from backends.base import BackendConfig
from tests.serving import serving
from wire.types import Call, Chunk

CONFIG = """
backends: {{big: {{kind: "tests.line.test_whole:Told", cloud: true}}}}
router: {{use: {{kind: rules}}, default: general}}
routes: {{general: {{ladder: [big], mode: {mode}}}}}
models: {{weir: routed}}
"""
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
TOKEN = {"token": "a", "logprob": -0.1, "bytes": None, "top_logprobs": [{"token": "b", "logprob": -2.0, "bytes": None}]}
CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
FIRST = {"role": "assistant", "content": "hello"}


class Told:
    """It answers with TELLS."""

    class Config(BackendConfig):
        pass

    tells: list[Chunk]

    def __init__(self, name: str, config: Config, resources: object) -> None:
        pass

    async def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        for chunk in self.tells:
            yield chunk


def spoken(text: str | None = "hello", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, "refusal": None, **more}


@pytest.mark.parametrize("mode", ["enforce", "observe"])
@pytest.mark.parametrize(
    ("tells", "choices"),
    [
        ([Chunk(delta=FIRST, finish="stop", usage=USAGE)], [(spoken(), "stop", None)]),
        (
            [
                Chunk(delta=FIRST, extra={"system_fingerprint": "fp"}),
                Chunk(delta={"content": "!"}, finish="length"),
                Chunk(usage=USAGE),
            ],
            [(spoken("hello!"), "length", None)],
        ),
        (
            [Chunk(1, {"content": "other"}, "stop"), Chunk(0, FIRST, "stop", usage=USAGE)],
            [(spoken(), "stop", None), (spoken("other"), "stop", None)],
        ),
        (
            [Chunk(delta={"tool_calls": [CALL]}, finish="tool_calls", usage=USAGE)],
            [(spoken(None, tool_calls=[{key: CALL[key] for key in ("id", "type", "function")}]), "tool_calls", None)],
        ),
        (
            [Chunk(delta=FIRST, finish="stop", usage=USAGE, logprobs={"content": [TOKEN]})],
            [(spoken(), "stop", {"content": [{**TOKEN, "top_logprobs": []}], "refusal": None})],
        ),
        ([Chunk(delta=FIRST, finish="stop", usage=USAGE, native={"own": "words"})], [(spoken(), "stop", None)]),
        ([Chunk(delta=FIRST, finish="stop")], [(spoken(), "stop", None)]),
    ],
)
def test_it_is_told_as_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, tells: list[Chunk], choices: list[Any]
) -> None:
    """Every choice, once; log-probabilities without the alternatives that nobody asked for; and usage also where nobody counted."""
    monkeypatch.setattr(Told, "tells", tells, raising=False)

    async def run() -> None:
        async with serving(CONFIG.format(mode=mode), tmp_path) as served:
            asked = {"model": "weir", "messages": [{"role": "user", "content": "hi"}], "logprobs": True}
            response = await served.chat(asked)
            body = response.json()
            told = [(choice["message"], choice["finish_reason"], choice["logprobs"]) for choice in body["choices"]]
            assert told == choices
            record = served.record(response)
            counted = any(chunk.usage for chunk in tells)
            assert record.tokens.estimated is not counted
            assert body["usage"]["total_tokens"] == record.tokens.input + record.tokens.output > 0
            assert body.get("system_fingerprint") == ("fp" if tells[0].extra else None)
            assert (record.tool_calls, record.seconds.first_byte is not None) == (
                len(choices[0][0].get("tool_calls", ())),
                True,
            )

    asyncio.run(run())
