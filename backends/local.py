"""`kind: local`: a small generative model in process, without vLLM: transformers, and Outlines to hold it to a form (extra `[local]`).

For a specialist of some million parameters, for development, and for machines without a server. One answer at a time (`queue` wait), in a
worker process that the lifespan starts: no torch in the gateway, and none in its environment when `python` names another one. Schemas,
choices, regular expressions, grammars and forced tool calls are enforced token by token; log-probabilities are vLLM's (after the mask).
"""

import codecs
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import msgspec
import orjson
from pydantic import Field

from backends import _local_folder as folders
from backends._local_client import LocalWorker
from backends._local_hermes import Hermes
from backends._local_order import Mode, Order, order
from backends.base import Backend, BackendConfig, BackendResources
from wire.hashing import short_hash
from wire.types import Call, Chunk, Json

_NEEDS = ("torch", "transformers", "outlines", "llguidance")


class LocalConfig(BackendConfig):
    """`kind: local`."""

    model: Path = Field(
        description="a Hugging Face folder: config.json, *.safetensors, tokenizer.json and a chat template"
    )
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: as the weights are stored"
    )
    threads: int = Field(
        1,
        ge=1,
        description="threads of the worker; for some million parameters one is fastest, for some hundred million one per core",
    )
    max_tokens: int = Field(
        1024, ge=1, description="tokens of an answer: the most, and how many when the caller names none"
    )
    queue: int = Field(16, ge=1, description="answers that may wait for their turn; more are overload, and escalate")
    tool_format: Literal["hermes"] = Field(
        "hermes",
        description='how the model writes a call: <tool_call>\\n{"name": ..., "arguments": {...}}\\n</tool_call>',
    )
    python: Path | None = Field(
        None, description="interpreter of an environment that has the extra [local] (make local); default: Weir's own"
    )


class Local:
    """See the module."""

    Config = LocalConfig

    def __init__(self, name: str, config: LocalConfig, resources: BackendResources) -> None:
        """Raises ValueError, naming the field, for a folder that holds no model and an interpreter without the extra."""
        folder = resources.resolve(config.model)
        self.name = name
        self.config = config
        self.digest = folders.digest(folder)
        # An interpreter of a virtual environment is a link: followed, it would be another interpreter.
        python = sys.executable if config.python is None else str(resources.resolve(config.python).absolute())
        told = {
            "model": str(folder.resolve()),
            "device": config.device,
            "dtype": config.dtype,
            "threads": config.threads,
        }

        def make() -> LocalWorker:
            _check(python, own=config.python is None)
            command = (python, "-m", "backends._local_worker", orjson.dumps(told).decode())
            return LocalWorker(name, command, waiting=config.queue, threads=config.threads)

        self.worker = resources.kept(("local", short_hash([name, python, told, config.queue, self.digest])), make)
        """Outlives a reload that changes nothing about it."""
        self._tended = False
        self.facts: Mapping[str, Any] = {"model": config.model.name, "digest": self.digest, "device": config.device}

    async def tend(self) -> None:
        """Has the worker running. Raises Broken each time that it is lost (it is started anew by itself)."""
        self.worker.start(anew=not self._tended)
        self._tended = True
        await self.worker.wrong()

    async def retire(self, after: Sequence[Backend]) -> None:
        """The worker ends with its last answer, unless another backend still uses it."""
        if not any(getattr(backend, "worker", None) is self.worker for backend in after):
            self.worker.retire()

    @property
    def unready(self) -> str:
        """Why it cannot be asked at the moment; "" when it can."""
        return "" if self.worker.ready or not self._tended else self.worker.trouble

    async def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        """Answer `call`. Raises BackendError.

        While its worker starts a gateway goes to the next rung; where nobody tends it (a command that asks a few questions) it is started
        and waited for.
        """
        if not self._tended:
            self.worker.start()
            await self.worker.settled(call.seconds)
        told, mode = order(call, self.config.max_tokens, self.worker.special)
        choice = _Choice(told, mode, 0)
        spent = [0, 0]
        async with aclosing(self.worker.answer(msgspec.to_builtins(told), call.seconds, call.live)) as events:
            async for event in events:
                if event["event"] == "tokens":
                    for chunk in choice.tokens(event["tokens"]):
                        yield chunk
                    continue
                spent = [event["prompt"], spent[1] + event["completion"]]
                last = choice.index == told.n - 1
                for chunk in choice.finish(event, _usage(*spent) if last else None):
                    yield chunk
                choice = _Choice(told, mode, choice.index + 1)


