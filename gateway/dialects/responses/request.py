"""A Responses body > Asked: a chat body, and the echo that the response object wants back."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.dialects import chat, fields
from gateway.dialects.base import Caller
from gateway.dialects.responses import tools
from gateway.dialects.responses.items import BRING_TOOLS, is_reference, messages, placed
from gateway.dialects.responses.tools import NAME, Placed, Tools
from wire.errors import BadRequest
from wire.types import EMPTY, Asked, Json, Wants

name = "responses"
schema_param = "text.format.schema"

LOGPROBS = "message.output_text.logprobs"
TRANSLATED = frozenset(
    {
        "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning", "max_output_tokens", "include",
        "previous_response_id", "conversation", "store", "stream", "stream_options", "background", "truncation", "prompt",
        "max_tool_calls", "context_management", "metadata", "top_logprobs",
    }
)  # fmt: skip
"""Fields that do not go on as they are. Everything else does: what nobody here knows may be known to an upstream."""
ECHOED = (
    "instructions", "max_output_tokens", "max_tool_calls", "metadata", "parallel_tool_calls", "previous_response_id", "prompt_cache_key",
    "reasoning", "safety_identifier", "service_tier", "store", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p",
    "truncation", "user",
)  # fmt: skip


class Needs(Struct, frozen=True):
    """What of former responses a request builds on."""

    previous: str = ""
    """`previous_response_id`."""
    references: tuple[str, ...] = ()
    """Ids of items that the input only names."""


class Earlier(Struct, frozen=True):
    """What was found of that."""

    items: Sequence[Json] = ()
    """The conversation up to and with the previous response, oldest first."""
    named: Mapping[str, Json] = EMPTY
    """Items by id, for references."""
    session: str = ""
    """The session of the previous response: instructions may change from turn to turn, the conversation stays one."""


NOTHING = Earlier()


def needs(body: Any) -> Needs:
    """What the store has to bring before `understand` can be asked. Raises BadRequest for fields of a wrong type only."""
    if not isinstance(body, dict):
        return Needs()
    given = body.get("input")
    items = [item for item in given if isinstance(item, Mapping)] if isinstance(given, list) else []
    return Needs(
        previous=fields.text(body, "previous_response_id") or "",
        references=tuple(dict.fromkeys(str(item.get("id")) for item in items if is_reference(item))),
    )


def understand(body: Any, raw: bytes, caller: Caller, earlier: Earlier = NOTHING) -> Asked:
    """A request body (decoded JSON, and the bytes it came as), and what was found of what it builds on > Asked. Raises BadRequest."""
    if not isinstance(body, dict):
        raise fields.reject("body", f"the request body must be a JSON object, not {fields.kind(body)}")
    model = fields.text(body, "model")
    if not model:
        raise fields.reject("model", 'you must provide a model, e.g. "model": "weir"; GET /v1/models lists them')
    _check(body)
    given = _input(body, earlier)
    before = [("previous_response_id", item) for item in earlier.items]
    told: dict[str, Any] = {key: value for key, value in body.items() if key not in TRANSLATED and value is not None}
    known = _tools(body, [*before, *given])
    told["messages"] = messages([*before, *given], fields.text(body, "instructions"), known)
    if not told["messages"]:
        raise fields.reject("input", "'input' is empty: at least one item is needed")
    _callable(body, known, told)
    _text(body, told)
    _rest(body, told)
    constraint = chat.constraint_of(told)
    stream = fields.flag(body, "stream")
    query = chat.query_of(model, told["messages"], told.get("tools", ()), constraint, caller, stream)
    if earlier.session and not caller.headers.get("x-session-id"):
        query = replace(query, session=earlier.session)
    return Asked(
        query=query,
        body=told,
        wants=Wants(stream=stream, logprobs=bool(told.get("logprobs"))),
        constraint=constraint,
        raw=raw if earlier == NOTHING else b"",
        dialect=name,
        native={
            **{key: value for key, value in body.items() if key != "previous_response_id"},
            "input": [*earlier.items, *(item for _, item in given)],
        },
        echo={
            **{key: body.get(key) for key in ECHOED},
            "input": [item for _, item in given],
            "before": earlier.items,
            "names": known.names,
        },
        dropped=tuple(f"tools.{kind}" for kind in known.dropped),
    )


# --- checks -----------------------------------------------------------------------------------------------------------------------


def _check(body: Json) -> None:
    for flag in ("store", "parallel_tool_calls", "stream"):
        fields.flag(body, flag)
    if fields.flag(body, "background"):
        raise _unsupported("background", "background responses are not supported: ask without 'background'")
    if body.get("conversation") is not None:
        raise _unsupported("conversation", "conversations are not supported: use 'previous_response_id'")
    if body.get("prompt") is not None:
        raise _unsupported("prompt", "stored prompts are not supported: write 'instructions' and 'input'")
    for key in ("instructions", "previous_response_id", "truncation", "user", "service_tier", "prompt_cache_key"):
        fields.text(body, key)
    fields.number(body, "temperature", 0, 2)
    fields.number(body, "top_p", 0, 1)
    fields.integer(body, "max_output_tokens", 1, 2**31)
    fields.integer(body, "max_tool_calls", 0, 2**31)
    fields.integer(body, "top_logprobs", 0, 20)
    for key in ("text", "reasoning", "metadata"):
        if body.get(key) is not None:
            fields.table(body[key], key)
    for at, value in enumerate(fields.items(body["include"], "include") if body.get("include") is not None else ()):
        if not isinstance(value, str):
            raise fields.reject(f"include[{at}]", f"'include[{at}]' must be a string, not {fields.kind(value)}")


def _input(body: Json, earlier: Earlier) -> list[Placed]:
    """The input's items, references replaced by what they name."""
    given = body.get("input")
    if given is None and earlier.items:
        return []
    if given is None:
        raise fields.reject("input", "you must provide 'input', a string or an array of items")
    if isinstance(given, str):
        return [("input", {"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]})]
    if not isinstance(given, list):
        raise fields.reject("input", f"'input' must be a string or an array of items, not {fields.kind(given)}")
    items = []
    for place, item in placed(given, "input"):
        if is_reference(item):
            found = earlier.named.get(str(item.get("id")))
            if found is None:
                raise BadRequest(f"Item with id '{item.get('id')}' not found.", param=place, status=404)
            items.append((place, found))
        else:
            items.append((place, item))
    return items


# --- into chat's words ------------------------------------------------------------------------------------------------------------


def _tools(body: Json, given: Sequence[Placed]) -> Tools:
    """The request's tools, and those that items of its input brought along."""
    own = fields.items(body["tools"], "tools") if body.get("tools") is not None else ()
    brought = [
        one
        for place, item in given
        if item.get("type") in BRING_TOOLS and item.get("tools") is not None
        for one in placed(fields.items(item["tools"], f"{place}.tools"), f"{place}.tools")
    ]
    return tools.listed([*placed(own, "tools"), *brought])


def _callable(body: Json, known: Tools, told: dict[str, Any]) -> None:
    choice = tools.choice(body.get("tool_choice"), known)
    if not known.tools:
        return  # nothing to choose from: servers differ in what they say to a choice without tools
    told["tools"] = list(known.tools)
    if choice is not None:
        told["tool_choice"] = choice
    if body.get("parallel_tool_calls") is not None:
        told["parallel_tool_calls"] = body["parallel_tool_calls"]


def _text(body: Json, told: dict[str, Any]) -> None:
    text = body.get("text") or EMPTY
    if text.get("verbosity") is not None:
        told["verbosity"] = text["verbosity"]
    if text.get("format") is None:
        return
    form = fields.table(text["format"], "text.format")
    kind = form.get("type")
    if kind == "text":
        return
    if kind == "json_object":
        told["response_format"] = {"type": kind}
        return
    if kind != "json_schema":
        raise fields.reject("text.format.type", "'text.format.type' must be text, json_object or json_schema")
    inner = form.get("json_schema")
    flat = inner if isinstance(inner, Mapping) else form
    label = flat.get("name")
    if not isinstance(label, str) or not NAME.fullmatch(label):
        raise fields.reject("text.format.name", "a schema needs a 'name' of 1 to 64 letters, digits, - or _")
    fields.table(flat.get("schema"), schema_param)
    fields.flag(flat, "strict", inside="text.format")
    told["response_format"] = {"type": kind, "json_schema": tools.kept(flat, "name", "description", "schema", "strict")}


def _rest(body: Json, told: dict[str, Any]) -> None:
    if body.get("max_output_tokens") is not None:
        told["max_completion_tokens"] = body["max_output_tokens"]
    effort = (body.get("reasoning") or EMPTY).get("effort")
    if effort is not None:
        told["reasoning_effort"] = effort
    top = body.get("top_logprobs")
    if top or LOGPROBS in (body.get("include") or ()):
        told["logprobs"] = True
        if top:
            told["top_logprobs"] = top


def _unsupported(param: str, message: str) -> BadRequest:
    return fields.reject(param, message, code="unsupported_parameter")
