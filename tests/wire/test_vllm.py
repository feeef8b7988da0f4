"""What vLLM is told differently."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import BackendError, Broken, ContextOverflow, Refused, Unsupported
from wire.types import Constraint
from wire.vllm import judge, messages, request

_TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
_OTHER = {"type": "function", "function": {"name": "g", "parameters": {}}}
_SCHEMA = {"type": "object"}
_EXOTIC = {"type": "object", "properties": {"n": {"type": "integer", "multipleOf": 7}}}
_FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": _SCHEMA}}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"temperature": None, "stop": None}, {}),
        ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}, {}),
        ({"top_p": 0}, {"top_p": 1e-5}),
        ({"top_p": 0.9}, {"top_p": 0.9}),
        ({"stop": ""}, {}),
        ({"stop": ["", "x"]}, {"stop": ["x"]}),
        ({"stream_options": {"include_usage": True}}, {}),
        ({"stream": True, "stream_options": {"a": 1}}, {"stream": True, "stream_options": {"a": 1}}),
        ({"max_tokens": 5, "max_completion_tokens": 6}, {"max_completion_tokens": 6}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        (
            {"store": True, "metadata": {}, "service_tier": "flex", "prediction": {}, "verbosity": "low", "user": "u"},
            {},
        ),
        ({"top_k": 5, "chat_template_kwargs": {"a": 1}}, {"top_k": 5, "chat_template_kwargs": {"a": 1}}),
        ({"response_format": {"type": "text"}}, {}),
        ({"guided_choice": ["a"], "guided_decoding_backend": "x"}, {"structured_outputs": {"choice": ["a"]}}),
        ({"structured_outputs": {"regex": "a"}}, {"structured_outputs": {"regex": "a"}}),
        ({"tools": [_TOOL], "response_format": _FORMAT}, {"tools": [_TOOL]}),
        (
            {"tools": [_TOOL], "tool_choice": "none", "response_format": _FORMAT},
            {"tools": [_TOOL], "tool_choice": "none", "response_format": _FORMAT},
        ),
        (
            {
                "tools": [_TOOL, _OTHER],
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]},
                },
            },
            {"tools": [_OTHER], "tool_choice": "required"},
        ),
        ({"modalities": ["text"]}, {}),
    ],
)
def test_request(body: dict[str, Any], told: dict[str, Any]) -> None:
    """What vLLM refuses or ignores is left out or said in its words; the rest passes; the caller's body is not changed."""
    before = repr(body)
    assert request(body, None) == told
    assert repr(body) == before


@pytest.mark.parametrize(
    ("constraint", "told"),
    [
        (Constraint("schema", _SCHEMA), {"response_format": _FORMAT}),
        (Constraint("json", None), {"structured_outputs": {"json_object": True}}),
        (Constraint("choice", ["a", "b"]), {"structured_outputs": {"choice": ["a", "b"]}}),
        (Constraint("regex", "a+"), {"structured_outputs": {"regex": "a+"}}),
        (Constraint("grammar", 'root ::= "a"'), {"structured_outputs": {"grammar": 'root ::= "a"'}}),
    ],
)
def test_constraint(constraint: Constraint, told: dict[str, Any]) -> None:
    """Each constraint has one spelling, and takes the place of whatever the body asked for."""
    assert request({}, constraint) == told
    body = {"structured_outputs": {"regex": "x"}, "response_format": {"type": "json_schema", "json_schema": {}}}
    assert request(body, constraint) == told


def test_callers_own_format_is_kept() -> None:
    """A format that says the constraint already keeps its name and description."""
    asked = {"type": "json_schema", "json_schema": {"name": "order", "description": "d", "schema": _SCHEMA}}
    assert request({"response_format": asked}, Constraint("schema", _SCHEMA)) == {"response_format": asked}


