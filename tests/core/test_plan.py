"""What may be asked: the plan that a route and a decision make, and what it says of itself."""

import pytest
from hypothesis import given
from msgspec.structs import replace

from gateway.decide import Decision, Route, Rung, ToolRule
from gateway.plan import COMPANION, Budget, Plan, next_rung, plan, seconds_for
from tests.core.ladders import plans, seconds

SLM, MID, LLM = Rung("slm", timeout=10), Rung("mid", timeout=10), Rung("llm", timeout=30, cloud=True, paid=True)
OTHER = Rung("other", timeout=10)
ROUTE = Route(
    "r", (SLM, MID, LLM), strict=True, deliver_unproven=True, egress="local", max_usd=0.5, max_attempts=3, seconds=9.0
)


@pytest.mark.parametrize(
    ("decision", "first", "names"),
    [
        (Decision("r", "matched"), "", ["slm", "mid", "llm"]),
        (Decision("r", "out_of_scope", direct=True), "", ["llm"]),
        (Decision("r", "out_of_scope", direct=True), "slm", ["llm"]),
        (Decision("r", "tool_loop"), "mid", ["mid", "llm"]),
        (Decision("r", "tool_loop"), "llm", ["llm"]),
        (Decision("r", "tool_loop"), "gone", ["slm", "mid", "llm"]),
    ],
)
def test_where_the_ladder_begins(decision: Decision, first: str, names: list[str]) -> None:
    """At the bottom; at the top when the request goes there directly; at the rung that asked for the tool, if it is still there."""
    made = plan(ROUTE, decision, first=first, reserve=0.2)
    assert [rung.name for rung in made.rungs] == names
    assert made == Plan(
        made.rungs, strict=True, deliver_unproven=True, egress="local", max_usd=0.5, max_attempts=3, reserve=0.2
    )


def test_the_plan_takes_what_the_route_says() -> None:
    """Companion, votes, repairs and tool rules come from the route; without a companion there is no agreement."""
    route = Route(
        "r", (SLM, LLM), companion=OTHER, agreement="grey", repair=2, samples=3, writes=("w_*",),
        tools={"refund": ToolRule("never")},
    )  # fmt: skip
    made = plan(route, Decision("r", "matched"))
    assert (made.companion, made.agreement, made.repair, made.samples) == (OTHER, "grey", 2, 3)
    assert (made.tools, made.writes, made.early) == ({"refund": "never"}, ("w_*",), False)
    assert plan(replace(route, companion=None), Decision("r", "matched")).agreement == ""


@pytest.mark.parametrize(
    ("made", "small"),
    [
        (Plan((SLM, MID, LLM)), [True, True, False]),
        (Plan((LLM,)), [False]),
        (Plan((SLM,), top_proves=True), [True]),
    ],
)
def test_who_must_prove_its_answers(made: Plan, small: list[bool]) -> None:
    """All but the top rung; that too where the plan says so; and the companion."""
    assert [made.small(index) for index in range(len(made.rungs))] == small
    assert made.small(COMPANION)


@pytest.mark.parametrize(
    ("made", "beside"),
    [
        (Plan((SLM, LLM)), False),
        (Plan((SLM, LLM), repair=2), False),
        (Plan((SLM, LLM), companion=OTHER), True),
        (Plan((SLM, LLM), samples=3), True),
        (Plan((SLM, LLM), early=True), True),
    ],
)
def test_what_is_asked_beside_something_else(made: Plan, beside: bool) -> None:
    """A companion, samples, or a rung that is started early; of a plan that was changed, what the new one says."""
    assert made.beside is beside
    assert replace(made, early=True).beside


@given(plans, seconds)
def test_where_the_ladder_is_entered(made: Plan, left: float) -> None:
    """At the lowest rung that can be asked, for as long as it may be: found out once for all requests of a plan."""
    index, _ = next_rung(made, ())
    if index is None:
        assert made.entry is None
    else:
        assert made.entry is not None
        entered, timeout, share = made.entry
        assert entered == index
        assert min(timeout, left * share) == seconds_for(made, index, (), Budget(left))


def test_the_companion_is_on_no_ladder() -> None:
    """It has a place of its own; LookupError where there is none."""
    assert Plan((SLM, LLM), companion=OTHER).rung(COMPANION) is OTHER
    assert Plan((SLM, LLM)).rung(1) is LLM
    with pytest.raises(LookupError):
        Plan((SLM, LLM)).rung(COMPANION)
