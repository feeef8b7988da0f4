"""Chat body > Messages body. Pure. Sources: Anthropic's API reference (anthropic-python 2.11), OpenAI's OpenAPI document.

    chat                                        messages
    system, developer (anywhere)                system
    tool messages, the user messages after      one user message, tool results first
    tool_calls, thinking_blocks of assistants   tool_use and thinking blocks
    image_url, file (data URL, URL, id)         image, document
    tools, tool_choice, parallel_tool_calls     tools, tool_choice with disable_parallel_tool_use
    response_format json_schema                 output_config.format, or words where the schema is beyond it
    max_(completion_)tokens, stop, user         max_tokens, stop_sequences, metadata.user_id
    thinking, top_k, cache_control              as they are (what OpenAI's API does not know and clients send all the same)

What has no counterpart (seed, penalties, logit_bias, logprobs, store, ...) stays behind. What cannot be left out without answering another
question (audio, several choices, custom tools) is Unsupported, naming the field.

A body that came in Anthropic's own words is not made anew: `own` changes what must be changed and nothing else.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeGuard

import orjson

from wire import anthropic
from wire.anthropic_blocks import assistant, cached, parts, result, short, tables
from wire.anthropic_schema import output_schema
from wire.errors import Unsupported
from wire.openai import response_format
from wire.types import Constraint, Json

Effort = Literal["ignore", "effort", "budget"]
BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 65536}
"""reasoning_effort > budget_tokens."""
LEVELS = {"minimal": "low"}
"""reasoning_effort > output_config.effort where the names differ; `none` is said by not thinking."""

_KEPT = ("thinking", "top_k", "container", "context_management", "mcp_servers", "cache_control")


def request(
    body: Json,
    *,
    model: str,
    asked: str,
    max_tokens: int,
    effort: Effort = "ignore",
    constraint: Constraint | None = None,
) -> dict[str, Any]:
    """`body` for `model`, a new dict without `stream`. `asked`: the model name that the caller used; `max_tokens`: where the caller
    names no limit. Raises Unsupported."""
    _refuse(body)
    system, messages = _conversation(body.get("messages"), model, asked)
    told: dict[str, Any] = {"model": model, "max_tokens": _limit(body) or max_tokens, "messages": messages}
    if system:
        told["system"] = system
    told |= {key: body[key] for key in _KEPT if body.get(key) is not None}
    _sampling(told, body)
    _tools(told, body)
    _think(told, body, effort)
    user = body.get("user") or body.get("safety_identifier")
    if isinstance(user, str):
        told["metadata"] = {"user_id": user}
    return fitting(constrained(told, constraint))


def own(body: Json, *, model: str, asked: str, constraint: Constraint | None = None) -> dict[str, Any]:
    """A body in Anthropic's own words for `model`: another model's thinking is taken out, a constraint of ours is put in, all the rest
    is as it came. Without `stream`."""
    told = {key: value for key, value in body.items() if key != "stream"}
    told["model"] = model
    told["messages"] = [_without_foreign(message, model, asked) for message in _list(body.get("messages"))]
    return fitting(constrained(told, constraint))


def constrained(told: dict[str, Any], constraint: Constraint | None) -> dict[str, Any]:
    """`told` with the constraint in Anthropic's words. A choice, regex or grammar has none there: the validator judges."""
    wanted = response_format(constraint)
    if constraint is None or wanted is None or constraint.kind != "schema" or _says(told):
        return told
    schema = output_schema(constraint.value)
    if schema is not None:
        config = told.get("output_config")
        form = {"type": "json_schema", "schema": schema}
        return {**told, "output_config": {**(config if isinstance(config, Mapping) else {}), "format": form}}
    said = orjson.dumps(constraint.value).decode()
    words = f"Answer with one JSON document and nothing else. It must be valid under this JSON Schema:\n{said}"
    return {**told, "system": [*_blocks(told.get("system")), {"type": "text", "text": words}]}


