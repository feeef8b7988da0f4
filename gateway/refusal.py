"""GiveUp > the error that the caller gets. Pure.

The status says whose turn it is: 400 when the request as it stands cannot be answered by any rung, 503 when something is
missing or overloaded, 504 when time ran out, 502 when an upstream misbehaved. An upstream's 401 is never shown as the
caller's own. `x-should-retry: false` (honoured by OpenAI's clients) where asking again would fail the same way.
"""

from collections.abc import Sequence

from gateway.escalate import rejection
from gateway.plan import Attempt, GiveUp, Plan, ladder
from wire.errors import (
    BackendError,
    BadRequest,
    ContextOverflow,
    NoAnswer,
    Overloaded,
    Refused,
    TimedOut,
    Unavailable,
    Unsupported,
    WeirError,
)

NO_RETRY = {"x-should-retry": "false"}
LONGEST_RETRY_AFTER = 120.0
"""Seconds. OpenAI's clients do not retry at all after a longer one."""


NOBODY = Plan(())


def refusal(
    step: GiveUp,
    attempts: Sequence[Attempt],
    errors: Sequence[BackendError | None],
    route: str,
    plan: Plan = NOBODY,
) -> WeirError:
    """`errors[i]` is what attempt i raised, None when it answered. plan: what the attempts were made under."""
    if step.why == "unavailable":
        return _unavailable(step, attempts, route, plan)
    asked = ladder(attempts)
    errors = [errors[attempt.number] for attempt in asked]
    if step.why == "invalid":
        detail = asked[-1].verdict.detail if asked and asked[-1].verdict else ""
        return NoAnswer(
            f"no rung of route '{route}' gave an answer that fits the schema: {detail}",
            code="no_valid_answer",
            headers=NO_RETRY,
        )
    if step.why == "deadline":
        return NoAnswer(f"route '{route}' ran out of time", status=504, code="deadline_exceeded", headers=NO_RETRY)
    last = next((error for error in reversed(errors) if error is not None), None)
    return (
        upstream(last, tried=len(attempts))
        if last
        else NoAnswer(f"route '{route}' gave no answer", code="upstream_error")
    )


def _unavailable(step: GiveUp, attempts: Sequence[Attempt], route: str, plan: Plan) -> WeirError:
    if step.policy == "modality" and not attempts:
        return BadRequest(
            f"no rung of route '{route}' takes this request's content parts: send text, or use a route with a rung that takes them",
            param="messages",
            code="unsupported_content",
            headers=NO_RETRY,
        )
    if step.missing:
        way_out = f"set {step.missing} to make the next rung available"
    else:
        way_out = {
            "egress": "the route's `egress: local` forbids the cloud rung",
            "budget": "the route's budget for one request is spent",
            "attempts": "the route's number of attempts is spent",
            "ladder": "the route's ladder has no larger rung; add one",
            "modality": "no higher rung takes this kind of content",
        }[step.policy]
    if attempts:
        last = ladder(attempts)[-1]
        told = f"route '{route}': {_failed(plan, attempts, last)} and no higher rung could be asked: {way_out}"
    else:
        told = f"route '{route}' has no rung that could be asked: {way_out}"
    return NoAnswer(told, status=503, code="escalation_unavailable", type="service_unavailable_error", headers=NO_RETRY)


def _failed(plan: Plan, attempts: Sequence[Attempt], last: Attempt) -> str:
    reason = rejection(plan, attempts, last)
    check = last.verdict.validator if last.verdict and last.error is None else ""
    if last.error is not None:
        return f"the small model did not answer ({reason})"
    if reason == "policy":
        return "the answer calls a tool that a small model may not call alone (policy)"
    if check:
        return f"the check '{check}' failed ({reason})"
    if reason is not None:
        return f"a second model did not confirm the answer ({reason})"
    return "the small model did not answer"


def upstream(error: BackendError, *, tried: int = 1) -> WeirError:
    """What the last rung's failure means for the caller."""
    headers = NO_RETRY if tried > 1 else {}
    if isinstance(error, ContextOverflow):
        return BadRequest(
            _overflow_text(error.detail or error.message), code="context_length_exceeded", param="messages"
        )
    if isinstance(error, Refused):
        status = error.status or 400
        return BadRequest(
            error.detail or error.message, status=status, code=error.code, param=error.param, headers=NO_RETRY
        )
    if isinstance(error, Unsupported):
        return BadRequest(error.message, code="unsupported_parameter", param=error.param, headers=NO_RETRY)
    if isinstance(error, Overloaded):
        wait = min(error.retry_after if error.retry_after is not None else 1.0, LONGEST_RETRY_AFTER)
        return NoAnswer(
            error.message,
            status=503,
            code="upstream_overloaded",
            type="service_unavailable_error",
            headers={"retry-after": f"{wait:g}", **headers},
        )
    if isinstance(error, TimedOut):
        return NoAnswer(error.message, status=504, code="upstream_timeout", headers=headers)
    if isinstance(error, Unavailable):
        return NoAnswer(error.message, status=503, code="escalation_unavailable", headers=NO_RETRY)
    return NoAnswer(error.message, status=502, code="upstream_error", headers=headers)


def _overflow_text(message: str) -> str:
    """Clients know a context overflow by its text: LangChain, litellm and CrewAI each look for another phrase."""
    phrases = "This model's maximum context length is exceeded. Input tokens exceed the configured limit. (context_length_exceeded)"
    return message if "context_length_exceeded" in message else f"{message} {phrases}"
