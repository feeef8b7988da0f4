"""An answer > numbers that tell right answers from wrong ones."""

import json
from math import exp, log, log1p
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.confidence.features import NAMES, RARE, Evidence, features, members, odds
from gateway.confidence.margin import TOP
from tests.confidence.said import MASKED, forced, hermes, pieces, token
from wire.types import Constraint, Draft, Json, ToolCall

TOOLS: dict[str, Json | None] = {
    "GetWeather": {"properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}}, "required": ["city"]},
    "GetTime": None,
    "Play": None,
}
ASKED = [{"role": "system", "content": "Rome"}, {"role": "user", "content": "Weather in  PARIS, please"}]


def said() -> list[Json]:
    return [
        token("<tool_call>\n", -9.0),
        token('{"name": "', -0.01),
        token("Get", -0.2, [("Play", -2.0), ("~", -3.0)]),
        token("Weather", -0.1, [("Time", -2.5)]),
        token('", "arguments": {"', -0.02),
        token("city", -0.3, [("unit", -1.4)]),
        forced('": "'),
        token("Par", -0.5, [("Rom", -1.0)]),
        token("is", -0.05),
        token('"}}', -0.4, [('", "', -1.2)]),
        token("\n</tool_call>", -9.0),
    ]


def evidence(arguments: str = '{"city": "Paris"}', **more: Any) -> Evidence:
    made = {"tools": TOOLS, "messages": ASKED, **more}
    return Evidence(Draft(tool_calls=(ToolCall("1", "GetWeather", arguments),), finish="stop", logprobs=said()), **made)


def named(found: tuple[float, ...] | None) -> dict[str, float]:
    assert found is not None
    return dict(zip(NAMES, found, strict=True))


def test_numbers_of_a_call() -> None:
    """Each from the tokens it is made of: five free value tokens, four of structure."""
    found = named(features(evidence()))
    values = [-0.2, -0.1, -0.02, -0.5, -0.05, -0.4]
    structure = [-0.01, -0.3]
    assert found["low"] == pytest.approx(odds(-0.5))
    assert found["mean"] == pytest.approx(odds(sum(values) / 6))
    assert found["tenth"] == pytest.approx(odds(-0.5))
    assert found["joint"] == pytest.approx(odds(sum(values) + sum(structure)))
    assert found["worst_field"] == pytest.approx(odds(-0.95))
    assert found["start_margin"] == pytest.approx(0.5)
    assert found["name_margin"] == pytest.approx(1.8)
    assert found["structure"] == pytest.approx(odds(-0.3))
    assert found["enum_margin"] == TOP
    assert (found["grounded"], found["all_grounded"]) == (1.0, 1.0)
    assert found["fields"] == pytest.approx(log1p(1))
    assert found["tokens"] == pytest.approx(log1p(6))
    assert (found["surprise"], found["empty"], found["placeholder"]) == (0.0, 0.0, 0.0)


def test_odds() -> None:
    """Log-odds of a probability, clipped."""
    assert odds(log(0.5)) == pytest.approx(0.0)
    assert odds(log(0.9)) == pytest.approx(log(9))
    assert odds(0.0) == TOP
    assert odds(-9999.0) == -TOP


@pytest.mark.parametrize(
    ("arguments", "share"),
    [
        ('{"city": "paris"}', 1.0),
        ('{"city": "in\\tParis"}', 1.0),
        ('{"city": "Rome"}', 0.0),  # stands in the system prompt only
        ('{"city": "ari"}', 0.0),  # inside of a word
        ('{"city": "Paris", "day": "Monday"}', 0.5),
        ('{"city": "Paris", "unit": "f"}', 1.0),  # an enum's value is chosen, not extracted
        ('{"city": 3}', 1.0),
        ('{"city": ["Paris", {"x": "please"}]}', 1.0),
    ],
)
def test_grounding(arguments: str, share: float) -> None:
    """Share of extracted strings that stand, as whole words, in what the user or a tool said."""
    found = named(features(evidence(arguments)))
    assert found["grounded"] == share
    assert found["all_grounded"] == (share == 1.0)


def test_grounding_reads_parts_and_tools() -> None:
    """Text parts, and the results of tools."""
    parts = [{"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url"}, "x"]}]
    tool = [{"role": "tool", "content": "Paris: 3 C"}]
    assert named(features(evidence(messages=parts)))["grounded"] == 0.0
    assert named(features(evidence(messages=parts + tool)))["grounded"] == 1.0


