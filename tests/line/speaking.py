"""A small model that speaks token by token, with log-probabilities, and the calibration of a route that listens to them."""

import asyncio
from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Any

import orjson

from backends.vllm import VllmConfig
from gateway.confidence.outlook import hashed
from tests.backends.upstream import Asked
from tests.line.world import Handler, completion, sse

Piece = tuple[str, float] | asyncio.Event
"""A token and its probability; or: wait here."""


BEFORE, AFTER = '<tool_call>\n{"name": "f", "arguments": ', "}\n</tool_call>"
"""What a model of the Hermes format says around a call's arguments."""


def logprob(token: str, probability: float) -> dict[str, Any]:
    said = {"token": token, "logprob": log(probability), "bytes": list(token.encode())}
    rest = {"token": "~", "logprob": log(max(1 - probability, 1e-6)), "bytes": [126]}
    third = {"token": "#", "logprob": -20.0, "bytes": [35]}
    return {**said, "top_logprobs": [said, rest, third]}


def speaks(*pieces: Piece, finish: str = "stop", text: bool = True) -> Handler:
    """An upstream that says these tokens, streamed or whole, with log-probabilities when they were asked for. text=False: the pieces are
    the arguments of a call of `f`, and their log-probabilities come in events of their own, as vLLM sends them."""

    async def handler(asked: Asked) -> None:
        wanted = bool(asked.json.get("logprobs"))
        if not asked.json.get("stream"):
            await asked.answer(_whole(pieces, finish, wanted, text=text))
            return
        await asked.stream(_event({"role": "assistant", "content": ""}), end=False)
        if not text:
            await asked.chunk(_event({}, {"content": [logprob(BEFORE, 0.999)]} if wanted else None))
            await asked.chunk(_event(_call({"name": "f", "arguments": ""}, id="c1", type="function")))
        for piece in pieces:
            if isinstance(piece, asyncio.Event):
                await piece.wait()
                continue
            said = {"content": [logprob(*piece)]} if wanted else None
            if text:
                await asked.chunk(_event({"content": piece[0]}, said))
            else:
                await asked.chunk(_event({}, said))
                await asked.chunk(_event(_call({"arguments": piece[0]})))
        usage = {"prompt_tokens": 10, "completion_tokens": len(pieces), "total_tokens": 10 + len(pieces)}
        await asked.chunk(_event({}, {"content": [logprob(AFTER, 0.999)]} if wanted and not text else None, finish))
        await asked.chunk(sse({"id": "up-1", "choices": [], "usage": usage}))
        await asked.chunk(b"data: [DONE]\n\n")
        await asked.send(b"0\r\n\r\n")

    return handler


def _call(function: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "function": function, **more}]}


def _event(delta: dict[str, Any], logprobs: Any = None, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
    return sse({"id": "up-1", "created": 1, "model": "served", "choices": [choice]})


def _whole(pieces: Sequence[Piece], finish: str, wanted: bool, *, text: bool) -> bytes:
    told = [piece for piece in pieces if not isinstance(piece, asyncio.Event)]
    joined = "".join(token for token, _ in told)
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": joined}}
    answer = orjson.loads(completion(joined, finish) if text else completion(None, finish, tool_calls=[call]))
    if wanted:
        around = told if text else [(BEFORE, 0.999), *told, (AFTER, 0.999)]
        answer["choices"][0]["logprobs"] = {"content": [logprob(*piece) for piece in around]}
    return orjson.dumps(answer)


def label(probability: float, *waits: asyncio.Event, value: str = "a") -> list[Piece]:
    """`{"label":"a"}`, its value said with `probability`, then a wait for each event, then its end."""
    return [('{"label":"', 0.999), (value, probability), *waits, ('"}', 0.999)]


def calibrated(
    folder: Path,
    *,
    soft: float | None = None,
    collapsed: float | None = None,
    rule: str = "confidence",
    hopeless: str = "",
) -> str:
    """The `calibration:` of a route whose small rung must be 0.9 sure: its probability is that of its least likely value token. soft,
    collapsed: probabilities of such a token. hopeless: a word of requests that it never gets right."""
    point = {"coverage": 0.5, "regret": 0.0, "error": 0.0, "error_bound": 0.5}
    table = {
        "version": 2, "route": "sure", "rung": "small", "model": "slm", "adapter": "", "rule": rule, "n": 1000,
        "model_digest": VllmConfig(kind="vllm", model="slm").digest(), "method": "by hand", "risk": 0.01,
        "confidence": 0.95,
        "curve": [
            {"threshold": 0.0, "regret_bound": 0.5, **point},
            {"threshold": 0.9, "regret_bound": 0.005, **point},
        ],
        "scorer": {"names": ["low"], "mean": [0.0], "scale": [1.0], "weights": [1.0], "intercept": 0.0},
        "outlook": _steps(soft, hopeless) if soft is not None else None,
        "collapsed": log(collapsed) if collapsed is not None else None,
        "companion": {"digest": VllmConfig(kind="vllm", model="slm2").digest(), "model": "slm2", "adapter": ""},
    }  # fmt: skip
    path = folder / "calibration.json"
    path.write_bytes(orjson.dumps(table))
    return str(path)


def _steps(soft: float, hopeless: str) -> dict[str, Any]:
    """No doubt before the first token; nothing but doubt once a token was less likely than `soft`."""
    lows = [[1 - soft, -6.0], [1 - soft + 1e-9, 6.0]]
    words = dict.fromkeys(hashed(hopeless), 12.0)
    return {"intercept": -6.0, "words": words, "kept": 0.0, "lows": lows, "starts": {"0.03": 0.9}}
