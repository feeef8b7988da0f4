"""OpenAI chat completions, in both directions. Sources: the OpenAI API specification 2.3.0, openai-python 3.52 and openai-node's
accumulators (which concatenate every repeated string field), vLLM 0.33.

The stream is written by the rules that all clients agree on: the role once, in the first chunk of a choice; a call's id, type and name
once, in its first delta, with indices 0..k; finish_reason once, alone in the last chunk of its choice; usage once, last, with
`choices: []`, and only when it was asked for; id, created and model the same throughout. Whatever an upstream did differently is
mended here.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.dialects import fields, functions
from gateway.dialects.base import Caller, Stamp
from gateway.fold import Fold
from wire.errors import WeirError
from wire.hashing import short_hash
from wire.types import Asked, Chunk, Constraint, Json, Query, Wants

name = "chat"
schema_param = "response_format.json_schema.schema"

ROLES = frozenset({"developer", "system", "user", "assistant", "tool", "function"})
SCHEMA_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
MODALITIES = {"image_url": "image", "input_audio": "audio", "file": "file"}
REASONING = ("reasoning_content", "reasoning")
DONE = b"data: [DONE]\n\n"
NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


# --- in ---------------------------------------------------------------------------------------------------------------------------


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
        place = f"messages[{position}]"
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
                f"{place}.content",
                f"'{place}.content' must be a string or an array of parts, not {fields.kind(content)}",
            )
        elif content is None and role not in ("assistant", "function"):
            raise fields.reject(f"{place}.content", f"'{place}.content' is missing")
        if role == "tool" and not isinstance(message.get("tool_call_id"), str):
            raise fields.reject(f"{place}.tool_call_id", "a tool message must name the 'tool_call_id' that it answers")
        if role == "assistant" and message.get("tool_calls") is not None:
            for index, call in enumerate(fields.items(message["tool_calls"], f"{place}.tool_calls")):
                fields.table(call, f"{place}.tool_calls[{index}]")
    return messages


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
        session=fields.digest([caller.tenant, caller.headers.get("x-session-id") or [hashes[0], first]], "messages"),
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


# --- out --------------------------------------------------------------------------------------------------------------------------


def whole(asked: Asked, stamp: Stamp, answer: Fold) -> bytes:
    """A chat.completion."""
    messages = answer.messages() or [(0, {"role": "assistant", "content": "", "refusal": None}, None, None)]
    choices = [
        {
            "index": index,
            "message": _spoken(_with_ids(message, stamp), asked, stamp),
            "logprobs": _logprobs(logprobs, asked),
            "finish_reason": finish_reason(finish, bool(message.get("tool_calls")), asked),
        }
        for index, message, finish, logprobs in messages
    ]
    return orjson.dumps(
        {
            **answer.extra,
            "id": f"chatcmpl-{stamp.id}",
            "object": "chat.completion",
            "created": stamp.created,
            "model": stamp.model,
            "choices": choices,
            "usage": answer.usage or NO_USAGE,
        }
    )


def _spoken(message: dict[str, Any], asked: Asked, stamp: Stamp) -> dict[str, Any]:
    """`message` as this caller knows messages: reasoning in one field, calls in the older form where that was asked for."""
    message = one_reasoning(message, stamp.reasoning)
    return functions.old_message(message) if asked.wants.functions else message


def one_reasoning(part: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A message or delta with its reasoning in the field `name` only. Upstreams say `reasoning`, `reasoning_content`, or both at
    once, and a client that reads both would double it."""
    told = {key: value for key, value in part.items() if key not in REASONING}
    said = next((part[key] for key in REASONING if part.get(key)), None)
    return {**told, name: said} if said is not None else told


def _with_ids(message: dict[str, Any], stamp: Stamp) -> dict[str, Any]:
    calls = message.get("tool_calls") or ()
    if all(call["id"] for call in calls):
        return message
    named = [{**call, "id": call["id"] or _call_id(stamp, place)} for place, call in enumerate(calls)]
    return {**message, "tool_calls": named}


def _call_id(stamp: Stamp, place: int) -> str:
    """For a call that its upstream gave none: a tool's result must be able to name what it answers."""
    return f"call_{stamp.id[-12:]}_{place}"


def _logprobs(logprobs: Json | None, asked: Asked) -> Json | None:
    """With both keys, as clients expect them; None unless they were asked for."""
    return {"content": None, "refusal": None, **logprobs} if logprobs and asked.wants.logprobs else None


def finish_reason(finish: str | None, called: bool, asked: Asked) -> str:
    """What OpenAI would say: `length` wins; calls end with `tool_calls`, but with `stop` when one named tool was forced."""
    if finish in (None, "stop", "tool_calls"):
        if called and asked.wants.functions:
            return "function_call"
        choice = asked.body.get("tool_choice")
        forced = isinstance(choice, Mapping) and choice.get("type") == "function"
        return "tool_calls" if called and not forced else "stop"
    return str(finish)


def error(error: WeirError) -> bytes:
    return orjson.dumps(error.body())


def writer(asked: Asked, stamp: Stamp) -> "Writer":
    return Writer(asked, stamp)


