"""gateway.dialects.usual: the shape that is checked in one call takes nothing that the careful reader would not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from gateway.dialects import chat
from gateway.dialects.base import Caller
from gateway.dialects.usual import Usual
from tests.dialects.test_chat import CALL, GOOD, TOOL, USER, almost, body, form, json, odd_messages
from wire.errors import BadRequest

texts = st.just("hi") | st.text(max_size=3)
sound_parts = st.builds(lambda text: {"type": "text", "text": text}, texts) | st.sampled_from(
    [{"type": "image_url", "image_url": {}}, {"type": "input_audio"}, {"type": "file", "text": 1}, {"type": "refusal"}]
)
sound_contents = texts | st.lists(sound_parts, max_size=2)
sound_messages = st.builds(
    lambda role, content: {"role": role, "content": content, "tool_call_id": "c"},
    st.sampled_from(["developer", "system", "user", "assistant", "tool"]),
    sound_contents,
) | st.builds(
    lambda content, calls: {"role": "assistant", "content": content, "tool_calls": calls},
    sound_contents | st.none(),
    st.sampled_from([None, [], [{}], [CALL, CALL]]),
)
SOUND: dict[str, list[Any]] = {
    "temperature": [None, 0, 2, 0.5, -0.0, 1.0],
    "top_p": [None, 0, 1, 0.5],
    "frequency_penalty": [None, -2, 2, -0.5],
    "presence_penalty": [None, -2.0, 2.0],
    "max_tokens": [None, 0, 2**31],
    "max_completion_tokens": [None, 7],
    "top_logprobs": [None, 0, 20],
    "n": [None, 1, 128],
    "stream": [None, True, False],
    "logprobs": [None, True, False],
    "stream_options": [None, {}, {"include_usage": True}, {"include_usage": False}, {"include_usage": None}],
    "stop": [None, "a", [], ["a", "b"]],
    "tools": [None, [], [TOOL], [TOOL, {"type": "function", "function": {"name": "bare", "parameters": None}}]],
    "tool_choice": [None, "auto", "none", "required", {}, {"type": "function"}],
    "response_format": [None, {"type": "text"}, {"type": "json_object"}, form(), form(strict=True)],
    "functions": [None],
    "function_call": [None],
}
ODD: list[Any] = [
    True, False, 0, 1, -1, -0.5, -2.5, 1.0, 2.0, 2.5, 21, 129, 2**31 + 1, 2**64, 1e300, "1", "", "any", [], [1], [None], {}, {"a": 1},
    {"include_usage": 1}, {"type": "x"}, [{"type": "custom"}], [{"function": {"name": "f"}}], [{"name": "f"}],
    [{"type": 5, "function": {"name": "f"}}],
    [{"type": "function", "function": {"name": "", "parameters": {}}}],
    [{"type": "function", "function": {"name": "f", "parameters": []}}],
    [{"role": "user"}], [{"content": "hi"}], [{"role": "robot", "content": "hi"}], [{"role": "tool", "content": "hi"}],
    [{"role": "user", "content": [{"text": "hi"}]}], [{"role": "user", "content": [{"type": "text"}]}],
    [{"role": "user", "content": [{"type": "new"}]}], [{"role": "function", "content": None}],
    [{"role": "assistant", "tool_calls": [1]}], [{"role": "user", "content": {}}],
]  # fmt: skip
sound_bodies: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"model": st.just("gpt-5"), "messages": st.lists(sound_messages, min_size=1, max_size=3)},
    optional={**{name: st.sampled_from(values) for name, values in SOUND.items()}, "seed": json},
)
spoilt = st.builds(
    lambda value, changed: {**value, **changed},
    sound_bodies,
    st.dictionaries(
        st.sampled_from([*SOUND, "model", "messages"]), st.sampled_from(ODD) | json, min_size=1, max_size=2
    ),
)
misspoken = st.builds(
    lambda value, said: {**value, "messages": [*value["messages"], said]}, sound_bodies, sound_messages | odd_messages
)


def same(value: dict[str, Any], caller: Caller) -> None:
    told: list[Any] = []
    for read in (chat.understand, chat.carefully):
        try:
            made = read(value, b"raw", caller)
            told.append((made, repr(made.wants), made.body is value))
        except BadRequest as error:
            told.append((error.param, error.message, error.code))
    assert told[0] == told[1]


@pytest.mark.parametrize("field", [*SOUND, "model", "messages"])
def test_each_field_with_anything_in_it_is_taken_as_the_careful_reader_takes_it(field: str) -> None:
    """`Usual` decides nothing, field by field: the bounds and the types are those of `carefully`."""
    for value in (*ODD, *SOUND.get(field, ())):
        same({**body(), field: value}, Caller())


@given(
    sound_bodies | spoilt | misspoken | almost, st.builds(Caller, st.just({"x-a": "b"}), st.sampled_from(["", "team"]))
)
def test_what_is_taken_at_once_is_what_the_careful_reader_takes(value: dict[str, Any], caller: Caller) -> None:
    """`Usual` decides nothing: with it and without it a body is understood the same, or refused in the same words."""
    same(value, caller)


@pytest.mark.parametrize(
    "more",
    [
        {},
        GOOD,
        {"messages": [{"role": "system", "content": "a"}, USER, {"role": "assistant", "content": None, "tool_calls": [{}]},
                      {"role": "tool", "tool_call_id": "c", "content": "4"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]}]},
        {"stop": "x", "tool_choice": {"type": "function"}, "tools": [TOOL, {**TOOL, "function": {"name": "bare"}}]},
    ],
)  # fmt: skip
def test_what_nearly_everybody_sends_is_taken_at_once(more: dict[str, Any]) -> None:
    """Text, parts, calls and their results, tools and options need no careful reader, which takes five times as long."""
    assert convert({**body(), **more}, Usual).model == "gpt-5"
