"""gateway/dialects/responses: what goes in. A Responses body becomes a chat body, and errors name the caller's own fields."""

from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects import chat, responses
from gateway.dialects.base import Caller
from wire.errors import BadRequest
from wire.types import Asked

CALLER = Caller({}, "acme")
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": None, "description": None}


def asked(input: Any = "hi", earlier: responses.Earlier | None = None, **more: Any) -> Asked:
    body = {"model": "m", "input": input, **more}
    return responses.understand(body, orjson.dumps(body), CALLER, earlier or responses.Earlier())


def messages(*items: Any, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = asked(list(items), **more).body["messages"]
    return found


def refused(**body: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        responses.understand({"model": "m", "input": "hi", **body}, b"", CALLER)
    return caught.value


def call(id: str, name: str = "look", arguments: str = "{}") -> dict[str, Any]:
    return {"type": "function_call", "call_id": id, "name": name, "arguments": arguments}


def result(id: str, output: Any = "ok") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": id, "output": output}


def chat_call(id: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "look", "arguments": "{}"}}


USER = {"role": "user", "content": "q"}


def test_text_alone() -> None:
    """A string is one user message; instructions are the system's."""
    assert asked("hi", instructions="be brief").body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
    ]


@pytest.mark.parametrize(
    "item",
    [
        {"role": "user", "content": "q"},
        {"type": "message", "role": "user", "content": "q"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "q"}]},
        {"type": "message", "id": "msg_1", "status": "completed", "role": "user", "content": "q"},
    ],
)
def test_messages_in_every_form(item: Any) -> None:
    """With and without type, id and status, as a string and as parts: the same message."""
    assert messages(item) == [USER]


def test_the_assistants_own_words() -> None:
    """What an answer consisted of can be sent back, also without ids (Codex); a refusal is text."""
    part = {"type": "output_text", "text": "a", "annotations": [], "logprobs": []}
    refusal = {"type": "refusal", "refusal": "no"}
    assert messages(
        {"type": "message", "role": "assistant", "content": [part]},
        USER,
        {"type": "message", "role": "assistant", "content": [refusal]},
        USER,
    ) == [{"role": "assistant", "content": "a"}, USER, {"role": "assistant", "content": "no"}, USER]


