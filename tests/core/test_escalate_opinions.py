"""Second opinions, second tries and early starts: the table row by row, then what must hold whatever happens."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.decide import Rung
from gateway.escalate import Deliver, Start, Step, Stop, Wait, begun, by_table, effect, next_step, rejection
from gateway.plan import COMPANION, OPINIONS, Attempt, Budget, GiveUp, Plan, Purpose
from gateway.validators.base import PASS, Verdict
from tests.core.ladders import ERRORS, REASONS
from tests.core.ladders import plans as ladders
from wire.errors import Reason

SLM, MID, LLM = Rung("slm", timeout=10), Rung("mid", timeout=10), Rung("llm", timeout=30, cloud=True, paid=True)
OTHER = Rung("other", timeout=10)
TWO, THREE = Plan((SLM, LLM)), Plan((SLM, MID, LLM))
ALWAYS = replace(TWO, companion=OTHER, agreement="always")
GREY = replace(TWO, companion=OTHER, agreement="grey")
WEIGHED = replace(TWO, companion=OTHER, agreement="weighed")
VOTE = replace(TWO, samples=3)
MEND = replace(TWO, repair=1)
EARLY = replace(TWO, early=True)
TOOLS = replace(TWO, tools={"refund": "never", "book": "agree", "look": "always"}, writes=("delete_*",))
PLENTY = Budget(60.0)


def ended(
    number: int,
    rung: int = 0,
    verdict: Verdict | None = PASS,
    answer: str = "a",
    purpose: Purpose = "",
    **rest: object,
) -> Attempt:
    made = Attempt(number, rung, running=False, begun=True, verdict=verdict, purpose=purpose, answer=answer)
    return replace(made, **rest)


def runs(number: int, rung: int = 0, purpose: Purpose = "", **rest: object) -> Attempt:
    return replace(Attempt(number, rung, purpose=purpose), **rest)


def fail(reason: Reason) -> Verdict:
    return Verdict("fail", reason, "a_check")


def grey(number: int = 0, probability: float | None = 0.7, **rest: object) -> Attempt:
    """A small answer that was not sure enough."""
    return ended(number, verdict=fail("low_confidence"), probability=probability, **rest)  # type: ignore[arg-type]


def second(number: int = 1, answer: str = "a", **rest: object) -> Attempt:
    return replace(ended(number, COMPANION, PASS, answer, "agree"), **rest)


def sample(number: int, answer: str = "a", **rest: object) -> Attempt:
    return replace(ended(number, 0, PASS, answer, "sample"), **rest)


# --- the table --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "past", "step"),
    [
        # always: beside the first small rung; both must have said the same
        (ALWAYS, [], Start(0, 10.0)),
        (ALWAYS, [runs(0)], Start(COMPANION, 10.0, "agree")),
        (ALWAYS, [runs(0), runs(1, COMPANION, "agree")], Wait()),
        (ALWAYS, [ended(0), runs(1, COMPANION, "agree")], Wait()),
        (ALWAYS, [runs(0), second()], Wait()),
        (ALWAYS, [ended(0), second()], Deliver(0)),
        (ALWAYS, [ended(0), second(answer="b")], Start(1, 30.0)),
        (ALWAYS, [ended(0, answer=""), second(answer="")], Start(1, 30.0)),
        (ALWAYS, [ended(0), second(verdict=fail("schema"))], Start(1, 30.0)),
        (ALWAYS, [ended(0), second(error="timeout")], Start(1, 30.0)),
        (ALWAYS, [grey(), second()], Start(1, 30.0)),
        (ALWAYS, [ended(0, verdict=fail("schema")), runs(1, COMPANION, "agree")], Stop(1)),
        (replace(ALWAYS, max_attempts=2), [runs(0)], Wait()),
        (replace(ALWAYS, companion=replace(OTHER, missing="KEY")), [runs(0)], Wait()),
        (replace(ALWAYS, companion=replace(OTHER, missing="KEY")), [ended(0)], Start(1, 30.0)),
        (
            replace(ALWAYS, rungs=(SLM, MID, LLM)),
            [ended(0, verdict=fail("schema")), runs(1, COMPANION, "agree")],
            Start(1, 10.0),
        ),
        (replace(ALWAYS, rungs=(SLM, MID, LLM)), [ended(0), second(error="overload")], Start(2, 30.0)),
        (
            replace(ALWAYS, rungs=(SLM, MID, LLM)),
            [ended(0, answer="b"), second(), ended(2, 1, answer="a")],
            Deliver(2),
        ),
        # weighed: beside the first small rung; a whole answer has no verdict before the companion's has come
        (WEIGHED, [runs(0)], Start(COMPANION, 10.0, "agree")),
        (WEIGHED, [runs(0), runs(1, COMPANION, "agree")], Wait()),
        (WEIGHED, [runs(0), second()], Wait()),
        (WEIGHED, [ended(0, verdict=None), runs(1, COMPANION, "agree")], Wait()),
        (WEIGHED, [ended(0), second()], Deliver(0)),
        (WEIGHED, [ended(0), second(answer="b")], Deliver(0)),
        (WEIGHED, [grey(), second()], Start(1, 30.0)),
        (WEIGHED, [grey(probability=0.99), second()], Start(1, 30.0)),
        (WEIGHED, [ended(0, verdict=Verdict("undecided", "low_confidence")), second(error="timeout")], Start(1, 30.0)),
        (WEIGHED, [ended(0, verdict=fail("schema")), runs(1, COMPANION, "agree")], Stop(1)),
        (WEIGHED, [ended(0, verdict=None, error="overload"), runs(1, COMPANION, "agree")], Stop(1)),
        (WEIGHED, [runs(0, verdict=fail("schema")), runs(1, COMPANION, "agree")], Stop(0)),
        (WEIGHED, [ended(0, verdict=None, stopped=True), runs(1, COMPANION, "agree")], Stop(1)),
        (WEIGHED, [runs(0, flows=True), runs(1, COMPANION, "agree")], Wait()),
        (replace(WEIGHED, max_attempts=2), [runs(0)], Wait()),
        (replace(WEIGHED, companion=replace(OTHER, missing="KEY")), [runs(0)], Wait()),
        (replace(WEIGHED, samples=3), [grey(), second()], Start(1, 30.0)),
        (replace(WEIGHED, repair=1), [ended(0, verdict=fail("schema")), second()], Start(0, 10.0, "repair")),
        (
            replace(WEIGHED, repair=1),
            [ended(0, verdict=fail("schema")), runs(1, COMPANION, "agree")],
            Start(0, 10.0, "repair"),
        ),
        (
            replace(WEIGHED, rungs=(SLM, MID, LLM)),
            [ended(0, verdict=fail("schema")), runs(1, COMPANION, "agree")],
            Start(1, 10.0),
        ),
        (replace(WEIGHED, rungs=(SLM, MID, LLM)), [grey(), second(answer="b")], Start(1, 10.0)),
        (replace(WEIGHED, rungs=(SLM, MID, LLM)), [grey(), second(error="overload")], Start(2, 30.0)),
        (
            replace(WEIGHED, early=True),
            [runs(0, unsure=True), runs(1, COMPANION, "agree")],
            Start(1, 30.0, "early"),
        ),
        (
            replace(WEIGHED, early=True),
            [ended(0, verdict=None), runs(1, COMPANION, "agree"), runs(2, 1, "early", begun=True)],
            Wait(),
        ),
        (replace(WEIGHED, tools={"book": "agree"}), [ended(0, calls=("book",)), second()], Deliver(0)),
        (replace(WEIGHED, tools={"book": "agree"}), [ended(0, calls=("book",)), second(answer="b")], Start(1, 30.0)),
        (replace(WEIGHED, tools={"book": "never"}), [ended(0, calls=("book",)), second()], Start(1, 30.0)),
        # grey: only after an answer that is not sure enough, and likely all the same
        (GREY, [runs(0)], Wait()),
        (GREY, [ended(0)], Deliver(0)),
        (GREY, [grey()], Start(COMPANION, 10.0, "agree")),
        (GREY, [grey(probability=0.49)], Start(1, 30.0)),
        (GREY, [grey(probability=None)], Start(1, 30.0)),
        (GREY, [ended(0, verdict=Verdict("undecided", "low_confidence"), probability=0.9)], Start(1, 30.0)),
        (GREY, [grey(), second()], Deliver(0)),
        (GREY, [grey(), second(answer="b")], Start(1, 30.0)),
        (GREY, [ended(0, verdict=fail("schema"))], Start(1, 30.0)),
        # a vote: all samples at once, more than half of all wins
        (VOTE, [grey()], Start(0, 10.0, "sample")),
        (VOTE, [grey(), runs(1, 0, "sample")], Start(0, 10.0, "sample")),
        (VOTE, [grey(), *(runs(n, 0, "sample") for n in (1, 2, 3))], Wait()),
        (VOTE, [grey(), sample(1), sample(2), runs(3, 0, "sample")], Deliver(0)),
        (VOTE, [grey(answer="b"), sample(1), sample(2), sample(3)], Deliver(1)),
        (VOTE, [grey(), sample(1), sample(2, "b"), sample(3, "b")], Start(1, 30.0)),
        (VOTE, [grey(), sample(1, "b"), sample(2, "c"), runs(3, 0, "sample")], Stop(3)),
        (VOTE, [grey(), sample(1, verdict=fail("schema")), sample(2), runs(3, 0, "sample")], Wait()),
        (VOTE, [grey(), sample(1), sample(2, error="timeout"), sample(3, error="timeout")], Start(1, 30.0)),
        (VOTE, [grey(seconds=11.0)], Start(1, 30.0)),
        (replace(VOTE, max_attempts=4), [grey()], Start(1, 30.0)),
        (replace(VOTE, max_attempts=5), [grey()], Start(0, 10.0, "sample")),
        # a second try of a broken form
        (MEND, [ended(0, verdict=fail("schema"))], Start(0, 10.0, "repair")),
        (MEND, [ended(0, verdict=fail("tool_arguments"))], Start(0, 10.0, "repair")),
        (MEND, [ended(0, verdict=fail("refused"))], Start(1, 30.0)),
        (MEND, [ended(0, verdict=None, error="timeout")], Start(1, 30.0)),
        (MEND, [ended(0, verdict=fail("schema")), ended(1, purpose="repair")], Deliver(1)),
        (MEND, [ended(0, verdict=fail("schema")), ended(1, verdict=fail("schema"), purpose="repair")], Start(1, 30.0)),
        (MEND, [ended(0, verdict=fail("schema"), seconds=11.0)], Start(1, 30.0)),
        (replace(MEND, max_attempts=2), [ended(0, verdict=fail("schema"))], Start(1, 30.0)),
        (MEND, [ended(0, verdict=fail("schema")), runs(1, 1, "early")], Wait()),
        # the next rung ahead of its turn
        (EARLY, [runs(0)], Wait()),
        (EARLY, [runs(0, unsure=True)], Start(1, 30.0, "early")),
        (TWO, [runs(0, unsure=True)], Wait()),
        (EARLY, [runs(0, unsure=True), runs(1, 1, "early", begun=True)], Wait()),
        (EARLY, [runs(0, unsure=True), ended(1, 1, purpose="early")], Wait()),
        (EARLY, [ended(0), runs(1, 1, "early", begun=True)], Deliver(0)),
        (EARLY, [ended(0, verdict=fail("schema")), runs(1, 1, "early", begun=True)], Deliver(1)),
        (EARLY, [ended(0, verdict=fail("schema")), runs(1, 1, "early")], Wait()),
        (EARLY, [ended(0, error="timeout"), ended(1, 1, purpose="early")], Deliver(1)),
        (EARLY, [runs(0, verdict=fail("low_confidence")), runs(1, 1, "early", begun=True)], Deliver(1)),
        (replace(EARLY, egress="local"), [runs(0, unsure=True)], Wait()),
        (replace(EARLY, rungs=(SLM, MID, LLM)), [runs(0, unsure=True), runs(1, 1, "early", unsure=True)], Wait()),
        # free text that flows
        (TWO, [runs(0, flows=True)], Deliver(0)),
        (ALWAYS, [runs(0, flows=True)], Start(COMPANION, 10.0, "agree")),
        (TWO, [runs(0, flows=True, verdict=fail("refused"))], Stop(0)),
        # tools with effects
        (TOOLS, [ended(0, calls=("look",))], Deliver(0)),
        (TOOLS, [ended(0, calls=("look", "refund"))], Start(1, 30.0)),
        (TOOLS, [ended(0, calls=("delete_all",))], Start(1, 30.0)),
        (TOOLS, [ended(0, calls=("book",))], Start(1, 30.0)),
        (replace(TOOLS, companion=OTHER, agreement="grey"), [ended(0, calls=("book",))], Start(-1, 10.0, "agree")),
        (replace(TOOLS, companion=OTHER, agreement="grey"), [ended(0, calls=("book",)), second()], Deliver(0)),
        (TOOLS, [ended(0, 1, calls=("refund",))], Deliver(0)),
    ],
)
def test_the_table(plan: Plan, past: list[Attempt], step: Step) -> None:
    """Each row of the two tables at the head of `escalate.py` that is about more than one rung after the other."""
    assert next_step(plan, past, PLENTY) == step


@pytest.mark.parametrize(
    ("plan", "past", "step"),
    [
        (ALWAYS, [runs(0)], Wait()),
        (ALWAYS, [ended(0), second()], Deliver(0)),
        (ALWAYS, [ended(0, verdict=fail("schema")), runs(1, COMPANION, "agree")], Stop(1)),
        (WEIGHED, [runs(0)], Wait()),
        (WEIGHED, [ended(0, verdict=None), runs(1, COMPANION, "agree")], Wait()),
        (WEIGHED, [grey(), second()], GiveUp("deadline")),
        (VOTE, [grey()], GiveUp("deadline")),
        (MEND, [ended(0, verdict=fail("schema"))], GiveUp("deadline")),
        (EARLY, [runs(0, unsure=True)], Wait()),
    ],
)
def test_when_time_is_up(plan: Plan, past: list[Attempt], step: Step) -> None:
    """After the deadline no opinion, repair or early rung is started."""
    assert next_step(plan, past, Budget(0.0)) == step


@pytest.mark.parametrize(
    ("plan", "past", "step"),
    [
        (ALWAYS, [ended(0), second(answer="b"), ended(2, 1, error="overload")], Deliver(0, True)),
        (ALWAYS, [ended(0), second(error="timeout"), ended(2, 1, error="overload")], Deliver(0, True)),
        (ALWAYS, [ended(0, verdict=fail("schema")), second(), ended(2, 1, error="overload")], GiveUp("exhausted")),
        (TOOLS, [ended(0, calls=("refund",)), ended(1, 1, error="overload")], GiveUp("exhausted")),
        (
            TOOLS,
            [ended(0, verdict=fail("low_confidence"), calls=("refund",)), ended(1, 1, error="overload")],
            GiveUp("exhausted"),
        ),
        (
            VOTE,
            [grey(stopped=True), ended(1, 1, error="overload")],
            GiveUp("exhausted"),
        ),
    ],
)
def test_degraded(plan: Plan, past: list[Attempt], step: Step) -> None:
    """What nobody confirmed may go out unproven; half an answer, a bad form and a call with effects never do."""
    assert next_step(replace(plan, deliver_unproven=True), past, PLENTY) == step


@pytest.mark.parametrize(
    ("plan", "past", "reason"),
    [
        (ALWAYS, [ended(0), second(answer="b")], "disagreement"),
        (ALWAYS, [ended(0), second(error="overload")], "overload"),
        (ALWAYS, [ended(0), second()], None),
        (replace(ALWAYS, companion=replace(OTHER, missing="KEY")), [ended(0)], "disagreement"),
        (WEIGHED, [ended(0, verdict=None), runs(1, COMPANION, "agree")], None),
        (WEIGHED, [ended(0), second(answer="b")], None),
        (WEIGHED, [grey(), second()], "low_confidence"),
        (GREY, [grey(), second(answer="b")], "disagreement"),
        (GREY, [grey()], "low_confidence"),
        (VOTE, [grey(), sample(1, "b"), sample(2, "c"), sample(3, "d")], "low_confidence"),
        (TOOLS, [ended(0, calls=("refund",))], "policy"),
        (TOOLS, [ended(0, calls=("book",))], "policy"),
        (TOOLS, [ended(0, verdict=fail("schema"), calls=("refund",))], "schema"),
    ],
)
def test_why_it_was_not_taken(plan: Plan, past: list[Attempt], reason: Reason | None) -> None:
    """Each by its own reason, all of the closed list."""
    assert rejection(plan, past, past[0]) == reason


@pytest.mark.parametrize(
    ("calls", "rule"),
    [
        ((), "always"),
        (("look",), "always"),
        (("other",), "always"),
        (("look", "book"), "agree"),
        (("book", "refund"), "never"),
        (("delete_all",), "never"),
    ],
)
def test_the_strictest_tool_counts(calls: tuple[str, ...], rule: str) -> None:
    """Of several calls the strictest rule; an entry wins over a glob."""
    assert effect(TOOLS, calls) == rule
    assert effect(replace(TOOLS, tools={"delete_all": "always"}), ("delete_all",)) == "always"


# --- whatever happens -------------------------------------------------------------------------------------------------------------

verdicts = st.just(PASS) | st.builds(Verdict, st.sampled_from(["fail", "undecided"]), st.sampled_from(REASONS))
small = st.builds(Rung, name=st.just("s"), missing=st.sampled_from(["", "", "KEY"]), timeout=st.floats(0.1, 60))
plans = st.builds(
    Plan,
    rungs=st.lists(small, min_size=1, max_size=3).map(tuple),
    top_proves=st.booleans(),
    strict=st.booleans(),
    deliver_unproven=st.booleans(),
    max_attempts=st.integers(1, 8),
    companion=st.none() | small,
    agreement=st.sampled_from(["", "always", "grey", "weighed"]),
    repair=st.integers(0, 2),
    samples=st.sampled_from([0, 2, 3]),
    early=st.booleans(),
    tools=st.sampled_from([{}, {"x": "never"}, {"x": "agree"}]),
).map(lambda plan: plan if plan.companion else replace(plan, agreement=""))


@given(st.data(), plans, st.floats(0.5, 60))
def test_every_past_comes_to_an_end(data: st.DataObject, plan: Plan, total: float) -> None:
    """Driven as the pipeline drives it, with any outcome of any attempt: it ends, within the attempts that are allowed, starts at most one
    rung early, asks no companion and no sample that was not configured, delivers nothing that failed, runs or calls what it may not, and
    waits only while something runs. While a weighed answer waits for the companion it neither despairs nor delivers it, nor stops a
    companion that may still be of use. What the plan asks nothing beside, it waits for: the pipeline does so unasked."""
    past: list[Attempt] = []
    left = total
    for turn in range(20 + 4 * plan.max_attempts):
        step = next_step(plan, past, Budget(left))
        assert step == next_step(plan, tuple(past), Budget(left)) == by_table(plan, past, Budget(left))
        if any(waits(plan, past, attempt) for attempt in past):
            assert not isinstance(step, GiveUp)
            second = companion(past)
            assert step != Stop(second.number) or (second.verdict is not None and not second.verdict.passed)
        if isinstance(step, Deliver):
            delivered(plan, past, step)
            break
        if isinstance(step, GiveUp):
            assert not any(attempt.running for attempt in past)
            break
        if isinstance(step, Start):
            started(plan, past, step)
            past.append(Attempt(len(past), step.rung, purpose=step.purpose))
            assert plan.beside or next_step(plan, past, Budget(left)) == Wait()
        elif isinstance(step, Stop):
            assert past[step.number].running
            past[step.number] = replace(past[step.number], running=False, stopped=True)
            past = weighed(data, plan, past)
        else:
            assert any(attempt.running for attempt in past)
            at = data.draw(st.sampled_from([attempt.number for attempt in past if attempt.running]))
            past[at] = happened(data, past[at], ends=turn > 12)
            if plan.agreement == "weighed" and proves(plan, past[at]) and past[at].verdict == PASS:
                past[at] = replace(past[at], verdict=None)
            past = weighed(data, plan, past)
            left -= data.draw(st.floats(0, total / 4))
    else:
        pytest.fail(f"no end after {past}")
    assert len(past) <= plan.max_attempts


changes = st.fixed_dictionaries(
    {},
    optional={
        "rung": st.integers(0, 2),
        "running": st.just(True),
        "begun": st.just(False),
        "verdict": st.none() | verdicts,
        "error": st.sampled_from(ERRORS),
        "cost": st.just(1.0),
        "purpose": st.sampled_from(["repair", "sample", "early"]),
        "stopped": st.just(True),
        "seconds": st.floats(0, 60),
        "answer": st.just(""),
        "calls": st.just(("x",)),
        "probability": st.just(0.7),
        "unsure": st.just(True),
        "flows": st.just(True),
    },
)


@given(plans | ladders, st.none() | changes, st.floats(-1, 100))
def test_what_is_told_at_once_stands_in_the_table(plan: Plan, told: dict[str, Any] | None, left: float) -> None:
    """Of no attempt, and of a single one that was accepted or differs from that in anything: the very step of the table."""
    past = [replace(ended(0), **told)] if told is not None and plan.rungs else []
    past = [replace(attempt, rung=min(attempt.rung, len(plan.rungs) - 1)) for attempt in past]
    assert next_step(plan, past, Budget(left)) == by_table(plan, past, Budget(left))


@given(plans | ladders, changes, st.booleans(), st.floats(-1, 100))
def test_what_goes_out_as_it_comes_stands_in_the_table(
    plan: Plan, told: dict[str, Any], top: bool, left: float
) -> None:
    """Of a single attempt in its turn, under way: that its answer has begun is told just where the table would deliver it, but for a small
    one that may flow. Of any other single attempt: only where the table delivers it."""
    if not plan.rungs:
        return
    attempt = replace(ended(0, len(plan.rungs) - 1 if top else 0), **told)
    delivered = by_table(plan, [attempt], Budget(left)) == Deliver(0)
    at_once = begun(plan, attempt, attempt.rung, attempt.begun)
    assert delivered or not at_once
    if attempt.running and not attempt.purpose and not attempt.flows:
        assert at_once == delivered


@pytest.mark.parametrize(
    "told",
    [
        {"running": True},
        {"stopped": True},
        {"verdict": None},
        {"verdict": fail("schema")},
        {"error": "timeout"},
        {"calls": ("refund",)},
        {"purpose": "sample"},
        {"purpose": "early"},
    ],
)
@pytest.mark.parametrize("plan", [TWO, ALWAYS, GREY, WEIGHED, VOTE, MEND, EARLY, TOOLS, Plan((SLM,), top_proves=True)])
def test_whatever_keeps_a_single_answer_back(plan: Plan, told: dict[str, Any]) -> None:
    """Each of it alone: the step of the table, on every kind of plan."""
    past = [replace(ended(0), **told)]
    assert next_step(plan, past, PLENTY) == by_table(plan, past, PLENTY)


def proves(plan: Plan, attempt: Attempt) -> bool:
    """Is it a small rung's, whose answer must be good by itself?"""
    return attempt.purpose not in OPINIONS and (attempt.rung < len(plan.rungs) - 1 or plan.top_proves)


