"""gateway.story: the Record of one request. It is made by position: what stands where is checked here, field by field."""

from typing import Any, ClassVar, cast

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.confidence import Second
from gateway.decide import Decision, Route, Rung
from gateway.escalate import accepted, begun
from gateway.plan import Agreement, Plan
from gateway.record import VERSION, Facts, Seconds, VerdictRecord
from gateway.setup import Setup
from gateway.story import AttemptStory, Story, _session
from gateway.validators.base import Verdict
from wire.errors import TimedOut
from wire.traceparent import Trace
from wire.types import Asked, Chunk, Price, Query, Scores, Tokens, Wants

SMALL = Rung("small", threshold=0.75, calibrated="cal", digest="model-digest")
LARGE = Rung("large", cloud=True)
PRICE, DEAR = Price(1.0, 0.5, 2.0), Price(100.0, 50.0, 200.0)
QUERY = Query(
    text="abc", model="asked", signature="sig", system="sys", tools="too", tool_names=("look", "book"), schema="sch",
    schema_name="name", turns=3, chars=44, modality=frozenset({"text", "image"}), tenant="ten", session="ses",
    headers={"x-stainless-retry-count": "2"}, tool_loop=True,
)  # fmt: skip
BODY = {"messages": [{"role": "tool", "content": "Error: no such order"}]}
USAGE = {"prompt_tokens": 1000, "completion_tokens": 500, "prompt_tokens_details": {"cached_tokens": 200}}
USED = Tokens(1000, 200, 500)
COST = (800 * 1.0 + 200 * 0.5 + 500 * 2.0) / 1e6


class Fixed:
    """What a Story asks of its Setup, every answer another."""

    digest, router_digest, version = "con", "rou", "wei"
    prices: ClassVar = {"large": DEAR}
    time = 100.0

    def clock(self) -> float:
        return self.time

    def now(self) -> float:
        return 5000.0

    def text_hash(self, text: str) -> str:
        return f"hash of {text}"


def story(setup: Fixed | None = None) -> Story:
    """Under way on a route with a small rung and a large one."""
    asked = Asked(QUERY, BODY, Wants(stream=True), dialect="messages")
    setup = setup or Fixed()
    made = Story(cast(Setup, setup), asked, "req", setup.clock(), setup.now())
    made.route = Route("road", (SMALL, LARGE))
    made.decision = Decision("road", "matched", 0.9)
    return made


def attempt(made: Story, rung: Rung = SMALL, **more: Any) -> AttemptStory:
    """One that was begun a second after the request."""
    one = AttemptStory(len(made.attempts), more.pop("index", 0), rung, PRICE, 101.0, 200.0, **more)
    made.attempts.append(one)
    return one


def test_every_field_says_what_it_is_named_for() -> None:
    """No two values of the story are alike where the fields are of one type, and all stand in the Record."""
    setup = Fixed()
    made = story(setup)
    one = attempt(made)
    call = {"index": 0, "id": "c", "function": {"name": "book", "arguments": "{}"}}
    one.gate.feed(Chunk(delta={"content": "answer", "tool_calls": [call]}, usage=USAGE))
    one.gate.feed(Chunk(finish="stop", probability=0.8, meta={"model": "mod", "tier": "tie", "simulated": True}))
    one.gate.dropped = 3
    one.chunks, one.first, one.calls = 7, 101.25, ("book", "invented")
    one.second = Second(False, 0.7)
    one.verdicts = [Verdict("pass", None, "finished"), Verdict("undecided", "low_confidence", "sure_enough", "det")]
    one.end(103.0)
    made.delivered, made.complete = one, True
    made.mode, made.would, made.late = "enforce", "wou", "lat"
    made.scores = Scores({"road": 0.9}, 0.125, "router", ("tier",))
    made.accept_seconds, made.parse_seconds, made.router_seconds = 0.01, 0.02, 0.03
    made.check_seconds, made.first_byte = 0.04, 0.05
    made.trace = Trace("a" * 32, "b" * 16)
    setup.time = 104.0
    record = made.record()
    assert structs.asdict(record.seconds) == {
        "total": 4.0, "router": 0.03, "upstream": 2.0, "check": 0.04, "first_byte": 0.05, "parse": 0.02, "accept": 0.01,
    }  # fmt: skip
    assert structs.asdict(record.facts) == {
        "model": "asked", "text_hash": "hash of abc", "signature": "sig", "system": "sys", "tools": "too",
        "tool_names": ("look", "book"), "schema": "sch", "schema_name": "name", "turns": 3, "chars": 44, "text_chars": 3,
        "modality": ("image", "text"), "tool_loop": True, "session": "hash of ses", "stream": True, "retries": 2,
        "tool_error": True,
    }  # fmt: skip
    (told,) = record.attempts
    assert structs.asdict(told) == {
        "number": 0, "rung": "small", "outcome": "delivered", "reason": "", "error": "", "model": "mod",
        "verdicts": [VerdictRecord("finished", "pass"), VerdictRecord("sure_enough", "undecided", "low_confidence", "det")],
        "probability": 0.8, "threshold": 0.75, "tier": "tie", "simulated": True, "start": 1.0, "seconds": 2.0,
        "first_seconds": 0.25, "tokens": USED, "cost": COST, "finish": "stop", "purpose": "", "chunks": 7,
        "calls": ["book"], "agrees": False,
    }  # fmt: skip
    assert structs.asdict(record) == {
        "id": "req", "time": 5000.0, "outcome": "accepted", "route": "road", "mode": "enforce", "reason": "matched",
        "facts": record.facts, "version": VERSION, "dialect": "messages", "tenant": "ten", "direct": False, "score": 0.9,
        "scores": {"road": 0.9}, "out_of_scope": 0.125, "router": "router", "router_errors": ("tier",),
        "attempts": record.attempts, "served": "small", "escalation": "", "status": 200, "error": "", "finish": "stop",
        "answer_chars": len("answer") + len("book{}") - 3, "tool_calls": 1, "speculation": "", "late_verdict": "lat",
        "would": "wou", "top": "large", "seconds": record.seconds, "tokens": USED, "cost": COST,
        "counterfactual_cost": 100 * COST, "config": "con", "router_hash": "rou", "calibration": "cal", "weir": "wei",
        "trace": made.trace,
    }  # fmt: skip


