"""Messages requests made from chat bodies, or left as they came; and JSON Schema in Anthropic's subset."""

import copy
from typing import Any

import jsonschema_rs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.messages.claude import THOUGHT
from wire.anthropic_blocks import tool_id
from wire.anthropic_request import fitting, own, request
from wire.anthropic_schema import output_schema
from wire.errors import Unsupported
from wire.types import Constraint


def asked(messages: Any, **body: Any) -> dict[str, Any]:
    effort = body.pop("effort", "ignore")
    constraint = body.pop("constraint", None)
    return request(
        {"messages": messages, **body},
        model="claude-m",
        asked="weir",
        max_tokens=99,
        effort=effort,
        constraint=constraint,
    )


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def called(*ids: str) -> dict[str, Any]:
    function = {"name": "f", "arguments": '{"x":1}'}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": i, "type": "function", "function": function} for i in ids],
    }


def test_conversation() -> None:
    """System messages from anywhere stand in `system`; results of one step are one user message, before what the user says."""
    told = asked(
        [
            {"role": "system", "content": "a"},
            user("hi"),
            called("t1", "t 2"),
            {"role": "tool", "tool_call_id": "t1", "content": "one"},
            user("and?"),
            {
                "role": "tool",
                "tool_call_id": "t 2",
                "content": [{"type": "text", "text": "two"}, {"type": "text", "text": "!"}],
            },
            {"role": "developer", "content": [{"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}]},
        ]
    )
    second = tool_id("t 2")
    assert told["system"] == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}},
    ]
    assert told["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}},
            {"type": "tool_use", "id": second, "name": "f", "input": {"x": 1}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": "one"},
            {"type": "tool_result", "tool_use_id": second, "content": "two\n!"},
            {"type": "text", "text": "and?"},
        ]},
    ]  # fmt: skip
    assert told["tools"] == [{"name": "f", "input_schema": {"type": "object"}}]
    assert told["tool_choice"] == {"type": "none"}
    assert told["max_tokens"] == 99


@given(st.text(max_size=60))
def test_tool_ids(value: str) -> None:
    """An id fits Anthropic's letters, always the same way; one that fits already is kept."""
    told = tool_id(value)
    assert told == tool_id(value)
    assert all(c.isascii() and (c.isalnum() or c in "_-") for c in told)
    assert tool_id(told) == told


@pytest.mark.parametrize(
    ("part", "block"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
         {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}),
        ({"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
         {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}),
        ({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BB"}},
         {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "BB"}, "title": "a.pdf"}),
        ({"type": "file", "file": {"file_id": "file_1"}}, {"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
    ],
)  # fmt: skip
def test_parts(part: dict[str, Any], block: dict[str, Any]) -> None:
    """Images and files become blocks."""
    assert asked([user([part])])["messages"][0]["content"] == [block]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
        ({"messages": [user([{"type": "input_audio"}])]}, "messages[0].content[0]"),
        (
            {"messages": [user([{"type": "image_url", "image_url": {"url": "data:image/png,x"}}])]},
            "messages[0].content[0]",
        ),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
    ],
)
def test_unsupported(body: dict[str, Any], param: str) -> None:
    """What cannot be asked without asking something else is Unsupported, and names its place."""
    with pytest.raises(Unsupported) as caught:
        asked(**{"messages": [user("x")], **body})
    assert caught.value.param == param


TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
}
OTHER = {"type": "function", "function": {"name": "g"}}