class _Choice:
    """One choice of an answer: what the worker says of it > Chunks."""

    def __init__(self, told: Order, mode: Mode, index: int) -> None:
        self.index = index
        self._live = told.live
        self._scored = told.top > 0
        self._mode = mode
        self._hermes = None if mode == "none" else Hermes(lambda: f"call_{uuid4().hex[:24]}")
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._most_held = max((len(stop.encode()) for stop in told.stop), default=1) - 1
        self._held = b""
        self._length = 0
        self._scores: list[dict[str, Any]] = []
        self._started = False

    def tokens(self, tokens: list[list[Any]]) -> list[Chunk]:
        """What may be said of them by now: a stop string or an envelope that has only begun waits."""
        return [self._chunk(delta) for delta in self._deltas(self._taken(tokens))]

    def finish(self, event: Mapping[str, Any], usage: Json | None) -> list[Chunk]:
        """The rest. A choice that is not live is one chunk with its whole message."""
        deltas = self._deltas(self._taken(event["tokens"], event["kept"], end=True), end=True)
        reason = event["finish"]
        if reason == "stop" and self._hermes is not None and self._hermes.calls and self._mode != "named":
            reason = "tool_calls"  # a forced call of one tool ends with `stop`, as OpenAI's and vLLM's do
        if not self._live:
            deltas = [_message(deltas)]
        found = [self._chunk(delta) for delta in deltas[:-1]]
        return [*found, self._chunk(deltas[-1] if deltas else {}, reason, usage)]

    def _taken(self, tokens: list[list[Any]], kept: int | None = None, end: bool = False) -> str:
        """The text that `tokens` complete. kept: bytes of the whole answer that stand before a stop string."""
        for text, *score in tokens:
            self._held += text.encode("latin-1")
            if score:
                self._scores.append(_score(text, *score))
        if kept is not None:
            self._held = self._held[: max(0, kept - self._length)]
        ready = len(self._held) if end else max(0, len(self._held) - self._most_held)
        said, self._held = self._held[:ready], self._held[ready:]
        self._length += len(said)
        return self._decode(said, end)

    def _deltas(self, text: str, end: bool = False) -> list[dict[str, Any]]:
        if self._hermes is None:
            return [{"content": text}] if text else []
        return [*self._hermes.feed(text), *(self._hermes.close() if end else [])]

    def _chunk(self, delta: dict[str, Any], finish: str | None = None, usage: Json | None = None) -> Chunk:
        """With the log-probabilities of all tokens that were not told yet: also of those whose text waits, or is an envelope's."""
        scores = None
        if self._scored and (self._scores or finish):
            scores, self._scores = {"content": self._scores}, []
        if not self._started:
            delta, self._started = {"role": "assistant", **delta}, True
        return Chunk(choice=self.index, delta=delta, finish=finish, logprobs=scores, usage=usage)


def _message(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    """Deltas put together."""
    content = "".join(delta.get("content", "") for delta in deltas)
    calls: list[dict[str, Any]] = []
    for delta in deltas:
        for part in delta.get("tool_calls", ()):
            if part["index"] == len(calls):
                calls.append({**part, "function": dict(part["function"])})
            else:
                calls[part["index"]]["function"]["arguments"] += part["function"]["arguments"]
    return {"content": content, "tool_calls": calls} if calls else {"content": content}


def _score(text: str, logprob: float, top: list[list[Any]]) -> dict[str, Any]:
    """OpenAI's entry of one token."""
    return {**_token(text, logprob), "top_logprobs": [_token(*entry) for entry in top]}


def _token(text: str, logprob: float) -> dict[str, Any]:
    data = text.encode("latin-1")
    return {"token": data.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(data)}


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _check(python: str, own: bool) -> None:
    if own:
        lacking = [name for name in _NEEDS if find_spec(name) is None]
        if lacking:
            raise ValueError(
                f"Weir's environment lacks {', '.join(lacking)}: install the extra [local], or let `python:` name an "
                "interpreter that has it (`make local` sets one up: .venv-local/bin/python)"
            )
    elif not Path(python).is_file():
        raise ValueError(f"python: there is no {python}; `make local` sets one up: .venv-local/bin/python")
