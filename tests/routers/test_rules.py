"""Rules: what a match means, what it refuses, and in which order routes come out."""

import asyncio
from fnmatch import fnmatchcase
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from routers.base import RouterResources, RouteSpec
from routers.rules import TEXT_LIMIT, Match, Rules, RulesConfig, matches, read_matches
from wire.types import Query, Scores

HASH = "0123456789abcdef"
OTHER = "f" * 16
NOTHING = cast("RouterResources", object())


def query(text: str = "", model: str = "gpt-5", **rest: Any) -> Query:
    return Query(text=text, model=model, **rest)


def match(**conditions: Any) -> Match:
    return Match.model_validate(conditions)


def score(routes: list[RouteSpec], asked: Query) -> Scores:
    return asyncio.run(Rules(RulesConfig(), routes, NOTHING).score(asked))


@pytest.mark.parametrize(
    ("conditions", "fits", "misses"),
    [
        ({"model": "gpt-*"}, query(), query(model="claude-3")),
        ({"model": ["claude-*", "gpt-5"]}, query(), query(model="gpt-5-mini")),
        ({"header": {"X-Agent": "cli*"}}, query(headers={"x-agent": "cli/1"}), query(headers={"x-agent": "web"})),
        ({"header": {"x-agent": "*"}}, query(headers={"x-agent": ""}), query()),
        ({"system": HASH}, query(system=HASH), query(system=OTHER)),
        ({"system": True}, query(system=OTHER), query()),
        ({"signature": [HASH, OTHER]}, query(signature=OTHER), query(signature="0" * 16)),
        ({"tools": True}, query(tools=HASH), query()),
        ({"tools": False}, query(), query(tools=HASH)),
        ({"tools": HASH}, query(tools=HASH), query(tools=OTHER)),
        ({"tool_names": {"any": ["get_*", "x"]}}, query(tool_names=("a", "get_b")), query(tool_names=("a",))),
        ({"tool_names": {"all": ["a*", "b"]}}, query(tool_names=("b", "a1", "c")), query(tool_names=("a1", "c"))),
        ({"schema": True}, query(schema=HASH), query()),
        ({"schema": HASH}, query(schema=HASH), query(schema=OTHER)),
        ({"schema_name": ["intent", "label_*"]}, query(schema_name="label_x"), query(schema_name="intents")),
        ({"turns": {"min": 2, "max": 3}}, query(turns=3), query(turns=4)),
        ({"chars": {"max": 10}}, query(chars=10), query(chars=11)),
        ({"text_chars": {"min": 3}}, query("abc"), query("ab")),
        ({"text": r"(?i)\bHello\b"}, query("say hello!"), query("othello")),
        ({"modality": "image"}, query(modality=frozenset({"text", "image"})), query()),
        ({"modality": ["image", "audio"]}, query(modality=frozenset({"image", "audio"})), query()),
        ({"tenant": "team-*"}, query(tenant="team-a"), query()),
        ({"session": "s1"}, query(session="s1"), query(session="s2")),
        ({"stream": True}, query(stream=True), query()),
        ({"tool_loop": False}, query(), query(tool_loop=True)),
    ],
)
def test_each_condition_holds_for_what_it_names_and_for_nothing_else(
    conditions: dict[str, Any], fits: Query, misses: Query
) -> None:
    """Every condition is true for a request that has what it names, and false for one that has not."""
    assert matches(match(**conditions), fits)
    assert not matches(match(**conditions), misses)


def test_all_conditions_must_hold() -> None:
    """One condition that fails is enough against a match."""
    both = match(model="gpt-*", turns={"max": 1})
    assert matches(both, query(turns=1))
    assert not matches(both, query(turns=2))
    assert not matches(both, query(model="claude", turns=1))


@given(st.text(max_size=20), st.text("ab*?[]!-é\n", min_size=1, max_size=8))
def test_globs_are_the_shell_s_and_case_counts(value: str, glob: str) -> None:
    """A glob means what fnmatch.fnmatchcase says, for any value and any pattern."""
    assert matches(match(model=glob), query(model=value)) == fnmatchcase(value, glob)


@given(st.text("ab", min_size=1, max_size=3), st.lists(st.text("ab*?", min_size=1, max_size=3), min_size=1, max_size=3))
def test_one_of_several_globs_is_enough(value: str, globs: list[str]) -> None:
    """Names in full, patterns, and both beside each other: any of them."""
    assert matches(match(model=globs), query(model=value)) == any(fnmatchcase(value, glob) for glob in globs)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_a_range_includes_both_ends(value: int, one: int, two: int) -> None:
    """min <= value <= max, and a missing end is open."""
    low, high = min(one, two), max(one, two)
    assert matches(match(turns={"min": low, "max": high}), query(turns=value)) == (low <= value <= high)
    assert matches(match(turns={"min": low}), query(turns=value)) == (low <= value)
    assert matches(match(turns={"max": high}), query(turns=value)) == (value <= high)


CONDITIONS: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(["gpt-*", "a?", ["x", "gpt-5"]]),
    "tools": st.booleans(),
    "schema": st.sampled_from([True, False, HASH, [HASH, OTHER]]),
    "turns": st.sampled_from([{"min": 1}, {"max": 2}]),
    "text": st.sampled_from(["a+", r"^\d", "ü"]),
    "stream": st.booleans(),
}
QUERIES = st.builds(
    query,
    text=st.text(max_size=10),
    model=st.sampled_from(["gpt-5", "ab", "x"]),
    tools=st.sampled_from(["", HASH]),
    schema=st.sampled_from(["", HASH, OTHER]),
    turns=st.integers(0, 4),
    stream=st.booleans(),
)


