"""OpenAI chat completions, the way in: a request body > Asked. The way out is `chat_out.py`.

Sources: the OpenAI API specification 2.3.0, openai-python 3.52, vLLM 0.33. What is refused here is refused with the field's name and the
way out; unknown fields pass; null counts as absent.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson
from msgspec import ValidationError, convert

from gateway.dialects import fields, functions
from gateway.dialects.base import Caller
from gateway.dialects.chat_out import (
    DONE,
    NO_USAGE,
    Writer,
    error,
    finish_reason,
    one_reasoning,
    whole,
    writer,
)
from gateway.dialects.usual import TOKENS, Usual
from wire.hashing import short_hash
from wire.types import Asked, Constraint, Query, Wants

__all__ = [
    "DONE", "NO_USAGE", "Writer", "carefully", "constraint_of", "error", "finish_reason", "name", "one_reasoning", "plain",
    "query_of", "schema_param", "understand", "whole", "writer",
]  # fmt: skip

name = "chat"
schema_param = "response_format.json_schema.schema"

ROLES = frozenset({"developer", "system", "user", "assistant", "tool", "function"})
SCHEMA_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
MODALITIES = {"image_url": "image", "input_audio": "audio", "file": "file"}
TEXT = frozenset({"text"})
RANGES = (
    (fields.number, "temperature", 0, 2),
    (fields.number, "top_p", 0, 1),
    (fields.number, "frequency_penalty", -2, 2),
    (fields.number, "presence_penalty", -2, 2),
    (fields.integer, "max_tokens", 0, TOKENS),
    (fields.integer, "max_completion_tokens", 0, TOKENS),
    (fields.integer, "top_logprobs", 0, 20),
)
"""How a field is checked, its name, and the least and the most it may be."""
KEPT = 2**14
"""Characters of a system prompt, and bytes of a `response_format`, that are remembered with what was found out about them."""
KEPT_MESSAGES = 16
TOOLS_KEPT = 2**16
"""Bytes of a tool set that is remembered with its hash."""


def understand(body: Any, raw: bytes, caller: Caller) -> Asked:
    """A request body (decoded JSON, and the bytes it came as) > Asked. Raises BadRequest."""
    try:
        usual = convert(body, Usual)
    except ValidationError:
        return carefully(body, raw, caller)
    stream, options = usual.stream is True, usual.stream_options
    usage = stream and options is not None and options.include_usage is True
    wants = Wants(stream, usage, usual.logprobs is True, usual.n or 1)
    constraint = None if usual.response_format is None else constraint_of(body)
    query = query_of(usual.model, body["messages"], body["tools"] if usual.tools else (), constraint, caller, stream)
    return Asked(query, body, wants, constraint, raw, name)


def carefully(body: Any, raw: bytes, caller: Caller) -> Asked:
    """As `understand`, field by field: what this refuses is refused, and in these words. `Usual` takes nothing that this would not, and
    makes nothing else of it."""
    if not isinstance(body, dict):
        raise fields.reject("body", f"the request body must be a JSON object, not {fields.kind(body)}")
    old = functions.is_old(body)
    body = functions.modern(body) if old else body
    model = fields.text(body, "model")
    if not model:
        raise fields.reject("model", 'you must provide a model, e.g. "model": "weir"; GET /v1/models lists them')
    messages = _messages(body)
    tools = _tools(body)
    constraint = constraint_of(body)
    _check_rest(body)
    stream = fields.flag(body, "stream")
    options = body.get("stream_options")
    wants = Wants(
        stream=stream,
        usage=options is not None and fields.flag(options, "include_usage", inside="stream_options") and stream,
        logprobs=fields.flag(body, "logprobs"),
        n=fields.integer(body, "n", 1, 128) or 1,
        functions=old,
    )
    query = query_of(model, messages, tools, constraint, caller, stream)
    return Asked(query, body, wants, constraint, raw, name)


def _messages(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    if body.get("messages") is None:
        raise fields.reject("messages", "you must provide 'messages', an array with at least one message")
    messages = fields.items(body["messages"], "messages")
    if not messages:
        raise fields.reject("messages", "'messages' is empty: at least one message is needed")
    for position, message in enumerate(messages):
        _check_message(message, f"messages[{position}]")
    return messages


def _check_message(message: Any, place: str) -> None:
    role = fields.table(message, place).get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise fields.reject(f"{place}.role", f"'{place}.role' must be one of {', '.join(sorted(ROLES))}")
    content = message.get("content")
    if isinstance(content, list):
        for index, part in enumerate(content):
            inner = f"{place}.content[{index}]"
            if not isinstance(fields.table(part, inner).get("type"), str):
                raise fields.reject(f"{inner}.type", "a content part needs a 'type'")
            if part["type"] == "text" and not isinstance(part.get("text"), str):
                raise fields.reject(
                    f"{inner}.text", f"'{inner}.text' must be a string, not {fields.kind(part.get('text'))}"
                )
    elif content is not None and not isinstance(content, str):
        raise fields.reject(
            f"{place}.content", f"'{place}.content' must be a string or an array of parts, not {fields.kind(content)}"
        )
    elif content is None and role not in ("assistant", "function"):
        raise fields.reject(f"{place}.content", f"'{place}.content' is missing")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise fields.reject(f"{place}.tool_call_id", "a tool message must name the 'tool_call_id' that it answers")
    if role == "assistant" and message.get("tool_calls") is not None:
        for index, call in enumerate(fields.items(message["tool_calls"], f"{place}.tool_calls")):
            fields.table(call, f"{place}.tool_calls[{index}]")


def _tools(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    if body.get("tools") is None:
        return ()
    tools = fields.items(body["tools"], "tools")
    for position, tool in enumerate(tools):
        _check_tool(tool, f"tools[{position}]")
    return tools


def _check_tool(tool: Any, place: str) -> None:
    if _is_function(fields.table(tool, place)):
        function = fields.table(tool.get("function"), f"{place}.function")
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise fields.reject(f"{place}.function.name", f"'{place}.function.name' must be a non-empty string")
        if function.get("parameters") is not None:
            fields.table(function["parameters"], f"{place}.function.parameters")


def _is_function(tool: Mapping[str, Any]) -> bool:
    return tool.get("type") in (None, "function")


def constraint_of(body: dict[str, Any]) -> Constraint | None:
    """What `response_format` asks for. A task sends the same one each time, so it is read once (0.6 us instead of 2.4), and the one that
    was read takes the place of its equal in `body`: whoever compares the two schemas later finds one (1 us). What was refused is not
    remembered."""
    wanted = body.get("response_format")
    if wanted is None:
        return None
    try:
        written = orjson.dumps(wanted)
    except TypeError:  # it cannot be written: `_constraint` says what is wrong
        return _constraint(wanted)
    if len(written) > KEPT:
        return _constraint(wanted)
    kept, constraint = _known_constraint(written)
    if constraint is not None and constraint.value is not None:
        # With the very schema that is looked for in it later (`says`).
        body["response_format"] = {**kept, "json_schema": {**kept["json_schema"]}}
    return constraint


@lru_cache(maxsize=128)
def _known_constraint(written: bytes) -> tuple[Any, Constraint | None]:
    """A `response_format`, and what it asks for."""
    wanted = orjson.loads(written)
    return wanted, _constraint(wanted)


def _constraint(wanted: Any) -> Constraint | None:
    form = fields.table(wanted, "response_format").get("type")
    if form == "text":
        return None
    if form == "json_object":
        return Constraint("json", None)
    if form != "json_schema":
        raise fields.reject("response_format.type", "'response_format.type' must be text, json_object or json_schema")
    spec = fields.table(wanted.get("json_schema"), "response_format.json_schema")
    label = spec.get("name")
    if not isinstance(label, str) or not SCHEMA_NAME.fullmatch(label):
        raise fields.reject(
            "response_format.json_schema.name", "a schema needs a 'name' of 1 to 64 letters, digits, - or _"
        )
    schema = spec.get("schema")
    if schema is None:
        return Constraint("json", None, name=label)
    fields.table(schema, "response_format.json_schema.schema")
    strict = fields.flag(spec, "strict", inside="response_format.json_schema")
    written = fields.written(schema, schema_param)
    return Constraint("schema", schema, strict, label, short_hash(written) if schema else "", written)


def _check_rest(body: Mapping[str, Any]) -> None:
    """Types and ranges of what we do not own but would rather refuse here than at an upstream."""
    for check, field, least, most in RANGES:
        if field in body:
            check(body, field, least, most)
    stop = body.get("stop")
    if stop is not None and not isinstance(stop, str):
        for position, value in enumerate(fields.items(stop, "stop")):
            if not isinstance(value, str):
                raise fields.reject(f"stop[{position}]", "'stop' is a string or an array of up to 4 strings")
    if body.get("stream_options") is not None:
        fields.table(body["stream_options"], "stream_options")
    choice = body.get("tool_choice")
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        raise fields.reject("tool_choice", "'tool_choice' must be none, auto, required or an object naming a tool")
    if choice is not None and not isinstance(choice, (str, Mapping)):
        raise fields.reject("tool_choice", f"'tool_choice' must be a string or an object, not {fields.kind(choice)}")


def query_of(
    model: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    constraint: Constraint | None,
    caller: Caller,
    stream: bool,
) -> Query:
    system: list[str] = []
    prompt = turns = chars = 0
    text: Any
    first: Any = None
    modality = TEXT
    for message in messages:
        role = message["role"]
        text = content = message.get("content")
        if type(content) is not str:
            text = plain(content)
            if isinstance(content, list):
                modality |= {MODALITIES[part["type"]] for part in content if part["type"] in MODALITIES}
        chars += len(text)
        if role == "user":
            turns += 1
            if first is None:
                first = content
        elif role == "system" or role == "developer":
            system.append(text)
            prompt += len(text)
    offered = _offered(tools) if tools else ""
    schema = schema_name = ""
    if constraint is not None:
        schema = constraint.digest
        if constraint.kind == "schema":
            schema_name = constraint.name
    headers, tenant = caller.headers, caller.tenant
    task = _known_task if prompt <= KEPT and len(system) <= KEPT_MESSAGES else _task
    spoken, signature = task(tuple(system), offered, schema)
    try:
        session = headers.get("x-session-id") or short_hash([tenant, spoken, first])
    except TypeError as exc:
        raise fields.too_deep("messages") from exc
    return Query(  # in the order of its fields: 0.1 us instead of 0.7 by their names
        text if role == "user" else "",
        model,
        signature,
        spoken,
        offered,
        tuple([tool["function"]["name"] for tool in tools if _is_function(tool)]) if tools else (),
        schema,
        schema_name,
        turns,
        chars,
        modality,
        headers,
        tenant,
        session,
        role == "tool" or role == "function",
        stream,
    )


def _offered(tools: Sequence[Mapping[str, Any]]) -> str:
    """The hash of a tool set. An agent offers the same one with each request: 6 us instead of 14 for ten tools, 6 kB."""
    try:
        written = orjson.dumps(tools)
    except TypeError:  # it cannot be written: `fields.digest` says so
        written = b""
    return _known_tools(written) if 0 < len(written) <= TOOLS_KEPT else fields.digest(tools, "tools")


@lru_cache(maxsize=128)
def _known_tools(written: bytes) -> str:
    return short_hash(orjson.loads(written))


def _task(system: tuple[str, ...], tools: str, schema: str) -> tuple[str, str]:
    """The hash of the system prompts, and with those of tools and schema the task's signature."""
    hashes = (short_hash(system), tools, schema)
    return hashes[0], short_hash(hashes) if any(hashes) else ""


_known_task = lru_cache(maxsize=512)(_task)
"""0.2 us instead of 1.8: a task has the same prompt each time."""


def plain(content: Any) -> str:
    """The text of a message's content, parts joined by newlines."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(part["text"] for part in content if isinstance(part.get("text"), str))
