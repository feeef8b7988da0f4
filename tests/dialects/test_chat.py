"""A request body > Asked: what is refused and how, what is let through, and which requests are alike."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects import chat
from gateway.dialects.base import Caller
from wire.errors import BadRequest
from wire.hashing import canonical, short_hash
from wire.types import Asked, Query

USER = {"role": "user", "content": "book a flight"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
SCHEMA = {"type": "object", "properties": {"label": {"enum": ["a", "b"]}}}
CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def body(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-5", "messages": [USER], **more}


def form(schema: Any = SCHEMA, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "intent", "schema": schema, **more}}


def understand(value: Any, caller: Caller = Caller()) -> Asked:  # noqa: B008
    return chat.understand(value, b"raw", caller)


def query(*messages: dict[str, Any], caller: Caller = Caller(), **more: Any) -> Query:  # noqa: B008
    return understand({"model": "gpt-5", "messages": list(messages), **more}, caller).query


# --- what is refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "param"),
    [
        (None, "body"),
        ([], "body"),
        ("hello", "body"),
        (1, "body"),
        ({}, "model"),
        ({"messages": [USER]}, "model"),
        (body(model=""), "model"),
        (body(model=5), "model"),
        (body(model=["gpt-5"]), "model"),
        ({"model": "gpt-5"}, "messages"),
        (body(messages=None), "messages"),
        (body(messages=[]), "messages"),
        (body(messages="hi"), "messages"),
        (body(messages={"role": "user"}), "messages"),
        (body(messages=["hi"]), "messages[0]"),
        (body(messages=[USER, None]), "messages[1]"),
        (body(messages=[{"content": "hi"}]), "messages[0].role"),
        (body(messages=[{"role": "robot", "content": "hi"}]), "messages[0].role"),
        (body(messages=[{"role": ["user"], "content": "hi"}]), "messages[0].role"),
        (body(messages=[{"role": {}, "content": "hi"}]), "messages[0].role"),
        (body(messages=[{"role": "user"}]), "messages[0].content"),
        (body(messages=[{"role": "user", "content": None}]), "messages[0].content"),
        (body(messages=[{"role": "user", "content": 5}]), "messages[0].content"),
        (body(messages=[{"role": "user", "content": {"text": "hi"}}]), "messages[0].content"),
        (body(messages=[{"role": "user", "content": ["hi"]}]), "messages[0].content[0]"),
        (body(messages=[{"role": "user", "content": [{"text": "hi"}]}]), "messages[0].content[0].type"),
        (body(messages=[{"role": "user", "content": [{"type": ["text"]}]}]), "messages[0].content[0].type"),
        (body(messages=[{"role": "user", "content": [{"type": "text"}]}]), "messages[0].content[0].text"),
        (body(messages=[{"role": "user", "content": [{"type": "text", "text": 5}]}]), "messages[0].content[0].text"),
        (body(messages=[USER, {"role": "tool", "content": "4"}]), "messages[1].tool_call_id"),
        (body(messages=[USER, {"role": "tool", "content": "4", "tool_call_id": 4}]), "messages[1].tool_call_id"),
        (body(messages=[USER, {"role": "assistant", "tool_calls": {}}]), "messages[1].tool_calls"),
        (body(messages=[USER, {"role": "assistant", "tool_calls": ["f"]}]), "messages[1].tool_calls[0]"),
        (body(tools={}), "tools"),
        (body(tools="look"), "tools"),
        (body(tools=["look"]), "tools[0]"),
        (body(tools=[{"type": "function"}]), "tools[0].function"),
        (body(tools=[{"type": None}]), "tools[0].function"),
        (body(tools=[TOOL, {"type": "function", "function": {}}]), "tools[1].function.name"),
        (body(tools=[{"function": {"name": ""}}]), "tools[0].function.name"),
        (body(tools=[{"function": {"name": ["f"]}}]), "tools[0].function.name"),
        (body(tools=[{"function": {"name": "f", "parameters": []}}]), "tools[0].function.parameters"),
        (body(tool_choice="any"), "tool_choice"),
        (body(tool_choice=1), "tool_choice"),
        (body(tool_choice=["auto"]), "tool_choice"),
        (body(response_format="json"), "response_format"),
        (body(response_format={}), "response_format.type"),
        (body(response_format={"type": "xml"}), "response_format.type"),
        (body(response_format={"type": ["text"]}), "response_format.type"),
        (body(response_format={"type": "json_schema"}), "response_format.json_schema"),
        (body(response_format={"type": "json_schema", "json_schema": {}}), "response_format.json_schema.name"),
        (body(response_format=form(name="two words")), "response_format.json_schema.name"),
        (body(response_format=form(name="x" * 65)), "response_format.json_schema.name"),
        (body(response_format=form(name="line\n")), "response_format.json_schema.name"),
        (body(response_format=form([])), "response_format.json_schema.schema"),
        (body(response_format=form("{}")), "response_format.json_schema.schema"),
        (body(response_format=form(strict="yes")), "response_format.json_schema.strict"),
        (body(stream="yes"), "stream"),
        (body(stream=1), "stream"),
        (body(stream_options=[]), "stream_options"),
        (body(stream=True, stream_options=[]), "stream_options"),
        (body(stream=True, stream_options={"include_usage": "yes"}), "stream_options.include_usage"),
        (body(temperature="hot"), "temperature"),
        (body(temperature=2.1), "temperature"),
        (body(temperature=True), "temperature"),
        (body(top_p=-0.1), "top_p"),
        (body(top_p=[1]), "top_p"),
        (body(frequency_penalty=3), "frequency_penalty"),
        (body(presence_penalty=-3), "presence_penalty"),
        (body(max_tokens="10"), "max_tokens"),
        (body(max_tokens=-1), "max_tokens"),
        (body(max_tokens=1.5), "max_tokens"),
        (body(max_completion_tokens=[]), "max_completion_tokens"),
        (body(n=0), "n"),
        (body(n=129), "n"),
        (body(n="2"), "n"),
        (body(logprobs="yes"), "logprobs"),
        (body(top_logprobs=21), "top_logprobs"),
        (body(stop=5), "stop"),
        (body(stop=["a", 5]), "stop[1]"),
    ],
)
def test_bad_input_names_its_field(value: Any, param: str) -> None:
    """What cannot be meant is a 400 of type invalid_request_error, whose `param` and message both name the field."""
    with pytest.raises(BadRequest) as caught:
        understand(value)
    error = caught.value
    assert (error.status, error.type, error.param) == (400, "invalid_request_error", param)
    assert param in error.message


@pytest.mark.parametrize(
    ("value", "param"),
    [
        (lambda deep: body(tools=[{"function": {"name": "f", "parameters": {"a": deep}}}]), "tools"),
        (lambda deep: body(response_format=form({"a": deep})), "response_format.json_schema.schema"),
        (lambda deep: body(messages=[{"role": "user", "content": [{"type": "file", "file": deep}]}]), "messages"),
    ],
)
def test_too_deep_is_bad_input(value: Any, param: str) -> None:
    """A body may be read 1,024 levels deep and not be written again: that is the caller's mistake, never a 500."""
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    with pytest.raises(BadRequest, match="nested too deeply") as caught:
        understand(value(deep))
    assert caught.value.param == param


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=3)
            | st.sampled_from(["role", "content", "type", "text", "function", "name", "tool_calls"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


def outcome(value: Any) -> Asked | BadRequest:
    try:
        return understand(value)
    except BadRequest as error:
        return error


def proper(made: Asked | BadRequest) -> None:
    """A refusal names its field."""
    if isinstance(made, BadRequest):
        assert made.param
        assert made.param in made.message


@given(json)
def test_any_json_is_understood_or_refused(value: Any) -> None:
    """Arbitrary JSON never raises anything but BadRequest, and that always with a field."""
    proper(outcome(value))


roles = st.sampled_from([*sorted(chat.ROLES), "robot", None])
parts = st.fixed_dictionaries(
    {}, optional={"type": st.sampled_from(["text", "image_url", "file"]) | json, "text": json}
)
odd_messages = st.fixed_dictionaries(
    {},
    optional={"role": roles | json, "content": st.text() | st.lists(parts | json, max_size=2) | json, "tool_calls": json,
              "tool_call_id": st.text() | json, "name": json},
)  # fmt: skip
odd_tools = st.fixed_dictionaries({}, optional={"type": json, "function": json})
GOOD = body(
    tools=[TOOL], response_format=form(), tool_choice="auto", stream=True, stream_options={"include_usage": True},
    temperature=1, top_p=1, n=2, stop=["a"], logprobs=True, top_logprobs=3, max_tokens=9, seed=7,
)  # fmt: skip
almost = st.builds(
    lambda messages, tools, changed: {**GOOD, "messages": messages, "tools": tools, **changed},
    st.lists(st.just(USER) | st.just(USER) | odd_messages, min_size=1, max_size=3),
    st.just([TOOL]) | st.lists(st.just(TOOL) | odd_tools, max_size=2),
    st.dictionaries(st.sampled_from([*GOOD, "anything"]), json, max_size=2),
)


@given(almost)
def test_almost_proper_bodies_are_understood_or_refused(value: dict[str, Any]) -> None:
    """Bodies that look right at first and have anything in any place: understood, and then unchanged, or BadRequest with a field."""
    before = orjson.dumps(value)
    made = outcome(value)
    proper(made)
    if isinstance(made, Asked):
        assert orjson.dumps(made.body) == before


# --- what is let through ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        dict.fromkeys(
            ("temperature", "top_p", "n", "stop", "tools", "tool_choice", "response_format", "stream", "stream_options",
             "logprobs", "top_logprobs", "max_tokens", "max_completion_tokens", "seed", "user", "metadata")
        ),
        {"tools": []},
        {"tools": [], "tool_choice": "none"},
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
        {"tools": [{"function": {"name": "f"}}]},
        {"tools": [{"type": "custom", "custom": {"name": "f"}}]},
        {"nobody_knows": {"this": 1}, "store": True, "verbosity": "low", "prediction": {}, "safety_identifier": "u"},
        {"stream_options": {"include_usage": True}},
        {"stop": "END"},
        {"stop": ["END", "STOP"]},
        {"response_format": {"type": "text"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": None, "strict": None}}},
        {"max_tokens": 5, "max_completion_tokens": 5},
        {"messages": [{"role": "developer", "content": "be brief"}, USER]},
        {"messages": [{"role": "system", "content": "a"}, USER, {"role": "system", "content": "b"}, USER, USER]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "new_kind", "x": 1}]}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]},
                      {"role": "tool", "tool_call_id": "c", "content": "4"}]},
        {"messages": [USER, {"role": "assistant", "tool_calls": [CALL]},
                      {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "4"}]}]},
        {"messages": [USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "tool_calls": None}]},
        {"messages": [USER, {"role": "assistant", "content": "x", "reasoning_content": "hm", "refusal": None}]},
        {"messages": [USER, {"role": "function", "name": "f", "content": None}]},
    ],
)  # fmt: skip
def test_what_agents_really_send_passes(more: dict[str, Any]) -> None:
    """Null parameters, empty tool lists, unknown fields, part lists, content beside calls: understood, and the body stays as it came."""
    value = body(**more)
    asked = understand(value)
    assert asked.body == value
    assert asked.raw == b"raw"
    assert asked.dialect == "chat"


