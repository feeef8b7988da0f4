"""Embedding: a few examples are enough, unknown is not confident, and what cannot be read is not scored."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers import embedding
from routers.base import RouteSpec
from routers.embedding import Embedding, EmbeddingConfig
from tests.routers.table import Resources
from wire.types import Query, Scores

TRAVEL = RouteSpec("travel", examples=("book a flight to paris", "book a cheap flight", "a flight to rome please"))
MONEY = RouteSpec("money", examples=("what is my balance", "balance of my account", "show my account balance"))
COOKING = RouteSpec("cooking", description="recipes for cooking dinner and baking bread")
ALL = (TRAVEL, MONEY, COOKING)
STRANGE = "quantum chromodynamics lattice gauge symmetry"


def build(routes: Sequence[RouteSpec] = ALL, **config: object) -> Embedding:
    return Embedding(EmbeddingConfig.model_validate(config), routes, Resources())


def ask(router: Embedding, text: str) -> Scores:
    return asyncio.run(router.score(Query(text=text, model="gpt-5")))


def best(scores: Scores) -> str:
    return max(scores.by_route, key=scores.by_route.__getitem__)


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("book a flight to rome", "travel"),
        ("balance of my account please", "money"),
        ("cooking recipes for bread", "cooking"),
    ],
)
def test_what_resembles_the_examples_goes_there(text: str, route: str) -> None:
    """Three examples, or one description, are enough to be found with a score that passes the default min_score."""
    scores = ask(build(), text)
    assert best(scores) == route
    assert scores.by_route[route] > 0.5
    assert scores.source == "embedding"


def test_what_resembles_nothing_is_out_of_scope() -> None:
    """A text that shares nothing with any example is more likely outside than in, and no route gets a passing score."""
    scores = ask(build(), STRANGE)
    assert scores.out_of_scope is not None
    assert scores.out_of_scope > 0.5
    assert max(scores.by_route.values()) < 0.5


def test_one_route_is_not_always_right() -> None:
    """With a single route there is still an outside: the only one is not the right one by being alone."""
    router = build([TRAVEL])
    near, far = ask(router, "book a flight to rome"), ask(router, STRANGE)
    assert near.by_route["travel"] > 0.5 > far.by_route["travel"]


def test_a_text_that_fits_two_routes_alike_is_sure_of_neither() -> None:
    """Two routes with the same examples share the probability."""
    scores = ask(build((TRAVEL, RouteSpec("tours", examples=TRAVEL.examples))), "book a flight to rome")
    assert scores.by_route["travel"] == pytest.approx(scores.by_route["tours"])
    assert max(scores.by_route.values()) <= 0.5


@pytest.mark.parametrize("text", ["", "   ", "12345 !!!", "北京"])
def test_what_has_no_known_token_is_not_scored(text: str) -> None:
    """Unknown is not confident, and it is not out of scope either: the router has nothing to say."""
    scores = ask(build(), text)
    assert scores.by_route == {}
    assert scores.out_of_scope is None


def test_routes_that_say_nothing_of_themselves_are_not_scored() -> None:
    """No examples and no description, or only such without a known token: the route is left out."""
    router = build(
        (TRAVEL, RouteSpec("bare"), RouteSpec("blank", examples=("", "  ")), RouteSpec("odd", examples=("?",)))
    )
    assert set(ask(router, "book a flight").by_route) == {"travel"}


def test_scores_and_out_of_scope_sum_to_one() -> None:
    """P(any) is shared among the routes; what is left is out of scope."""
    for text in ("book a flight", STRANGE, "balance flight recipes"):
        scores = ask(build(), text)
        assert scores.out_of_scope is not None
        assert sum(scores.by_route.values()) + scores.out_of_scope == pytest.approx(1, abs=1e-5)


def test_adding_a_route_takes_effect_and_keeps_the_others() -> None:
    """A new route needs its examples and nothing else."""
    text = "cooking recipes for dinner"
    assert ask(build((TRAVEL, MONEY)), text).out_of_scope > 0.5  # type: ignore[operator]
    assert best(ask(build(), text)) == "cooking"
    assert best(ask(build(), "book a flight to rome")) == "travel"


def test_an_example_said_twice_counts_once() -> None:
    """Copies of an example do not drag the centroid."""
    twice = RouteSpec("travel", examples=[*TRAVEL.examples, *[TRAVEL.examples[0]] * 5, f"  {TRAVEL.examples[0]} "])
    assert ask(build((twice, MONEY)), "a flight") == ask(build((TRAVEL, MONEY)), "a flight")


def test_more_examples_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest-example search is bounded: surplus examples still make the centroid, and the answer stays right."""
    monkeypatch.setattr(embedding, "EXAMPLES", 4)
    many = RouteSpec("travel", examples=[f"book a flight to town{chr(97 + i)}" for i in range(26)])
    router = build((many, MONEY))
    assert router.facts["examples"] == 4
    assert best(ask(router, "book a flight to rome")) == "travel"


