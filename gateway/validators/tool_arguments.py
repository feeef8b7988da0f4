"""`tool_arguments`: every call names a tool that was offered, with arguments that fit its parameters.

Also: `tool_choice: required` really led to a call, a named tool to a call of that tool, `allowed_tools` to no other tool.
Parameters that are no usable JSON Schema are not judged (OpenAI ignores exotic keywords of non-strict tools), but their
arguments must still be one JSON object.
"""

from collections.abc import Mapping

import orjson

from gateway.validators.base import PASS, Ask, ValidatorConfig, Verdict
from gateway.validators.fits_schema import SchemaError, validator
from wire.hashing import canonical
from wire.types import Draft


class ToolArguments:
    quiet = True

    class Config(ValidatorConfig):
        pass

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, draft: Draft, ask: Ask) -> Verdict:
        """FAIL with the call's position and the rule that was broken, never with a name or value out of the answer. The reason is
        `tool_arguments`; `truncated` where the token limit cut the answer."""
        if draft.finish is None or not (draft.tool_calls or ask.tools):
            return PASS
        broken = _misfit(draft, ask)
        if not broken:
            return PASS
        return Verdict("fail", "truncated" if draft.finish == "length" else "tool_arguments", "tool_arguments", broken)


def _misfit(draft: Draft, ask: Ask) -> str:
    if not draft.tool_calls:
        missing = ask.tools and not draft.refusal and _demands_call(ask.tool_choice)
        return "a tool call was required and there is none" if missing else ""
    if ask.tool_choice == "none":
        return "a tool was called though tool_choice is none"
    if ask.one_call and len(draft.tool_calls) > 1:
        return f"{len(draft.tool_calls)} calls though parallel_tool_calls is false"
    allowed = _allowed(ask.tool_choice)
    for position, call in enumerate(draft.tool_calls):
        if call.kind != "function":
            continue
        if call.name in ask.tools and allowed is not None and call.name not in allowed:
            return f"call {position}: names a tool that tool_choice does not allow"
        if broken := _broken(call.name, call.arguments, ask):
            return f"call {position}: {broken}"
    return ""


def _demands_call(choice: object) -> bool:
    if isinstance(choice, Mapping):
        allowed = choice.get("allowed_tools")
        return choice.get("type") != "allowed_tools" or (
            isinstance(allowed, Mapping) and allowed.get("mode") == "required"
        )
    return choice == "required"


def _allowed(choice: object) -> list[object] | None:
    """Names of the functions that `tool_choice` leaves to choose from; None when it leaves all of them."""
    if not isinstance(choice, Mapping):
        return None
    if choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools")
        tools = allowed.get("tools") if isinstance(allowed, Mapping) else None
        return [_name(tool) for tool in tools] if isinstance(tools, list) else None
    return [_name(choice)] if isinstance(choice.get("function"), Mapping) else None


def _name(tool: object) -> object:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    return function.get("name") if isinstance(function, Mapping) else None


def _broken(name: str, arguments: str, ask: Ask) -> str:
    tool = ask.tools.get(name)
    if tool is None:
        return "names a tool that was not offered"
    try:
        document = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError as exc:
        return f"arguments are not JSON: {exc.msg} at character {exc.pos}"
    if not isinstance(document, dict):
        return "arguments are not a JSON object"
    if tool.parameters is None:
        return ""
    try:
        broken = validator(canonical(tool.parameters), True).first_break(document)
    except (SchemaError, TypeError):  # TypeError: nested deeper than can be written
        return ""
    return "arguments/{} break the tool's parameters at /{}".format(*broken) if broken else ""
