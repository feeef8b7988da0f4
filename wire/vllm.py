"""What vLLM's chat endpoint wants to be told differently from OpenAI's. Pure. Source: vLLM 0.33, `vllm/entrypoints/openai`.

- `guided_*` fields are dead: accepted, ignored, answered 200 without any constraint. They become `structured_outputs`.
- `tools: []`, `stream_options` without `stream`, null parameters of some kinds, empty stop strings and `top_p: 0` are 400s.
- `allowed_tools`, custom tools and the old `functions` are 400s or ignored: the first is expanded, the others are Unsupported.
- A grammar from `response_format` makes tool calls impossible (and is ignored when a tool is forced): beside tools it is left
  out; the validator judges the final answer.
- A tool without `strict: true` gets a grammar for its envelope only; its arguments are any JSON (a number, even), and with `auto`
  not even the envelope is bound. So tools are made strict, but for those with schemas that xgrammar cannot do (`wire.xgrammar`):
  what it does not know it would leave out in silence. Their arguments are judged by the validator alone.
- Chat templates of small models know one system message, the first.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from wire.errors import BackendError, Refused, Unsupported
from wire.openai import response_format, says
from wire.types import Constraint, Json
from wire.xgrammar import unsupported

_UNKNOWN = {
    "store", "metadata", "service_tier", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "safety_identifier", "prediction", "verbosity", "modalities", "audio", "web_search_options", "moderation", "user",
    "functions", "function_call",
}  # fmt: skip
_GUIDED = {
    "guided_json": "json", "guided_regex": "regex", "guided_choice": "choice", "guided_grammar": "grammar",
}  # fmt: skip
_DEAD = {*_GUIDED, "guided_json_object", "guided_decoding_backend", "guided_whitespace_pattern"}
_LEFT_OUT = _UNKNOWN | _DEAD
_KEPT = 2**13
"""Bytes of a tool's parameters that are remembered with whether a grammar can be made of them."""
_GREEDY = 1e-5
"""`top_p: 0` means "the likeliest token"; vLLM takes no zero, and this is one."""

_CANNOT = re.compile(
    r"grammar|structured.?output|guided|json.?schema|xgrammar|guidance|--enable-auto-tool-choice|--tool-call-parser"
    r"|is not a multimodal model|at most 0 (image|audio|video)",
    re.IGNORECASE,
)


def request(body: Json, constraint: Constraint | None, *, strict_tools: bool = False) -> dict[str, Any]:
    """`body` as vLLM wants it, a new dict. Raises Unsupported for what vLLM cannot do at all.

    strict_tools: the arguments of every tool whose schema xgrammar can do are put under a grammar.
    """
    _refuse(body)
    told = {key: value for key, value in body.items() if value is not None and key not in _LEFT_OUT}
    if "messages" in told:
        told["messages"] = messages(told["messages"])
    if told.get("top_p") == 0:
        told["top_p"] = _GREEDY
    if "max_completion_tokens" in told:
        told.pop("max_tokens", None)
    if "stop" in told:
        _stop(told)
    if not told.get("stream"):
        told.pop("stream_options", None)
    _tools(told)
    if strict_tools and told.get("tools"):
        told["tools"] = [strictly(tool) for tool in _list(told["tools"])]
    _constrain(told, body, constraint)
    return told


def messages(value: Any) -> Any:
    """One system message at the front, made of all system and developer messages in their order; the rest as it is."""
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        return value
    told = [item for item in value if item.get("role") in ("system", "developer")]
    if not told or (len(told) == 1 and told[0] is value[0] and told[0].get("role") == "system"):
        return value
    rest = [item for item in value if item.get("role") not in ("system", "developer")]
    if len(told) == 1:
        return [{**told[0], "role": "system"}, *rest]
    return [{"role": "system", "content": "\n\n".join(filter(None, map(_text, told)))}, *rest]


def strictly(tool: Any) -> Any:
    """`tool` with `strict: true`, or as non-strict when its parameters cannot be enforced. Whoever sent it is told nothing: at OpenAI
    a tool that is not strict is filled in as well as it goes, and this is better."""
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping):
        return tool
    parameters = function.get("parameters")
    if isinstance(parameters, Mapping) and _enforceable(parameters):
        return tool if function.get("strict") is True else {**tool, "function": {**function, "strict": True}}
    kept = {key: value for key, value in function.items() if key != "strict"}
    return {**tool, "function": kept} if "strict" in function else tool


