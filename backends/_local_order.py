"""A Call in the words of the `local` worker. Pure.

What a small model with a chat template of its own cannot do is Unsupported here, before it waits for its turn; parameters out of range are
brought into it, as OpenAI's defaults for null.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import orjson
from msgspec import Struct

from backends import _local_grammar
from wire import vllm
from wire.errors import Unsupported
from wire.types import Call, Json

MOST_CHOICES = 16
MOST_TOP = 20
MOST_STOPS = 4
_ALTERNATIVES = 2
"""With one alternative nobody could tell a forced token from a sure one."""
_CANNOT = ("audio", "functions", "logit_bias", "web_search_options")

Mode = Literal["none", "auto", "required", "named"]


class Order(Struct, frozen=True):
    """All that the worker is told of a request, as JSON."""

    messages: Sequence[Json]
    tools: Sequence[Json] = ()
    """For the chat template, which need not render them."""
    grammar: str = ""
    """Lark or GBNF; "" for free text."""
    n: int = 1
    max_tokens: int = 1024
    temperature: float = 1.0
    """0: greedy."""
    top_p: float = 1.0
    top_k: int = 0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    stop: Sequence[str] = ()
    top: int = 0
    """Alternatives per token that are reported with its log-probability; 0: none are, nor it."""
    live: bool = False
    """Tell every token when it is there."""


def order(call: Call, most: int, special: bool) -> tuple[Order, Mode]:
    """The order, and how the answer is to be read (Mode: are its envelopes tool calls).

    most: tokens of an answer. special: the envelope of a tool call is made of special tokens. Raises Unsupported.
    """
    body = call.body
    if call.raw:
        raise Unsupported("a model in process cannot pass a request through unchanged")
    for field in _CANNOT:
        if body.get(field):
            raise Unsupported(f"no {field}", param=field)
    tools, mode, offered = _tools(body)
    grammar = ""
    if mode != "none":
        grammar = _local_grammar.calls(
            offered,
            text=mode == "auto",
            several=mode != "named" and body.get("parallel_tool_calls") is not False,
            otherwise=call.constraint,
            special=special,
        )
    elif call.constraint is not None:
        grammar = _local_grammar.answer(call.constraint)
    n = _int(body.get("n"), 1)
    if not 1 <= n <= MOST_CHOICES:
        raise Unsupported(f"no more than {MOST_CHOICES} choices", param="n")
    limit = _int(body.get("max_completion_tokens"), _int(body.get("max_tokens"), most))
    top_p = _float(body.get("top_p"), 1.0)
    temperature = max(0.0, _float(body.get("temperature"), 1.0))
    return (
        Order(
            messages=_messages(body.get("messages")),
            tools=tools,
            grammar=grammar,
            n=n,
            max_tokens=max(1, min(limit, most)),
            temperature=0.0 if top_p <= 0 else temperature,  # OpenAI takes 0 for "the likeliest token"
            top_p=min(top_p, 1.0),
            top_k=max(0, _int(body.get("top_k"), 0)),
            frequency_penalty=_float(body.get("frequency_penalty"), 0.0),
            presence_penalty=_float(body.get("presence_penalty"), 0.0),
            seed=body["seed"] if type(body.get("seed")) is int else None,
            stop=_stop(body.get("stop")),
            top=min(MOST_TOP, max(_ALTERNATIVES, _int(body.get("top_logprobs"), 0))) if call.logprobs else 0,
            live=call.live,
        ),
        mode,
    )


def _tools(body: Json) -> tuple[Sequence[Json], Mode, list[tuple[str, Any]]]:
    """The tools that are allowed, how they may be called, and their names and parameters."""
    tools = [tool for tool in _list(body.get("tools")) if isinstance(tool, Mapping)]
    choice: Any = body.get("tool_choice") or "auto"
    if not tools or choice == "none":
        return tools, "none", []
    if any(tool.get("type", "function") != "function" for tool in tools):
        raise Unsupported("no tools but functions", param="tools")
    mode: Mode = "auto"
    kind = choice.get("type") if isinstance(choice, Mapping) else ""
    if kind == "function":
        mode, tools = "named", _named(tools, [choice])
    elif kind == "allowed_tools":
        allowed = choice.get("allowed_tools")
        allowed = allowed if isinstance(allowed, Mapping) else {}
        tools = _named(tools, [item for item in _list(allowed.get("tools")) if isinstance(item, Mapping)])
        mode = "required" if allowed.get("mode") == "required" else "auto"
    elif choice in ("auto", "required"):
        mode = choice
    else:
        raise Unsupported("no such tool_choice", param="tool_choice")
    offered = []
    for tool in tools:
        name, function = _name(tool), tool.get("function")
        if not isinstance(name, str) or not name:
            raise Unsupported("a tool without a name", param="tools")
        offered.append((name, function.get("parameters") if isinstance(function, Mapping) else None))
    return tools, mode, offered


def _named(tools: list[Json], wanted: Sequence[Json]) -> list[Json]:
    names = {_name(item) for item in wanted}
    found = [tool for tool in tools if _name(tool) in names]
    if not found:
        raise Unsupported("tool_choice names none of the tools", param="tool_choice")
    return found


def _name(tool: Json) -> Any:
    function = tool.get("function")
    return function.get("name") if isinstance(function, Mapping) else tool.get("name")


def _messages(value: Any) -> list[Json]:
    """One system message at the front, contents as text, arguments of calls as objects: what chat templates take for granted."""
    found: list[Json] = []
    for message in _list(vllm.messages(value)):
        if not isinstance(message, Mapping):
            raise Unsupported("a message is no object", param="messages")
        told = {**message, "content": _text(message.get("content"))}
        if isinstance(message.get("tool_calls"), list):
            told["tool_calls"] = [_called(item) for item in message["tool_calls"]]
        found.append(told)
    return found


def _text(content: Any) -> str:
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    parts = [part if isinstance(part, Mapping) else {"type": "text", "text": str(part)} for part in content]
    if any("text" not in part for part in parts):
        raise Unsupported("content parts other than text", param="messages")
    return "\n".join(str(part["text"]) for part in parts)


def _called(item: Any) -> Any:
    function = item.get("function") if isinstance(item, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return item
    try:
        arguments = orjson.loads(function["arguments"])
    except orjson.JSONDecodeError:
        return item
    return {**item, "function": {**function, "arguments": arguments}}


def _stop(value: Any) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else _list(value)
    return tuple(item for item in given if isinstance(item, str) and item)[:MOST_STOPS]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _int(value: Any, default: int) -> int:
    return value if type(value) is int else default


def _float(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default
