"""One Record decided again: the same terms change nothing, other terms change what they govern, and the unknown stays open."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.decide import Route, Rung
from gateway.record import Facts, Record, VerdictRecord
from gateway.redecide import holds, redecide, rescore
from routers.base import RouteSpec
from routers.rules import Match, Rules, RulesConfig, matches
from tests.replay.made import FITS, SURE, WHOLE, escalated, intents, record, rejected, terms, top, tried
from wire.types import Query, Tokens


def match(**conditions: Any) -> Match:
    return Match.model_validate(conditions)


DIRECT = record(
    top(0),
    outcome="direct",
    route="general",
    reason="out_of_scope",
    scores={"intents": 0.1},
    out_of_scope=0.9,
    direct=True,
)


@pytest.mark.parametrize("known", [record(), escalated(), DIRECT], ids=["accepted", "escalated", "direct"])
def test_the_same_terms_change_nothing(known: Record) -> None:
    """Under the configuration it was decided by, a Record keeps its route, outcome, rung and cost."""
    again = redecide(known, terms())
    assert (again.route, again.reason, again.outcome, again.served) == (
        known.route,
        known.reason,
        known.outcome,
        known.served,
    )
    assert again.cost == again.least == pytest.approx(known.cost)
    assert not again.unchecked


@given(st.floats(0, 1), st.none() | st.floats(0, 1))
def test_the_threshold_is_applied_to_the_stored_probability(probability: float, threshold: float | None) -> None:
    """Accepted exactly when the stored probability reaches the new threshold; without a threshold never."""
    for known in (record(tried(probability=probability)), escalated(rejected(probability=probability))):
        again = redecide(known, terms(intents(threshold)))
        sure = threshold is not None and probability >= threshold
        assert again.outcome == ("accepted" if sure else "escalated")
        assert again.served == ("small" if sure else "large")
        assert again.why == ("" if sure else "low_confidence")
        assert again.cost == pytest.approx(1.0 if sure else 11.0)


def test_without_a_probability_nothing_is_sure() -> None:
    """Unknown is not confident, however low the threshold."""
    assert redecide(record(tried(probability=None)), terms(intents(0.0))).outcome == "escalated"


def test_without_a_promised_risk_the_hard_checks_are_enough() -> None:
    """A route without `sure_enough` takes what passed its hard checks."""
    assert redecide(escalated(), terms(intents(None, validators=(FITS,), risk=None))).outcome == "accepted"


def test_a_hard_failure_stays_one() -> None:
    """No threshold saves an answer that broke the schema; a route without that check does not know the later ones."""
    known = escalated(rejected("schema", 0.99, "fits_schema"))
    assert redecide(known, terms(intents(0.0))).outcome == "escalated"
    again = redecide(known, terms(intents(0.9, validators=(WHOLE, SURE))))
    assert again.outcome == "accepted"
    assert again.unchecked


def test_an_error_stays_one() -> None:
    """A rung that did not answer then does not answer in the replay."""
    known = escalated(tried(probability=None, outcome="error", reason="overload", verdicts=()))
    again = redecide(known, terms(intents(0.0)))
    assert (again.outcome, again.why) == ("escalated", "overload")


def test_a_shorter_timeout_times_out() -> None:
    """An attempt that took longer than the rung now gets has not answered."""
    slow = record(tried(seconds=20.0))
    assert redecide(slow, terms()).outcome == "accepted"
    again = redecide(slow, terms(intents(seconds=10.0)))
    assert (again.outcome, again.why) == ("escalated", "timeout")


def test_the_budget_is_applied_to_the_stored_costs() -> None:
    """What the attempts cost then counts against the new budget of a request."""
    again = redecide(escalated(), terms(intents(max_usd=0.5)))
    assert (again.outcome, again.why, again.served) == ("refused", "budget", "")


@pytest.mark.parametrize(("schema", "outcome"), [("0" * 16, "refused"), ("", "escalated")])
def test_strict_needs_a_schema(schema: str, outcome: str) -> None:
    """A strict route refuses the top's answer that broke the caller's schema; without one there is nothing to break."""
    broken = top(verdicts=[VerdictRecord("fits_schema", "fail", "schema")])
    known = record(rejected(), broken, facts=Facts(model="m", text_chars=20, schema=schema))
    assert redecide(known, terms(intents(strict=True))).outcome == outcome


def test_degraded_where_the_route_delivers_unproven() -> None:
    """No higher rung may be asked, and the route delivers: degraded, never accepted."""
    again = redecide(escalated(), terms(intents(egress="local", deliver_unproven=True)))
    assert (again.outcome, again.served, again.why) == ("degraded", "small", "low_confidence")


def test_a_rung_that_was_never_asked_leaves_it_open() -> None:
    """Nobody knows what a new small rung would have answered: open, between its own cost and that plus the top's."""
    again = redecide(record(), terms(intents(ladder=("middle", "large"))))
    assert (again.outcome, again.why) == ("open", "middle was not asked")
    assert [again.least, again.cost] == pytest.approx([2.0, 12.0])