def _enforceable(parameters: Json) -> bool:
    """Can xgrammar do all of this schema? An agent sends the same tools with each request (2 us a tool instead of 29)."""
    try:
        written = orjson.dumps(parameters)
    except TypeError:  # nested too deeply to be written
        return not unsupported(parameters)
    return _known(written) if len(written) <= _KEPT else not unsupported(parameters)


@lru_cache(maxsize=1024)
def _known(written: bytes) -> bool:
    return not unsupported(orjson.loads(written))


def judge(exc: BackendError, constrained: bool) -> BackendError:
    """A refusal that is about what this server can compile or serve, not about the request, is Unsupported."""
    said = exc.detail
    about_constraint = isinstance(exc, Refused) or (
        constrained and exc.status == 500
    )  # older servers: 500 for a grammar
    if not about_constraint or not _CANNOT.search(said):
        return exc
    return Unsupported(
        exc.message, status=exc.status, body=exc.body, head=exc.head, code=exc.code, param=exc.param, detail=said
    )


def _refuse(body: Json) -> None:
    if body.get("audio") or "audio" in _list(body.get("modalities")):
        raise Unsupported("vllm: no audio output", param="modalities")
    if body.get("web_search_options") is not None:
        raise Unsupported("vllm: no web search", param="web_search_options")
    if body.get("functions"):
        raise Unsupported("vllm: no functions (the predecessor of tools)", param="functions")
    tools = body.get("tools")
    if isinstance(tools, list) and any(
        isinstance(t, Mapping) and t.get("type", "function") != "function" for t in tools
    ):
        raise Unsupported("vllm: no tools but functions", param="tools")
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") not in ("function", "allowed_tools"):
        raise Unsupported("vllm: no such tool_choice", param="tool_choice")


def _tools(told: dict[str, Any]) -> None:
    if not told.get("tools"):
        told.pop("tools", None)
        told.pop("parallel_tool_calls", None)
        if told.get("tool_choice") in ("none", "auto"):
            del told["tool_choice"]
        return
    choice = told.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools")
        allowed = allowed if isinstance(allowed, Mapping) else {}
        names = {_name(tool) for tool in _list(allowed.get("tools")) if isinstance(tool, Mapping)}
        told["tools"] = [tool for tool in _list(told["tools"]) if isinstance(tool, Mapping) and _name(tool) in names]
        if not told["tools"]:
            raise Unsupported("vllm: allowed_tools names none of the tools", param="tool_choice")
        told["tool_choice"] = allowed.get("mode") if allowed.get("mode") in ("auto", "required") else "auto"


def _constrain(told: dict[str, Any], body: Json, constraint: Constraint | None) -> None:
    asked = told.get("response_format")
    if isinstance(asked, Mapping) and asked.get("type") == "text":
        told.pop("response_format")
    if told.get("tools") and told.get("tool_choice") != "none":
        told.pop("response_format", None)
        return
    if constraint is None:
        guided = {_GUIDED[key]: body[key] for key in _GUIDED if body.get(key) is not None}
        if body.get("guided_json_object"):
            guided["json_object"] = True
        if guided and "structured_outputs" not in told:
            told["structured_outputs"] = guided
        return
    told.pop("structured_outputs", None)
    if says(asked, constraint):
        return
    told.pop("response_format", None)
    if constraint.kind == "schema":
        told["response_format"] = response_format(constraint)
    else:
        told["structured_outputs"] = (
            {"json_object": True} if constraint.kind == "json" else {constraint.kind: constraint.value}
        )


def _stop(told: dict[str, Any]) -> None:
    stop = told["stop"]
    kept = [item for item in stop if item != ""] if isinstance(stop, list) else stop
    if kept:
        told["stop"] = kept
    else:
        del told["stop"]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _name(tool: Json) -> Any:
    function = tool.get("function")
    return function.get("name") if isinstance(function, Mapping) else tool.get("name")


def _text(message: Json) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part["text"]) for part in content if isinstance(part, Mapping) and "text" in part)
    return content if isinstance(content, str) else ""
