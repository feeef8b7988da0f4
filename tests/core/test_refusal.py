"""GiveUp > the error that the caller gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.plan import Attempt, GiveUp
from gateway.refusal import LONGEST_RETRY_AFTER, refusal, upstream
from gateway.validators.base import Verdict
from wire.errors import (
    BackendError,
    Broken,
    ContextOverflow,
    NoAnswer,
    Overloaded,
    Refused,
    TimedOut,
    Unavailable,
    Unsupported,
    WeirError,
)

REJECTED = Attempt(0, 0, running=False, verdict=Verdict("fail", "schema", "fits_schema", "/label: breaks the schema"))
TIMED_OUT = Attempt(0, 0, running=False, error="timeout")
POLICIES = ("egress", "budget", "attempts", "modality")


def test_unavailable_names_the_check_and_the_variable() -> None:
    """503 escalation_unavailable, not to be retried: which check failed, and what to set."""
    error = refusal(GiveUp("unavailable", missing="OPENAI_API_KEY"), [REJECTED], [None], "intents")
    assert (error.status, error.code) == (503, "escalation_unavailable")
    assert error.headers == {"x-should-retry": "false"}
    for word in ("intents", "fits_schema", "schema", "OPENAI_API_KEY"):
        assert word in error.message


@pytest.mark.parametrize("policy", POLICIES)
def test_unavailable_names_the_policy(policy: str) -> None:
    """Nothing to set: the sentence says which rule of the route forbids the next rung."""
    error = refusal(GiveUp("unavailable", policy=policy), [TIMED_OUT], [TimedOut("slow")], "r")
    assert error.status == 503
    assert "did not answer (timeout)" in error.message
    word = {"egress": "egress: local", "budget": "budget", "attempts": "attempts", "modality": "content"}[policy]
    assert word in error.message


def test_nothing_could_be_asked_at_all() -> None:
    """A route whose only rungs lack their key: 503 with the variable; content that no rung takes is the request's own: 400."""
    error = refusal(GiveUp("unavailable", missing="KEY"), [], [], "r")
    assert (error.status, error.code) == (503, "escalation_unavailable")
    assert "KEY" in error.message
    error = refusal(GiveUp("unavailable", policy="modality"), [], [], "r")
    assert (error.status, error.param) == (400, "messages")


def test_invalid_says_what_was_broken() -> None:
    """The top rung of a strict route broke the schema: 502 no_valid_answer with place and rule."""
    error = refusal(GiveUp("invalid"), [REJECTED], [None], "r")
    assert (error.status, error.code) == (502, "no_valid_answer")
    assert "/label: breaks the schema" in error.message
    assert error.headers == {"x-should-retry": "false"}


def test_deadline() -> None:
    """504 deadline_exceeded, not to be retried."""
    error = refusal(GiveUp("deadline"), [TIMED_OUT], [TimedOut("slow")], "r")
    assert (error.status, error.code, error.headers) == (504, "deadline_exceeded", {"x-should-retry": "false"})


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ContextOverflow("long", status=400), 400, "context_length_exceeded"),
        (Refused("no", status=400, code="bad", param="seed"), 400, "bad"),
        (Refused("no", status=404, code="model_not_found"), 404, "model_not_found"),
        (Refused("no"), 400, None),
        (Unsupported("cannot", param="tools"), 400, "unsupported_parameter"),
        (Overloaded("busy", status=429), 503, "upstream_overloaded"),
        (TimedOut("slow"), 504, "upstream_timeout"),
        (Unavailable("no key", variable="KEY"), 503, "escalation_unavailable"),
        (Broken("credentials", status=401), 502, "upstream_error"),
        (Broken("reset"), 502, "upstream_error"),
        (BackendError("?"), 502, "upstream_error"),
    ],
)
def test_what_an_upstreams_failure_means(error: BackendError, status: int, code: str | None) -> None:
    """400 when the request cannot be answered as it stands, 503 overloaded, 504 late, 502 broken; its 401 is never the caller's own."""
    told = upstream(error)
    assert (told.status, told.code) == (status, code)
    assert told.param == (error.param or ("messages" if isinstance(error, ContextOverflow) else None))


def test_exhausted_tells_of_the_last_error() -> None:
    """The last rung that failed decides; after more than one attempt a retry would do the same again."""
    errors = [Overloaded("busy"), TimedOut("slow")]
    past = [Attempt(0, 0, running=False, error="overload"), Attempt(1, 1, running=False, error="timeout")]
    error = refusal(GiveUp("exhausted"), past, errors, "r")
    assert (error.status, error.headers) == (504, {"x-should-retry": "false"})
    assert refusal(GiveUp("exhausted"), past[:1], errors[:1], "r").headers == {"retry-after": "1"}
    assert refusal(GiveUp("exhausted"), [], [], "r").status == 502


@pytest.mark.parametrize(
    ("seconds", "header"), [(None, "1"), (0.0, "0"), (7.5, "7.5"), (120.0, "120"), (86400.0, "120")]
)
def test_retry_after(seconds: float | None, header: str) -> None:
    """As the upstream says, at most two minutes: clients do not retry at all after a longer one."""
    assert upstream(Overloaded("busy", retry_after=seconds)).headers["retry-after"] == header


@pytest.mark.parametrize(
    "phrase", ["context_length_exceeded", "maximum context length", "Input tokens exceed the configured limit"]
)
def test_an_overflow_is_known_by_its_words(phrase: str) -> None:
    """Frameworks look for one of these in the text; a message that has the code already stays as it is."""
    assert phrase in upstream(ContextOverflow("too long")).message
    assert upstream(ContextOverflow("x context_length_exceeded y")).message == "x context_length_exceeded y"


KINDS = (BackendError, Broken, ContextOverflow, Overloaded, Refused, TimedOut, Unavailable, Unsupported)
errors = st.sampled_from(KINDS).map(lambda kind: kind("told"))
steps = st.sampled_from(
    [
        GiveUp("deadline"),
        GiveUp("exhausted"),
        GiveUp("invalid"),
        GiveUp("unavailable", missing="KEY"),
        *(GiveUp("unavailable", policy=policy) for policy in POLICIES),
    ]
)


@given(steps, st.lists(st.none() | errors, max_size=3))
def test_every_end_has_an_error(step: GiveUp, raised: list[BackendError | None]) -> None:
    """However it ended: an error of the 4xx or 5xx with OpenAI's four keys and a message that names something."""
    past = [Attempt(0, 0, running=False, error=one.reason) if one else REJECTED for one in raised]
    told = refusal(step, past, raised, "some_route")
    assert isinstance(told, WeirError)
    assert 400 <= told.status < 600
    assert told.status not in (401, 403, 407)
    assert set(told.body()["error"]) == {"message", "type", "param", "code"}
    assert told.message
    assert float(told.headers.get("retry-after", 0)) <= LONGEST_RETRY_AFTER
    if isinstance(told, NoAnswer):
        assert told.status >= 500