def test_parts_keep_their_kind() -> None:
    """Images, files and sound become chat's parts, and the router sees them."""
    parts = [
        {"type": "input_text", "text": "see"},
        {"type": "input_image", "image_url": "data:x", "detail": "low"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:y"},
        {"type": "input_audio", "input_audio": {"data": "z", "format": "wav"}},
    ]
    told = asked([{"role": "user", "content": parts}])
    assert told.body["messages"][0]["content"] == [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:y"}},
        {"type": "input_audio", "input_audio": {"data": "z", "format": "wav"}},
    ]
    assert told.query.modality == {"text", "image", "file", "audio"}


def test_one_turn_is_one_message() -> None:
    """Text and calls of one turn belong together, results stand directly behind them, in the order of the calls."""
    spoken = {"role": "assistant", "content": "let me look"}
    assert messages(USER, spoken, call("a"), call("b"), result("b", "2"), result("a", "1"), USER) == [
        USER,
        {"role": "assistant", "content": "let me look", "tool_calls": [chat_call("a"), chat_call("b")]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        USER,
    ]


def test_calls_one_after_the_other() -> None:
    """A call after a result is a new turn; an id that a model used twice is answered in order."""
    assert messages(USER, call("a"), result("a", "1"), call("a"), result("a", "2")) == [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [chat_call("a")]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "assistant", "content": None, "tool_calls": [chat_call("a")]},
        {"role": "tool", "tool_call_id": "a", "content": "2"},
    ]


def test_results_that_stand_elsewhere() -> None:
    """Chat wants a result directly behind its call, wherever the caller put it."""
    told = messages(USER, call("a"), {"role": "user", "content": "and?"}, result("a"))
    assert [message["role"] for message in told] == ["user", "assistant", "tool", "user"]


def test_two_answers_in_a_row_stay_two() -> None:
    """Only what belongs to one turn is joined."""
    told = messages(USER, {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}, USER)
    assert [message["content"] for message in told] == ["q", "a", "b", "q"]


def test_text_after_a_call_joins_its_turn() -> None:
    """Nothing may stand between a call and its result."""
    told = messages(
        USER, {"role": "assistant", "content": "a"}, call("x"), {"role": "assistant", "content": "b"}, result("x")
    )
    assert [message["role"] for message in told] == ["user", "assistant", "tool"]
    assert told[1]["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


def test_custom_tools_both_ways() -> None:
    """Free-form tools become chat's custom tools; their calls and results too."""
    items = [
        USER,
        {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "*** Begin"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
    ]
    told = asked(items, tools=[{"type": "custom", "name": "patch", "format": {"type": "text"}}]).body
    assert told["tools"] == [{"type": "custom", "custom": {"name": "patch", "format": {"type": "text"}}}]
    assert told["messages"][1]["tool_calls"] == [
        {"id": "c", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}}
    ]
    assert told["messages"][2] == {"role": "tool", "tool_call_id": "c", "content": "done"}


def test_results_as_parts() -> None:
    """A result may be a list of parts: text alone is text, a picture stays one."""
    told = messages(USER, call("a"), result("a", [{"type": "input_text", "text": "t"}]), call("b"),
                    result("b", [{"type": "input_image", "image_url": "data:x"}]))  # fmt: skip
    assert told[2]["content"] == "t"
    assert told[4]["content"] == [{"type": "image_url", "image_url": {"url": "data:x"}}]


def test_reasoning_is_for_rungs_of_this_api_only() -> None:
    """It is in no message, so that no other model reads it as its own; a rung that speaks this API gets every item as it came."""
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "secret"}
    items = [USER, thought, call("a"), result("a"), thought, {"role": "assistant", "content": "so"}, USER]
    told = asked(items)
    assert "secret" not in str(told.body)
    assert [message["role"] for message in told.body["messages"]] == ["user", "assistant", "tool", "assistant", "user"]
    assert told.native is not None
    assert told.native["input"] == items


@pytest.mark.parametrize(
    "kind",
    [
        "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call", "mcp_list_tools",
        "tool_search_call", "tool_search_output", "additional_tools", "ghost_snapshot",
    ],
)  # fmt: skip
def test_records_of_hosted_tools_are_passed_over(kind: str) -> None:
    """What a hosted tool did on the way to the text beside it."""
    assert messages(USER, {"type": kind, "id": "x"}, {"role": "assistant", "content": "a"}) == [
        USER,
        {"role": "assistant", "content": "a"},
    ]


@pytest.mark.parametrize(
    ("input", "param"),
    [
        ([USER, {"type": "computer_call", "call_id": "c"}], "input[1].type"),
        ([{"type": "what"}], "input[0].type"),
        ([{"type": 7}], "input[0].type"),
        ([{}], "input[0].type"),
        ([7], "input[0]"),
        ([{"role": "wizard", "content": "x"}], "input[0].role"),
        ([{"role": "user"}], "input[0].content"),
        ([{"role": "user", "content": 7}], "input[0].content"),
        ([{"role": "user", "content": [{"type": "hologram"}]}], "input[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "input_text"}]}], "input[0].content[0].text"),
        ([{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}], "input[0].content[0].file_id"),
        ([{"role": "user", "content": [{"type": "input_image"}]}], "input[0].content[0].image_url"),
        ([{"role": "user", "content": [{"type": "input_file", "file_url": "u"}]}], "input[0].content[0].file_url"),
        ([{"role": "user", "content": [{"type": "input_file"}]}], "input[0].content[0].file_data"),
        ([{"type": "function_call", "name": "f"}], "input[0].call_id"),
        ([{"type": "function_call", "call_id": "c"}], "input[0].name"),
        ([{"type": "function_call_output", "output": "x"}], "input[0].call_id"),
        ([{"type": "function_call_output", "call_id": "c"}], "input[0].output"),
        ([{"type": "item_reference", "id": "msg_1"}], "input[0]"),
        ([], "input"),
        (7, "input"),
        (None, "input"),
    ],
)  # fmt: skip
def test_bad_items_are_named(input: Any, param: str) -> None:
    """A clear 400 (404 for an item that is only named) with the place."""
    error = refused(input=input)
    assert error.param == param
    assert error.status in (400, 404)


def test_calls_and_results_pair_up() -> None:
    """As at OpenAI: a call without its result, or a result without its call, is a 400 that names it."""
    assert refused(input=[USER, call("call_9")]).message.startswith("No tool output found for function call call_9")
    assert "call_id call_9" in refused(input=[USER, result("call_9")]).message


# --- fields -----------------------------------------------------------------------------------------------------------------------


def test_fields_in_chats_words() -> None:
    """Everything that a chat model can be told is told in its words; what is the gateway's own stays here."""
    told = asked(
        max_output_tokens=99,
        reasoning={"effort": "low", "summary": "auto"},
        text={"verbosity": "low"},
        temperature=0.5,
        top_p=0.9,
        user="u",
        service_tier="flex",
        prompt_cache_key="k",
        safety_identifier="s",
        metadata={"a": "b"},
        truncation="auto",
        store=False,
        max_tool_calls=3,
        seed=7,
        stop=None,
        stream_options={"include_obfuscation": False},
    ).body
    assert told == {
        "model": "m", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 99, "reasoning_effort": "low",
        "verbosity": "low", "temperature": 0.5, "top_p": 0.9, "user": "u", "service_tier": "flex", "prompt_cache_key": "k",
        "safety_identifier": "s", "seed": 7,
    }  # fmt: skip


def test_tools_flat_to_nested() -> None:
    """Null keys are absent keys; a choice without tools says nothing."""
    told = asked(tools=[TOOL], tool_choice={"type": "function", "name": "look"}, parallel_tool_calls=False)
    assert told.body["tools"] == [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    assert told.body["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert told.body["parallel_tool_calls"] is False
    assert told.query.tool_names == ("look",)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(
        asked(tools=[], tool_choice="auto", parallel_tool_calls=True).body
    )


@pytest.mark.parametrize("choice", ["none", "auto", "required"])
def test_simple_choices(choice: str) -> None:
    """They are chat's too."""
    assert asked(tools=[TOOL], tool_choice=choice).body["tool_choice"] == choice


def test_allowed_tools() -> None:
    """Nested as chat wants it."""
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "look"}]}
    assert asked(tools=[TOOL], tool_choice=choice).body["tool_choice"] == {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "look"}}]},
    }