@given(st.fixed_dictionaries({}, optional=CONDITIONS).filter(bool), QUERIES)
def test_a_match_is_the_conjunction_of_its_conditions(conditions: dict[str, Any], asked: Query) -> None:
    """A match holds exactly when the matches with one of its conditions each all hold."""
    alone = [matches(match(**{name: value}), asked) for name, value in conditions.items()]
    assert matches(match(**conditions), asked) == all(alone)


@given(st.fixed_dictionaries({}, optional=CONDITIONS).filter(bool))
def test_a_match_survives_its_own_dump(conditions: dict[str, Any]) -> None:
    """Dumped and read again, a match is the same: what `weir check` prints can be pasted back."""
    one = match(**conditions)
    assert Match.model_validate(one.model_dump(by_alias=True, exclude_none=True)) == one


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({}, "empty match"),
        ({"nope": 1}, "Extra inputs"),
        ({"schema": 1234567890123456}, "in quotes"),
        ({"schema": "abc"}, "16 hex digits"),
        ({"model": []}, "list of strings"),
        ({"model": 5}, "list of strings"),
        ({"turns": {"min": 3, "max": 2}}, "larger than max"),
        ({"turns": {}}, "min, max or both"),
        ({"tool_names": {}}, "any, all or both"),
        ({"text": "("}, "regex"),
        ({"text": r"(a)\1"}, "no back-references"),
        ({"text": "(a{1000}){1000}"}, "too large"),
        ({"header": {"x": 1}}, "list of strings"),
        ({"stream": "yes"}, "boolean"),
    ],
)
def test_a_match_that_cannot_mean_anything_is_refused_once(conditions: dict[str, Any], said: str) -> None:
    """A mistake in a match is one error, and it says what to write instead."""
    with pytest.raises(ValidationError) as caught:
        match(**conditions)
    assert len(caught.value.errors()) == 1
    assert said in str(caught.value)


def test_a_match_is_frozen() -> None:
    """A match never changes after it was read."""
    with pytest.raises(ValidationError):
        match(model="a").model = "b"  # type: ignore[misc]


def test_a_catastrophic_pattern_ends() -> None:
    """A pattern that backtracks for ever in `re` answers: its time grows with the text, not with 2 to its length."""
    bad = match(text=r"^(a|aa|a*)*(a+)+$")
    assert not matches(bad, query("a" * 5000 + "!"))
    assert matches(bad, query("a" * 5000))


def test_a_text_condition_reads_the_beginning_only() -> None:
    """What stands after TEXT_LIMIT characters is not read: a long text costs no more than that."""
    assert matches(match(text="needle"), query("x" * (TEXT_LIMIT - 6) + "needle"))
    assert not matches(match(text="needle"), query("x" * TEXT_LIMIT + "needle"))


@given(st.text(st.characters(codec=None), max_size=50))
def test_a_text_condition_survives_any_string(text: str) -> None:
    """Half a surrogate pair is no valid text, yet it is an answer (true or false), never an exception."""
    assert matches(match(text="^"), query(text))


def test_the_first_route_in_yaml_order_wins_and_the_others_follow() -> None:
    """Several matching routes: 1 for the first, 1/2 and 1/3 for the next; a route that does not match is not scored."""
    routes = [
        RouteSpec("none"),
        RouteSpec("other", {"model": "claude-*"}),
        RouteSpec("first", {"model": "gpt-*"}),
        RouteSpec("second", [{"model": "x"}, {"turns": {"max": 9}}]),
        RouteSpec("third", [match(stream=False)]),
    ]
    scores = score(routes, query())
    assert list(scores.by_route.items()) == [("first", 1.0), ("second", 0.5), ("third", 1 / 3)]
    assert scores.out_of_scope is None
    assert scores.source == "rules"


MATCHES = st.lists(st.fixed_dictionaries({}, optional=CONDITIONS).filter(bool), max_size=2)


@given(st.lists(MATCHES, max_size=4), QUERIES)
def test_a_route_is_scored_when_one_of_its_matches_holds(routes: list[list[dict[str, Any]]], asked: Query) -> None:
    """Whatever the rules and the request: those of which a match holds, in their order, 1, 1/2, 1/3 ..."""
    fits = [str(at) for at, found in enumerate(routes) if any(matches(match(**table), asked) for table in found)]
    scores = score([RouteSpec(str(at), found) for at, found in enumerate(routes)], asked)
    assert scores.by_route == {name: 1 / rank for rank, name in enumerate(fits, 1)}


def test_no_match_is_no_score() -> None:
    """Rules that do not fit say nothing: not 0, and not out of scope."""
    scores = score([RouteSpec("a", {"model": "claude-*"})], query())
    assert scores.by_route == {}
    assert scores.out_of_scope is None


def test_matches_are_read_in_every_spelling() -> None:
    """A route's match may be nothing, a table, a Match, or a list of either."""
    table = {"model": "a"}
    assert read_matches({}) == read_matches(()) == read_matches(None) == ()
    assert read_matches(table) == read_matches([table]) == read_matches(match(**table)) == (match(**table),)
    assert len(read_matches((match(**table), table))) == 2


def test_a_broken_match_is_refused_when_the_router_is_built() -> None:
    """A match that cannot be read fails at start, not at the first request."""
    with pytest.raises(ValidationError):
        Rules(RulesConfig(), [RouteSpec("a", {"nope": 1})], NOTHING)
