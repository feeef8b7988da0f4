"""The report: before is what the Records say, after is what the terms make of them, and open requests are a range."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.record import Record
from gateway.replay import CHANGES, Report, replay
from tests.replay.made import escalated, intents, record, rejected, terms, top, tried

DIRECT = record(
    top(0), outcome="direct", route="general", scores={}, out_of_scope=0.9, reason="out_of_scope", direct=True
)


def test_the_figures_add_up() -> None:
    """Counts per outcome and route, the LLM share, the escalation rate and the cost, on both sides."""
    report = replay([record(), escalated(), DIRECT, record()], terms(intents(0.99)))
    assert report.before.outcomes == {"accepted": 2, "escalated": 1, "direct": 1}
    assert report.after.outcomes == {"escalated": 3, "direct": 1}
    assert report.before.routes == {"intents": {"accepted": 2, "escalated": 1}, "general": {"direct": 1}}
    assert (report.before.llm_share, report.after.llm_share) == (0.5, 1.0)
    assert report.before.escalation_rate == pytest.approx(1 / 3)
    assert report.after.escalation_rate == 1.0
    assert [report.before.cost, report.after.cost] == pytest.approx([23.0, 43.0])
    assert report.counterfactual_cost == pytest.approx(40.0)
    assert report.moves == {"accepted > escalated": 2}
    assert (report.records, report.changed, report.rerouted) == (4, 2, 0)
    assert report.changes[0].before == "intents/accepted"
    assert report.changes[0].after == "intents/escalated"
    assert report.changes[0].why == "low_confidence"
    assert report.scored == {"rules": 0, "stored": 4, "unscored": 0, "kept": 0}


def test_newly_accepted() -> None:
    """A lower threshold accepts what was escalated, and the money says so."""
    report = replay([escalated(rejected(probability=0.85))] * 3, terms(intents(0.8)))
    assert report.moves == {"escalated > accepted": 3}
    assert report.after.cost == pytest.approx(3.0)
    assert report.after.llm_share == 0.0


def test_open_requests_are_a_range() -> None:
    """`after` counts an open request as if it escalated, `at_best` as if it did not."""
    report = replay([record()], terms(intents(ladder=("middle", "large"))))
    assert (report.after.llm_share, report.at_best.llm_share) == (1.0, 0.0)
    assert [report.after.cost, report.at_best.cost] == pytest.approx([12.0, 2.0])


def test_rerouted_requests_are_counted() -> None:
    """A request that another route takes is a change, and counted as rerouted."""
    report = replay([DIRECT], terms(intents(mode="observe", ladder=("large",)), default="intents"))
    assert (report.rerouted, report.changed) == (1, 1)
    assert report.moves == {"direct > straight": 1}


def test_nothing_to_replay() -> None:
    """No Records: zeros, no division by them."""
    report = replay([], terms())
    assert (report.records, report.after.llm_share, report.after.escalation_rate) == (0, 0.0, None)


def test_the_list_of_changes_is_bounded() -> None:
    """However many change, CHANGES are listed and all are counted."""
    report = replay((escalated(rejected(probability=0.85)) for _ in range(CHANGES + 7)), terms(intents(0.8)))
    assert len(report.changes) == CHANGES
    assert report.changed == CHANGES + 7


def test_a_report_is_data() -> None:
    """A report survives JSON."""
    report = replay([record(), escalated()], terms(intents(0.99)))
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


RECORDS = st.lists(
    st.one_of(
        st.floats(0, 1).map(lambda p: record(tried(probability=p))),
        st.floats(0, 1).map(lambda p: escalated(rejected(probability=p))),
        st.just(DIRECT),
        st.just(record(outcome="cancelled")),
    ),
    max_size=8,
)


@given(RECORDS, st.floats(0, 1), st.floats(0, 1))
def test_a_stricter_threshold_never_accepts_more(records: list[Record], one: float, two: float) -> None:
    """Acceptance falls and cost grows as the threshold rises; every Record is counted on every side."""
    lax = replay(records, terms(intents(min(one, two))))
    strict = replay(records, terms(intents(max(one, two))))
    assert strict.after.outcomes.get("accepted", 0) <= lax.after.outcomes.get("accepted", 0)
    assert strict.after.cost >= lax.after.cost - 1e-9
    for side in (lax.before, lax.after, lax.at_best):
        assert sum(side.outcomes.values()) == len(records)
        assert sum(sum(counts.values()) for counts in side.routes.values()) == len(records)
    assert lax.at_best.llm_share <= lax.after.llm_share
