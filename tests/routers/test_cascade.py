"""Cascade: who is asked, when it stops, what is merged, and what a failing tier changes."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from routers.base import RouterConfig, RouterResources, RouteSpec
from routers.cascade import Cascade, CascadeConfig
from routers.rules import RulesConfig
from wire.types import Query, Scores

NOTHING = cast("RouterResources", object())
QUERY = Query(text="hi", model="gpt-5")
FAKE = f"{__name__}:Fake"


class FakeConfig(RouterConfig):
    scores: Mapping[str, float] = {}
    out: float | None = None
    fails: bool = False


class Fake:
    """Says what its configuration says, and remembers that it was asked."""

    Config = FakeConfig
    asked: ClassVar[list[str]] = []

    def __init__(self, config: FakeConfig, routes: Sequence[RouteSpec], resources: RouterResources) -> None:
        self._config = config

    async def score(self, query: Query) -> Scores:
        Fake.asked.append(self._config.name)
        if self._config.fails:
            raise RuntimeError(self._config.name)
        return Scores(dict(self._config.scores), self._config.out, "fake")


def tier(name: str, **rest: Any) -> dict[str, Any]:
    return {"kind": FAKE, "name": name, **rest}


def run(*of: Any, name: str = "") -> Scores:
    Fake.asked.clear()
    return asyncio.run(Cascade(CascadeConfig(of=of, name=name), [], NOTHING).score(QUERY))


def test_it_stops_at_the_first_sure_tier() -> None:
    """A best score that reaches the tier's `sure` ends the asking; the sure tier alone speaks."""
    scores = run(
        tier("a", scores={"x": 0.7, "y": 0.6}, sure=0.8),
        tier("b", scores={"x": 0.8}, sure=0.8),
        tier("c", scores={"x": 0.1}),
    )
    assert Fake.asked == ["a", "b"]
    assert scores == Scores({"x": 0.8}, None, "b")


def test_a_sure_out_of_scope_ends_it_too() -> None:
    """Out of scope is an answer: from `sure_out` on no further tier is asked."""
    scores = run(tier("a", scores={"x": 0.05}, out=0.9, sure_out=0.9), tier("b", scores={"x": 1.0}))
    assert Fake.asked == ["a"]
    assert scores.out_of_scope == 0.9
    assert scores.source == "a"


def test_unsure_tiers_are_merged_and_the_later_one_overrides() -> None:
    """Without a sure tier a later score replaces an earlier one of the same route; the best score names the source."""
    scores = run(tier("a", scores={"x": 0.9, "y": 0.6}, out=0.4), tier("b", scores={"x": 0.3}, out=0.2))
    assert scores.by_route == {"x": 0.3, "y": 0.6}
    assert scores.out_of_scope == 0.2
    assert scores.source == "a"


def test_a_silent_tier_takes_nothing_away() -> None:
    """A tier without an opinion leaves the scores and the out-of-scope of the earlier one."""
    scores = run(tier("a", scores={"x": 0.5}, out=0.4), tier("b"))
    assert scores == Scores({"x": 0.5}, 0.4, "a")


def test_when_no_tier_has_an_opinion_the_last_one_is_named() -> None:
    """Silence has a source too: how far the asking went."""
    assert run(tier("a"), tier("b")) == Scores({}, None, "b")


def test_a_tier_that_raises_is_passed_over_and_named() -> None:
    """A failing tier changes nothing but `errors`."""
    scores = run(tier("a", fails=True), tier("b", scores={"x": 0.5}))
    assert scores == Scores({"x": 0.5}, None, "b", ("a",))


def test_when_every_tier_raises_the_cascade_raises() -> None:
    """No opinion at all is an exception, so that the pipeline can count it, with every cause in it."""
    with pytest.raises(ExceptionGroup) as caught:
        run(tier("a", fails=True), tier("b", fails=True))
    assert [str(exc) for exc in caught.value.exceptions] == ["a", "b"]