def companion(past: list[Attempt]) -> Attempt:
    return next(attempt for attempt in past if attempt.purpose == "agree")


def waits(plan: Plan, past: list[Attempt], attempt: Attempt) -> bool:
    """Whole and of a good form; what the companion says is still to come."""
    over = not attempt.running and not attempt.stopped and attempt.error is None and attempt.verdict is None
    return over and proves(plan, attempt) and any(other.purpose == "agree" and other.running for other in past)


def weighed(data: st.DataObject, plan: Plan, past: list[Attempt]) -> list[Attempt]:
    """As the pipeline does: what waited for the companion is judged once that does not run any more."""
    return [
        replace(attempt, verdict=data.draw(verdicts))
        if attempt.verdict is None
        and not attempt.running
        and not attempt.stopped
        and attempt.error is None
        and not waits(plan, past, attempt)
        else attempt
        for attempt in past
    ]


def delivered(plan: Plan, past: list[Attempt], step: Deliver) -> None:
    attempt = past[step.number]
    small = attempt.rung < len(plan.rungs) - 1 or plan.top_proves
    assert attempt.error is None
    assert attempt.purpose != "agree"
    assert not attempt.stopped
    if not small:
        return
    assert (
        attempt.verdict is None
        or attempt.verdict.passed
        or attempt.verdict.reason in ("low_confidence", "unsupported", "disagreement")
    )
    assert not attempt.running or attempt.flows
    if "x" in attempt.calls:
        assert plan.tools.get("x") != "never"
    if step.degraded:
        assert plan.deliver_unproven
        return
    if plan.agreement == "weighed":
        assert attempt.verdict == PASS
        assert not attempt.running
    confirmed = any(
        other.purpose in OPINIONS and other.answer == attempt.answer for other in past if other is not attempt
    )
    if attempt.verdict is not None and not attempt.verdict.passed:
        assert attempt.verdict.reason == "low_confidence"
        assert (attempt.probability or 0) >= 0.5
        assert confirmed
    if plan.agreement == "always" or (attempt.calls and plan.tools.get("x") == "agree"):
        assert confirmed


