"""Scores > Decision."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decide import OUT_OF_SCOPE, REASONS, Decision, Route, Rung, decide
from wire.types import Scores

SLM, LLM = Rung("slm"), Rung("llm")


def route(name: str, min_score: float = 0.5) -> Route:
    return Route(name, (SLM, LLM), min_score=min_score)


ROUTES = {name: route(name, least) for name, least in (("a", 0.5), ("b", 0.9), ("rest", 0.5))}


@pytest.mark.parametrize(
    ("by_route", "out_of_scope", "expected"),
    [
        ({"a": 0.8, "b": 0.3}, None, Decision("a", "matched", 0.8)),
        ({"a": 0.5}, None, Decision("a", "matched", 0.5)),
        ({"a": 0.7, "b": 0.9}, None, Decision("b", "matched", 0.9)),
        ({"a": 0.7, "b": 0.8}, None, Decision("rest", "below_min_score", 0.8)),
        ({"b": 0.9, "a": 0.9}, None, Decision("a", "matched", 0.9)),
        ({"a": 0.8}, 0.99, Decision("a", "matched", 0.8)),
        ({"a": 0.1}, 0.51, Decision("rest", "out_of_scope", 0.1, direct=True)),
        ({"a": 0.1}, 0.5, Decision("rest", "below_min_score", 0.1)),
        ({}, 0.9, Decision("rest", "out_of_scope", direct=True)),
        ({}, 0.1, Decision("rest", "default")),
        ({}, None, Decision("rest", "default")),
        ({"a": 0.0}, None, Decision("rest", "below_min_score", 0.0)),
        ({"gone": 1.0}, None, Decision("rest", "default")),
        ({"a": float("nan")}, float("nan"), Decision("rest", "default")),
    ],
)
def test_decide(by_route: dict[str, float], out_of_scope: float | None, expected: Decision) -> None:
    """The best route from its own `min_score` on; else out of scope, to the top of the default; else the default. Ties go to the
    route that stands first, a score for a route that is not there counts for nothing, and NaN is no score."""
    assert decide(Scores(by_route, out_of_scope), ROUTES, "rest") == expected


def test_a_route_without_threshold_is_matched_by_any_score() -> None:
    """`min_score: 0` takes even a score of 0, but no missing one."""
    routes = {"a": route("a", 0.0), "rest": route("rest")}
    assert decide(Scores({"a": 0.0}), routes, "rest") == Decision("a", "matched", 0.0)
    assert decide(Scores({}), routes, "rest") == Decision("rest", "default")


scores = st.builds(
    Scores,
    by_route=st.dictionaries(st.sampled_from([*ROUTES, "gone"]), st.floats(0, 1) | st.just(float("nan"))),
    out_of_scope=st.none() | st.floats(0, 1),
)


@given(scores, st.sampled_from(list(ROUTES)))
def test_every_decision_can_be_defended(given: Scores, default: str) -> None:
    """Whatever a router says: the route exists, the reason is one of the closed list and true, and asked again it is the same."""
    made = decide(given, ROUTES, default)
    valid = {name: score for name, score in given.by_route.items() if name in ROUTES and score >= 0}
    best = max(valid.values(), default=None)
    assert made.reason in REASONS
    if made.reason == "matched":
        assert made.score == valid[made.route] == best
        assert made.score >= ROUTES[made.route].min_score
    else:
        assert made.route == default
        assert best is None or any(valid[name] == best and best < ROUTES[name].min_score for name in valid)
    assert made.direct == (made.reason == "out_of_scope")
    if made.direct:
        assert given.out_of_scope is not None
        assert given.out_of_scope > OUT_OF_SCOPE
    assert decide(given, ROUTES, default) == made


def test_the_top_is_the_last_rung() -> None:
    """Smallest first: the last of the ladder is the top rung."""
    assert route("a").top is LLM
