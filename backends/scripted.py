"""Plays a script: stands in for a cloud LLM in demos and tests, and says so (`meta: {"simulated": True}` on every chunk).

It writes the bytes that a real server would write and reads them like one (`wire.openai.Reader`), so a script can also play
what servers do wrong, byte for byte. Whatever is left to chance is drawn from `seed` and the user's text: the same request
gets the same delay, the same failure and the same answer in every run, whoever else asks at the same time.
"""

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, Literal

import orjson
from msgspec.structs import replace
from pydantic import Field

from backends._instance import instance
from backends._script import Answer, Entry, Table, Turn, as_bytes, key_of, last_user_text, load, text_of
from backends.base import BackendConfig, BackendResources
from wire import failures
from wire.errors import BackendError, TimedOut, Unsupported
from wire.openai import Reader
from wire.types import Call, Chunk

_FAILURES = {"overload": (429, "rate_limit_exceeded"), "backend_error": (500, "server_error")}


class Delay(Table):
    median: float = Field(0.0, ge=0, description="seconds to the first byte")
    sigma: float = Field(0.0, ge=0, description="spread of its logarithm")


class Fail(Table):
    share: float = Field(ge=0, le=1, description="of the requests")
    reason: Literal["overload", "timeout", "backend_error", "refused"] = Field(
        "backend_error", description="overload: 429; timeout: silence; backend_error: 500; refused: the model declines"
    )


class Noise(Table):
    share: float = Field(ge=0, le=1, description="of the answers")
    answers: tuple[str, ...] = Field((), description="wrong answers to choose from")


class ScriptedConfig(BackendConfig):
    """`kind: scripted`."""

    model: str = "scripted"
    script: dict[str, str | Entry] | Path = Field(
        {}, description="user text, or the first 16 hex digits of its SHA-256 > answer; or a JSON file of that"
    )
    default: str = Field(
        "echo", description="echo, first_enum (a small value that fits the schema) or the answer itself"
    )
    delay: Delay = Delay()
    per_token: float = Field(0.0, ge=0, description="seconds per token after the first byte")
    chunk_chars: int = Field(16, ge=1, description="characters of one event of a stream")
    seed: int = 0
    fail: Fail = Fail(share=0)
    noise: Noise = Noise(share=0)


class Scripted:
    """See the module."""

    Config = ScriptedConfig

    def __init__(self, name: str, config: ScriptedConfig, resources: BackendResources) -> None:
        """Raises ValueError when the script file cannot be read."""
        self.name = name
        self.config = config
        self.facts: Mapping[str, Any] = {"simulated": True, "model": config.model}
        if isinstance(config.script, Path):
            self._script = load(resources.resolve(config.script))
        else:
            self._script = dict(config.script)
        self._asked: dict[str, int] = {}  # only for texts of the script: as many as it has entries at most

    async def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        """Answer `call` from the script. Raises BackendError."""
        now = asyncio.get_running_loop().time
        until = now() + call.seconds
        text = call.text or last_user_text(call.body)
        chance = random.Random(f"{self.config.seed}:{text}")
        drawn = chance.lognormvariate(math.log(self.config.delay.median or 1.0), self.config.delay.sigma)
        failed, noisy = chance.random() < self.config.fail.share, chance.random() < self.config.noise.share
        turn = self._turn(text, call)
        if noisy and turn.content is not None:
            turn = turn.model_copy(update={"content": self._wrong(chance, text_of(turn.content))})
        if failed and self.config.fail.reason == "refused":
            turn = Turn(refusal="I can't help with that.")
        delay = turn.delay if turn.delay is not None else (drawn if self.config.delay.median else 0.0)
        if failed and self.config.fail.reason == "timeout":
            delay = math.inf
        await self._wait(delay, until - now(), "first_byte")
        if failed and self.config.fail.reason in _FAILURES:
            raise self._failure(*_FAILURES[self.config.fail.reason])
        head = {"x-request-id": f"scripted-{key_of(text)}", **turn.headers}
        body = b"" if turn.body is None else as_bytes(turn.body)
        if turn.status >= 300:
            raise failures.failure(self.name, turn.status, body, {"content-type": "application/json", **head})
        answer = Answer(self.config.model, self.config.chunk_chars, turn, call, text)
        kind = "text/event-stream" if answer.streams else "application/json"
        reader = Reader(self.name, {"content-type": kind, **head}, faithful=bool(call.raw))
        for tokens, block in answer.blocks():
            if self.config.per_token and tokens:
                # Once a stream has begun, how long it lasts is the caller's affair.
                left = math.inf if call.live else until - now()
                await self._wait(tokens * self.config.per_token, left, "total")
            for chunk in reader.feed(block):
                yield _marked(chunk)
        for chunk in reader.close():
            yield _marked(chunk)

    def _turn(self, text: str, call: Call) -> Turn:
        key = text if text in self._script else key_of(text)
        entry: str | Turn | None = self._script.get(key)
        if entry is None:
            return Turn(content=self._default(text, call))
        if isinstance(entry, Entry) and entry.turns:
            asked = self._asked[key] = self._asked.get(key, 0) + 1
            entry = entry.turns[min(asked, len(entry.turns)) - 1]
        return Turn(content=entry) if isinstance(entry, str) else entry

    def _default(self, text: str, call: Call) -> str:
        default = self.config.default
        if default == "first_enum":
            if call.constraint is not None and call.constraint.kind == "choice":
                return str(call.constraint.value[0])
            schema = _schema(call)
            if schema is not None:
                try:
                    return orjson.dumps(instance(schema)).decode()
                except (ValueError, TypeError) as exc:
                    raise Unsupported(f"{self.name}: no value found for this schema") from exc
        return text if default in ("echo", "first_enum") else default

    def _wrong(self, chance: random.Random, right: str) -> str:
        others = [answer for answer in self.config.noise.answers if answer != right]
        return chance.choice(others) if others else right

    def _failure(self, status: int, code: str) -> BackendError:
        body = orjson.dumps({"error": {"message": "scripted failure", "type": code, "param": None, "code": code}})
        return failures.failure(self.name, status, body, {"content-type": "application/json", "retry-after": "1"})

    async def _wait(self, seconds: float, left: float, phase: str) -> None:
        if seconds > left:
            await asyncio.sleep(max(0.0, left))
            raise TimedOut(f"{self.name}: the script is slower than the time it had", phase=phase)
        if seconds > 0:
            await asyncio.sleep(seconds)


def _marked(chunk: Chunk) -> Chunk:
    return replace(chunk, meta={**(chunk.meta or {}), "simulated": True})


def _schema(call: Call) -> Any:
    if call.constraint is not None:
        return call.constraint.value if call.constraint.kind == "schema" else None
    asked = call.body.get("response_format")
    inner = asked.get("json_schema") if isinstance(asked, Mapping) else None
    return inner.get("schema") if isinstance(inner, Mapping) else None
