"""The accounting: pure functions over what was seen."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.demo import account
from gateway.demo.account import Observation
from gateway.demo.run import compare, stories
from gateway.demo.setting import CLOUD, GENERAL, INTENTS, SPECIALIST
from gateway.demo.traffic import OUT_OF_SCOPE, Item
from gateway.metrics import Metrics
from gateway.record import AttemptRecord, Facts, Record, Seconds

ITEMS = st.sampled_from(
    [Item("intent", "fly", "translate"), Item("intent", "a show", OUT_OF_SCOPE), Item("chat", "2+2", "4")]
)


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    item = draw(ITEMS)
    route = INTENTS if item.kind == "intent" else GENERAL
    seconds = draw(st.floats(0, 10))
    way = draw(st.sampled_from(["accepted", "escalated", "direct", "refused"]))
    if way == "accepted" and item.kind == "chat":
        way = "direct"
    if way == "refused":
        return Observation(
            item, draw(st.sampled_from([0, 502, 503])), seconds, route=route, attempts=2, reason="timeout"
        )
    right = draw(st.booleans()) and not (way == "accepted" and not item.in_scope)
    return Observation(
        item=item,
        status=200,
        seconds=seconds,
        answer=item.gold if right else "alarm",
        valid=True,
        route=route,
        rung=SPECIALIST if way == "accepted" else CLOUD,
        attempts=2 if way == "escalated" else 1,
        reason="low_confidence" if way == "escalated" else "matched",
    )


def seen_by_client(draws: Sequence[Observation]) -> list[Observation]:
    import msgspec

    return [msgspec.structs.replace(o, id=f"req_{at}") for at, o in enumerate(draws)]


SEEN = st.lists(observations(), max_size=30).map(seen_by_client)


def record_of(o: Observation) -> Record:
    """The Record that the gateway would have written."""
    attempts = [AttemptRecord(0, o.rung or CLOUD, "delivered" if o.status == 200 else "error", cost=0.01, start=0.1)]
    if o.outcome == "escalated":
        attempts.insert(0, AttemptRecord(0, SPECIALIST, "rejected", o.reason, probability=0.2, seconds=0.01))
    return Record(
        id=o.id,
        time=0.0,
        outcome="failed" if o.outcome == "refused" else o.outcome,  # type: ignore[arg-type]
        route=o.route,
        mode="enforce",
        reason=o.reason if o.outcome == "direct" else "matched",
        facts=Facts("gpt-5"),
        direct=o.outcome == "direct",
        attempts=attempts,
        served=o.rung,
        top=CLOUD,
        seconds=Seconds(total=o.seconds / 2),
        cost=0.0 if o.outcome == "accepted" else 0.01,
        counterfactual_cost=0.02,
    )


def page_of(records: Sequence[Record]) -> str:
    metrics = Metrics([INTENTS, GENERAL], [SPECIALIST, CLOUD])
    for record in records:
        metrics.observe([record])
    return metrics.render().decode()


@given(SEEN)
def test_the_three_books_agree_on_the_same_requests(seen: list[Observation]) -> None:
    """What the client counts by headers is what the Records and /metrics count, whatever happened."""
    records = [record_of(o) for o in seen]
    assert compare(seen, records, page_of(records)) == []


@given(SEEN.filter(bool), st.data())
def test_one_request_too_few_is_seen(seen: list[Observation], data: st.DataObject) -> None:
    """A request that is missing in one book is a difference: equal to the unit, not nearly."""
    records = [record_of(o) for o in seen]
    lost = data.draw(st.integers(0, len(seen) - 1))
    fewer = records[:lost] + records[lost + 1 :]
    assert any(line.startswith("/metrics: ") for line in compare(seen, records, page_of(fewer)))
    assert any(line.startswith("Records: ") for line in compare(seen, fewer, page_of(records)))


def test_a_difference_says_what_and_how_much() -> None:
    """A difference names the count, the route and both numbers."""
    one = account.ledger_of_client([Observation(Item("chat", "x", ""), 200, 1, route=GENERAL, rung=CLOUD, attempts=1)])
    assert "requests of route 'general', direct: 1 against 0" in account.differences(one, account.Ledger())


@given(SEEN)
def test_shares_are_shares(seen: list[Observation]) -> None:
    """Every share is in [0, 1]; outcomes add up; nothing divides by zero, not even for nothing."""
    found = account.figures(seen, [record_of(o) for o in seen], 1.0)
    for name in (
        "local_share", "local_coverage", "local_accuracy_in_scope", "local_accuracy", "oos_to_top", "overall_accuracy",
        "llm_share", "llm_spend_share", "escalation_rate", "cost_ratio",
    ):  # fmt: skip
        assert 0 <= getattr(found, name) <= 1, name
    assert found.requests == len(seen) == found.utterances + found.chats
    accepted = found.local_share * found.requests
    llm = sum(found.escalated.values()) + sum(found.direct.values())
    assert accepted + llm + found.errors == pytest.approx(found.requests)
    assert llm == pytest.approx(found.llm_share * found.requests)
    assert found.local_accuracy <= found.local_accuracy_in_scope or not found.local_accuracy_in_scope


def test_figures_of_a_known_handful() -> None:
    """Four utterances and a chat: served here right and wrong, escalated, kept though out of scope, direct."""
    inside, outside = Item("intent", "fly", "translate"), Item("intent", "a show", OUT_OF_SCOPE)
    here = {"valid": True, "route": INTENTS, "rung": SPECIALIST, "attempts": 1, "reason": "matched"}
    seen = [
        Observation(inside, 200, 0.001, "translate", id="1", **here),  # type: ignore[arg-type]
        Observation(inside, 200, 0.003, "alarm", id="2", **here),  # type: ignore[arg-type]
        Observation(outside, 200, 0.002, "alarm", id="3", **here),  # type: ignore[arg-type]
        Observation(outside, 200, 2.0, OUT_OF_SCOPE, True, "4", INTENTS, CLOUD, 2, "low_confidence"),
        Observation(Item("chat", "2+2", "4"), 200, 3.0, "4", True, "5", GENERAL, CLOUD, 1, "default"),
    ]
    found = account.figures(seen, [record_of(o) for o in seen], 3.0)
    assert (found.local_share, found.local_coverage, found.local_accuracy_in_scope) == (0.6, 1.0, 0.5)
    assert found.local_accuracy == pytest.approx(1 / 3)
    assert (found.oos_to_top, found.overall_accuracy, found.llm_share) == (0.5, 0.5, 0.4)
    assert found.escalation_rate == 0.25
    assert (found.escalated, found.direct) == ({"low_confidence": 1}, {"default": 1})
    assert (found.cost_usd, found.all_llm_usd, found.cost_ratio) == pytest.approx((0.02, 0.1, 0.2))
    local = found.latency[SPECIALIST]
    assert (local.answers, local.p50_ms, local.p99_ms) == pytest.approx((3, 2, 3))
    assert (local.gateway_p50_ms, local.gateway_p99_ms) == pytest.approx((1, 1.5))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_was_measured(values: list[float], at: float) -> None:
    """A percentile is one of the values, and at least that share of them does not exceed it."""
    found = account.percentile(values, at)
    assert found in values
    assert sum(value <= found for value in values) >= at * len(values)


def test_the_percentile_of_nothing() -> None:
    """There is no latency where nothing was answered: 0, and no error."""
    assert account.percentile([], 0.99) == 0.0


def test_a_story_of_each_outcome() -> None:
    """The first request of each outcome is offered for `weir why`; one without an id cannot be."""
    item = Item("intent", "fly", "translate")
    seen = [
        Observation(item, 0, 1.0),
        Observation(item, 200, 1.0, "translate", True, "a", INTENTS, SPECIALIST, 1),
        Observation(item, 200, 1.0, "translate", True, "b", INTENTS, SPECIALIST, 1),
        Observation(item, 200, 1.0, "translate", True, "c", INTENTS, CLOUD, 2),
    ]
    assert [(story.outcome, story.id) for story in stories(seen)] == [("accepted", "a"), ("escalated", "c")]
