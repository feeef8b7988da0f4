"""What a rung is asked for and judged against, and how a route's answer becomes text again."""

from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.calls import ask_of, call_for, validators_for
from gateway.confidence import Scorer
from gateway.decide import Route, Rung, ToolRule
from gateway.gate import Gate
from gateway.outgoing import render, rendered, template_for
from gateway.story import AttemptStory, Story
from wire.types import Asked, Chunk, Constraint, Query, Wants

SLM, LLM = Rung("slm", threshold=0.9, calibrated="c"), Rung("llm", cloud=True)
IMPOSED = Constraint("schema", {"required": ["label"]})
ROUTE = Route("r", (SLM, LLM), constraint=IMPOSED, render="{label}")
SCORER = Scorer((), (), (), (), 0.0)
SCORED = structs.replace(SLM, scorer=SCORER)
RULED = Route("r", (SLM, LLM), tools={"pay": ToolRule("always", 0.99), "look": ToolRule()})


@pytest.mark.parametrize(
    ("template", "text", "told"),
    [
        ("{label}", '{"label": "refund"}', "refund"),
        ("Label: {label}.", '{"label": "refund"}', "Label: refund."),
        ("{a/b}", '{"a": {"b": "c"}}', "c"),
        ("{/a/b}", '{"a": {"b": "c"}}', "c"),
        ("{a} {a}", '{"a": 5}', "5 5"),
        ("{a}", '{"a": {"b": [1, true, null]}}', '{"b":[1,true,null]}'),
        ("{a}", '{"a": null}', "null"),
        ("{gone}", '{"a": 1}', ""),
        ("{a/b}", '{"a": 1}', ""),
        ("{}", '{"a": 1}', "{}"),
        ('{"intent": "{a}"}', '{"a": "x"}', '{"intent": "x"}'),
        ("{a}", '{"a": "{b}", "b": "c"}', "{b}"),
        ("{a}", '{"a": "\\\\1 \\u00e9"}', "\\1 é"),
        ("constant", '{"a": 1}', "constant"),
        ("{a}", "no json", "no json"),
        ("{a}", "[1]", "[1]"),
        ("{a}", '"text"', '"text"'),
        ("{a}", "", ""),
    ],
)
def test_render(template: str, text: str, told: str) -> None:
    """Placeholders by name or path, strings without quotes, other values as JSON, what is missing as nothing; a value that looks like a
    placeholder is not one; text that is no JSON object stays as it is."""
    assert render(template, text) == told


@given(st.text(), st.text())
def test_render_takes_anything(template: str, text: str) -> None:
    """Neither a template nor an answer makes it raise."""
    assert isinstance(render(template, text), str)
    assert isinstance(render(template, orjson.dumps({"a": text}).decode()), str)


def story(
    *, constraint: Constraint | None = None, route: Route | None = ROUTE, straight: bool = False, **body: Any
) -> Story:
    asked = Asked(Query("hi", "gpt-5"), body, constraint=constraint)
    return cast(Story, SimpleNamespace(asked=asked, route=route, straight=straight))


def attempt(rung: Rung, *chunks: Chunk) -> AttemptStory:
    gate = Gate()
    for chunk in chunks:
        gate.feed(chunk)
    return cast(AttemptStory, SimpleNamespace(rung=rung, gate=gate))


WHOLE = Chunk(delta={"role": "assistant", "content": '{"label": "refund"}'}, finish="stop", usage={"total_tokens": 3})


def texts(chunks: Any) -> list[Any]:
    return [chunk.delta.get("content") for chunk in chunks if chunk.delta]


def test_a_small_rungs_answer_is_rendered() -> None:
    """A client that sent plain text gets plain text: one chunk per choice, with its end, then the usage."""
    out = rendered(story(), attempt(SLM, WHOLE), [WHOLE])
    assert [(chunk.delta.get("content"), chunk.finish, chunk.usage) for chunk in out] == [
        ("refund", "stop", None),
        (None, None, {"total_tokens": 3}),
    ]


@pytest.mark.parametrize(
    ("told", "rung"),
    [
        (story(constraint=Constraint("json", None)), SLM),  # the caller asked for JSON
        (story(route=Route("r", (SLM, LLM), constraint=IMPOSED)), SLM),  # the route renders nothing
        (story(), LLM),  # the top rung was not constrained
        (story(route=None), SLM),
        (story(straight=True), SLM),
    ],
)
def test_other_answers_are_not_rendered(told: Story, rung: Rung) -> None:
    """Only what answers a constraint that the route imposed is turned back."""
    chunks = [WHOLE]
    assert rendered(told, attempt(rung, WHOLE), chunks) is chunks
    assert template_for(told, rung) is None


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"refusal": "I can't."},
    ],
)
def test_calls_and_refusals_are_never_rendered_away(delta: dict[str, Any]) -> None:
    """An answer that is no text has nothing to render, and must not lose its calls."""
    chunks = [Chunk(delta=delta, finish="tool_calls")]
    assert rendered(story(), attempt(SLM, *chunks), chunks) is chunks


