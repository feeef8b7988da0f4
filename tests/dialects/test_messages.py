"""Anthropic messages <-> ours, pure: what is understood of a request, that nothing of it is lost, and that an answer told as events is
the answer told whole."""

import copy
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects import messages
from gateway.dialects.base import Caller, Stamp
from gateway.fold import Fold
from tests.dialects.answers import DEFECTS, USAGE, Choice, choices, cut, spoil, whole
from tests.messages import claude
from wire.anthropic_request import own
from wire.errors import BadRequest, NoAnswer
from wire.types import Asked, Chunk

STAMP = Stamp(id="1", created=1, model="asked")
CACHE = {"type": "ephemeral", "ttl": "1h"}
THINKING = {"type": "enabled", "budget_tokens": 1024}


def body(*said: Any, **more: Any) -> dict[str, Any]:
    return {"model": "weir", "max_tokens": 9, "messages": list(said) or [user("hi")], **more}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def understand(told: Any, **headers: str) -> Asked:
    caller = Caller({name.replace("_", "-"): value for name, value in headers.items()}, "t")
    return messages.understand(told, orjson.dumps(told), caller)


# --- in ---------------------------------------------------------------------------------------------------------------------------

TEXT = {"type": "text", "text": "x"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": "ü"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "2"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ([user("hi")], [user("hi")]),
        ([user([TEXT])], [user("x")]),
        ([user([TEXT, TEXT])], [user([TEXT, TEXT])]),
        ([user([])], [user("")]),
        ([user([{**TEXT, "cache_control": CACHE, "citations": []}])], [user("x")]),
        ([user([IMAGE])], [user([PICTURE])]),
        ([user([{"type": "image", "source": {"type": "url", "url": "u"}}])],
         [user([{"type": "image_url", "image_url": {"url": "u"}}])]),
        ([user([{"type": "image", "source": {"type": "file", "file_id": "f1"}}])],
         [user([{"type": "file", "file": {"file_id": "f1"}}])]),
        ([user([{"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "D"}}])],
         [user([{"type": "text", "text": "T"}, {"type": "text", "text": "D"}])]),
        ([user([{"type": "document", "title": "T", "source": {"type": "base64", "media_type": "application/pdf", "data": "B"}}])],
         [user([{"type": "file", "file": {"filename": "T", "file_data": "data:application/pdf;base64,B"}}])]),
        ([user([{"type": "search_result", "title": "T", "source": "S", "content": [TEXT]}])],
         [user([{"type": "text", "text": "T (S)"}, TEXT])]),
        ([user([{"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"url": "u", "encrypted_content": "e"}]}])],
         [user('[web_search_tool_result] {"tool_use_id":"s","content":[{"url":"u"}]}')]),
        ([assistant(TEXT, USE)],
         [{"role": "assistant", "content": "x", "tool_calls": [
             {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": '{"a":"ü"}'}}]}]),
        ([assistant(USE)],
         [{"role": "assistant", "content": None, "tool_calls": [
             {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": '{"a":"ü"}'}}]}]),
        ([assistant(claude.THOUGHT, {"type": "redacted_thinking", "data": "x"}, TEXT)],
         [{"role": "assistant", "content": "x"}]),
        ([assistant({"type": "thinking", "thinking": "hm", "signature": ""}, TEXT)],
         [{"role": "assistant", "content": "x", "reasoning_content": "hm"}]),
        ([user([TEXT, RESULT])], [{"role": "tool", "tool_call_id": "toolu_1", "content": "2"}, user("x")]),
        ([user([{**RESULT, "content": [TEXT, TEXT], "is_error": True}])],
         [{"role": "tool", "tool_call_id": "toolu_1", "content": [{"type": "text", "text": "Error: "}, TEXT, TEXT]}]),
        ([user([{"type": "tool_result", "tool_use_id": "toolu_1"}])],
         [{"role": "tool", "tool_call_id": "toolu_1", "content": ""}]),
        ([user([{**RESULT, "content": [TEXT, IMAGE]}])],
         [{"role": "tool", "tool_call_id": "toolu_1", "content": "x"},
          user([{"type": "text", "text": "Part of the result of tool call toolu_1:"}, PICTURE])]),
    ],
)  # fmt: skip
def test_messages(said: list[Any], told: list[Any]) -> None:
    """Every kind of block in OpenAI's words; nothing is dropped but what only Anthropic's models can read."""
    assert understand(body(*said)).body["messages"] == told


def test_body() -> None:
    """Tools, choice, limits, schema and effort in OpenAI's words; what only Anthropic knows stays out of the canonical body."""
    tool = {"name": "f", "description": "d", "input_schema": {"type": "object"}, "cache_control": CACHE, "strict": True}
    schema = {"title": "label", "type": "object", "properties": {"a": {"type": "string"}}, "required": []}
    asked = understand(
        body(
            system=[{"type": "text", "text": "s", "cache_control": CACHE}],
            tools=[tool, {"type": "web_search_20260101", "name": "web_search"}],
            tool_choice={"type": "any", "disable_parallel_tool_use": True},
            stop_sequences=["a"],
            temperature=0.5,
            top_k=3,
            thinking=THINKING,
            metadata={"user_id": "u"},
            service_tier="auto",
            output_config={"effort": "low", "format": {"type": "json_schema", "schema": schema}},
            stream=True,
            new={"x": 1},
        )
    )
    assert asked.body == {
        "model": "weir",
        "messages": [{"role": "system", "content": "s"}, user("hi")],
        "max_completion_tokens": 9,
        "temperature": 0.5,
        "stop": ["a"],
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
            {"type": "web_search_20260101", "name": "web_search"},
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "label", "schema": schema, "strict": False}},
        "stream": True,
    }
    assert asked.constraint is not None
    assert (asked.constraint.kind, asked.constraint.name, asked.constraint.value) == ("schema", "label", schema)
    assert asked.query.schema_name == "label"
    assert asked.query.tool_names == ("f",)
    assert (asked.wants.stream, asked.dialect) == (True, "messages")


def test_older_output_format() -> None:
    """`output_format`, as the beta had it, is understood too; a schema without a title is called `answer`."""
    form = {
        "type": "json_schema",
        "schema": {"type": "object", "properties": {}, "additionalProperties": False, "required": []},
    }
    asked = understand(body(output_format=form))
    assert asked.constraint is not None
    assert (asked.constraint.name, asked.constraint.strict) == ("answer", True)


def test_sessions() -> None:
    """A tool loop goes on whatever text stands beside the result; `metadata.user_id` names a session though the system prompt changes."""
    loop = [user("q"), assistant(USE), user([RESULT, {"type": "text", "text": "reminder"}])]
    one = understand(body(*loop, system="now 1", metadata={"user_id": "u"}))
    two = understand(body(*loop, system="now 2", metadata={"user_id": "u"}))
    other = understand(body(*loop, system="now 2", metadata={"user_id": "v"}))
    assert one.query.tool_loop
    assert one.query.text == "reminder"
    assert one.query.session == two.query.session != other.query.session
    named = [understand(body(user(said)), x_session_id="s").query.session for said in ("a", "b")]
    assert named[0] == named[1]
    assert not understand(body(user("q"))).query.tool_loop


def test_raw() -> None:
    """The bytes go up unchanged only when all of them are the caller's or Anthropic's own: not with what Weir wrote into the history."""
    assert understand(body(user("q"), assistant(claude.THOUGHT, TEXT), user("r"))).raw
    for secret in ("", "weir:0123:abc"):
        assert not understand(body(user("q"), assistant({**claude.THOUGHT, "signature": secret}), user("r"))).raw


@pytest.mark.parametrize("told", [None, 3, "x", [], {}, body(user([[]])), body(3), body(user({"type": "text"}))])
def test_nonsense(told: Any) -> None:
    """Any shape of JSON is refused as a bad request, never as an error of ours."""
    with pytest.raises(BadRequest):
        understand(told)


def test_depth() -> None:
    """What is nested too deeply to be written again is refused, naming its place."""
    deep: Any = {}
    for _ in range(400):
        deep = {"a": deep}
    with pytest.raises(BadRequest) as caught:
        messages.understand(body(assistant({**USE, "input": deep})), b"{}", Caller())
    assert caught.value.param == "messages[0].content[0].input"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
MARKS = st.fixed_dictionaries({}, optional={"cache_control": st.just(CACHE), "unknown": JSON})
PLAIN = st.builds(lambda text, mark: {"type": "text", "text": text, **mark}, st.text(max_size=5), MARKS)
USED = st.builds(lambda n, given, mark: {"type": "tool_use", "id": f"t{n}", "name": "f", "input": given, **mark},
                 st.integers(0, 9), st.dictionaries(st.text(max_size=3), JSON, max_size=2), MARKS)  # fmt: skip
DONE = st.builds(
    lambda n, content, failed, mark: {"type": "tool_result", "tool_use_id": f"t{n}", "content": content, "is_error": failed, **mark},
    st.integers(0, 9), st.text(max_size=5) | st.lists(PLAIN | st.just(IMAGE), max_size=2), st.booleans(), MARKS,
)  # fmt: skip
THOUGHTS = st.sampled_from([claude.THOUGHT, {"type": "redacted_thinking", "data": "x"}])
SERVER = st.just({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": "x"}})
SAID = st.one_of(
    st.builds(user, st.text(max_size=5) | st.lists(PLAIN | DONE | st.just(IMAGE), max_size=4)),
    st.builds(lambda blocks: assistant(*blocks), st.lists(PLAIN | USED | THOUGHTS | SERVER, max_size=4)),
)
BODIES = st.builds(
    lambda said, more: body(*said, **more),
    st.lists(SAID, min_size=1, max_size=5),
    st.fixed_dictionaries(
        {},
        optional={
            "system": st.text(max_size=5) | st.lists(PLAIN, max_size=2),
            "tools": st.lists(
                st.just({"name": "f", "input_schema": {"type": "object"}, "cache_control": CACHE}), max_size=1
            ),
            "tool_choice": st.just({"type": "auto", "disable_parallel_tool_use": True}),
            "top_k": st.integers(0, 9),
            "thinking": st.just({"type": "adaptive"}),
            "metadata": st.just({"user_id": "u"}),
            "service_tier": st.just("auto"),
            "stream": st.booleans(),
            "stop_sequences": st.lists(st.text(max_size=3), max_size=2),
            "unknown": JSON,
        },
    ),
)


@given(BODIES)
def test_nothing_is_lost(told: dict[str, Any]) -> None:
    """Understood, and asked of a rung that speaks Anthropic's wire: the body is the caller's own, to the last unknown field; and in
    the canonical one no signature is to be found."""
    before = copy.deepcopy(told)
    asked = understand(told)
    assert asked.native is not None
    rebuilt = own(asked.native, model="weir", asked="weir", constraint=asked.constraint)
    assert rebuilt == {key: value for key, value in before.items() if key != "stream"}
    assert told == before
    assert claude.THOUGHT["signature"] not in orjson.dumps(asked.body).decode()


# --- out --------------------------------------------------------------------------------------------------------------------------


def folded(chunks: Sequence[Chunk]) -> Fold:
    fold = Fold()
    for chunk in chunks:
        fold.add(chunk)
    return fold


def written(asked: Asked, chunks: Sequence[Chunk]) -> dict[str, Any]:
    writer = messages.writer(asked, STAMP)
    data = b"".join(writer.feed(chunk) for chunk in chunks)
    return claude.fold(data + writer.end())


@given(st.data(), choices(), st.sets(st.sampled_from(DEFECTS)), st.booleans())
def test_events_and_whole_are_one(data: st.DataObject, choice: Choice, defects: set[str], thinks: bool) -> None:
    """Whatever an upstream does wrong: a strict client folds the events to the very message that the whole answer is."""
    asked = understand(body(thinking=THINKING) if thinks else body())
    chunks = spoil(data.draw(cut([choice])), [choice], defects)
    told = written(asked, chunks)
    assert told == orjson.loads(messages.whole(asked, STAMP, folded(chunks)))
    if not defects:
        assert written(asked, [*whole([choice]), Chunk(usage=USAGE)]) == told, "held and replayed, it is the same"
    assert any(block["type"] == "thinking" for block in told["content"]) == bool(
        thinks and choice.message.get("reasoning_content")
    )


def test_text_after_a_call() -> None:
    """Only one block can be open: what comes behind a call, or belongs to a second one, waits until the first is complete."""

    def call(index: int, arguments: str, **more: Any) -> Chunk:
        return Chunk(
            delta={"tool_calls": [{"index": index, **more, "function": {"arguments": arguments, "name": "f"}}]}
        )

    chunks = [
        call(0, '{"a"', id="c0"),
        call(1, '{"b":', id="c1"),
        Chunk(delta={"content": "late"}),
        call(0, ":1}"),
        call(1, "2}"),
    ]
    told = written(understand(body()), [*chunks, Chunk(finish="tool_calls")])
    assert told["content"] == [
        {"type": "tool_use", "id": "c0", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"b": 2}},
        {"type": "text", "text": "late"},
    ]


def test_usage_before_it_is_counted() -> None:
    """message_start estimates the input until somebody has counted; a held answer begins with its counts."""
    asked = understand(body(user("x" * 400)))
    first = orjson.loads(messages.writer(asked, STAMP).feed(Chunk(delta={"content": "a"})).split(b"\n")[1][6:])
    assert first["message"]["usage"]["input_tokens"] == 100
    counted = messages.writer(asked, STAMP).feed(Chunk(delta={"content": "a"}, usage=USAGE))
    assert orjson.loads(counted.split(b"\n")[1][6:])["message"]["usage"]["input_tokens"] == 7


def test_an_empty_answer() -> None:
    """No chunk at all is a message without content, whole and as events."""
    asked = understand(body())
    assert written(asked, []) == orjson.loads(messages.whole(asked, STAMP, Fold()))


def test_calls_without_an_id() -> None:
    """A call that came without an id gets one, the same in both forms."""
    asked = understand(body())
    chunks = [
        Chunk(delta={"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}, finish="tool_calls")
    ]
    told = written(asked, chunks)
    assert told["content"][0]["id"] == "toolu_1_0"
    assert told == orjson.loads(messages.whole(asked, STAMP, folded(chunks)))


def test_errors() -> None:
    """An error's body and event have Anthropic's type; overload is 529 there."""
    full = NoAnswer("busy", status=503, code="upstream_overloaded")
    full.request_id = "req_1"
    assert messages.status(full) == 529
    assert orjson.loads(messages.error(full)) == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "busy"},
        "request_id": "req_1",
    }
    event = messages.writer(understand(body()), STAMP).error(full)
    assert event.startswith(b"event: error\ndata: {")
    assert messages.status(NoAnswer("x", status=503, code="escalation_unavailable")) == 503