@pytest.mark.parametrize(
    ("more", "stream", "usage"),
    [
        ({}, False, False),
        ({"stream": True}, True, False),
        ({"stream": True, "stream_options": {"include_usage": True}}, True, True),
        ({"stream": True, "stream_options": {"include_usage": None}}, True, False),
        ({"stream_options": {"include_usage": True}}, False, False),
    ],
)
def test_wants(more: dict[str, Any], stream: bool, usage: bool) -> None:
    """A usage chunk is wanted by who asks for it in a stream."""
    asked = understand(body(n=3, logprobs=True, **more))
    assert (asked.wants.stream, asked.wants.usage, asked.wants.n, asked.wants.logprobs) == (stream, usage, 3, True)
    assert asked.query.stream is stream


@pytest.mark.parametrize(
    ("wanted", "kind", "strict"),
    [
        (None, None, False),
        ({"type": "text"}, None, False),
        ({"type": "json_object"}, "json", False),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, "json", False),
        (form(), "schema", False),
        (form(strict=True), "schema", True),
    ],
)
def test_constraints(wanted: Any, kind: str | None, strict: bool) -> None:
    """`response_format` > Constraint."""
    asked = understand(body(response_format=wanted))
    made = asked.constraint
    assert (made.kind if made else None) == kind
    assert (made.strict if made else False) == strict
    if made is not None and made.kind == "schema":
        assert made.value == SCHEMA
        assert (made.name, asked.query.schema_name) == ("intent", "intent")
        assert made.digest == asked.query.schema != ""