@pytest.mark.parametrize(("include", "top", "logprobs"), [
    (None, None, False), ([responses.request.LOGPROBS], None, True), (None, 3, True), (["reasoning.encrypted_content"], 0, False),
])  # fmt: skip
def test_log_probabilities(include: Any, top: Any, logprobs: bool) -> None:
    """Asked for by `include`, or by a number of alternatives."""
    told = asked(include=include, top_logprobs=top)
    assert told.wants.logprobs is logprobs
    assert bool(told.body.get("logprobs")) is logprobs
    assert told.body.get("top_logprobs") == (top or None)


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def test_a_schema_is_the_same_constraint_as_in_chat() -> None:
    """Routing by schema name and by signature works alike on both APIs."""
    form = {"type": "json_schema", "name": "label", "schema": SCHEMA, "strict": True}
    ours = asked([USER], text={"format": form}, tools=[TOOL])
    theirs = chat.understand(
        {
            "model": "m", "messages": [USER],
            "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "label", "schema": SCHEMA, "strict": True}},
        },
        b"",
        CALLER,
    )  # fmt: skip
    assert ours.constraint == theirs.constraint
    assert ours.query == theirs.query
    assert ours.body == theirs.body
    assert asked(text={"format": {"type": "json_object"}}).constraint is not None
    assert asked(text={"format": {"type": "text"}}).constraint is None


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"model": None}, "model", None),
        ({"background": True}, "background", "unsupported_parameter"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter"),
        ({"stream": "yes"}, "stream", None),
        ({"store": 1}, "store", None),
        ({"temperature": 3}, "temperature", None),
        ({"max_output_tokens": 0}, "max_output_tokens", None),
        ({"top_logprobs": 21}, "top_logprobs", None),
        ({"include": "x"}, "include", None),
        ({"include": [1]}, "include[0]", None),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", None),
        ({"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}}, "text.format.name", None),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema", None),
        ({"tools": [{"type": "function"}]}, "tools[0].name", None),
        ({"tools": [{"type": "function", "name": "f", "parameters": 1}]}, "tools[0].parameters", None),
        ({"tools": [{"type": 1}]}, "tools[0].type", None),
        ({"tools": "x"}, "tools", None),
        ({"tool_choice": "sometimes"}, "tool_choice", None),
        ({"tool_choice": "required"}, "tool_choice", None),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "other"}}, "tool_choice", None),
        ({"previous_response_id": 1}, "previous_response_id", None),
        ({"metadata": []}, "metadata", None),
    ],
)  # fmt: skip
def test_bad_fields_are_named(body: dict[str, Any], param: str, code: str | None) -> None:
    """A 400 in this API's words."""
    error = refused(**body)
    assert (error.status, error.param, error.code) == (400, param, code)
    assert orjson.loads(responses.error(error))["error"]["param"] == param


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("messages[3].content", "input"),
        ("response_format.json_schema.schema", "text.format.schema"),
        ("max_completion_tokens", "max_output_tokens"),
        ("reasoning_effort", "reasoning.effort"),
        ("temperature", "temperature"),
        (None, None),
    ],
)
def test_an_upstreams_param_is_renamed(theirs: str | None, ours: str | None) -> None:
    """Upstreams speak chat: their errors name chat's fields."""
    error = BadRequest(f"bad '{theirs}'", param=theirs)
    body = orjson.loads(responses.error(error))["error"]
    assert set(body) == {"message", "type", "param", "code"}
    assert body["param"] == ours
    assert body["message"] == f"bad '{ours}'"