def test_an_answer_that_nobody_checked_leaves_it_open() -> None:
    """A small rung's answer that went straight out, or that was cut short, says nothing about passing."""
    straight = record(tried(verdicts=()), outcome="straight", mode="observe")
    assert redecide(straight, terms()).outcome == "open"
    assert redecide(escalated(tried(outcome="stopped")), terms()).outcome == "open"


def test_the_top_rung_is_taken_to_answer() -> None:
    """A top rung that was not asked answers with the delivered answer's tokens, at its own price."""
    again = redecide(record(tried(probability=0.5), tokens=Tokens(input=500_000)), terms())
    assert again.outcome == "escalated"
    assert again.cost == pytest.approx(1.0 + 5.0)


def test_where_nothing_was_delivered_the_first_attempt_s_tokens_count() -> None:
    """A refused request's Record has no tokens of its own: the top is not free for that."""
    refused = record(rejected(), outcome="refused", tokens=Tokens(), counterfactual_cost=0.0)
    assert redecide(refused, terms()).cost == pytest.approx(1.0 + 10.0)


def test_missing_keys_of_this_machine_do_not_matter() -> None:
    """What is replayed is the configuration: a rung whose key is unset here is taken to be there."""
    route = intents()
    unset = Route(
        "intents",
        (route.ladder[0], Rung("large", cloud=True, missing="SOME_KEY")),
        validators=route.validators,
        mode="enforce",
    )
    assert redecide(escalated(), terms(unset)).outcome == "escalated"


def test_another_route_s_attempts_prove_nothing() -> None:
    """Another route imposes other constraints and checks: its small rung was not asked this."""
    again = redecide(record(route="other", scores={"intents": 0.9}), terms())
    assert (again.route, again.outcome) == ("intents", "open")


def test_observe_goes_straight() -> None:
    """A route that only observes asks the model asked for, at the top's price."""
    again = redecide(record(), terms(intents(mode="observe")))
    assert (again.outcome, again.served) == ("straight", "large")
    assert again.cost == pytest.approx(10.0)


def test_a_canary_is_enforced_in_its_share() -> None:
    """As it was where the Record is of a canary; else in the same share of the conversations, though not the same ones."""
    route = intents(mode="canary", canary=0.3)
    inside, outside = record(mode="canary"), record(tried("large"), mode="canary", outcome="straight")
    assert redecide(inside, terms(route)).outcome == "accepted"
    assert redecide(outside, terms(route)).outcome == "straight"
    facts = [structs.replace(record().facts, session=str(number)) for number in range(500)]
    again = [redecide(record(facts=one), terms(route)).outcome for one in facts]
    assert set(again) == {"accepted", "straight"}
    assert again.count("accepted") / 500 == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("mode", ["observe", "shadow"])
def test_a_mode_that_only_looks_goes_straight(mode: str) -> None:
    """At the top's price; what is asked off the path is in no request's sum."""
    again = redecide(record(), terms(intents(mode=mode)))
    assert (again.outcome, again.served) == ("straight", "large")
    assert again.cost == pytest.approx(10.0)


@pytest.mark.parametrize("reason", ["bypass", "straight"])
def test_what_no_router_decided_stays(reason: str) -> None:
    """Bypass and requests for a backend by name are as they were."""
    known = record(reason=reason, outcome="straight", route="gone")
    again = redecide(known, terms())
    assert (again.route, again.outcome, again.how, again.cost) == ("gone", "straight", "kept", known.cost)


def test_callers_that_left_stay() -> None:
    """Whoever left would have left."""
    assert redecide(record(outcome="cancelled"), terms(intents(1.0))).outcome == "cancelled"


def test_a_pinned_route_stays_pinned() -> None:
    """The caller's choice is not scored again; what the route demands is."""
    again = redecide(record(reason="pinned", scores={}, out_of_scope=None), terms(intents(0.99)))
    assert (again.route, again.reason, again.outcome, again.how) == ("intents", "pinned", "escalated", "kept")


def test_a_tool_loop_begins_where_it_began() -> None:
    """The rung that asked for the tool is asked again, not the one below it."""
    known = record(top(0), reason="tool_loop", outcome="direct")
    assert redecide(known, terms()).outcome == "direct"


# -- scores


def test_min_score_is_applied_to_stored_scores() -> None:
    """A higher `min_score` sends it to the default route, which has a direct top."""
    again = redecide(record(out_of_scope=0.3), terms(intents(min_score=0.9)))
    assert (again.route, again.reason, again.outcome, again.how) == ("general", "below_min_score", "direct", "stored")


def test_a_lower_min_score_takes_what_was_out_of_scope() -> None:
    """The stored score passes the new `min_score`: another route, whose small rung nobody asked."""
    again = redecide(DIRECT, terms(intents(min_score=0.1)))
    assert (again.route, again.reason, again.outcome) == ("intents", "matched", "open")


def test_rules_are_asked_again_and_come_first() -> None:
    """A rule that holds on the stored facts beats stored scores."""
    again = redecide(record(), terms(matches={"general": [match(model="gpt-*")]}))
    assert (again.route, again.reason, again.how) == ("general", "matched", "rules")