def test_cancellation_is_no_opinion() -> None:
    """A cancelled tier ends the cascade: the pipeline's deadline is not swallowed as a failing tier."""

    async def late() -> None:
        class Hangs(Fake):
            async def score(self, query: Query) -> Scores:
                await asyncio.sleep(60)
                raise AssertionError

        router = Cascade(CascadeConfig(of=(tier("a"), tier("b", scores={"x": 1.0}))), [], NOTHING)
        first, second = router._tiers
        router._tiers = (first._replace(router=Hangs(FakeConfig(kind=FAKE), [], NOTHING)), second)
        async with asyncio.timeout(0.01):
            await router.score(QUERY)

    with pytest.raises(TimeoutError):
        asyncio.run(late())


def test_a_cascade_within_a_cascade_names_both() -> None:
    """The source is the path to the tier that decided."""
    inner = {"kind": "cascade", "name": "inner", "of": [tier("deep", scores={"x": 1.0})]}
    assert run(tier("a"), inner).source == "inner/deep"


UNIT = st.floats(0, 1)
OPINION = st.dictionaries(st.sampled_from("xyz"), UNIT)


@given(st.lists(st.tuples(OPINION, st.none() | UNIT, st.booleans()), min_size=1, max_size=4), st.floats(0.01, 1))
def test_whatever_the_tiers_say_the_line_holds(tiers: list[tuple[Any, Any, bool]], sure: float) -> None:
    """Scores come from tiers that were asked, errors name those that failed, and nothing after a sure tier is asked."""
    of = [tier(str(i), scores=s, out=o, fails=f, sure=sure, sure_out=sure) for i, (s, o, f) in enumerate(tiers)]
    if all(fails for *_, fails in tiers):
        with pytest.raises(ExceptionGroup):
            run(*of)
        return
    scores = run(*of)
    asked = [int(name) for name in Fake.asked]
    assert asked == list(range(len(asked)))
    assert scores.errors == tuple(str(i) for i in asked if tiers[i][2])
    said = [tiers[i] for i in asked if not tiers[i][2]]
    assert all(any(s.get(route) == value for s, *_ in said) for route, value in scores.by_route.items())
    ends = [not f and (max([*s.values(), o or 0.0]) >= sure) for s, o, f in tiers]
    assert len(asked) == (ends.index(True) + 1 if True in ends else len(tiers))


def test_tiers_may_be_tables_or_configs() -> None:
    """The loader hands over Config objects, a program tables: both become the same cascade."""
    table = {"kind": "rules", "name": "r", "sure": 0.7}
    config = RulesConfig(name="r", sure=0.7)
    assert CascadeConfig(of=(table,)) == CascadeConfig(of=(config,))
    assert isinstance(CascadeConfig(of=(table,)).of[0], RulesConfig)


def test_a_tier_s_own_keys_survive_a_dump() -> None:
    """What `weir explain` prints of a cascade has the keys of each tier's own kind."""
    config = CascadeConfig(of=(tier("a", scores={"x": 0.5}),))
    assert config.model_dump()["of"][0]["scores"] == {"x": 0.5}
    assert CascadeConfig.model_validate(config.model_dump()) == config


def test_mistakes_are_all_named_with_their_place() -> None:
    """Every mistake of every tier comes out at once, each with its place in the list."""
    with pytest.raises(ValidationError) as caught:
        CascadeConfig.model_validate({"of": [{"kind": "rules", "sure": 2, "nope": 1}, {"kind": "no_such"}, {}, 5]})
    assert {error["loc"] for error in caught.value.errors()} == {
        ("of", 0, "sure"),
        ("of", 0, "nope"),
        ("of", 1),
        ("of", 2),
        ("of", 3),
    }


@pytest.mark.parametrize("of", [[], [{"kind": "rules"}, {"kind": "rules"}], [{"kind": "rules"}] * 9])
def test_a_cascade_has_a_few_tiers_of_different_names(of: list[dict[str, str]]) -> None:
    """None, two of the same name, or more than eight tiers are refused."""
    with pytest.raises(ValidationError):
        CascadeConfig.model_validate({"of": of})
