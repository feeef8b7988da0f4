"""Turning points: each line names what stood in the way, by how much, and the key that moves it."""

import pytest
from msgspec.structs import replace

from gateway.record import Record
from gateway.turning import WHY, turning_points
from tests.replay.made import escalated, record, rejected, top, tried

DEFAULT = {"route": "general", "outcome": "direct"}


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (record(), "`min_score` of 'intents' above 0.800"),
        (record(scores={"intents": 0.8, "other": 0.15}), "'other' scored 0.150"),
        (record(tried(threshold=0.9)), "passed by 0.0500"),
        (escalated(), "0.5000 sure and needed 0.9000"),
        (
            escalated(replace(rejected(), agrees=False)),
            "0.5000 sure (the second model said something else) and needed 0.9000",
        ),
        (record(tried(threshold=0.9, agrees=True)), "passed by 0.0500 (the second model said the same)"),
        (escalated(rejected(probability=None)), "gave no probability"),
        (escalated(tried(outcome="rejected", reason="low_confidence")), "no calibration"),
        (escalated(rejected("schema", 0.9, "fits_schema")), "an answer that fits the schema"),
        (escalated(tried(outcome="error", reason="timeout", seconds=3.0)), "did not answer (timeout) after 3.00 s"),
        (
            record(top(0), reason="below_min_score", **DEFAULT),
            "'intents' scored 0.800: with a `min_score` of at most 0.800",
        ),
        (record(top(0), reason="out_of_scope", out_of_scope=0.7, **DEFAULT), "out of scope at 0.700"),
        (record(top(0), reason="default", scores={}, **DEFAULT), "no route was scored"),
        (record(reason="pinned"), "route/intents"),
        (record(mode="observe", would="small", outcome="straight"), "`mode: enforce` 'small'"),
        (record(rejected(), outcome="refused", error="escalation_unavailable", status=503), "on_unavailable: deliver"),
        (record(rejected(), outcome="refused", error="deadline_exceeded", status=504), "`deadline`"),
        (escalated(late_verdict="schema"), "`strict: true`"),
        (record(late_verdict="refused"), "without `stream:`"),
        (escalated(tried(outcome="rejected", reason="disagreement")), "did not say the same"),
        (escalated(tried(outcome="rejected", reason="policy")), "an entry in `tools:`"),
        *((record(reason=reason), text) for reason, text in WHY.items()),
    ],
)
def test_it_names_what_stood_in_the_way(known: Record, said: str) -> None:
    """The nearest thing that would have changed the outcome is among the lines."""
    assert any(said in line for line in turning_points(known))


def test_a_foreign_check_is_named_as_it_is() -> None:
    """A validator that nobody here knows is named, not explained."""
    assert any("pass `Mine`" in line for line in turning_points(escalated(rejected("policy", 0.9, "Mine"))))


def test_a_failed_caller_has_no_turning_point() -> None:
    """Nothing was decided and nothing asked: no line."""
    assert turning_points(record(reason="observe", attempts=(), outcome="cancelled")) == []
