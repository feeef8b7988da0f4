"""What to do next: the table row by row, then what must hold whatever happened."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.decide import Rung
from gateway.escalate import SOFT, Deliver, Start, Step, Stop, Wait, next_step, rejection, standing
from gateway.plan import Attempt, Budget, GiveUp, Plan
from gateway.validators.base import PASS, Verdict
from tests.core.ladders import ERRORS, pasts, plans, seconds, verdicts
from wire.errors import Reason

SLM, MID, LLM = Rung("slm", timeout=10), Rung("mid", timeout=10), Rung("llm", timeout=30, cloud=True, paid=True)
TWO, THREE = Plan((SLM, LLM)), Plan((SLM, MID, LLM))
PLENTY = Budget(60.0)


def fail(reason: Reason) -> Verdict:
    return Verdict("fail", reason, "a_check")


def unsure(reason: Reason = "low_confidence") -> Verdict:
    return Verdict("undecided", reason, "a_check")


def ended(number: int, rung: int, verdict: Verdict | None = None, error: Reason | None = None) -> Attempt:
    return Attempt(number, rung, running=False, begun=verdict is not None, verdict=verdict, error=error)


def running(number: int, rung: int, verdict: Verdict | None = None, *, begun: bool = False) -> Attempt:
    return Attempt(number, rung, begun=begun, verdict=verdict)


# --- the table --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "past", "step"),
    [
        # an attempt may be delivered
        (TWO, [ended(0, 0, PASS)], Deliver(0)),
        (TWO, [ended(0, 0, fail("schema")), running(1, 1, begun=True)], Deliver(1)),
        (TWO, [ended(0, 0, fail("schema")), ended(1, 1, fail("refused"))], Deliver(1)),
        (TWO, [running(0, 0, begun=True), running(1, 1, begun=True)], Deliver(1)),
        (THREE, [running(0, 0), ended(1, 1, PASS)], Deliver(1)),
        # a running attempt has already failed its check
        (TWO, [running(0, 0, fail("schema"), begun=True)], Stop(0)),
        (THREE, [running(0, 0), running(1, 1, fail("schema"))], Stop(1)),
        # an attempt is running
        (TWO, [running(0, 0)], Wait()),
        (TWO, [running(0, 0, PASS, begun=True)], Wait()),
        (TWO, [running(0, 0, unsure(), begun=True)], Wait()),
        (TWO, [ended(0, 0, fail("schema")), running(1, 1)], Wait()),
        (replace(TWO, strict=True), [running(0, 1, fail("schema"), begun=True)], Wait()),
        # a higher rung can be asked
        (TWO, [], Start(0, 10.0)),
        (TWO, [ended(0, 0, fail("low_confidence"))], Start(1, 30.0)),
        (TWO, [ended(0, 0, unsure())], Start(1, 30.0)),
        (TWO, [ended(0, 0, error="timeout")], Start(1, 30.0)),
        (THREE, [ended(0, 1, error="overload")], Start(2, 30.0)),
        (THREE, [ended(0, 1, error="overload"), ended(1, 0, fail("schema"))], Start(2, 30.0)),
        (Plan((replace(SLM, missing="KEY"), MID, LLM)), [], Start(1, 10.0)),
        # the route delivers unproven answers
        (replace(TWO, deliver_unproven=True), [ended(0, 0, unsure()), ended(1, 1, error="overload")], Deliver(0, True)),
        (
            replace(THREE, deliver_unproven=True),
            [ended(0, 0, unsure()), ended(1, 1, fail("disagreement")), ended(2, 2, error="timeout")],
            Deliver(1, True),
        ),
        # otherwise
        (TWO, [ended(0, 0, fail("schema")), ended(1, 1, error="overload")], GiveUp("exhausted")),
        (TWO, [ended(0, 1, error="timeout")], GiveUp("exhausted")),
        (Plan(()), [], GiveUp("exhausted")),
        (replace(TWO, strict=True), [ended(0, 1, fail("schema"))], GiveUp("invalid")),
        (
            replace(TWO, deliver_unproven=True),
            [ended(0, 0, fail("schema")), ended(1, 1, error="overload")],
            GiveUp("exhausted"),
        ),
    ],
)
def test_the_table(plan: Plan, past: list[Attempt], step: Step) -> None:
    """Each row of the table at the head of `escalate.py`."""
    assert next_step(plan, past, PLENTY) == step


@pytest.mark.parametrize(
    ("plan", "past", "step"),
    [
        (TWO, [], GiveUp("deadline")),
        (TWO, [ended(0, 0, fail("schema"))], GiveUp("deadline")),
        (TWO, [ended(0, 0, PASS)], Deliver(0)),
        (TWO, [running(0, 0)], Wait()),
        (replace(TWO, deliver_unproven=True), [ended(0, 0, unsure())], Deliver(0, True)),
        (replace(TWO, deliver_unproven=True), [ended(0, 0, fail("schema"))], GiveUp("deadline")),
    ],
)
@pytest.mark.parametrize("left", [0.0, -1.0])
def test_when_time_is_up(plan: Plan, past: list[Attempt], step: Step, left: float) -> None:
    """After the deadline nothing is started; what is there may still be delivered."""
    assert next_step(plan, past, Budget(left)) == step


@pytest.mark.parametrize(
    ("plan", "cost", "step"),
    [
        (Plan((SLM, replace(LLM, missing="OPENAI_API_KEY"))), 0.0, GiveUp("unavailable", missing="OPENAI_API_KEY")),
        (replace(TWO, egress="local"), 0.0, GiveUp("unavailable", policy="egress")),
        (replace(TWO, max_usd=0.01), 0.01, GiveUp("unavailable", policy="budget")),
        (replace(TWO, max_usd=0.01), 0.009, Start(1, 30.0)),
        (Plan((SLM, MID), max_usd=0.01), 9.9, Start(1, 10.0)),
        (replace(TWO, max_attempts=1), 0.0, GiveUp("unavailable", policy="attempts")),
        (
            Plan((SLM, replace(LLM, modality=frozenset({"text"}))), modality=frozenset({"text", "image"})),
            0.0,
            GiveUp("unavailable", policy="modality"),
        ),
        (
            Plan((SLM, replace(LLM, modality=frozenset({"text", "audio"}))), modality=frozenset({"text", "image"})),
            0.0,
            GiveUp("unavailable", policy="modality"),
        ),
    ],
)
def test_what_forbids_a_rung(plan: Plan, cost: float, step: Step) -> None:
    """A missing variable, egress, the purse (for paid rungs only), the number of attempts, the kind of content: GiveUp says which."""
    assert next_step(plan, [replace(ended(0, 0, fail("schema")), cost=cost)], PLENTY) == step


@pytest.mark.parametrize(
    ("plan", "left", "step"),
    [
        (TWO, 60.0, Start(0, 10.0)),  # its own timeout is less than what the reserve leaves
        (TWO, 8.0, Start(0, 4.0)),
        (replace(TWO, reserve=0.25), 8.0, Start(0, 6.0)),
        (Plan((SLM, replace(LLM, missing="KEY"))), 8.0, Start(0, 8.0)),  # nobody above to leave anything to
        (replace(TWO, egress="local"), 8.0, Start(0, 8.0)),
        (replace(TWO, max_attempts=1), 8.0, Start(0, 8.0)),
        (Plan((LLM,)), 8.0, Start(0, 8.0)),
        (Plan((LLM,)), 80.0, Start(0, 30.0)),
    ],
)
def test_the_reserve(plan: Plan, left: float, step: Step) -> None:
    """A rung gets its own timeout at most, and leaves the reserve where a higher one can still be asked after it."""
    assert next_step(plan, [], Budget(left)) == step


@pytest.mark.parametrize(
    ("strict", "verdict", "expected"),
    [
        (False, fail("schema"), Deliver(0)),
        (False, fail("truncated"), Deliver(0)),
        (True, fail("schema"), GiveUp("invalid")),
        (True, fail("truncated"), Deliver(0)),
        (True, fail("refused"), Deliver(0)),
        (True, unsure(), Deliver(0)),
        (True, PASS, Deliver(0)),
    ],
)
def test_the_top_rung(strict: bool, verdict: Verdict, expected: Step) -> None:
    """Truncated and refused answers of the top rung go out as they are; one that breaks the schema does unless the route is strict."""
    assert next_step(Plan((LLM,), strict=strict), [ended(0, 0, verdict)], PLENTY) == expected


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        (ended(0, 0, PASS), None),
        (running(0, 0), None),
        (ended(0, 0, fail("schema")), "schema"),
        (ended(0, 0, unsure()), "low_confidence"),
        (ended(0, 0, PASS, "timeout"), "timeout"),
    ],
)
def test_rejection(attempt: Attempt, reason: Reason | None) -> None:
    """Why an answer is not taken: that it did not come, else its verdict."""
    assert rejection(TWO, [attempt], attempt) == reason


# --- whatever happened ------------------------------------------------------------------------------------------------------------


def may_go(plan: Plan, attempt: Attempt) -> bool:
    """May it be delivered as proven? Written a second time, from the words of the design."""
    small = attempt.rung < len(plan.rungs) - 1
    whole = not attempt.running
    if attempt.error is not None:
        return False
    if small:
        return whole and attempt.verdict == PASS
    if plan.strict:
        return whole and not (attempt.verdict is not None and attempt.verdict.reason == "schema")
    return whole or attempt.begun


def forbidden(plan: Plan, rung: Rung, past: Sequence[Attempt]) -> bool:
    spent = plan.max_usd is not None and sum(attempt.cost for attempt in past) >= plan.max_usd
    return (
        bool(rung.missing)
        or (plan.egress == "local" and rung.cloud)
        or (rung.paid and spent)
        or not plan.modality <= rung.modality
        or len(past) >= plan.max_attempts
    )


def check(plan: Plan, past: Sequence[Attempt], left: float, step: Step) -> None:
    """What must hold of every step."""
    good = [attempt for attempt in past if may_go(plan, attempt)]
    if good:
        assert step == Deliver(good[0].number)
    if isinstance(step, Deliver) and step.degraded:
        given = past[step.number]
        assert plan.deliver_unproven
        assert given.error is None
        assert given.verdict is not None
        assert given.verdict.reason in SOFT
        assert not given.running
    elif isinstance(step, Deliver):
        assert may_go(plan, past[step.number])
    if isinstance(step, GiveUp):
        assert not any(attempt.running for attempt in past)
    if isinstance(step, Wait):
        assert any(attempt.running for attempt in past)
    if isinstance(step, Stop):
        stopped = past[step.number]
        assert stopped.running
        assert stopped.verdict is not None
        assert stopped.verdict.opinion == "fail"
        assert stopped.rung < len(plan.rungs) - 1
    if isinstance(step, Start):
        check_start(plan, past, left, step)


def check_start(plan: Plan, past: Sequence[Attempt], left: float, step: Start) -> None:
    rung = plan.rungs[step.rung]
    assert all(step.rung > attempt.rung for attempt in past)
    assert not any(attempt.running for attempt in past)
    assert not forbidden(plan, rung, past)
    skipped = range(max((attempt.rung for attempt in past), default=-1) + 1, step.rung)
    assert all(forbidden(plan, plan.rungs[index], past) for index in skipped)
    assert 0 < step.seconds <= min(left, rung.timeout)
    after = [*past, Attempt(len(past), step.rung, running=False)]
    if any(not forbidden(plan, higher, after) for higher in plan.rungs[step.rung + 1 :]):
        assert step.seconds <= left * (1 - plan.reserve)


@given(st.data(), plans, st.floats(-1, 100))
def test_every_step_of_any_past(data: st.DataObject, plan: Plan, left: float) -> None:
    """Over arbitrary plans and pasts: a proven answer goes out at once and nothing is started beside it; a small rung's rejected answer
    never goes out as proven, and degraded only for soft reasons where the route says so; a rung is asked only above all that were,
    only where nothing forbids it and only in its time; nobody gives up while something runs. And the same past gives the same step."""
    past = data.draw(pasts(plan))
    step = next_step(plan, past, Budget(left))
    check(plan, past, left, step)
    assert next_step(plan, tuple(past), Budget(left)) == step
    assert [attempt.number for attempt in past if standing(plan, past, attempt).state == "good"] == [
        attempt.number for attempt in past if may_go(plan, attempt)
    ]


@given(st.data(), plans, seconds)
def test_every_ladder_ends(data: st.DataObject, plan: Plan, total: float) -> None:
    """Driven as the pipeline drives it, with any outcome of any attempt: it ends, after at most one attempt for each rung and never
    more than `max_attempts`, with nothing left running, and every step on the way is a proper one."""
    past: list[Attempt] = []
    started: list[int] = []
    left = total
    for _ in range(6 * len(plan.rungs) + 2):
        step = next_step(plan, past, Budget(left))
        check(plan, past, left, step)
        if isinstance(step, Deliver | GiveUp):
            break
        if isinstance(step, Start):
            started.append(step.rung)
            past.append(Attempt(len(past), step.rung))
            assert next_step(plan, past, Budget(left)) == Wait()  # nothing is asked beside it
        elif isinstance(step, Stop):
            past[step.number] = replace(past[step.number], running=False)
        else:
            past = [happened(data, attempt) for attempt in past]
            left -= data.draw(st.floats(0, total / 2))
    else:
        pytest.fail(f"no end after {past}")
    assert started == sorted(set(started))
    assert len(started) <= min(len(plan.rungs), plan.max_attempts)


def happened(data: st.DataObject, attempt: Attempt) -> Attempt:
    """`attempt` after the next event: it begins, is judged in part, or ends with a verdict or an error."""
    if not attempt.running:
        return attempt
    what = data.draw(st.sampled_from(["begins", "half judged", "judged", "fails"])) if not attempt.begun else "judged"
    cost = data.draw(st.sampled_from([0.0, 0.005]))
    if what == "begins":
        return replace(attempt, begun=True, cost=cost)
    if what == "half judged":
        return replace(attempt, begun=True, cost=cost, verdict=data.draw(verdicts))
    if what == "judged":
        return replace(attempt, running=False, begun=True, cost=cost, verdict=data.draw(verdicts))
    return replace(attempt, running=False, error=data.draw(st.sampled_from(ERRORS)))
