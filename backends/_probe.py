"""What a rung really enforces: a dozen small questions that no model would answer rightly of itself, and a ledger of what came of them.

A constraint that a server accepts and ignores looks like one that works until the model is wrong: older and newer vLLMs answer 200 to
fields that they do not know, proxies drop them, parsers differ. So the schema here asks for strings that no prompt names, the prompt
asks for something else, and it is asked three times with three seeds at temperature 1. An answer that was cut off decides nothing,
unless its start already breaks the rule.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

import orjson
from msgspec import Struct

from backends.base import CAPABILITIES, Finding, Ledger
from wire.errors import BackendError, Refused, Unsupported
from wire.types import Call, Chunk, Constraint

Ask = Callable[[Call], AsyncGenerator[Chunk, None]]

SECONDS = 20.0
"""For one question. All of them together: `MOST_SECONDS`."""
MOST_SECONDS = 120.0
TOKENS = 256
"""For one answer; the whole ledger costs 14 answers at most."""
TRIES = 3
FLOOR = -9000.0
"""vLLM gives -9999 to what the grammar has masked."""

_KINDS = ["qz7_vorn", "xk2_plim", "wj9_tarb"]
_LEVELS = [417, 902]
_CODE = "^[A-F]{4}-[0-9]{3}$"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "zq_kind": {"enum": _KINDS},
        "zq_code": {"type": "string", "pattern": _CODE},
        "zq_inner": {
            "type": "object",
            "properties": {"zq_level": {"enum": _LEVELS}, "zq_on": {"type": "boolean"}},
            "required": ["zq_level", "zq_on"],
            "additionalProperties": False,
        },
    },
    "required": ["zq_kind", "zq_code", "zq_inner"],
    "additionalProperties": False,
}
_TOOL = {
    "type": "function",
    "function": {"name": "zq_pick", "description": "Pick one.", "strict": True, "parameters": SCHEMA},
}
_NAMED = {"type": "function", "function": {"name": "zq_pick"}}
_PROMPT = [{"role": "user", "content": "Write two lines about the sea."}]


class _Said(Struct, frozen=True):
    """One answer, put together."""

    text: str
    calls: list[tuple[str, str]]
    """Name and arguments."""
    finish: str
    tokens: list[Mapping[str, Any]]
    chunks: int
    reasoning: bool


async def probe(ask: Ask, *, tools: bool = True) -> dict[str, Finding]:
    """The ledger of whoever answers `ask`, "unknown" for what nothing could be learned of. Raises BackendError when the rung does not
    answer at all, or no longer: then nothing is known."""
    found: dict[str, Finding] = dict.fromkeys(CAPABILITIES, "unknown")
    said: list[_Said] = []
    try:
        async with asyncio.timeout(MOST_SECONDS):
            await _answers(ask, found, said)
            await _constrained(ask, found, said)
            if tools:
                await _tools(ask, found, said)
    except TimeoutError:
        pass  # a slow rung: what is known by now is known
    if any(one.reasoning for one in said):
        found["reasoning"] = "enforced"
    elif any("<think>" in one.text for one in said):
        found["reasoning"] = "ignored"
    return found


def worst(ledgers: Iterable[Ledger]) -> dict[str, Finding]:
    """Of several replicas: a capability counts when all of them have it."""
    told = list(ledgers)
    ranks: tuple[Finding, ...] = ("refused", "ignored", "unknown", "enforced")
    return {
        name: min((one.get(name, "unknown") for one in told), key=ranks.index, default="unknown")
        for name in CAPABILITIES
    }


# -- questions ------------------------------------------------------------------------------------------------------


async def _answers(ask: Ask, found: dict[str, Finding], said: list[_Said]) -> None:
    said.append(await _say(ask, {"max_tokens": 8}))
    found["answers"] = "enforced"


async def _constrained(ask: Ask, found: dict[str, Finding], said: list[_Said]) -> None:
    schema = Constraint("schema", SCHEMA, strict=True, name="zq_answer")
    answers: list[_Said] = []

    async def thrice() -> list[bool | None]:
        for seed in range(TRIES):
            answers.append(await _say(ask, {"seed": seed}, constraint=schema, logprobs=True))
        return [_fits(one.text, one.finish) for one in answers]

    found["schema"] = await _judged(thrice)
    said += answers
    if answers:
        found["logprobs"] = _settle(_told(one) for one in answers)
        found["masked"] = _settle([_masked(answers)]) if found["logprobs"] == "enforced" else "unknown"

    async def live() -> list[bool | None]:
        one = await _say(ask, {"seed": TRIES}, constraint=schema, live=True)
        said.append(one)
        return [one.chunks > 1]

    found["stream"] = await _judged(live)

    async def choice() -> list[bool | None]:
        one = await _say(ask, {"seed": 1}, constraint=Constraint("choice", _KINDS))
        return [one.text in _KINDS]

    found["choice"] = await _judged(choice)

    async def regex() -> list[bool | None]:
        one = await _say(ask, {"seed": 1}, constraint=Constraint("regex", _CODE.strip("^$")))
        return [re.fullmatch(_CODE.strip("^$"), one.text) is not None]

    found["regex"] = await _judged(regex)


async def _tools(ask: Ask, found: dict[str, Finding], said: list[_Said]) -> None:
    fitting: list[bool | None] = []

    async def forced(choice: Any) -> list[bool | None]:
        """Until one try says something: arguments may be cut off, as whitespace is free in them."""
        for seed in range(TRIES):
            more = {"tools": [_TOOL], "tool_choice": choice, "parallel_tool_calls": False, "seed": seed}
            one = await _say(ask, more)
            said.append(one)
            if one.calls:
                fitting.append(_fits(one.calls[0][1], one.finish))
                return [one.calls[0][0] == "zq_pick"]
            if one.finish != "length":
                return [False]
        return [None]

    found["tool_required"] = await _judged(lambda: forced("required"))
    found["tool_named"] = await _judged(lambda: forced(_NAMED))
    found["tool_arguments"] = _settle(fitting)

    async def auto() -> list[bool | None]:
        said.append(await _say(ask, {"tools": [_TOOL], "tool_choice": "auto", "max_tokens": 8}))
        return [True]

    found["tool_auto"] = await _judged(auto)


async def _say(ask: Ask, more: Mapping[str, Any], **call: Any) -> _Said:
    body = {"messages": _PROMPT, "temperature": 1.0, "max_tokens": TOKENS, **more}
    text, calls, finish, reasoning = "", dict[int, list[str]](), "", False
    tokens: list[Mapping[str, Any]] = []
    count = 0
    async with aclosing(ask(Call(body=body, seconds=SECONDS, **call))) as stream:
        async for chunk in stream:
            count += 1
            delta = chunk.delta
            text += delta.get("content") or ""
            finish = chunk.finish or finish
            reasoning = reasoning or bool(delta.get("reasoning") or delta.get("reasoning_content"))
            for tool in delta.get("tool_calls") or ():
                function = tool.get("function") or {}
                kept = calls.setdefault(tool.get("index", 0), ["", ""])
                kept[0] += function.get("name") or ""
                kept[1] += function.get("arguments") or ""
            content = (chunk.logprobs or {}).get("content")
            tokens += [item for item in content or () if isinstance(item, Mapping)]
    pairs = [(name, arguments) for name, arguments in calls.values()]
    return _Said(text=text, calls=pairs, finish=finish, tokens=tokens, chunks=count, reasoning=reasoning)


async def _judged(question: Callable[[], Any]) -> Finding:
    """Refused, when the server says that it cannot; what the answers say otherwise. Raises BackendError for a rung that does not
    answer."""
    try:
        return _settle(await question())
    except BackendError as exc:
        if isinstance(exc, Unsupported | Refused):
            return "refused"
        raise


# -- judging --------------------------------------------------------------------------------------------------------


def _settle(tries: Iterable[bool | None]) -> Finding:
    told = set(tries)
    return "ignored" if False in told else "enforced" if True in told else "unknown"


def _fits(text: str, finish: str) -> bool | None:
    """Is `text` a document under SCHEMA? None: it was cut off, and is one as far as it goes."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        started = "".join(text.split()).startswith('{"zq_kind":')
        return None if finish == "length" and started else False
    if not isinstance(value, dict) or set(value) != {"zq_kind", "zq_code", "zq_inner"}:
        return False
    inner, code = value["zq_inner"], value["zq_code"]
    return (
        value["zq_kind"] in _KINDS
        and isinstance(code, str)
        and re.fullmatch(_CODE, code) is not None
        and isinstance(inner, dict)
        and set(inner) == {"zq_level", "zq_on"}
        and inner["zq_level"] in _LEVELS
        and isinstance(inner["zq_on"], bool)
    )


def _told(one: _Said) -> bool:
    """Do the tokens, joined, say the text? The end token stands behind it."""
    return bool(one.tokens) and "".join(str(token.get("token", "")) for token in one.tokens).startswith(one.text)


def _masked(answers: Iterable[_Said]) -> bool:
    """Can forced tokens be told from sure ones? Under this schema most are forced."""
    return any(
        isinstance(other, Mapping) and _number(other.get("logprob")) <= FLOOR
        for one in answers
        for token in one.tokens
        for other in token.get("top_logprobs") or ()
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