WIDE = {"type": "object", "properties": {f"field_{number}": {"type": "string"} for number in range(1000)}}
"""More bytes than are remembered."""


@pytest.mark.parametrize("schema", [SCHEMA, WIDE, {}])
def test_a_schema_is_read_the_same_each_time(schema: dict[str, Any]) -> None:
    """Whether it was seen before, and whether it is small enough to be remembered, changes nothing of a constraint."""
    for _ in range(2):
        made = understand(body(response_format=form(schema))).constraint
        assert made is not None
        assert (made.value, made.written, made.digest) == (schema, canonical(schema), short_hash(schema))


@pytest.mark.parametrize("read", [chat.understand, chat.carefully])
def test_a_body_holds_the_schema_that_was_read(read: Any) -> None:
    """The body says what it said, and the schema in it is the remembered constraint's own: who compares the two need not look into them."""
    came = body(response_format={**form(), "new": 1.0}, seed=7)
    asked = [read(orjson.loads(orjson.dumps(came)), b"", Caller()) for _ in range(2)]
    for one in asked:
        assert one.body == came
        assert list(one.body) == list(came)
        assert one.body["response_format"]["json_schema"]["schema"] is one.constraint.value
    assert asked[0].constraint is asked[1].constraint
    asked[0].body["response_format"]["json_schema"].pop("name")  # as a backend may, of its own call
    assert asked[1].body == came == read(orjson.loads(orjson.dumps(came)), b"", Caller()).body