def fitting(told: dict[str, Any]) -> dict[str, Any]:
    """Thinking switched on by `enabled` wants the last step of an open tool loop to begin with signed thinking, and refuses one that
    another model made (400). There, and only there, this answer is given without thinking."""
    thinking = told.get("thinking")
    if not isinstance(thinking, Mapping) or thinking.get("type") != "enabled" or not _begun_elsewhere(told["messages"]):
        return told
    told = {key: value for key, value in told.items() if key != "thinking"}
    managed = told.get("context_management")
    if isinstance(managed, Mapping):  # what clears old thinking is refused where there is none
        edits = [e for e in tables(managed.get("edits")) if not str(e.get("type", "")).startswith("clear_thinking")]
        told.pop("context_management")
        if edits:
            told["context_management"] = {**managed, "edits": edits}
    return told


# --- messages ---------------------------------------------------------------------------------------------------------------------


def _conversation(value: Any, model: str, asked: str) -> tuple[Any, list[dict[str, Any]]]:
    """`system` (a string, blocks, or nothing) and the messages, roles alternating."""
    system: list[dict[str, Any]] = []
    turns: list[tuple[str, list[dict[str, Any]]]] = []
    for at, message in enumerate(tables(value)):
        role, place = message.get("role"), f"messages[{at}]"
        if role in ("system", "developer"):
            system += parts(message, place)
            continue
        if role == "tool":
            told = "user", [result(message, place)]
        elif role == "assistant":
            told = "assistant", assistant(message, place, model, asked)
        elif role == "user":
            told = "user", parts(message, place)
        else:
            raise Unsupported(f"anthropic: no messages of role {str(role)[:20]!r}", param=f"{place}.role")
        if turns and turns[-1][0] == told[0]:
            turns[-1][1].extend(told[1])
        elif told[1]:
            turns.append(told)
    messages: list[dict[str, Any]] = []
    for role, blocks in turns:
        if role == "user":  # results must come first
            blocks.sort(key=lambda block: block.get("type") != "tool_result")
        messages.append({"role": role, "content": short(blocks)})
    return short(system), messages


# --- tools, sampling, thinking ----------------------------------------------------------------------------------------------------


def _tools(told: dict[str, Any], body: Json) -> None:
    tools = [_tool(tool, f"tools[{at}]") for at, tool in enumerate(tables(body.get("tools")))]
    choice = body.get("tool_choice")
    chosen: dict[str, Any] | None = None
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools")
        allowed = allowed if isinstance(allowed, Mapping) else {}
        names = {_name(tool) for tool in tables(allowed.get("tools"))}
        tools = [tool for tool in tools if tool.get("name") in names]
        chosen = {"type": "any" if allowed.get("mode") == "required" else "auto"}
    elif isinstance(choice, Mapping):
        chosen = {"type": "tool", "name": _name(choice)}
    elif choice in ("none", "auto", "required"):
        chosen = {"type": {"none": "none", "auto": "auto", "required": "any"}[choice]}
    if not tools:
        if used := _used(told["messages"]):
            # A history of calls wants its tools described; none of them may be called again.
            told["tools"] = [{"name": name, "input_schema": {"type": "object"}} for name in used]
            told["tool_choice"] = {"type": "none"}
        return
    if body.get("parallel_tool_calls") is False and (chosen is None or chosen["type"] != "none"):
        chosen = {**(chosen or {"type": "auto"}), "disable_parallel_tool_use": True}
    told["tools"] = tools
    if chosen is not None:
        told["tool_choice"] = chosen


def _tool(tool: Json, place: str) -> dict[str, Any]:
    kind = tool.get("type") or "function"
    if kind == "custom":
        raise Unsupported("anthropic: no free-form tools", param=f"{place}.type")
    if kind != "function":
        return dict(tool)  # one of Anthropic's own, written as Anthropic writes it
    function = tool.get("function")
    function = function if isinstance(function, Mapping) else {}
    parameters = function.get("parameters")
    schema = (
        {"type": "object", **parameters} if isinstance(parameters, Mapping) else {"type": "object", "properties": {}}
    )
    told: dict[str, Any] = {"name": function.get("name"), "input_schema": schema}
    if isinstance(function.get("description"), str):
        told["description"] = function["description"]
    return cached(cached(told, function), tool)