@pytest.mark.parametrize(
    "body",
    [
        {"modalities": ["text", "audio"]},
        {"web_search_options": {}},
        {"functions": [{"name": "f"}]},
        {"tools": [{"type": "custom", "custom": {"name": "x"}}]},
        {"tools": [_TOOL], "tool_choice": {"type": "custom", "custom": {"name": "x"}}},
        {"tools": [_TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
    ],
)
def test_unsupported(body: dict[str, Any]) -> None:
    """What vLLM cannot do is said before it is asked, so that a rung that can is asked instead."""
    with pytest.raises(Unsupported):
        request(body, None)


def test_one_system_message() -> None:
    """System and developer messages, wherever they stand, become one at the front, in their order; the others keep theirs."""
    user: dict[str, Any] = {"role": "user", "content": "u"}
    assistant: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": []}
    parts = [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]
    told = [{"role": "system", "content": "a"}, user, {"role": "developer", "content": parts}, assistant]
    assert messages(told) == [{"role": "system", "content": "a\n\nb\nc"}, user, assistant]
    assert messages([user, {"role": "developer", "content": "x", "name": "n"}]) == [
        {"role": "system", "content": "x", "name": "n"},
        user,
    ]
    fine = [{"role": "system", "content": "a"}, user]
    assert messages(fine) is fine
    assert messages([user]) == [user]


def test_parts_pass() -> None:
    """Images, audio and files reach the model as they are: never silently dropped."""
    content = [{"type": "image_url", "image_url": {"url": "data:"}}, {"type": "input_audio", "input_audio": {}}]
    body = {"messages": [{"role": "user", "content": content}]}
    assert request(body, None) == body


@pytest.mark.parametrize(
    ("exc", "constrained", "kind"),
    [
        (
            Refused("m", status=400, detail="The provided JSON schema contains features not supported by xgrammar."),
            True,
            Unsupported,
        ),
        (Refused("m", status=400, detail="Failed to transform json schema into a grammar: x"), False, Unsupported),
        (Refused("m", status=400, detail='"auto" tool choice requires --enable-auto-tool-choice'), False, Unsupported),
        (Refused("m", status=400, detail="model is not a multimodal model"), False, Unsupported),
        (Refused("m", status=400, detail="temperature must be positive"), True, Refused),
        (Broken("m", status=500, detail="grammar backend mismatch"), True, Unsupported),
        (Broken("m", status=500, detail="grammar backend mismatch"), False, Broken),
        (Broken("m"), True, Broken),
        (ContextOverflow("m", status=400, detail="maximum context length; json schema"), True, ContextOverflow),
    ],
)
def test_judge(exc: BackendError, constrained: bool, kind: type[BackendError]) -> None:
    """A refusal about the grammar or about how the server was started is Unsupported, with all that the upstream said."""
    judged = judge(exc, constrained)
    assert type(judged) is kind
    assert (judged.status, judged.detail, judged.message) == (exc.status, exc.detail, exc.message)


_KEYS = ["type", "function", "name", "role", "content", "text", "allowed_tools", "tools", "mode"]
_FIELDS = ["messages", "tools", "tool_choice", "stop", "top_p", "response_format", "modalities", "guided_json"]
_odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(_FIELDS), _odd))
def test_any_types(body: dict[str, Any]) -> None:
    """Fields of any type: a request or Unsupported, nothing else."""
    try:
        told = request(body, None)
    except Unsupported:
        return
    assert None not in told.values()


def _wide(**last: Any) -> dict[str, Any]:
    """A schema of more bytes than are remembered."""
    fields = {f"field_{number}": {"type": "string", "description": "x" * 20} for number in range(500)}
    return {"type": "object", "properties": {**fields, **last}}


def _deep() -> dict[str, Any]:
    """A schema that is nested more deeply than can be written as JSON."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(300):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ({"name": "f", "parameters": _SCHEMA}, {"name": "f", "parameters": _SCHEMA, "strict": True}),
        ({"name": "f", "parameters": _SCHEMA, "strict": False}, {"name": "f", "parameters": _SCHEMA, "strict": True}),
        ({"name": "f", "parameters": _EXOTIC, "strict": True}, {"name": "f", "parameters": _EXOTIC}),
        ({"name": "f", "parameters": _EXOTIC}, {"name": "f", "parameters": _EXOTIC}),
        ({"name": "f", "parameters": _wide()}, {"name": "f", "parameters": _wide(), "strict": True}),
        ({"name": "f", "parameters": _wide(last=_EXOTIC)}, {"name": "f", "parameters": _wide(last=_EXOTIC)}),
        ({"name": "f", "parameters": _deep()}, {"name": "f", "parameters": _deep(), "strict": True}),
        ({"name": "f"}, {"name": "f"}),
    ],
)
def test_strict_tools(function: dict[str, Any], told: dict[str, Any]) -> None:
    """Arguments are put under a grammar where xgrammar can do all of the schema, and only there; the caller's tool is not changed. The
    second request with it is told the same."""
    body = {"tools": [{"type": "function", "function": function}], "tool_choice": "required"}
    before = repr(body)
    for _ in range(2):
        assert request(body, None, strict_tools=True)["tools"] == [{"type": "function", "function": told}]
    assert request(body, None)["tools"] == body["tools"]
    assert repr(body) == before
