"""Labelled requests: every mistake with its line and field, and what counts as right."""

from typing import Any

import orjson
import pytest

from gateway.calibrate.labelled import LabelledError, llm_right, read, right, said
from tests.calibrate.small import SCHEMA, asks, case
from wire.types import Constraint, Draft, ToolCall

LABEL = Constraint("schema", SCHEMA)


def of(table: Any, **more: Any) -> Any:
    return read(orjson.dumps(table), name="d", model="weir", **more)[0]


def test_every_mistake_at_once() -> None:
    """By line and field; good lines between them do not hide any."""
    lines = [
        orjson.dumps(case(1)),
        b"{",
        b"",
        b"[]",
        orjson.dumps({"request": {"messages": []}, "expected": 1}),
        orjson.dumps({"request": {"messages": [{"role": "robot"}]}, "also": 1, "llm_": 2}),
        orjson.dumps({"expected": "a"}),
        orjson.dumps(case(1, comparator="nowhere:at_all")),
        orjson.dumps(case(1, comparator="math:pi", part="train")),
    ]
    with pytest.raises(LabelledError) as failed:
        read(b"\n".join(lines), name="d.jsonl", model="weir")
    told = failed.value.mistakes
    starts = [
        "d.jsonl:2: is no JSON",
        "d.jsonl:4: must be a JSON object",
        "d.jsonl:5: request.messages: 'messages' is empty",
        "d.jsonl:6: llm_: unknown",
        "d.jsonl:6: request.messages[0].role:",
        "d.jsonl:6: expected: is missing",
        "d.jsonl:6: also: must be a list",
        "d.jsonl:7: request: must be the body",
        "d.jsonl:8: comparator: 'nowhere:at_all' cannot be imported",
        "d.jsonl:9: comparator: 'math:pi' is no function",
        "d.jsonl:9: part: must be fit or test",
    ]
    assert [line[: len(start)] for line, start in zip(told, starts, strict=True)] == starts


def test_an_empty_file_is_a_mistake() -> None:
    """Nothing would be measured."""
    with pytest.raises(LabelledError, match="d: has no line"):
        read(b"\n\n", name="d", model="weir")


def test_a_request_without_a_model_is_of_the_route() -> None:
    """And never a stream: it is asked for the whole answer."""
    made = of({"request": {**asks(1), "stream": True, "stream_options": {"include_usage": True}}, "expected": "a"})
    assert (made.asked.query.model, made.asked.wants.stream, "stream_options" in made.asked.body) == (
        "weir",
        False,
        False,
    )


CALLS = [{"name": "f", "arguments": {"x": 1, "y": "b"}}]
TOOLS: dict[str, Any] = {"f": {"properties": {"x": {"type": "number"}, "z": {"default": 2}}, "required": ["x"]}}


@pytest.mark.parametrize(
    ("expected", "draft", "is_right"),
    [
        ("a b", Draft(text=" a  b "), True),
        ("a", Draft(text="b"), False),
        ({"label": "a"}, Draft(text='{ "label": "a" }'), True),
        ('{"label":"a"}', Draft(text='{ "label": "a" }'), True),
        ({"label": "a"}, Draft(text='{"label": "b"}'), False),
        (3, Draft(text="3"), True),
        ([1, 2], Draft(text="[1,2]"), True),
        (CALLS, Draft(tool_calls=(ToolCall("c", "f", '{"y": "b", "x": 1.0, "z": 2}'),)), True),
        (CALLS, Draft(tool_calls=(ToolCall("c", "f", '{"y": "b", "x": 2}'),)), False),
        (CALLS, Draft(tool_calls=(ToolCall("c", "g", '{"y": "b", "x": 1}'),)), False),
        (CALLS, Draft(text='[{"name": "f", "arguments": {"x": 1, "y": "b"}}]'), False),
        ("a", Draft(text="a", tool_calls=(ToolCall("c", "f", "{}"),)), False),
    ],
)
def test_what_is_right(expected: Any, draft: Draft, is_right: bool) -> None:
    """Equality in canonical form; a call is no text, and text no call."""
    constraint = LABEL if isinstance(expected, dict) else None
    assert right(of({"request": asks(1), "expected": expected}), draft, constraint, TOOLS) is is_right


def test_one_of_several_answers_is_enough() -> None:
    """`also`."""
    made = of(case(1, also=[{"label": "z"}]))
    assert right(made, Draft(text='{"label":"z"}'), LABEL, {})
    assert right(made, Draft(text='{"label":"b"}'), LABEL, {})
    assert not right(made, Draft(text='{"label":"a"}'), LABEL, {})


def longer(expected: Any, answer: Any) -> bool:
    """A comparator."""
    return len(answer) >= len(expected)


def called(expected: Any, answer: Any) -> bool:
    """A comparator of calls."""
    return bool(answer[0]["arguments"]["x"] == expected)


def test_a_comparator_of_the_users_own() -> None:
    """Of the line, else of the command; calls come decoded."""
    mine = f"{__name__}:longer"
    made = of({"request": asks(1), "expected": "abc"}, comparator=mine)
    assert right(made, Draft(text="wxyz"), None, {})
    assert not right(made, Draft(text="ab"), None, {})
    made = of({"request": asks(1), "expected": 1, "comparator": f"{__name__}:called"}, comparator=mine)
    assert right(made, Draft(tool_calls=(ToolCall("", "f", '{"x": 1}'),)), None, {})


@pytest.mark.parametrize(
    ("llm", "known"), [(None, None), (True, True), (False, False), ({"label": "b"}, True), ("no", False)]
)
def test_what_the_large_model_would_have_said(llm: Any, known: bool | None) -> None:
    """An answer, or a word; nothing is unknown."""
    assert llm_right(of(case(1, llm=llm)), LABEL, {}) is known


def test_a_list_of_other_things_is_a_value() -> None:
    """Only a list of calls is calls."""
    assert said([{"name": "f"}]) == ('[{"name":"f"}]', ())
    assert said([]) == ("[]", ())
    assert said(CALLS)[1] == (ToolCall("", "f", '{"x":1,"y":"b"}'),)