@pytest.mark.parametrize(
    ("choice", "parallel", "told"),
    [
        (None, None, None),
        ("auto", None, {"type": "auto"}),
        ("required", None, {"type": "any"}),
        ("none", False, {"type": "none"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"type": "function", "function": {"name": "g"}},
            False,
            {"type": "tool", "name": "g", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_tool_choice(choice: Any, parallel: bool | None, told: Any) -> None:
    """Tools and their choice in Anthropic's words."""
    got = asked([user("x")], tools=[TOOL, OTHER], tool_choice=choice, parallel_tool_calls=parallel)
    assert got.get("tool_choice") == told
    assert got["tools"] == [
        {"name": "f", "input_schema": {"type": "object"}, "description": "d"},
        {"name": "g", "input_schema": {"type": "object", "properties": {}}},
    ]


def test_allowed_tools() -> None:
    """`allowed_tools` leaves only those tools."""
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [OTHER]}}
    got = asked([user("x")], tools=[TOOL, OTHER], tool_choice=allowed)
    assert [tool["name"] for tool in got["tools"]] == ["g"]
    assert got["tool_choice"] == {"type": "any"}


def test_sampling() -> None:
    """Limits and sampling in Anthropic's ranges; fields without a counterpart stay behind."""
    got = asked(
        [user("x")],
        max_completion_tokens=7,
        temperature=1.7,
        top_p=0.5,
        stop=["a", " ", "b"],
        seed=1,
        store=True,
        user="u",
    )
    assert got == {
        "model": "claude-m", "max_tokens": 7, "messages": [user("x")], "temperature": 1, "stop_sequences": ["a", "b"],
        "metadata": {"user_id": "u"},
    }  # fmt: skip
    assert asked([user("x")], top_p=0.5, temperature=None)["top_p"] == 0.5


@pytest.mark.parametrize(
    ("effort", "level", "told"),
    [
        ("ignore", "high", {}),
        ("effort", "minimal", {"output_config": {"effort": "low"}}),
        ("effort", "none", {}),
        ("budget", "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 99 + 2048}),
    ],
)
def test_effort(effort: str, level: str, told: dict[str, Any]) -> None:
    """reasoning_effort becomes what the configuration says."""
    got = asked([user("x")], effort=effort, reasoning_effort=level, temperature=0.1)
    assert {key: got[key] for key in got if key in ("output_config", "thinking")} == {
        k: v for k, v in told.items() if k != "max_tokens"
    }
    assert got["max_tokens"] == told.get("max_tokens", 99)
    assert ("temperature" in got) == ("thinking" not in got)


def test_effort_inside_a_loop() -> None:
    """A loop that another model began is gone on with without thinking, whatever effort is asked for."""
    said = [user("x"), called("t1"), {"role": "tool", "tool_call_id": "t1", "content": "2"}]
    assert "thinking" not in asked(said, effort="budget", reasoning_effort="low", tools=[TOOL])
    assert "thinking" in asked([user("x")], effort="budget", reasoning_effort="low", tools=[TOOL])


def test_invalid_arguments_are_kept() -> None:
    """Arguments that are no object travel under INVALID_JSON; nothing raises."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{oops"}}
    got = asked([user("x"), {"role": "assistant", "tool_calls": [call]}])
    assert got["messages"][1]["content"][0]["input"] == {"INVALID_JSON": "{oops"}


RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "2"}
USE = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
ENABLED = {"type": "enabled", "budget_tokens": 1024}


def test_own_words_are_left_alone() -> None:
    """A body of Anthropic's goes up as it came, but for model and stream; it is not changed itself."""
    body = {
        "model": "weir", "max_tokens": 3, "stream": True, "thinking": ENABLED, "x": {"y": 1},
        "messages": [user("hi"), {"role": "assistant", "content": [THOUGHT, USE]}, user([RESULT])],
    }  # fmt: skip
    before = copy.deepcopy(body)
    assert own(body, model="weir", asked="weir") == {k: v for k, v in body.items() if k != "stream"}
    assert body == before


def test_a_loop_begun_elsewhere() -> None:
    """`enabled` thinking is refused for a tool loop that another model began: only there it is switched off, and what clears it."""
    edits = {"edits": [{"type": "clear_thinking_20251015"}, {"type": "clear_tool_uses_20250919"}]}
    body: dict[str, Any] = {
        "model": "weir", "thinking": ENABLED, "context_management": edits,
        "messages": [user("hi"), {"role": "assistant", "content": [THOUGHT, USE]}, user([RESULT])],
    }  # fmt: skip
    got = own(body, model="claude-m", asked="weir")
    assert "thinking" not in got
    assert got["context_management"] == {"edits": [{"type": "clear_tool_uses_20250919"}]}
    assert got["messages"][1]["content"] == [USE]
    assert fitting({**body, "thinking": {"type": "adaptive"}})["thinking"] == {"type": "adaptive"}
    done = [*body["messages"], {"role": "assistant", "content": "so"}, user("next")]
    assert own({**body, "messages": done}, model="claude-m", asked="weir")["thinking"] == ENABLED


# --- schemas ----------------------------------------------------------------------------------------------------------------------


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    leaves: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
        [
            {"type": "string", "maxLength": 3}, {"type": "integer", "minimum": 1}, {"enum": ["a", 1]}, {"const": None},
            {"type": ["string", "null"]}, {"type": "boolean", "description": "d"}, {"type": "string", "format": "date"},
        ]
    )  # fmt: skip
    return st.recursive(
        leaves,
        lambda inner: (
            st.builds(lambda item: {"type": "array", "items": item, "minItems": 2}, inner)
            | st.builds(lambda parts: {"anyOf": parts}, st.lists(inner, min_size=1, max_size=3))
            | st.builds(
                lambda named: {"type": "object", "properties": named, "required": list(named)[:1]},
                st.dictionaries(st.sampled_from("pqr"), inner, min_size=1, max_size=3),
            )
        ),
        max_leaves=6,
    )


ALLOWED = {"type", "properties", "required", "additionalProperties", "items", "minItems", "anyOf", "allOf", "enum", "const", "format",
           "description", "title", "$ref", "$defs", "definitions"}  # fmt: skip


@given(schemas())
def test_schemas_stay_in_the_subset(schema: dict[str, Any]) -> None:
    """Every keyword that is left is one that Anthropic takes, every object is closed, and the result is a valid schema."""
    told = output_schema(schema)
    assert told is not None
    jsonschema_rs.validator_for(told)
    ahead: list[Any] = [told]
    while ahead:
        part = ahead.pop()
        assert set(part) <= ALLOWED
        assert part.get("type") != "object" or part["additionalProperties"] is False
        assert part.get("minItems", 0) in (0, 1)
        ahead += [*part.get("properties", {}).values(), *part.get("anyOf", [])]
        ahead += [part["items"]] if "items" in part else []


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "string"}, "properties": {"a": {"type": "string"}}},
        {"type": "object", "properties": {"a": {}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}},
        {"type": "array", "items": {"$ref": "#"}},
        {"$ref": "https://example.org/x"},
    ],
)
def test_schemas_beyond_it(schema: Any) -> None:
    """Recursion, free-form objects, remote references: said in words instead, and judged afterwards."""
    assert output_schema(schema) is None
    if isinstance(schema, dict):
        got = asked([{"role": "system", "content": "s"}, user("x")], constraint=Constraint("schema", schema))
        assert "output_config" not in got
        assert orjson.dumps(schema).decode() in got["system"][1]["text"]


def test_definitions() -> None:
    """References to definitions are kept."""
    schema = {"$defs": {"a": {"type": "string"}}, "type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}}
    assert output_schema(schema) == {**schema, "additionalProperties": False}