def _used(messages: Sequence[Json]) -> list[str]:
    uses = (block for message in messages for block in _blocks(message["content"]) if block.get("type") == "tool_use")
    return list(dict.fromkeys(str(use["name"]) for use in uses))


def _sampling(told: dict[str, Any], body: Json) -> None:
    temperature, top_p, stop = body.get("temperature"), body.get("top_p"), body.get("stop")
    if _is_number(temperature):
        told["temperature"] = 1 if temperature > 1 else temperature
    elif _is_number(top_p):  # newer models refuse both at once
        told["top_p"] = top_p
    stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    if kept := [item for item in stops if isinstance(item, str) and item.strip()]:
        told["stop_sequences"] = kept


def _think(told: dict[str, Any], body: Json, effort: Effort) -> None:
    level = body.get("reasoning_effort")
    if not isinstance(level, str) or effort == "ignore" or level == "none" or "thinking" in told:
        return
    if effort == "effort":
        told["output_config"] = {"effort": LEVELS.get(level, level)}
        return
    choice = told.get("tool_choice")
    if choice is not None and choice["type"] in ("any", "tool"):
        return  # refused beside thinking
    budget = BUDGETS.get(level, BUDGETS["medium"])
    told["thinking"] = {"type": "enabled", "budget_tokens": budget}
    told["max_tokens"] = told["max_tokens"] + budget  # the caller's limit is for the answer
    for key in ("temperature", "top_k"):  # refused beside thinking
        told.pop(key, None)


def _limit(body: Json) -> int:
    for key in ("max_completion_tokens", "max_tokens"):
        if type(body.get(key)) is int and body[key] > 0:
            return int(body[key])
    return 0


def _refuse(body: Json) -> None:
    if type(body.get("n")) is int and body["n"] > 1:
        raise Unsupported("anthropic: one choice only", param="n")
    if body.get("audio") or "audio" in _list(body.get("modalities")):
        raise Unsupported("anthropic: no audio output", param="modalities")
    if body.get("functions"):
        raise Unsupported("anthropic: no functions (the predecessor of tools)", param="functions")


# --- a body in Anthropic's own words ----------------------------------------------------------------------------------------------


def _without_foreign(message: Any, model: str, asked: str) -> Any:
    if (
        not isinstance(message, Mapping)
        or message.get("role") != "assistant"
        or not isinstance(message["content"], list)
    ):
        return message
    told = [anthropic.release(block, model, asked) for block in message["content"] if isinstance(block, Mapping)]
    kept = [block for block in told if block is not None]
    # A message of nothing but foreign thinking would be empty, which is refused.
    return {**message, "content": kept or [{"type": "text", "text": "..."}]} if kept != message["content"] else message


def _begun_elsewhere(messages: Sequence[Json]) -> bool:
    """Is a tool loop open whose last step did not begin with thinking?"""
    if len(messages) < 2 or messages[-1].get("role") != "user" or messages[-2].get("role") != "assistant":
        return False
    if not any(block.get("type") == "tool_result" for block in _blocks(messages[-1].get("content"))):
        return False
    step = _blocks(messages[-2].get("content"))
    return bool(step) and step[0].get("type") not in ("thinking", "redacted_thinking")


def _says(told: Json) -> bool:
    config = told.get("output_config")
    return (isinstance(config, Mapping) and config.get("format") is not None) or told.get("output_format") is not None


def _blocks(content: Any) -> list[Json]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return tables(content)


def _name(tool: Json) -> Any:
    function = tool.get("function")
    return function.get("name") if isinstance(function, Mapping) else tool.get("name")


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
