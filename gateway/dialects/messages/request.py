"""A Messages body > Asked: a chat body, and the body as it came. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from gateway.dialects import chat, fields
from gateway.dialects.base import Caller
from gateway.dialects.messages import blocks
from wire import anthropic
from wire.hashing import short_hash
from wire.strict import outside
from wire.types import Asked, Json, Query, Wants

name = "messages"
schema_param = "output_config.format.schema"

CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def understand(body: Any, raw: bytes, caller: Caller) -> Asked:
    """A request body (decoded JSON, and the bytes it came as) > Asked. Raises BadRequest."""
    told = canonical(body)
    if body.get("max_tokens") is None:
        raise fields.reject("max_tokens", "you must provide 'max_tokens', the most tokens of the answer")
    constraint = chat.constraint_of(told)
    stream = fields.flag(body, "stream")
    query = chat.query_of(told["model"], told["messages"], told.get("tools", ()), constraint, caller, stream)
    return Asked(
        query=_of_this_session(query, body, told["messages"], caller),
        body=told,
        wants=Wants(stream=stream, usage=True),
        constraint=constraint,
        # What Weir itself wrote into the history is nothing that Anthropic could read: then the bytes do not go up as they are.
        raw=b"" if _holds_ours(body) else raw,
        dialect=name,
        native=body,
    )


def canonical(body: Any) -> dict[str, Any]:
    """The chat body, checked. `max_tokens` may be missing, as it is where tokens are only counted. Raises BadRequest."""
    if not isinstance(body, dict):
        raise fields.reject("body", f"the request body must be a JSON object, not {fields.kind(body)}")
    model = fields.text(body, "model")
    if not model:
        raise fields.reject("model", 'you must provide a model, e.g. "model": "weir"; GET /v1/models lists them')
    told: dict[str, Any] = {
        "model": model,
        "messages": [*blocks.system(body.get("system")), *blocks.messages(body.get("messages"))],
    }
    if (limit := fields.integer(body, "max_tokens", 0, 2**31)) is not None:
        told["max_completion_tokens"] = limit
    for key, most in (("temperature", 1), ("top_p", 1)):
        if (value := fields.number(body, key, 0, most)) is not None:
            told[key] = value
    fields.integer(body, "top_k", 0, 2**31)
    for key in ("thinking", "metadata", "output_config"):
        if body.get(key) is not None:
            fields.table(body[key], key)
    if stops := _stops(body):
        told["stop"] = stops
    _tools(body, told)
    _output(body, told)
    if fields.flag(body, "stream"):
        told["stream"] = True
    return told


def _stops(body: Json) -> list[str]:
    if body.get("stop_sequences") is None:
        return []
    stops = list(fields.items(body["stop_sequences"], "stop_sequences"))
    for at, stop in enumerate(stops):
        if not isinstance(stop, str):
            raise fields.reject(f"stop_sequences[{at}]", f"'stop_sequences[{at}]' must be a string")
    return stops


def _tools(body: Json, told: dict[str, Any]) -> None:
    given = fields.items(body["tools"], "tools") if body.get("tools") is not None else ()
    tools = [_tool(fields.table(tool, f"tools[{at}]"), f"tools[{at}]") for at, tool in enumerate(given)]
    if tools:
        told["tools"] = tools
    if body.get("tool_choice") is None:
        return
    choice = fields.table(body["tool_choice"], "tool_choice")
    kind = choice.get("type")
    if kind == "tool":
        wanted = choice.get("name")
        if not isinstance(wanted, str) or not wanted:
            raise fields.reject("tool_choice.name", "'tool_choice.name' must name a tool")
        chosen: Any = {"type": "function", "function": {"name": wanted}}
    elif isinstance(kind, str) and kind in CHOICES:
        chosen = CHOICES[kind]
    else:
        raise fields.reject("tool_choice.type", "'tool_choice.type' must be auto, any, tool or none")
    if not tools:
        if kind in ("any", "tool"):
            raise fields.reject("tool_choice", "'tool_choice' demands a call, but there are no 'tools'")
        return
    told["tool_choice"] = chosen
    if fields.flag(choice, "disable_parallel_tool_use", inside="tool_choice"):
        told["parallel_tool_calls"] = False


def _tool(tool: Mapping[str, Any], place: str) -> dict[str, Any]:
    """A tool of the caller's own > function. Anthropic's own tools stay as they are: other rungs refuse them, which escalates."""
    kind = tool.get("type")
    if kind is not None and kind != "custom":
        return dict(tool)
    if not isinstance(tool.get("name"), str) or not tool["name"]:
        raise fields.reject(f"{place}.name", f"'{place}.name' must be a non-empty string")
    function: dict[str, Any] = {"name": tool["name"]}
    if isinstance(tool.get("description"), str):
        function["description"] = tool["description"]
    function["parameters"] = fields.table(tool.get("input_schema"), f"{place}.input_schema")
    if fields.flag(tool, "strict", inside=place) and not outside(function["parameters"]):
        function["strict"] = True
    return {"type": "function", "function": function}


def _output(body: Json, told: dict[str, Any]) -> None:
    """`output_config.format`, or the older `output_format`, > response_format; `effort` > reasoning_effort."""
    config = body.get("output_config") or {}
    effort = fields.text(config, "effort")
    if effort:
        told["reasoning_effort"] = effort
    form = config.get("format") if config.get("format") is not None else body.get("output_format")
    if form is None:
        return
    if fields.table(form, "output_config.format").get("type") != "json_schema":
        raise fields.reject("output_config.format.type", "'output_config.format.type' must be json_schema")
    schema = fields.table(form.get("schema"), schema_param)
    title = schema.get("title")
    named = title if isinstance(title, str) and chat.SCHEMA_NAME.fullmatch(title) else "answer"
    # Anthropic always enforces a schema, and takes some that OpenAI's strict mode does not (optional properties).
    spec = {"name": named, "schema": schema, "strict": not outside(schema)}
    told["response_format"] = {"type": "json_schema", "json_schema": spec}


def _of_this_session(query: Query, body: Json, messages: Sequence[Json], caller: Caller) -> Query:
    """Two things are known differently here: a tool loop goes on while the last message answers a tool, whatever text stands beside it
    (Claude Code adds reminders); and `metadata.user_id` names a session better than a system prompt that changes with every request."""
    last = body["messages"][-1]
    changes: dict[str, Any] = {"tool_loop": blocks.has_results(last)}
    user = (body.get("metadata") or {}).get("user_id")
    if isinstance(user, str) and user and not caller.headers.get("x-session-id"):
        first = next((message.get("content") for message in messages if message["role"] == "user"), None)
        changes["session"] = short_hash([caller.tenant, user, first])
    return replace(query, **changes)


def _holds_ours(body: Json) -> bool:
    return any(
        anthropic.is_ours(block)
        for message in body["messages"]
        if message["role"] == "assistant" and isinstance(message["content"], list)
        for block in message["content"]
    )