def test_every_field_of_a_call_says_what_it_is_named_for() -> None:
    """No two values of the request are alike where the fields are of one type, and all stand in the call."""
    query = Query(
        "hi", "gpt-5", headers={"traceparent": "tp", "x-weir-a": "b", "accept": "*"}, session="ses", signature="sig"
    )
    body = {"messages": [{"role": "user", "content": "hi"}]}
    asked = Asked(query, body, Wants(logprobs=True), IMPOSED, b"raw", "responses", native={"input": "hi"})
    told = SimpleNamespace(
        asked=asked, route=ROUTE, straight=False, verbatim=False, trace=None, id="req", attempts=[],
        setup=SimpleNamespace(backends={"slm": object()}), credential=lambda: "key",
    )  # fmt: skip
    own = structs.replace(SLM, passthrough=True)
    call = call_for(cast(Story, told), own, 7.0, live=True)
    assert structs.asdict(call) == {
        "body": body, "seconds": 7.0, "constraint": IMPOSED, "live": True, "logprobs": True, "text": "hi", "model": "gpt-5",
        "raw": b"", "dialect": "responses", "native": {"input": "hi"}, "credential": "key", "request_id": "req",
        "headers": {"traceparent": "tp"}, "session": "ses", "signature": "sig",
    }  # fmt: skip
    told.verbatim = True
    call = call_for(cast(Story, told), SLM, 7.0)
    assert (call.raw, call.headers, call.credential) == (b"raw", {"traceparent": "tp", "accept": "*"}, "")
    assert not call.live


@pytest.mark.parametrize(
    ("window", "start", "collapsed", "looks"),
    [(None, None, None, False), (40, None, None, True), (None, 0.5, None, True), (None, None, -3.0, True)],
)
def test_whose_answers_are_looked_at_while_they_grow(
    window: int | None, start: float | None, collapsed: float | None, looks: bool
) -> None:
    """Of a route with a window, or with a rung that knows a doubt to start by or a collapse. The top gets the hard checks only."""
    soft, hard = SimpleNamespace(soft=True), SimpleNamespace()
    rungs = (structs.replace(SLM, start=start, collapsed=collapsed), LLM)
    route = Route("r", rungs, window=window, validators=cast(Any, (hard, soft)))
    assert route.looks is looks
    told = story(route=route)
    assert validators_for(told, SLM) == (hard, soft)
    assert validators_for(told, SLM, soft=False) == validators_for(told, LLM) == (hard,)
    assert validators_for(story(route=route, straight=True), SLM) == ()


@pytest.mark.parametrize(
    ("route", "rung", "proves"),
    [
        (ROUTE, SLM, True),
        (ROUTE, LLM, False),
        (Route("r", (SLM,)), SLM, True),
        (Route("r", (LLM,)), LLM, False),
    ],
)
def test_who_must_prove_its_answers(route: Route, rung: Rung, proves: bool) -> None:
    """All but the top rung; and a ladder's only rung, when it is in the house."""
    assert route.small(rung) is proves


def test_whose_constraint_counts() -> None:
    """The caller's own before the route's, which is for small rungs only and for no straight request."""
    own = Constraint("json", None)
    for one, rung, wanted in (
        (story(constraint=own), SLM, own),
        (story(constraint=own), LLM, own),
        (story(), SLM, IMPOSED),
        (story(), LLM, None),
        (story(straight=True), SLM, None),
    ):
        assert ask_of(one, rung).constraint is wanted


def test_what_an_answer_is_judged_against() -> None:
    """Tools by name with their parameters, the tool choice, and the rung's own threshold."""
    body: dict[str, Any] = {
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}},
            {"function": {"name": "g"}},
            {"type": "custom", "custom": {"name": "c"}},
            {"type": "custom", "function": {"name": ["unhashable"]}},
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    ask = ask_of(story(**body), SLM)
    assert {name: (tool.parameters, tool.strict) for name, tool in ask.tools.items()} == {
        "f": ({"type": "object"}, True),
        "g": (None, False),
    }
    assert (ask.tool_choice, ask.one_call, ask.threshold, ask.calibrated) == ("required", True, 0.9, "c")
    told = ask_of(story(messages=[{"role": "user"}], constraint=IMPOSED, route=RULED), SCORED)
    assert structs.asdict(told) == {
        "constraint": IMPOSED, "tools": {}, "tool_choice": None, "one_call": False, "threshold": 0.9, "calibrated": "c",
        "scorer": SCORER, "messages": [{"role": "user"}], "rules": {"pay": 0.99}, "second": None,
    }  # fmt: skip
    assert ask_of(story(), LLM).threshold is None
    assert ask_of(story(tools=None), SLM).tools == {}