def test_what_was_rejected_on_the_way_up() -> None:
    """The answer below the delivered one has its reason, and so has the Record; sums are of all attempts."""
    made = story()
    low = attempt(made)
    low.verdict = Verdict("fail", "schema", "fits_schema")
    low.gate.feed(Chunk(delta={"content": "{"}, finish="stop", usage=USAGE))
    low.end(102.0)
    high = attempt(made, LARGE, index=1)
    high.gate.feed(Chunk(delta={"content": "{}"}, finish="stop", usage=USAGE))
    high.end(104.0)
    made.plan = structs.replace(made.plan, rungs=(SMALL, LARGE))
    made.delivered, made.complete = high, True
    record = made.record()
    assert (record.outcome, record.served, record.escalation) == ("escalated", "large", "schema")
    assert [(each.outcome, each.reason) for each in record.attempts] == [("rejected", "schema"), ("delivered", "")]
    assert [(each.rung.name, why) for each, why in made.rejected()] == [("small", "schema")]
    assert record.seconds.upstream == 1.0 + 3.0
    assert record.cost == 2 * COST


def test_a_delivered_answer_that_broke_off_is_an_error() -> None:
    """Alone, delivered, and yet not sound: its attempt has the reason; it was rejected by nobody."""
    made = story()
    one = attempt(made)
    one.gate.feed(Chunk(delta={"content": "half"}))
    one.end(102.0, TimedOut("too late"))
    made.plan = structs.replace(made.plan, rungs=(SMALL, LARGE))
    made.delivered = one
    record = made.record()
    (told,) = record.attempts
    assert (told.outcome, told.reason, told.error) == ("error", "timeout", "too late")
    assert (record.outcome, record.escalation) == ("cancelled", "")
    assert made.rejected() == []


def test_nobody_answered() -> None:
    """A request that never came to a rung has a Record too."""
    made = story()
    made.route = None
    record = made.record()
    assert (record.outcome, record.attempts, record.served, record.top) == ("cancelled", [], "", "")
    assert (record.tokens, record.cost, record.counterfactual_cost) == (Tokens(), 0.0, 0.0)
    assert isinstance(record.facts, Facts)
    assert record.seconds == Seconds(accept=None)


@given(
    st.sampled_from(["pass", "fail", "undecided"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "early"]),
)
def test_the_usual_request_is_told_like_any_other(
    opinion: Any, complete: bool, degraded: bool, timed_out: bool, purpose: Any
) -> None:
    """Where one attempt was made, and its answer taken, nobody asks why it was not: whoever asked would hear nothing."""
    made = story()
    one = attempt(made, purpose=purpose)
    one.gate.feed(Chunk(delta={"content": "{}"}, finish="stop", usage=USAGE))
    one.verdict = Verdict(opinion, None if opinion == "pass" else "schema", "fits_schema")
    one.end(102.0, TimedOut("late") if timed_out else None)
    made.delivered, made.complete, made.degraded = one, complete, degraded
    record = made.record()
    reasons = made._reasons()
    assert record.escalation == made._escalation(reasons)
    assert record.attempts[0].reason == (reasons[0] or "")
    assert record.speculation == ""