def test_surprise() -> None:
    """Nats of which members are there and which are not; what was never there is rare; a task without priors is no surprise."""
    priors = {"GetWeather": {"city": 0.9, "unit": 0.25, "zip": 0.0}}
    found = named(features(evidence(), priors))
    assert found["surprise"] == pytest.approx(-log(0.9) - log(0.75) - log(1 - RARE))
    new = named(features(evidence('{"other": 1}'), priors))
    assert new["surprise"] == pytest.approx(-log(0.1) - log(0.75) - log(1 - RARE) - log(RARE))
    assert named(features(evidence(), {"GetTime": {"city": 0.1}}))["surprise"] == 0.0
    assert members(evidence('{"city": 1, "unit": {"a": 2}}')) == [("GetWeather", frozenset({"city", "unit"}))]


@pytest.mark.parametrize(
    ("value", "empty", "placeholder"), [("", 1, 0), (" ", 1, 0), ("N/A", 0, 1), ("Unknown ", 0, 1), ("x", 0, 0)]
)
def test_default_looking_values(value: str, empty: float, placeholder: float) -> None:
    """Empty strings and such as "N/A"."""
    found = named(features(evidence(json.dumps({"city": value}))))
    assert (found["empty"], found["placeholder"]) == (empty, placeholder)


def test_forced_tokens_change_nothing() -> None:
    """However many a grammar forces between the free ones: a naive mean would rise."""
    more = [one for said_one in said() for one in (said_one, forced(""))]
    draft = Draft(tool_calls=evidence().draft.tool_calls, logprobs=more)
    assert features(Evidence(draft, tools=TOOLS, messages=ASKED)) == features(evidence())
    masked = [{**one, "top_logprobs": [*one["top_logprobs"], {"token": "?", "logprob": MASKED}]} for one in said()]
    draft = Draft(tool_calls=draft.tool_calls, logprobs=masked)
    assert features(Evidence(draft, tools=TOOLS, messages=ASKED)) == features(evidence())


def test_less_likely_is_less_sure() -> None:
    """A value token that gets less likely lowers low, mean, joint and its field, and nothing of the content."""
    worse = said()
    worse[7] = token("Par", -3.0, [("Rom", -0.1)])
    before = named(features(evidence()))
    after = named(
        features(Evidence(Draft(tool_calls=evidence().draft.tool_calls, logprobs=worse), tools=TOOLS, messages=ASKED))
    )
    for name in ("low", "mean", "tenth", "joint", "worst_field", "start_margin"):
        assert after[name] < before[name]
    assert all(after[n] == before[n] for n in ("name_margin", "structure", "grounded", "fields", "tokens", "surprise"))


def test_text_and_json() -> None:
    """Short answers and labels have features too; a label is not looked up in the prompt, a phrase is."""
    label = Evidence(
        Draft(text="car", logprobs=[token("car", -0.3, [("bus", -1.4)])]),
        Constraint("choice", ["car", "bus"]),
        messages=ASKED,
    )
    found = named(features(label))
    assert (found["grounded"], found["name_margin"]) == (1.0, TOP)
    assert found["enum_margin"] == pytest.approx(1.1)
    phrase = named(features(Evidence(Draft(text="Lyon", logprobs=[token("Lyon", -0.3)]), messages=ASKED)))
    assert phrase["grounded"] == 0.0
    assert phrase["joint"] == pytest.approx(odds(-0.3))
    text = '{"city": "Paris"}'
    answer = named(
        features(Evidence(Draft(text=text, logprobs=[token(text, log(0.6))]), messages=ASKED), {"": {"city": 0.5}})
    )
    assert exp(answer["low"]) == pytest.approx(1.5)
    assert answer["surprise"] == pytest.approx(log(2))


def test_nothing_known() -> None:
    """Without log-probabilities there are no features."""
    assert features(Evidence(Draft(text="x"))) is None
    assert features(Evidence(Draft(text="x", logprobs=[forced("x")]))) is None


nested = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(st.data(), nested)
def test_always_finite(data: st.DataObject, value: Any) -> None:
    """Any arguments, any cut, any log-probabilities, any schema: a number for every name, or nothing."""
    raw = hermes("GetWeather", {"city": value})
    tokens = [token(cut, -data.draw(st.floats(0, 8000))) for cut in pieces(data, raw)]
    call = ToolCall("1", "GetWeather", data.draw(st.sampled_from([json.dumps({"city": value}), "{", "[" * 3000])))
    found = features(
        Evidence(Draft(tool_calls=(call,), logprobs=tokens), tools={"GetWeather": {"properties": {"city": value}}})
    )
    assert found is not None
    assert len(found) == len(NAMES)
    assert all(abs(number) < 1e6 for number in found)