def test_a_sharper_temperature_is_surer() -> None:
    """`temperature` replaces the fitted one: lower is sharper."""
    text = "flight balance account"
    sharp, blunt = build(temperature=0.02), build(temperature=1.0)
    assert max(ask(sharp, text).by_route.values()) > max(ask(blunt, text).by_route.values())
    assert blunt.facts["temperature"] == 1.0


def test_half_a_surrogate_pair_is_read_as_unreadable() -> None:
    """A string that is no valid text is scored by what is valid in it."""
    assert best(ask(build(), "book a flight \ud800 to rome")) == "travel"


def test_it_names_its_table_and_its_fit() -> None:
    """`facts` say which table and which fitted numbers stand behind the scores; the folder comes from the configuration."""
    resources = Resources()
    router = Embedding(EmbeddingConfig(folder=Path("some/where")), ALL, resources)
    assert resources.asked == [Path("some/where")]
    assert set(router.facts) == {"table", "routes", "examples", "slope", "middle", "temperature"}
    assert router.facts["table"] == "words"
    assert router.facts["routes"] == 3


def test_no_route_at_all() -> None:
    """Without routes there is no opinion, and no crash."""
    assert ask(build(()), "book a flight") == Scores({}, None, "embedding")


WORDS = st.sampled_from(["book", "flight", "paris", "balance", "account", "money", "bread", "quark", "rome"])
TEXTS = st.lists(WORDS, min_size=1, max_size=5).map(" ".join)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(TEXTS, min_size=1, max_size=4), min_size=1, max_size=4), TEXTS)
def test_whatever_the_examples_the_scores_are_probabilities(examples: list[list[str]], text: str) -> None:
    """One example or several, the same in two routes, all alike: finite, in [0, 1], summing to 1 with out-of-scope."""
    routes = [RouteSpec(f"r{i}", examples=texts) for i, texts in enumerate(examples)]
    scores = ask(build(routes), text)
    assert set(scores.by_route) == {route.name for route in routes}
    assert scores.out_of_scope is not None
    values = [*scores.by_route.values(), scores.out_of_scope]
    assert np.isfinite(values).all()
    assert min(values) >= 0
    assert sum(values) == pytest.approx(1, abs=1e-5)


def plainly(router: Embedding, routes: Sequence[RouteSpec], text: str) -> dict[str, float]:
    """The scores by the steps of the module's head, one after the other: whiten the text, measure, share."""
    table = Resources().static_table(Path())
    vectors = [embedding._vectors(table, route) for route in routes]
    space = embedding._Space.of(vectors)
    warped = space.warp(table.encode(text))
    similar = []
    for examples in map(space.warp, vectors):
        similar.append(0.5 * embedding._unit(examples.mean(0)) @ warped + 0.5 * (examples @ warped).max())
    with np.errstate(over="ignore"):
        known = 1 / (1 + np.exp(-router._fit.slope * (max(similar) - router._fit.middle)))
    odds = np.exp((np.array(similar) - max(similar)) / router._fit.temperature)
    return {route.name: float(share) for route, share in zip(routes, known * odds / odds.sum(), strict=True)}


MANY = [f"{one} {one}{two}{three}" for one in ("book", "money") for two in "abcdefg" for three in "hijklmn"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(TEXTS, min_size=1, max_size=4) | st.just(MANY), min_size=1, max_size=4), TEXTS)
def test_the_short_way_gives_the_plain_scores(examples: list[list[str]], text: str) -> None:
    """One product with folded matrices is whitening, similarity and softmax, whether the examples vary in a few directions or in all."""
    routes = [RouteSpec(f"r{i}", examples=texts) for i, texts in enumerate(examples)]
    router = build(routes)
    assert ask(router, text).by_route == pytest.approx(plainly(router, routes, text), abs=2e-4)


def test_how_many_directions_are_measured() -> None:
    """As many as the examples vary in within their routes: none for one example each, all for more examples than dimensions."""
    dim = Resources().static_table(Path()).dim
    for examples, varied in ((1, 0), (4, 3), (len(MANY), dim)):
        router = build([RouteSpec("many", examples=MANY[:examples]), RouteSpec("one", examples=["paris"])])
        assert len(router._space.spared) == varied
    assert np.allclose(router._space.whiten, router._space.whiten.T)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(3)), TEXTS)
def test_the_order_of_routes_does_not_matter(order: list[int], text: str) -> None:
    """Reordering the configuration changes no score beyond rounding."""
    one, two = ask(build(ALL), text), ask(build([ALL[i] for i in order]), text)
    assert {name: pytest.approx(value, abs=1e-3) for name, value in one.by_route.items()} == two.by_route