class _Choice:
    __slots__ = ("argued", "calls", "finish", "named")

    def __init__(self) -> None:
        self.finish: str | None = None
        self.calls: dict[Any, int] = {}
        """Upstream's index > ours."""
        self.named: set[int] = set()
        self.argued: set[int] = set()
        """Calls (our index) that have arguments by now."""


class Writer:
    """Chunks > chat.completion.chunk events."""

    def __init__(self, asked: Asked, stamp: Stamp) -> None:
        self._asked = asked
        self._stamp = stamp
        self._base: dict[str, Any] = {
            "id": f"chatcmpl-{stamp.id}",
            "object": "chat.completion.chunk",
            "created": stamp.created,
            "model": stamp.model,
        }
        if asked.wants.usage:
            self._base["usage"] = None
        self._choices: dict[int, _Choice] = {}
        self._usage: Json | None = None
        self._extra: dict[str, Any] = {}
        """Words beside the choices (system_fingerprint): in every event from here on, as clients keep what the last one says."""
        self._once: dict[str, Any] = {}
        """Other values beside the choices: with the next event."""

    def feed(self, chunk: Chunk) -> bytes:
        if chunk.usage is not None:
            self._usage = chunk.usage
        for key, value in (chunk.extra or {}).items():
            (self._extra if isinstance(value, str) else self._once)[key] = value
        if not chunk.delta and chunk.finish is None and not chunk.logprobs:
            return b""
        out = []
        for index in (*range(min(chunk.choice, self._asked.wants.n)), chunk.choice):
            if index not in self._choices:  # clients index into a list: lower choices must come first
                out.append(self._open(index))
        choice = self._choices[chunk.choice]
        delta = self._delta(chunk.delta, choice)
        calls = delta.pop("tool_calls", None)
        logprobs = _logprobs(chunk.logprobs, self._asked)
        if delta or logprobs:
            out.append(self._event(chunk.choice, delta, None, logprobs))
        if calls:  # apart from the text: some clients (AutoGen) read only one of the two in a delta
            out.append(self._event(chunk.choice, {"tool_calls": calls}, None, None))
        if chunk.finish is not None:
            choice.finish = chunk.finish
        return b"".join(out)

    def end(self) -> bytes:
        out = [self._open(0)] if not self._choices else []
        for index, choice in sorted(self._choices.items()):
            # "{}", never "": every client parses the arguments of a tool without any.
            silent = sorted(set(choice.calls.values()) - choice.argued)
            for ours in silent:
                out.append(
                    self._event(index, {"tool_calls": [{"index": ours, "function": {"arguments": "{}"}}]}, None, None)
                )
            out.append(self._event(index, {}, finish_reason(choice.finish, bool(choice.calls), self._asked), None))
        if self._asked.wants.usage:
            out.append(_sse({**self._extra, **self._base, "choices": [], "usage": self._usage or NO_USAGE}))
        out.append(DONE)
        return b"".join(out)

    def error(self, error: WeirError) -> bytes:
        return _sse(error.body())

    def _open(self, index: int) -> bytes:
        self._choices[index] = _Choice()
        return self._event(index, {"role": "assistant", "content": "", "refusal": None}, None, None)

    def _event(self, index: int, delta: Json, finish: str | None, logprobs: Json | None) -> bytes:
        if self._asked.wants.functions:
            delta = functions.old_delta(delta)
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        once, self._once = self._once, {}
        return _sse({**once, **self._extra, **self._base, "choices": [choice]})

    def _delta(self, delta: Json, choice: _Choice) -> dict[str, Any]:
        """`delta` without what was said before: the role, empty fields, a call's id, type and name."""
        mended: dict[str, Any] = {}
        if any(key in delta for key in REASONING):
            delta = one_reasoning(delta, self._stamp.reasoning)
        for key, value in delta.items():
            if key == "tool_calls":
                deltas = value if isinstance(value, list) else ()
                mended[key] = [
                    self._call(call, at, choice) for at, call in enumerate(deltas) if isinstance(call, Mapping)
                ]
            elif key != "role" and value is not None and value != "":
                mended[key] = value
        return mended

    def _call(self, call: Json, position: int, choice: _Choice) -> dict[str, Any]:
        theirs = call.get("index")
        theirs = position if theirs is None else theirs
        first = theirs not in choice.calls
        ours = choice.calls.setdefault(theirs, len(choice.calls))
        function = call.get("function")
        function = function if isinstance(function, Mapping) else {}
        mended: dict[str, Any] = {"index": ours}
        if first:
            mended["id"] = call.get("id") or _call_id(self._stamp, ours)
            mended["type"] = call.get("type") or "function"
        if call.get("type", "function") in ("function", None):
            arguments = function.get("arguments")
            arguments = arguments if isinstance(arguments, str) else ""
            name = {"name": function["name"]} if function.get("name") and ours not in choice.named else {}
            if name:
                choice.named.add(ours)
            if arguments:
                choice.argued.add(ours)
            mended["function"] = {**name, "arguments": arguments}
        else:
            choice.argued.add(ours)
        for key, value in call.items():
            if key not in ("index", "id", "type", "function") and value is not None:
                mended[key] = value
        return mended


def _sse(event: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(event) + b"\n\n"