VERDICTS = st.builds(
    Verdict,
    st.sampled_from(["pass", "fail", "undecided"]),
    st.sampled_from([None, "schema"]),
    st.sampled_from(["finished", "fits_schema"]),
    st.sampled_from(["", "det"]),
    st.none() | st.sampled_from([0.0, 0.25, 0.5]),
)


@given(st.lists(VERDICTS, max_size=4), st.none() | st.just(0.75), st.booleans())
def test_what_the_checks_said_is_told_whether_it_was_said_before_or_not(
    verdicts: Any, own: float | None, learnt: bool
) -> None:
    """Every verdict in its order and its words, and the first probability: of the rung, else of a check."""
    made = story()
    one = attempt(made, verdicts=verdicts)
    one.gate.feed(Chunk(delta={"content": "{}"}, finish="stop", probability=own, usage=USAGE))
    one.known = one.probability if learnt else None
    one.end(102.0)
    made.delivered, made.complete = one, True
    (told,) = made.record().attempts
    assert told.verdicts == [
        VerdictRecord(each.validator, each.opinion, each.reason or "", each.detail)
        if each.opinion != "pass" or each.detail
        else VerdictRecord(each.validator, "pass")
        for each in verdicts
    ]
    found = [each.probability for each in verdicts if each.probability is not None]
    assert told.probability == one.probability == (own if own is not None else found[0] if found else None)


@given(
    st.none() | VERDICTS,
    st.fixed_dictionaries(
        {},
        optional={
            "running": st.just(True),
            "stopped": st.just(True),
            "error": st.just(TimedOut("late")),
            "calls": st.just(("book",)),
            "purpose": st.sampled_from(["repair", "sample", "agree", "early"]),
        },
    ),
    st.sampled_from(["", "always", "grey", "weighed"]),
)
def test_an_attempt_is_accepted_as_its_snapshot_is(
    verdict: Verdict | None, more: dict[str, Any], agreement: Agreement
) -> None:
    """The line asks of the attempt itself what the table would be asked of its snapshot: nothing that keeps an answer back is lost."""
    made = story()
    made.plan = Plan((SMALL, LARGE), companion=SMALL if agreement else None, agreement=agreement)
    one = attempt(made, verdict=verdict, **{"running": False, **more})
    (snapshot,) = made.snapshots()
    assert accepted(made.plan, one) == accepted(made.plan, snapshot)


@given(st.booleans(), st.booleans(), st.sampled_from(["", "stop", "error"]))
def test_an_attempt_has_begun_as_its_snapshot_has(content: bool, top: bool, over: str) -> None:
    """As above, of an answer that goes out as it comes."""
    made = story()
    made.plan = Plan((SMALL, LARGE))
    one = attempt(made, index=int(top))
    if content:
        one.gate.feed(Chunk(delta={"content": "a"}))
    if over:
        one.stop(102.0) if over == "stop" else one.end(102.0, TimedOut("late"))
    (snapshot,) = made.snapshots()
    told = begun(made.plan, one, one.index, one.gate.fold.begun)
    assert told == begun(made.plan, snapshot, snapshot.rung, snapshot.begun) == (content and top and not over)


def test_a_record_tells_of_the_moment_when_the_request_was_over() -> None:
    """It is made a little later, with others: what passed in between is in none of its times."""
    setup = Fixed()
    made = story(setup)
    attempt(made)  # is still under way when the caller leaves
    made.over, setup.time = 103.0, 109.0
    record = made.record()
    assert (record.seconds.total, record.attempts[0].seconds) == (3.0, 2.0)


def test_only_short_sessions_are_kept() -> None:
    """Hashed all the same: a caller who names each one anew, at the length of a head, fills no memory."""
    _session.cache_clear()
    lengths = (8, 64, 65, 60_000)
    made = [story() for _ in lengths]
    for one, length in zip(made, lengths, strict=True):
        one.asked = structs.replace(one.asked, query=structs.replace(QUERY, session="a" * length))
    assert [one.record().facts.session for one in made] == ["hash of " + "a" * length for length in lengths]
    assert _session.cache_info().currsize == 2
