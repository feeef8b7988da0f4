"""A choice among a few legal values > how far it is ahead of the runner-up."""

from math import exp, log

import pytest

from gateway.confidence.features import NAMES, Evidence, features
from gateway.confidence.margin import TOP
from tests.confidence.said import forced, token
from wire.types import Constraint, Draft, Json

SCHEMA = {
    "properties": {
        "unit": {"enum": ["celsius", "centi", "kelvin"]},
        "on": {"type": "boolean"},
        "n": {"enum": [1, 12, 3]},
    }
}


def enum_margin(text: str, said: list[Json], constraint: Constraint) -> float:
    found = features(Evidence(Draft(text=text, logprobs=said), constraint))
    assert found is not None
    return dict(zip(NAMES, found, strict=True))["enum_margin"]


def schema(*said: Json) -> float:
    text = "".join(one["token"] for one in said)
    return enum_margin(text, list(said), Constraint("schema", SCHEMA))


def test_probabilities_are_summed_by_the_value_they_begin() -> None:
    """Several tokens begin kelvin, several celsius; what begins both (a lone quote, "ce") speaks for nobody."""
    others = [("cel", -1.5), ("cels", -2.0), ("kel", -2.5), ("ce", -1.7), ("x", -1.0)]
    found = schema(token('{"unit": "'), token("kelvin", -0.9, others), token('"}'))
    assert found == pytest.approx(log((exp(-0.9) + exp(-2.5)) / (exp(-1.5) + exp(-2.0))))


def test_every_place_where_values_part_counts() -> None:
    """The smallest margin of them: first cel- against kel-, then celsius against centi; after that nothing is left to decide."""
    found = schema(
        token('{"unit": "'),
        token("ce", -0.1, [("k", -3.0)]),
        token("lsi", -0.4, [("nti", -1.1)]),
        token("us", -5.0),
        token('"}'),
    )
    assert found == pytest.approx(-0.4 + 1.1)


def test_tokens_that_straddle_the_quotes() -> None:
    """A token may open the string, or close it."""
    found = schema(token('{"unit":'), token(' "kel', -0.2, [(' "c', -2.0), (' "', -1.0)]), token('vin"}'))
    assert found == pytest.approx(1.8)


@pytest.mark.parametrize(
    ("key", "said", "others", "margin"),
    [
        ("on", "true", [("false", -2.0)], 1.9),
        ("n", "1", [("3", -2.0), ("12", -1.5)], 1.4),
        ("on", "true", [("zero", -2.0)], TOP),
    ],
)
def test_atoms(key: str, said: str, others: list[tuple[str, float]], margin: float) -> None:
    """Booleans and numbers are choices too; what would have said 12 at once is a rival of the 1 that was said."""
    assert schema(token('{"' + key + '": '), token(said, -0.1, others), token("}")) == pytest.approx(margin)


def test_no_choice_no_doubt() -> None:
    """Forced tokens and values without an enum leave the margin at its top; a value that is not legal at its bottom."""
    assert schema(token('{"unit": "'), forced("kelvin"), token('"}')) == TOP
    assert schema(token('{"other": "'), token("kelvin"), token('"}')) == TOP
    assert schema(token('{"unit": "'), token("meter"), token('"}')) == -TOP


def test_labels() -> None:
    """A label that begins another is decided where the text ends; a schema of bare strings is written with quotes."""
    labels = Constraint("choice", ["flight", "flight_time", "car"])
    said = [token("flight", -0.1, [("car", -3.0)]), token("<|end|>", -0.4, [("_time", -1.1)])]
    assert enum_margin("flight", said, labels) == pytest.approx(0.7)
    said = [token("flight", -0.1, [("car", -3.0)]), token("_time", -1.1, [("<|end|>", -0.4)])]
    assert enum_margin("flight_time", said, labels) == pytest.approx(-0.7)
    bare = Constraint("schema", {"enum": ["yes", "no"]})
    assert enum_margin('"no"', [token('"'), token("no", -0.2, [("yes", -1.7)]), token('"')], bare) == pytest.approx(1.5)
