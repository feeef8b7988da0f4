"""What is settled before anything is asked: the router's word, what a requested name means, the plan."""

import asyncio
from collections.abc import Coroutine
from fnmatch import fnmatchcase
from itertools import product
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.choose import _climbing, choose
from gateway.decide import Decision, Route, Rung
from gateway.plan import Plan, plan
from gateway.setup import Live, Setup, Target, Targets
from gateway.story import Story
from wire.types import Asked, Constraint, Query, Scores

SCORES = Scores({"a": 1.0})
A = Route("a", (Rung("slm"), Rung("llm", cloud=True)), mode="enforce")
B = Route("b", (Rung("llm", cloud=True),), mode="enforce")
TEXT, IMAGE = frozenset({"text"}), frozenset({"text", "image"})
ROUTES = {"a": A, "b": B}


async def scoring(waits: int, seconds: float = 0.0, error: Exception | None = None, found: object = SCORES) -> Any:
    for _ in range(waits):
        await asyncio.sleep(seconds)
    if error is not None:
        raise error
    return found


def asking(router: Coroutine[Any, Any, Scores], seconds: float = 30) -> tuple[Story, Decision]:
    """What comes of a request when the router answers like that."""
    setup = SimpleNamespace(
        clock=iter(range(9)).__next__,
        router=SimpleNamespace(score=lambda query: router),
        settings=SimpleNamespace(router=SimpleNamespace(deadline=seconds)),
        targets={"gpt-5": Target("routed")},
        routes=ROUTES,
        plans={
            name: plan(route, Decision(name, "matched"), modality=TEXT, reserve=0) for name, route in ROUTES.items()
        },
        default="b",
    )
    story = Story(cast(Setup, setup), Asked(Query("hi", "gpt-5"), {}), "req_1", 0.0, 0.0)
    live = cast(Live, SimpleNamespace(bypass=SimpleNamespace(all=False, routes=())))
    asyncio.run(choose(live, story))
    return story, story.decision


@pytest.mark.parametrize(("waits", "seconds"), [(0, 0.0), (1, 0.0), (3, 0.0), (2, 0.001)])
def test_what_a_router_says_comes_through(waits: int, seconds: float) -> None:
    """However often it waits, for a turn of the loop or for a time; and the time is taken."""
    story, decision = asking(scoring(waits, seconds))
    assert story.scores is SCORES
    assert decision == Decision("a", "matched", 1.0)
    assert story.router_seconds == 1


@pytest.mark.parametrize("waits", [0, 1, 2])
def test_what_it_raises_too(waits: int) -> None:
    """In its first step or later: the default way, and the Record says what it was."""
    story, decision = asking(scoring(waits, error=LookupError("x")))
    assert decision == Decision("b", "router_error")
    assert story.scores == Scores({}, source="error: LookupError")
    assert story.router_seconds == 1


@pytest.mark.parametrize("waits", [0, 1, 2])
@pytest.mark.parametrize("found", [None, {"a": 1.0}])
def test_what_is_no_scores_is_an_error_of_the_router(waits: int, found: object) -> None:
    """At once or after a wait: never the request's."""
    story, decision = asking(scoring(waits, found=found))
    assert decision == Decision("b", "router_error")
    assert story.scores == Scores({}, source="error: TypeError")


def test_one_that_is_late_is_left() -> None:
    """The default way, and the router sees that it was cancelled."""
    seen = []

    async def slow() -> Scores:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append(True)
            raise
        return SCORES

    story, decision = asking(slow(), 0.01)
    assert decision == Decision("b", "router_timeout")
    assert story.scores == Scores({}, source="timeout")
    assert seen == [True]


# --- names ------------------------------------------------------------------------------------------------------------------------

PATTERNS = st.lists(st.text("ab*?[]", min_size=1, max_size=4), max_size=4, unique=True)


def meaning(models: dict[str, Target], routes: list[str], name: str) -> Target | None:
    """Written a second time, from the words of the documentation."""
    if name in models:
        return models[name]
    if name.startswith("route/") and name[6:] in routes:
        return Target("route", name[6:])
    return next((target for pattern, target in models.items() if fnmatchcase(name, pattern)), None)


@given(PATTERNS, st.lists(st.text("ab*", max_size=3), max_size=5), st.booleans())
def test_what_a_name_means(patterns: list[str], names: list[str], pinned: bool) -> None:
    """The exact name, a route that is pinned, then the globs in their order; the same when it is asked again."""
    models = {pattern: Target("backend", pattern) for pattern in patterns}
    if pinned:
        models["route/a"] = Target("backend", "pinned")
    targets = Targets(models, ["a", "b*"])
    for name in [*names, *names, "route/a", "route/b*", "route/bb", "route/"]:
        assert targets[name] == meaning(models, ["a", "b*"], name)


def test_few_and_short_names_are_kept() -> None:
    """Callers may name what they like: what is kept of that is bounded, in number and in length, and the rest means the same."""
    targets = Targets({"gpt-*": Target("routed")}, ["r"])
    known = len(targets)
    assert targets["gpt-" + "x" * 10_000] == Target("routed")
    assert targets["unknown"] is None
    assert len(targets) == known
    for number in range(2 * Targets.KEPT):
        assert targets[f"gpt-{number}"] == Target("routed")
    assert len(targets) == known + Targets.KEPT


# --- the plan ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("slm", "llm"), ("slm", "mid", "llm"), ("llm",)])
@pytest.mark.parametrize("first", ["", "mid", "llm", "gone"])
@pytest.mark.parametrize("modality", [TEXT, IMAGE])
@pytest.mark.parametrize(("direct", "strict", "constrained"), list(product([False, True], repeat=3)))
def test_a_kept_plan_is_the_one_that_would_be_made(
    names: tuple[str, ...], first: str, modality: frozenset[str], direct: bool, strict: bool, constrained: bool
) -> None:
    """Whatever a request wants, its plan is `plan` of all that: strict only where there is a schema to be strict about."""
    reserve = 0.3
    route = Route("r", tuple(map(Rung, names)), strict=strict, max_attempts=3)
    settings = SimpleNamespace(server=SimpleNamespace(reserve=reserve))
    plans = cast(Any, Setup.plans).func(SimpleNamespace(settings=settings, routes={"r": route}))
    asked = Asked(Query("hi", "m", modality=modality), {}, constraint=Constraint("json", None) if constrained else None)
    story = SimpleNamespace(setup=SimpleNamespace(plans=plans), asked=asked, plan=Plan(()))
    decision = Decision("r", "matched", direct=direct)
    _climbing(cast(Story, story), route, decision, first)
    made = plan(route, decision, modality=modality, reserve=reserve, first=first)
    assert story.plan == replace(made, strict=strict and constrained)