def started(plan: Plan, past: list[Attempt], step: Start) -> None:
    assert step.seconds > 0
    assert not plan.rung(step.rung).missing
    assert (step.purpose == "agree") == (step.rung == COMPANION)
    alike = [attempt for attempt in past if attempt.purpose == step.purpose]
    if step.purpose == "agree":
        assert plan.companion is not None
        assert not alike
    elif step.purpose == "sample":
        assert len(alike) < plan.samples * len(plan.rungs)
        assert plan.agreement == ""
    elif step.purpose == "repair":
        assert sum(attempt.rung == step.rung for attempt in alike) < plan.repair
    else:
        assert all(attempt.rung < step.rung for attempt in past)
        assert step.purpose == "" or (plan.early and not alike)


def happened(data: st.DataObject, attempt: Attempt, *, ends: bool) -> Attempt:
    """`attempt` after one event: it begins, looks unsure, flows, fails early, or ends. ends: it does, now."""
    on = [] if ends else ["begins", "unsure", "flows", "fails early"]
    what = data.draw(st.sampled_from([*on, "ends", "ends", "ends", "breaks"]))
    if what == "begins":
        return replace(attempt, begun=True)
    if what == "unsure":
        return replace(attempt, begun=True, unsure=True)
    if what == "flows":
        return replace(attempt, begun=True, flows=attempt.purpose in ("", "repair"))
    if what == "fails early":
        return replace(attempt, begun=True, verdict=fail(data.draw(st.sampled_from(["schema", "low_confidence"]))))
    if what == "breaks":
        return replace(attempt, running=False, error=data.draw(st.sampled_from(ERRORS)))
    return replace(
        attempt,
        running=False,
        begun=True,
        verdict=data.draw(verdicts),
        answer=data.draw(st.sampled_from(["a", "b"])),
        calls=data.draw(st.sampled_from([(), ("x",)])),
        probability=data.draw(st.none() | st.sampled_from([0.3, 0.7])),
        seconds=data.draw(st.floats(0, 2)),
    )