@pytest.mark.parametrize("wanted", [form(name="not a name"), form(WIDE, strict="yes"), {"type": "xml"}, "text"])
def test_what_was_refused_is_refused_again(wanted: Any) -> None:
    """A bad `response_format` is as bad the second time."""
    for _ in range(2):
        with pytest.raises(BadRequest, match="response_format"):
            understand(body(response_format=wanted))


# --- what a router sees -----------------------------------------------------------------------------------------------------------


def test_text_is_the_last_user_message() -> None:
    """Only the last message, only a user's, text parts joined; nothing of what came before."""
    first = {"role": "user", "content": "SECRET one"}
    assert query(first, USER).text == "book a flight"
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "b"}]
    assert query({"role": "user", "content": parts}).text == "a\nb"
    assert query(USER, {"role": "assistant", "content": "x"}).text == ""


def test_parts_and_string_are_the_same_text() -> None:
    """Content given as a list of text parts counts as the plain string: for router, hashes and length."""
    plain = query({"role": "system", "content": "be brief"}, USER)
    parts = query(
        {"role": "system", "content": [{"type": "text", "text": "be brief"}]},
        {"role": "user", "content": [{"type": "text", "text": "book a flight"}]},
    )
    assert (parts.text, parts.system, parts.signature, parts.chars) == (
        plain.text,
        plain.system,
        plain.signature,
        plain.chars,
    )


