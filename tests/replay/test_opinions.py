"""Replaying requests of which a second model had an opinion, or that called tools with effects."""

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.decide import Route, Rung, ToolRule
from gateway.record import AttemptRecord, Facts, Record, VerdictRecord
from gateway.redecide import redecide
from tests.replay.made import escalated, intents, record, rejected, terms, top, tried

OTHER = Rung("middle")
ALWAYS = intents(companion=OTHER, agreement="always")
FACTS = Facts(model="gpt-5", text_chars=20, chars=50, tool_names=("refund",))


WEIGHED = intents(companion=OTHER, agreement="weighed")
WEIGHED_CALLS = intents(companion=OTHER, agreement="weighed", tools={"refund": ToolRule("agree")})


def second(outcome: str = "stopped", number: int = 1) -> AttemptRecord:
    passed = (VerdictRecord("fits_schema", "pass"),)
    return tried("middle", None, number=number, purpose="agree", outcome=outcome, verdicts=passed)


def calls(**rest: Any) -> AttemptRecord:
    return tried(finish="tool_calls", **rest)


BOOKED = calls(calls=("refund",), agrees=True)


@pytest.mark.parametrize(
    ("known", "route", "outcome"),
    [
        # what two models said alike, said differently, and what nobody compared
        (record(tried(), second(), served="small"), ALWAYS, "accepted"),
        (escalated(tried(outcome="rejected", reason="disagreement")), ALWAYS, "open"),
        (
            record(
                tried(outcome="rejected", reason="disagreement"), second(), top(2), outcome="escalated", served="large"
            ),
            ALWAYS,
            "escalated",
        ),
        (record(tried()), ALWAYS, "open"),
        (record(tried(), second(), served="small"), intents(), "accepted"),
        # what was weighed is known where it is weighed again, and nowhere else
        (record(tried(agrees=False), second(), served="small"), WEIGHED, "accepted"),
        (escalated(replace(rejected(), agrees=True)), WEIGHED, "escalated"),
        (escalated(rejected(probability=None)), WEIGHED, "escalated"),
        (escalated(rejected("schema", None, "fits_schema")), WEIGHED, "escalated"),
        (record(tried(), second(), served="small"), WEIGHED, "open"),
        (record(tried(agrees=True), second(), served="small"), ALWAYS, "open"),
        (record(tried(agrees=True), second(), served="small"), intents(), "open"),
        (record(BOOKED, second(), served="small", facts=FACTS), WEIGHED_CALLS, "accepted"),
        (record(replace(BOOKED, agrees=False), second(), served="small", facts=FACTS), WEIGHED_CALLS, "escalated"),
        # a second try
        (
            record(rejected("schema", 0.9, "fits_schema"), tried(number=1, purpose="repair")),
            intents(repair=1),
            "accepted",
        ),
        (record(rejected("schema", 0.9, "fits_schema"), tried(number=1, purpose="repair")), intents(), "escalated"),
        # one that was started early is an attempt like any other
        (
            record(rejected(), top(purpose="early"), outcome="escalated", served="large", speculation="used"),
            intents(waste=0.03),
            "escalated",
        ),
        # tools with effects
        (record(calls(calls=("refund",)), facts=FACTS), intents(tools={"refund": ToolRule("never")}), "escalated"),
        (record(calls(calls=("refund",)), facts=FACTS), intents(), "accepted"),
        (record(calls(), facts=FACTS), intents(tools={"refund": ToolRule("never")}), "open"),
        (
            escalated(calls(outcome="rejected", reason="policy", calls=("refund",)), facts=FACTS),
            intents(tools={"refund": ToolRule("always")}),
            "accepted",
        ),
        (escalated(calls(outcome="rejected", reason="policy", calls=("refund",)), facts=FACTS), intents(), "open"),
    ],
)
def test_what_is_known_decides_and_the_rest_is_open(known: Record, route: Route, outcome: str) -> None:
    """Whether answers agreed, and which tools were called, counts where it is on record; elsewhere the request is open."""
    assert redecide(known, terms(route)).outcome == outcome