@pytest.mark.parametrize(
    ("conditions", "held"),
    [
        ({"model": "gpt-*"}, True),
        ({"model": "x"}, False),
        ({"text_chars": {"max": 20}}, True),
        ({"text_chars": {"max": 19}}, False),
        ({"text": "hello"}, None),
        ({"text": "hello", "model": "x"}, False),
        ({"header": {"a": "b"}, "model": "gpt-5"}, None),
        ({"session": "s"}, None),
        ({"tenant": "team"}, True),
        ({"stream": True}, True),
    ],
)
def test_a_rule_on_what_was_not_stored_is_neither(conditions: dict[str, Any], held: bool | None) -> None:
    """True, False, or None where only what was not stored could tell; one false condition is enough for False."""
    known = record(tenant="team", facts=Facts(model="gpt-5", text_chars=20, stream=True))
    assert holds(match(**conditions), known) is held


def test_an_empty_text_is_known() -> None:
    """No text is a text: a condition on it can be asked again."""
    assert holds(match(text="^$"), record(facts=Facts(model="m", text_chars=0))) is True
    assert holds(match(text="a"), record(facts=Facts(model="m", text_chars=0))) is False


STORED = {
    "model": st.sampled_from(["gpt-5", "b"]),
    "schema": st.sampled_from(["", "0" * 16]),
    "turns": st.integers(0, 3),
}
CONDITIONS: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(["gpt-*", "b"]),
    "schema": st.booleans(),
    "turns": st.sampled_from([{"min": 1}, {"max": 1}]),
    "text": st.just("a"),
}


@given(
    st.fixed_dictionaries(STORED),
    st.text("ab", min_size=1, max_size=3),
    st.fixed_dictionaries({}, optional=CONDITIONS).filter(bool),
)
def test_a_known_answer_is_the_one_given_then(facts: dict[str, Any], text: str, conditions: dict[str, Any]) -> None:
    """Whenever a rule can be asked again, it says what it said of the whole request."""
    one = match(**conditions)
    known = record(facts=Facts(text_chars=len(text), **facts))
    held = holds(one, known)
    assert held is None or held == matches(one, Query(text=text, **facts))


def test_rules_score_as_the_router_does() -> None:
    """Several rules that hold: the same ranks as routers.rules gives."""
    import asyncio

    found = {"intents": [match(model="gpt-*")], "general": [match(turns={"min": 1})]}
    router = Rules(RulesConfig(), [RouteSpec(name, match=table) for name, table in found.items()], None)  # type: ignore[arg-type]
    scores = asyncio.run(router.score(Query(text="", model="gpt-5")))
    assert rescore(record(), terms(matches=found)) == (scores, "rules")


def test_an_unknown_rule_lets_the_stored_scores_stand() -> None:
    """Where only what was not stored could decide, the router's old answer is the best there is."""
    scores, how = rescore(record(), terms(matches={"general": [match(text="a")]}))
    assert how == "stored"
    assert scores is not None
    assert scores.by_route == {"intents": 0.8}


def test_an_unknown_rule_after_the_first_hit_does_not_matter() -> None:
    """The first route in order has won already."""
    found = {"intents": [match(model="gpt-*")], "general": [match(text="a")]}
    assert rescore(record(), terms(matches=found))[1] == "rules"


RULED = record(scores={"intents": 1.0}, score=1.0, out_of_scope=None, router="rules")


def test_a_text_that_nobody_scored_cannot_be_scored_now() -> None:
    """Rules answered then and do not now: no text was kept, so the old decision stands and is counted."""
    again = redecide(RULED, terms())
    assert (again.route, again.how) == ("intents", "unscored")


def test_with_rules_only_silence_is_known() -> None:
    """A router of rules only, none of which holds: the default route, and that is certain."""
    again = redecide(RULED, terms(readers=False))
    assert (again.route, again.reason, again.how) == ("general", "default", "rules")


def test_a_request_without_text_is_known_to_be_silent() -> None:
    """There was nothing to read: text readers say nothing of it, then and now."""
    silent = record(scores={}, out_of_scope=None, score=None, route="general", facts=Facts(model="m", text_chars=0))
    assert redecide(silent, terms()).how == "rules"


def test_unscored_on_a_route_that_is_gone_goes_the_default_way() -> None:
    """The old decision cannot stand where its route does not."""
    again = redecide(record(route="gone", scores={"gone": 1.0}, out_of_scope=None), terms())
    assert (again.route, again.reason, again.how) == ("general", "default", "unscored")


def test_a_check_that_did_not_run_then_is_counted() -> None:
    """A new check is taken to pass, and said to be unchecked."""
    again = redecide(record(), terms(intents(validators=(FITS, WHOLE, SURE))))
    assert (again.outcome, again.unchecked) == ("accepted", True)


def test_an_undecided_check_is_not_sure() -> None:
    """Undecided then is undecided now: escalated."""
    unsure = tried(verdicts=[VerdictRecord("fits_schema", "undecided", "schema"), VerdictRecord("sure_enough", "pass")])
    assert redecide(record(unsure), terms()).outcome == "escalated"
