"""A small model whose errors are known: it is right with the probability that its one free token has.

`kind: tests.calibrate.small:Small`. A request is a number: an even one is an `a`, an odd one a `b`. What it says hangs on the number and
the model's name only.
"""

import math
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

from backends.base import BackendConfig
from wire.errors import Broken, Unsupported
from wire.hashing import portion
from wire.types import Call, Chunk

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"label": {"enum": ["a", "b"]}},
    "required": ["label"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "label", "schema": SCHEMA}}
ASKED: Counter[str] = Counter()
"""Model > requests; tests clear it."""


def truth(number: int) -> str:
    return "ab"[number % 2]


def sureness(model: str, number: int) -> float:
    """In [0.5, 1); most are near 1."""
    return 1 - max(1e-6, 0.5 * portion("sure", model, str(number)) ** 4)


def says(model: str, number: int) -> str:
    right = portion("right", model, str(number)) < sureness(model, number)
    return truth(number if right else number + 1)


def asks(number: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": str(number)}], "response_format": FORM}


def case(number: int, **more: Any) -> dict[str, Any]:
    return {"request": asks(number), "expected": {"label": truth(number)}, **more}


def token(text: str, logprob: float, *others: tuple[str, float]) -> dict[str, Any]:
    top = [{"token": text, "logprob": logprob}, *({"token": t, "logprob": p} for t, p in others)]
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": top}


def tokens(label: str, probability: float) -> list[dict[str, Any]]:
    """As vLLM reports them under a grammar: what was forced has a masked second candidate."""
    other = "b" if label == "a" else "a"
    masked = ("x", -9999.0)
    return [
        token('{"label":"', 0.0, masked),
        token(label, math.log(probability), (other, math.log(1 - probability))),
        token('"}', 0.0, masked),
    ]


class Small:
    class Config(BackendConfig):
        model: str = "one"
        own: bool = False
        """It says a probability itself, as an encoder does."""
        blind: bool = False
        """No log-probabilities."""
        broken: tuple[int, ...] = ()
        """Numbers at which its server breaks."""
        invalid: tuple[int, ...] = ()
        unsupported: tuple[int, ...] = ()

    def __init__(self, name: str, config: Config, resources: object) -> None:
        self.config = config

    async def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        config, number = self.config, int(call.text)
        ASKED[config.model] += 1
        if number in config.broken:
            raise Broken("the server is away")
        if number in config.unsupported:
            raise Unsupported("not this one")
        label = "z" if number in config.invalid else says(config.model, number)
        sure = sureness(config.model, number)
        yield Chunk(
            delta={"role": "assistant", "content": f'{{"label":"{label}"}}'},
            finish="stop",
            logprobs=None if config.own or config.blind or not call.logprobs else {"content": tokens(label, sure)},
            probability=sure if config.own else None,
        )


class Top(Small):
    """Always right."""

    async def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        ASKED["top"] += 1
        yield Chunk(delta={"role": "assistant", "content": f'{{"label": "{truth(int(call.text))}"}}'}, finish="stop")