# --- what went before -------------------------------------------------------------------------------------------------------------


def test_what_went_before_comes_first() -> None:
    """The conversation, then this request's input; instructions are this request's only. The session stays that of the conversation."""
    before = [{"type": "message", "role": "user", "content": "q"}, call("a")]
    earlier = responses.Earlier(items=before, session="s")
    told = asked([result("a", "1")], earlier, instructions="new", previous_response_id="resp_1")
    assert [message["role"] for message in told.body["messages"]] == ["system", "user", "assistant", "tool"]
    assert told.query.session == "s"
    assert told.query.tool_loop
    assert told.raw == b"", "the bytes as they came say nothing to a rung that does not know our ids"
    assert told.native is not None
    assert told.native["input"] == [*before, result("a", "1")]
    assert "previous_response_id" not in told.native


def test_references_are_replaced() -> None:
    """An item that is only named, with or without its type."""
    named = {"msg_1": {"type": "message", "id": "msg_1", "role": "user", "content": "q"}}
    for reference in ({"type": "item_reference", "id": "msg_1"}, {"id": "msg_1"}):
        body = {"model": "m", "input": [reference, USER]}
        assert responses.needs(body).references == ("msg_1",)
        told = responses.understand(body, b"x", CALLER, responses.Earlier(named=named))
        assert told.body["messages"] == [USER, USER]


def test_needs_of_odd_bodies() -> None:
    """Looking for what a request builds on never fails for what else is wrong with it."""
    bodies: tuple[Any, ...] = (None, [], {}, {"input": 7}, {"input": [7, None]}, {"previous_response_id": None})
    for body in bodies:
        assert responses.needs(body) == responses.Needs()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["type", "role", "content", "text", "call_id", "output", "name", "arguments", "id", "format", "schema", "mode", "tools", "effort"]
    ), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
KINDS = st.sampled_from(
    [
        "message",
        "function_call",
        "function_call_output",
        "reasoning",
        "item_reference",
        "custom_tool_call",
        "input_text",
        "x",
    ]
)


@settings(max_examples=400)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "model",
                "input",
                "instructions",
                "tools",
                "tool_choice",
                "text",
                "reasoning",
                "include",
                "previous_response_id",
                "metadata",
            ]
        ),
        json_values
        | st.lists(st.fixed_dictionaries({"type": KINDS}, optional={"role": st.just("user"), "content": json_values})),
    )
)
def test_any_body_is_understood_or_refused(body: dict[str, Any]) -> None:
    """Never another exception, and what is understood can be written as JSON."""
    with suppress(BadRequest):
        responses.needs(body)
        told = responses.understand(body, b"", CALLER)
        assert told.body["messages"]
        orjson.dumps(told.body)
