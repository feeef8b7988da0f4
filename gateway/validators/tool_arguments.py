"""`tool_arguments`: every call names a tool that was offered, with arguments that fit its parameters.

Also: `tool_choice: required` or a named tool really led to a call. Parameters that are no usable JSON Schema are not judged
(OpenAI ignores exotic keywords of non-strict tools), but their arguments must still be one JSON object.
"""

from collections.abc import Mapping

import orjson

from gateway.validators.base import PASS, Ask, ValidatorConfig, Verdict
from gateway.validators.fits_schema import SchemaError, validator
from wire.hashing import canonical
from wire.types import Draft


class ToolArguments:
    class Config(ValidatorConfig):
        pass

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, draft: Draft, ask: Ask) -> Verdict:
        """FAIL (tool_arguments) with the tool's position and the rule that was broken, never with the value."""
        if not draft.whole or draft.finish == "length":
            return PASS
        if not draft.tool_calls:
            missing = ask.tools and not draft.refusal and _demands_call(ask.tool_choice)
            return _fail("a tool call was required and there is none") if missing else PASS
        if ask.tool_choice == "none":
            return _fail("a tool was called though tool_choice is none")
        for position, call in enumerate(draft.tool_calls):
            if call.kind != "function":
                continue
            broken = _broken(call.name, call.arguments, ask)
            if broken:
                return _fail(f"call {position}: {broken}")
        return PASS


def _demands_call(choice: object) -> bool:
    if isinstance(choice, Mapping):
        allowed = choice.get("allowed_tools")
        return choice.get("type") != "allowed_tools" or (
            isinstance(allowed, Mapping) and allowed.get("mode") == "required"
        )
    return choice == "required"


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
        compiled = validator(canonical(tool.parameters), True)
    except SchemaError:
        return ""
    for error in compiled.iter_errors(document):
        place = "/".join(map(str, error.instance_path))
        rule = "/".join(map(str, error.schema_path))
        return f"arguments/{place} break the tool's parameters at /{rule}"
    return ""


def _fail(detail: str) -> Verdict:
    return Verdict("fail", "tool_arguments", "tool_arguments", detail)
