"""What would have changed it: the nearest turning points of one Record, in words. Pure.

Each line names what stood in the way, by how much, and the key of the configuration that moves it.
"""

from collections.abc import Iterator

from gateway.decide import OUT_OF_SCOPE
from gateway.record import AttemptRecord, Record
from gateway.validators.sure_enough import SECOND_MISSING

WHY = {
    "router_timeout": "the router was late: a larger `router.deadline`, or cheaper tiers first",
    "router_error": "the router raised: the log says more under this id",
    "bypass": "the bypass was on (`weir bypass off`, or the caller's x-weir-bypass header)",
    "straight": "the caller asked for a backend by its own model name (`models:`)",
    "holdout": "this conversation is of the share that the top rung answers alone (`holdout:`)",
    "tool_loop": "the last message was a tool's result: the rung that asked for it answers",
}
ASIDE = {
    "observe": "the route only observes",
    "shadow": "the route asks its small rungs off the path only",
    "canary": "this conversation is not of the canary's share (`canary:`)",
}
CHECKS = {
    "fits_schema": "an answer that fits the schema",
    "finished": "a whole answer: it was cut off (a larger `max_tokens`)",
    "not_refused": "an answer instead of a refusal",
    "tool_arguments": "tool arguments that fit the tool's parameters",
}

SECOND = {None: "", True: " (the second model said the same)", False: " (the second model said something else)"}
"""By `AttemptRecord.agrees`."""


def turning_points(record: Record) -> list[str]:
    """Empty when nothing in the configuration would have made a difference."""
    return [*_decision(record), *(line for attempt in record.attempts for line in _attempt(attempt)), *_end(record)]


def _decision(record: Record) -> Iterator[str]:
    ranked = sorted(record.scores.items(), key=lambda item: -item[1])
    best, score = ranked[0] if ranked else ("", 0.0)
    if record.reason in WHY:
        yield WHY[record.reason]
    elif record.reason == "pinned":
        yield f"the caller pinned the route (`model: route/{record.route}`)"
    elif record.reason == "matched" and record.score is not None:
        told = f"a `min_score` of '{record.route}' above {record.score:.3f} would have sent it to the default route"
        rival = next((f" ('{name}' scored {value:.3f})" for name, value in ranked if name != record.route), "")
        yield told + rival
    elif record.reason in ("below_min_score", "out_of_scope") and best:
        yield f"'{best}' scored {score:.3f}: with a `min_score` of at most {score:.3f} it would have taken this request"
    elif record.reason == "default":
        yield "no route was scored: a `match:`, `examples:` or `description:` that fits would have taken this request"
    if record.reason == "out_of_scope" and record.out_of_scope is not None:
        yield f"out of scope at {record.out_of_scope:.3f}: from {OUT_OF_SCOPE:g} down it would have asked the default ladder"
    if record.mode in ASIDE and record.outcome == "straight" and record.would:
        yield f"{ASIDE[record.mode]}: with `mode: enforce` '{record.would}' would have been asked first"


def _attempt(attempt: AttemptRecord) -> Iterator[str]:
    known, wanted = attempt.probability, attempt.threshold
    beside = SECOND[attempt.agrees]
    ours = attempt.outcome == "rejected" and all(verdict.reason != attempt.reason for verdict in attempt.verdicts)
    if ours and attempt.reason == "disagreement":
        yield f"'{attempt.rung}' and the rung of `accept.agrees_with` did not say the same"
    elif ours and attempt.reason == "policy":
        yield f"'{attempt.rung}' called a tool that a small model may not call alone: an entry in `tools:` would allow it"
    elif attempt.purpose in ("agree", "sample") and attempt.outcome != "error":
        return  # evidence for another attempt, which tells
    elif attempt.outcome == "error":
        yield f"'{attempt.rung}' did not answer ({attempt.reason}) after {attempt.seconds:.2f} s"
    elif attempt.outcome == "rejected" and attempt.reason == "low_confidence":
        missing = any(SECOND_MISSING in verdict.detail for verdict in attempt.verdicts)
        if known is None and missing:
            yield f"'{attempt.rung}' is weighed with a second model's answer, and there was none: unknown is not confident"
        elif known is None:
            yield f"'{attempt.rung}' gave no probability: unknown is not confident, whatever `accept.risk` says"
        elif wanted is None:
            yield f"'{attempt.rung}' has no calibration for the promised risk, so no probability is enough"
        else:
            yield (
                f"'{attempt.rung}' was {known:.4f} sure{beside} and needed {wanted:.4f}: an `accept.risk` whose threshold is at "
                f"most {known:.4f} would have accepted it"
            )
    elif attempt.outcome == "rejected":
        failed = [verdict for verdict in attempt.verdicts if verdict.opinion != "pass"]
        for verdict in failed or ():
            yield f"'{attempt.rung}' needed {CHECKS.get(verdict.validator, f'to pass `{verdict.validator}`')}"
    elif attempt.outcome == "delivered" and known is not None and wanted is not None and known >= wanted:
        yield f"'{attempt.rung}' passed by {known - wanted:.4f}{beside}: a threshold above {known:.4f} would have escalated it"


def _end(record: Record) -> Iterator[str]:
    if record.error == "escalation_unavailable":
        yield "a higher rung that can be asked (`weir check` names the variable to set), or `on_unavailable: deliver`"
    elif record.error == "deadline_exceeded":
        yield "a larger `deadline` of the route, or a smaller `timeout` of its lower rungs"
    if record.late_verdict and record.served != record.top:
        yield f"the answer failed a check ({record.late_verdict}) after its first byte was out: without `stream:` it is held whole"
    elif record.late_verdict:
        yield f"the answer failed a check ({record.late_verdict}) after its first byte was out: `strict: true` would have held it"
