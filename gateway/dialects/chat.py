"""OpenAI chat completions, the way in: a request body > Asked. The way out is `chat_out.py`.

Sources: the OpenAI API specification 2.3.0, openai-python 3.52, vLLM 0.33. What is refused here is refused with the field's name and the
way out; unknown fields pass; null counts as absent.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

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
from wire.hashing import short_hash
from wire.types import Asked, Constraint, Query, Wants

__all__ = [
    "DONE", "NO_USAGE", "Writer", "constraint_of", "error", "finish_reason", "name", "one_reasoning", "plain", "query_of",
    "schema_param", "understand", "whole", "writer",
]  # fmt: skip

name = "chat"
schema_param = "response_format.json_schema.schema"

ROLES = frozenset({"developer", "system", "user", "assistant", "tool", "function"})
SCHEMA_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
MODALITIES = {"image_url": "image", "input_audio": "audio", "file": "file"}


def understand(body: Any, raw: bytes, caller: Caller) -> Asked:
    """A request body (decoded JSON, and the bytes it came as) > Asked. Raises BadRequest."""
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
    return Asked(query=query, body=body, wants=wants, constraint=constraint, raw=raw, dialect=name)


def _messages(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    if body.get("messages") is None:
        raise fields.reject("messages", "you must provide 'messages', an array with at least one message")
    messages = fields.items(body["messages"], "messages")
    if not messages:
        raise fields.reject("messages", "'messages' is empty: at least one message is needed")
    for position, message in enumerate(messages):
        if not _is_plain(message):
            _check_message(message, f"messages[{position}]")
    return messages


def _is_plain(message: Any) -> bool:
    """What most messages are, and nothing is wrong with: a role of a person's or a program's, and text."""
    if type(message) is not dict or type(message.get("content")) is not str:
        return False
    role = message.get("role")
    return role in ("user", "system", "developer") or (role == "assistant" and message.get("tool_calls") is None)


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
        place = f"tools[{position}]"
        if _is_function(fields.table(tool, place)):
            function = fields.table(tool.get("function"), f"{place}.function")
            if not isinstance(function.get("name"), str) or not function["name"]:
                raise fields.reject(f"{place}.function.name", f"'{place}.function.name' must be a non-empty string")
            if function.get("parameters") is not None:
                fields.table(function["parameters"], f"{place}.function.parameters")
    return tools


def _is_function(tool: Mapping[str, Any]) -> bool:
    return tool.get("type") in (None, "function")


def constraint_of(body: Mapping[str, Any]) -> Constraint | None:
    wanted = body.get("response_format")
    if wanted is None:
        return None
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
    return Constraint("schema", schema, strict=strict, name=label, digest=fields.digest(schema, schema_param))


def _check_rest(body: Mapping[str, Any]) -> None:
    """Types and ranges of what we do not own but would rather refuse here than at an upstream."""
    fields.number(body, "temperature", 0, 2)
    fields.number(body, "top_p", 0, 1)
    fields.number(body, "frequency_penalty", -2, 2)
    fields.number(body, "presence_penalty", -2, 2)
    fields.integer(body, "max_tokens", 0, 2**31)
    fields.integer(body, "max_completion_tokens", 0, 2**31)
    fields.integer(body, "top_logprobs", 0, 20)
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
    system: list[Any] = []
    turns = chars = 0
    first: Any = None
    modality = {"text"}
    for message in messages:
        content = message.get("content")
        if message["role"] in ("system", "developer"):
            system.append(plain(content))
        elif message["role"] == "user":
            turns += 1
            first = content if first is None else first
        if isinstance(content, str):
            chars += len(content)
        elif isinstance(content, list):
            chars += len(plain(content))
            modality.update(MODALITIES[part["type"]] for part in content if part["type"] in MODALITIES)
    last = messages[-1]
    hashes = (short_hash(system), fields.digest(tools, "tools"), constraint.digest if constraint else "")
    return Query(
        text=plain(last.get("content")) if last["role"] == "user" else "",
        model=model,
        signature=short_hash(hashes) if any(hashes) else "",
        system=hashes[0],
        tools=hashes[1],
        tool_names=tuple(tool["function"]["name"] for tool in tools if _is_function(tool)),
        schema=hashes[2],
        schema_name=constraint.name if constraint and constraint.kind == "schema" else "",
        turns=turns,
        chars=chars,
        modality=frozenset(modality),
        headers=caller.headers,
        tenant=caller.tenant,
        session=caller.headers.get("x-session-id") or fields.digest([caller.tenant, hashes[0], first], "messages"),
        tool_loop=last["role"] in ("tool", "function"),
        stream=stream,
    )


def plain(content: Any) -> str:
    """The text of a message's content, parts joined by newlines."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(part["text"] for part in content if isinstance(part.get("text"), str))
