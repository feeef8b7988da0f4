"""OpenAI's legacy completions, in both directions. Pure. Source: the OpenAI API specification 2.3.0, CreateCompletionRequest.

A completion goes to every rung as a chat of one user message, the prompt, and what comes back is written as a completion. So routing,
checks, confidence and escalation are those of chat, and a chat model answers the prompt rather than continuing it. What a chat cannot
do is a 400 with the way out: token ids, a `suffix`, `best_of` more than `n`, log-probabilities of an echoed prompt. One request holds
one prompt: each choice is one answer, judged and escalated by itself, and several prompts are several requests.

No `max_tokens` means no limit of ours, where OpenAI's specification says 16: an answer cut off there would fail its checks and escalate
every time, and a reasoning model would spend all of it before the first word.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from msgspec.structs import replace

from gateway.dialects import chat, fields
from gateway.dialects.base import Caller, Stamp
from gateway.fold import Fold
from wire.errors import WeirError
from wire.types import Asked, Chunk, Json

name = "completions"
schema_param = chat.schema_param

OWN = frozenset({"prompt", "suffix", "echo", "best_of", "logprobs"})
"""Fields that mean nothing, or something else, in a chat body."""
FOREIGN = ("messages", "tools", "tool_choice", "functions", "function_call")
"""Fields of chat whose answers a completion cannot hold."""
SPOKEN = ("content", "refusal")
"""Fields of a message that are its text here."""


# --- in ---------------------------------------------------------------------------------------------------------------------------


def understand(body: Any, raw: bytes, caller: Caller) -> Asked:
    """A request body (decoded JSON, and the bytes it came as) > Asked. Raises BadRequest."""
    if not isinstance(body, dict):
        raise fields.reject("body", f"the request body must be a JSON object, not {fields.kind(body)}")
    for field in FOREIGN:
        if body.get(field) is not None:
            raise _unsupported(field, f"'{field}' belongs to chat: POST it to /v1/chat/completions")
    prompt = _prompt(body.get("prompt"))
    shown = fields.integer(body, "logprobs", 0, 5)
    echo = fields.flag(body, "echo")
    if echo and shown is not None:
        raise _unsupported(
            "echo", "log-probabilities of the prompt cannot be had from chat models: leave out 'echo' or 'logprobs'"
        )
    if fields.text(body, "suffix"):
        raise _unsupported("suffix", "chat models cannot fill in before a 'suffix': describe the gap in the prompt")
    _best_of(body)
    told: dict[str, Any] = {key: value for key, value in body.items() if key not in OWN}
    told["messages"] = [{"role": "user", "content": prompt}]
    if shown is not None:
        told.update(logprobs=True, top_logprobs=shown)
    asked = chat.understand(told, raw, caller)
    return replace(asked, dialect=name, echo={"text": prompt if echo else "", "logprobs": shown})


def _prompt(given: Any) -> str:
    if given is None:
        raise fields.reject("prompt", "you must provide a 'prompt', a string")
    if isinstance(given, str):
        return given
    prompts = fields.items(given, "prompt")
    if not prompts:
        raise fields.reject("prompt", "'prompt' is empty: one prompt is needed")
    if isinstance(prompts[0], (int, list)):
        raise fields.reject(
            "prompt", "token ids cannot be read here, they belong to one model's tokenizer: send the prompt as a string"
        )
    if len(prompts) > 1:
        raise fields.reject(
            "prompt", f"'prompt' has {len(prompts)} entries: send one prompt per request (LangChain: batch_size=1)"
        )
    if not isinstance(prompts[0], str):
        raise fields.reject("prompt[0]", f"'prompt[0]' must be a string, not {fields.kind(prompts[0])}")
    return prompts[0]


def _best_of(body: Mapping[str, Any]) -> None:
    best = fields.integer(body, "best_of", 0, 20) or 0
    n = fields.integer(body, "n", 1, 128) or 1
    if best > n:
        raise _unsupported("best_of", "the best of several answers cannot be chosen here: leave out 'best_of'")
    if 0 < best < n:
        raise fields.reject("best_of", "'best_of' must not be smaller than 'n'")


def _unsupported(param: str, message: str) -> WeirError:
    return fields.reject(param, message, code="unsupported_parameter")


# --- out --------------------------------------------------------------------------------------------------------------------------


def whole(asked: Asked, stamp: Stamp, answer: Fold) -> bytes:
    """A text_completion."""
    choices = []
    for index, message, finish, logprobs in answer.messages() or [(0, {}, None, None)]:
        text = asked.echo["text"] + _text(message)
        choices.append(_choice(index, text, chat.finish_reason(finish, False, asked), _logprobs(logprobs, asked, 0)))
    return orjson.dumps({**answer.extra, **_base(stamp), "choices": choices, "usage": answer.usage or chat.NO_USAGE})


def writer(asked: Asked, stamp: Stamp) -> "Writer":
    return Writer(asked, stamp)


class Writer:
    """Chunks > text_completion events: the text as it comes, then one event per choice with its finish_reason, then usage if asked."""

    def __init__(self, asked: Asked, stamp: Stamp) -> None:
        self._asked = asked
        self._base: dict[str, Any] = _base(stamp)
        if asked.wants.usage:
            self._base["usage"] = None
        self._finish: dict[int, str | None] = {}
        """Choice > finish_reason, for every choice that has begun."""
        self._written: dict[int, int] = {}
        """Choice > characters of its tokens so far."""
        self._usage: Json | None = None
        self._extra: dict[str, Any] = {}

    def feed(self, chunk: Chunk) -> bytes:
        if chunk.usage is not None:
            self._usage = chunk.usage
        self._extra.update({key: value for key, value in (chunk.extra or {}).items() if isinstance(value, str)})
        text = _text(chunk.delta)
        logprobs = _logprobs(chunk.logprobs, self._asked, self._written.get(chunk.choice, 0))
        if not text and not logprobs and chunk.finish is None:
            return b""
        out = self._open(chunk.choice)
        if chunk.finish is not None:
            self._finish[chunk.choice] = chunk.finish
        if text or logprobs:
            if logprobs:
                said = sum(map(len, logprobs["tokens"]))
                self._written[chunk.choice] = self._written.get(chunk.choice, 0) + said
            out += self._event([_choice(chunk.choice, text, None, logprobs)])
        return out

    def end(self) -> bytes:
        out = b"" if self._finish else self._open(0)
        for index, finish in sorted(self._finish.items()):
            out += self._event([_choice(index, "", chat.finish_reason(finish, False, self._asked), None)])
        if self._asked.wants.usage:
            out += self._event([], usage=self._usage or chat.NO_USAGE)
        return out + chat.DONE

    def error(self, error: WeirError) -> bytes:
        return _sse(_error(error))

    def _open(self, index: int) -> bytes:
        """A choice begins with the prompt when that is to be echoed."""
        if index in self._finish:
            return b""
        self._finish[index] = None
        prompt = self._asked.echo["text"]
        return self._event([_choice(index, prompt, None, None)]) if prompt else b""

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return _sse({**self._extra, **self._base, "choices": choices, **more})


def error(error: WeirError) -> bytes:
    return orjson.dumps(_error(error))


def _error(error: WeirError) -> dict[str, Any]:
    """What was told of the one message was told of the prompt."""
    body = error.body()
    if str(body["error"]["param"]).startswith("messages"):
        body["error"]["param"] = "prompt"
    return body


def _base(stamp: Stamp) -> dict[str, Any]:
    return {"id": f"cmpl-{stamp.id}", "object": "text_completion", "created": stamp.created, "model": stamp.model}


def _choice(index: int, text: str, finish: str | None, logprobs: Json | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish}


def _text(message: Json) -> str:
    """A message's or delta's text. Reasoning has no place in a completion."""
    return "".join(value for key in SPOKEN if isinstance(value := message.get(key), str))


def _logprobs(given: Json | None, asked: Asked, start: int) -> dict[str, Any] | None:
    """Chat's log-probabilities in the older form: parallel lists, and per token a map of the likeliest ones, itself among them.
    `text_offset` counts characters of the answer from `start`."""
    shown = asked.echo["logprobs"]
    if shown is None or not given:
        return None
    told: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for entry in given.get("content") or ():
        token, value = entry.get("token") or "", entry.get("logprob")
        others = [other for other in entry.get("top_logprobs") or () if other.get("logprob") is not None]
        others.sort(key=lambda other: -other["logprob"])
        told["tokens"].append(token)
        told["token_logprobs"].append(value)
        told["top_logprobs"].append(
            {**{other.get("token") or "": other["logprob"] for other in others[:shown]}, token: value}
        )
        told["text_offset"].append(start)
        start += len(token)
    return told if told["tokens"] else None


def _sse(event: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(event) + b"\n\n"
