"""`tool_arguments`: names, arguments, and what `tool_choice` demands."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.validators.base import PASS, Ask, Tool, Verdict
from gateway.validators.tool_arguments import ToolArguments
from wire.types import Draft, ToolCall

CHECK = ToolArguments(ToolArguments.Config(kind="tool_arguments"))
CANARY = "xyzzy-canary"

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "maximum": 9}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = {"weather": Tool(CITY), "now": Tool(None), "odd": Tool({"type": "nonsense"}), "free": Tool({"type": "object"})}
CHOSEN = {"type": "function", "function": {"name": "weather"}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def check(*calls: tuple[str, str], choice: Any = None, finish: str | None = "tool_calls", **ask: Any) -> Verdict:
    made = tuple(ToolCall(f"c{at}", name, arguments) for at, (name, arguments) in enumerate(calls))
    return CHECK.check(Draft(tool_calls=made, finish=finish), Ask(tools=TOOLS, tool_choice=choice, **ask))


@pytest.mark.parametrize(
    ("name", "arguments", "fits"),
    [
        ("weather", '{"city": "Rome"}', True),
        ("weather", '{"city": "Rome", "days": 3}', True),
        ("weather", '{"city": "Rome", "days": 30}', False),
        ("weather", '{"town": "Rome"}', False),
        ("weather", '{"city": 5}', False),
        ("weather", "", False),
        ("weather", '{"city": "Rome"', False),
        ("weather", '["Rome"]', False),
        ("weather", '"Rome"', False),
        ("weather", '{"city": NaN}', False),
        ("now", "", True),
        ("now", "{}", True),
        ("now", '{"any": "thing"}', True),
        ("now", "[]", False),
        ("odd", '{"any": "thing"}', True),
        ("odd", "nonsense", False),
        ("free", '{"any": {"thing": 1}}', True),
        ("Weather", '{"city": "Rome"}', False),
        ("", "{}", False),
    ],
)
def test_arguments(name: str, arguments: str, fits: bool) -> None:
    """A tool that was offered, with one JSON object that fits its parameters; none at all counts as `{}`, and parameters that are no
    usable schema demand an object only."""
    verdict = check((name, arguments))
    assert verdict.passed is fits
    assert verdict.reason == (None if fits else "tool_arguments")


@pytest.mark.parametrize(
    ("choice", "called", "fits"),
    [
        (None, False, True),
        ("auto", False, True),
        ("none", False, True),
        ("none", True, False),
        ("required", False, False),
        ("required", True, True),
        (CHOSEN, False, False),
        (CHOSEN, True, True),
        ({"type": "function", "function": {"name": "now"}}, True, False),
        (allowed("auto", "now"), False, True),
        (allowed("auto", "now"), True, False),
        (allowed("auto", "now", "weather"), True, True),
        (allowed("required", "weather"), False, False),
        (allowed("required", "weather"), True, True),
        ({"type": "custom", "custom": {"name": "x"}}, False, False),
        ({"type": "allowed_tools"}, False, True),
    ],
)
def test_tool_choice(choice: Any, called: bool, fits: bool) -> None:
    """`required` and a named tool demand a call, `none` forbids it, a named tool and `allowed_tools` forbid the others."""
    made = [("weather", '{"city": "Rome"}')] if called else []
    verdict = check(*made, choice=choice, finish="tool_calls" if called else "stop")
    assert verdict.passed is fits
    assert verdict.reason == (None if fits else "tool_arguments")


def test_a_refusal_instead_of_a_call() -> None:
    """Is `not_refused`'s to judge."""
    assert CHECK.check(Draft(refusal="no", finish="stop"), Ask(tools=TOOLS, tool_choice="required")) == PASS


def test_nothing_is_demanded_without_tools() -> None:
    """`tool_choice: required` with no tool to call demands nothing."""
    assert CHECK.check(Draft(text="a", finish="stop"), Ask(tool_choice="required")) == PASS


def test_every_call_is_judged() -> None:
    """The second of two calls is as bad as the first, and the detail says which."""
    verdict = check(("now", "{}"), ("weather", "{}"))
    assert verdict.detail == "call 1: arguments/ break the tool's parameters at /required"


@pytest.mark.parametrize(("one_call", "fits"), [(False, True), (True, False)])
def test_parallel_calls(one_call: bool, fits: bool) -> None:
    """`parallel_tool_calls: false`: one call at most."""
    assert check(("now", "{}"), ("now", "{}"), one_call=one_call).passed is fits
    assert check(("now", "{}"), one_call=one_call).passed


def test_custom_tools_have_no_json() -> None:
    """A custom tool's input is free text: nothing to judge."""
    draft = Draft(tool_calls=(ToolCall("c", "sql", "select 1", kind="custom"),), finish="tool_calls")
    assert CHECK.check(draft, Ask(tools=TOOLS)) == PASS


@pytest.mark.parametrize("arguments", ['{"city": "Rome"}', '{"city": "Ro', "nonsense"])
def test_a_growing_call_is_not_judged(arguments: str) -> None:
    """Only the end tells whether arguments are whole."""
    assert check(("weather", arguments), finish=None) == PASS
    assert check(("unknown", arguments), finish=None) == PASS


@pytest.mark.parametrize(("arguments", "reason"), [('{"city": "Ro', "truncated"), ('{"city": "Rome"}', None)])
def test_a_truncated_call(arguments: str, reason: str | None) -> None:
    """Arguments that the token limit cut never pass; the reason is the cut."""
    assert check(("weather", arguments), finish="length").reason == reason


@given(
    st.sampled_from([*TOOLS, CANARY]),
    st.sampled_from(
        [CANARY, f'{{"{CANARY}": 1}}', f'{{"city": {{"{CANARY}": 1}}}}', f'{{"city": "{CANARY}", "days": 99}}', "[]"]
    ),
    st.sampled_from([None, "none", CHOSEN, allowed("auto", "now")]),
    st.booleans(),
)
def test_a_detail_never_quotes_the_answer(name: str, arguments: str, choice: Any, one_call: bool) -> None:
    """Neither a tool's name as the model wrote it, nor values, nor keys that it chose."""
    assert CANARY not in check((name, arguments), ("now", "{}"), choice=choice, one_call=one_call).detail


def test_a_key_that_the_model_chose_is_a_star() -> None:
    """Keys of a free-form object are answer text; declared ones are not."""
    tools = {"f": Tool({"properties": {"tags": {"additionalProperties": {"type": "integer"}}}})}
    call = ToolCall("c", "f", orjson.dumps({"tags": {CANARY: "x"}}).decode())
    verdict = CHECK.check(Draft(tool_calls=(call,), finish="tool_calls"), Ask(tools=tools))
    assert verdict.detail.startswith("call 0: arguments/tags/* break")


def test_hostile_parameters_are_not_judged() -> None:
    """Parameters that refer outside or are nested beyond writing are not judged, and nothing is raised."""
    deep: Any = {}
    for _ in range(300):
        deep = {"properties": {"a": deep}}
    for parameters in ({"$ref": "http://127.0.0.1:1/x"}, deep, {"pattern": "(" * 5000}):
        draft = Draft(tool_calls=(ToolCall("c", "f", "{}"),), finish="tool_calls")
        assert CHECK.check(draft, Ask(tools={"f": Tool(parameters)})) == PASS