def test_counts() -> None:
    """Turns are user messages, chars is all text, modality every kind of part, and a tool's result keeps its loop open."""
    made = query(
        {"role": "system", "content": "12345"},
        {"role": "user", "content": [{"type": "text", "text": "123"}, {"type": "input_audio", "input_audio": {}}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "user", "content": "12"},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
        tools=[TOOL, {"type": "custom", "custom": {"name": "c"}}],
    )
    assert (made.turns, made.chars, made.tool_loop) == (2, 11, True)
    assert made.modality == {"text", "audio"}
    assert made.tool_names == ("look",)
    assert not query(USER).tool_loop


def reordered(value: Any) -> Any:
    """`value` with the keys of every object the other way round."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


SYSTEM = {"role": "system", "content": "You route requests."}
TASK: dict[str, Any] = {"tools": [TOOL], "response_format": form()}


def test_equal_tasks_have_equal_hashes() -> None:
    """Whoever asks and whatever about: system prompt, tools and schema make the signature, in any order of keys."""
    one = query(SYSTEM, USER, **TASK)
    other = query(
        reordered(SYSTEM),
        {"role": "user", "content": "something else"},
        caller=Caller({"x": "y"}, "tenant"),
        **reordered(TASK),
    )
    for name in ("signature", "system", "tools", "schema"):
        assert getattr(one, name) == getattr(other, name)
        assert len(getattr(one, name)) == 16


@pytest.mark.parametrize(
    ("messages", "more", "differ"),
    [
        ([{"role": "system", "content": "You route mail."}, USER], TASK, "system"),
        (
            [{"role": "system", "content": "You route "}, {"role": "system", "content": "requests."}, USER],
            TASK,
            "system",
        ),
        ([SYSTEM, USER], {**TASK, "tools": [{"type": "function", "function": {"name": "look"}}]}, "tools"),
        ([SYSTEM, USER], {**TASK, "tools": [TOOL, TOOL]}, "tools"),
        ([SYSTEM, USER], {**TASK, "response_format": form({"type": "object"})}, "schema"),
    ],
)
def test_other_tasks_have_other_hashes(messages: list[dict[str, Any]], more: dict[str, Any], differ: str) -> None:
    """Another system prompt, tool set or schema changes its own hash and the signature, and no other."""
    one, other = query(SYSTEM, USER, **TASK), query(*messages, **more)
    changed = {
        name for name in ("system", "tools", "schema", "signature") if getattr(one, name) != getattr(other, name)
    }
    assert changed == {differ, "signature"}


@pytest.mark.parametrize("prompt", ["be brief", "be brief " * 5000])
def test_a_system_prompt_has_one_hash(prompt: str) -> None:
    """However long it is, and whether it was seen before: that of its text, as the configuration names it."""
    for _ in range(2):
        made = query({"role": "system", "content": prompt}, USER)
        assert made.system == short_hash([prompt])
        assert made.signature == short_hash([made.system, "", ""])


@pytest.mark.parametrize("tools", [[TOOL], [{**TOOL, "function": {"name": "wide", "parameters": WIDE}}] * 3])
def test_a_tool_set_has_one_hash(tools: list[dict[str, Any]]) -> None:
    """However large it is, and whether it was seen before: that of its canonical form."""
    for _ in range(2):
        assert query(USER, tools=tools).tools == short_hash(tools)


def test_nothing_to_hash_is_no_hash() -> None:
    """No system prompt, no tools (also an empty list) and no schema: empty hashes, empty signature."""
    made = query(USER, tools=[])
    assert (made.system, made.tools, made.schema, made.signature) == ("", "", "", "")


def test_a_conversation_keeps_its_session() -> None:
    """The session is the same over all turns of one conversation, another one for other first words, and another one for each tenant."""
    first = query(SYSTEM, USER, caller=Caller(tenant="a"))
    later = query(
        SYSTEM,
        USER,
        {"role": "assistant", "content": "where to?"},
        {"role": "user", "content": "paris"},
        caller=Caller(tenant="a"),
    )
    assert first.session == later.session != ""
    assert query(SYSTEM, USER, caller=Caller(tenant="b")).session != first.session
    assert query(SYSTEM, {"role": "user", "content": "hello"}, caller=Caller(tenant="a")).session != first.session
    assert query({**SYSTEM, "content": "x"}, USER, caller=Caller(tenant="a")).session != first.session


def test_a_named_session() -> None:
    """`x-session-id` names the session."""
    assert query(USER, caller=Caller({"x-session-id": "run-7"}, "a")).session == "run-7"


def test_the_callers_identity() -> None:
    """Headers and tenant reach the router as the surface hands them over."""
    made = query(USER, caller=Caller({"x-team": "blue"}, "acme"))
    assert (made.headers, made.tenant, made.model) == ({"x-team": "blue"}, "acme", "gpt-5")
