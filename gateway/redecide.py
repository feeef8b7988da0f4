"""One Record, decided again under another configuration. Pure; what cannot be known from a Record is said, not guessed.

A Record holds no text, so not everything can be asked again:

    rules        again, on the stored facts; a condition on a header, on the text or on the session was not stored, and
                 where it alone decides, the stored scores stand for the router's answer
    text readers their scores are taken as stored, whatever examples the new configuration gives; where rules answered
                 then and do not now, nobody ever scored the text: the old decision is kept and counted as unscored
    checks       verdicts as stored; `sure_enough` again, on the stored probability and the new threshold; a check that
                 did not run then is counted as unchecked and taken to pass
    next_step    again, on the stored attempts; a small rung that was never asked leaves the request open; the top rung
                 is taken to answer, with the tokens of the answer that was delivered
    opinions     whether answers agreed is known where it decided or was weighed then, as is which tools were called; elsewhere
                 the request is open, and so it is where an answer is weighed with a second one now and was not then, or the
                 other way round. Nothing is started early: that changes when an answer came, not which
    as they were bypass, requests for a backend by name, and callers that left

What a requested model name means (`models:`) is not replayed. Every rung is taken to be configured.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, cast

from msgspec import Struct, structs

from gateway.decide import Decision, Route, Rung, decide
from gateway.escalate import Deliver, Start, effect, next_step
from gateway.money import cost
from gateway.plan import OPINIONS, Attempt, Budget, GiveUp, Plan, plan
from gateway.record import AttemptRecord, Record
from gateway.validators.base import PASS, Ask, Opinion, Validator, Verdict
from gateway.validators.sure_enough import SureEnough
from routers.rules import Match
from wire.errors import Reason
from wire.hashing import portion
from wire.types import Draft, Price, Query, Scores, Tokens

HIDDEN = frozenset({"header", "text", "session"})
"""Conditions of a match on what no Record holds."""
KEPT = frozenset({"bypass", "straight", "holdout"})
"""Reasons of decisions that no router made."""
NOTHING = Tokens()
How = Literal["rules", "stored", "unscored", "kept"]


class Terms(Struct, frozen=True):
    """A configuration as far as a decision needs it."""

    routes: Mapping[str, Route]
    default: str
    matches: Mapping[str, Sequence[Match]] = {}
    """Route > its rules."""
    rules: bool = True
    """The router has a tier of rules (asked first)."""
    readers: bool = False
    """The router has tiers that read the text."""
    prices: Mapping[str, Price] = {}
    reserve: float = 0.5


class Again(Struct, frozen=True):
    """One request, decided again."""

    id: str
    route: str
    reason: str
    outcome: str
    """As in a Record, or `open`: it depends on a small rung that was never asked."""
    how: How
    """Where its scores came from."""
    served: str = ""
    cost: float = 0.0
    """USD; of an open request as if it escalated."""
    least: float = 0.0
    """USD; of an open request as if it did not."""
    why: str = ""
    """Why it was rejected or refused."""
    unchecked: bool = False


def redecide(record: Record, terms: Terms) -> Again:
    """What `terms` would have made of this one request."""
    if record.reason in KEPT or record.outcome == "cancelled" or not terms.routes:
        return _as_it_was(record)
    decision, first, how = _decision(record, terms)
    route = terms.routes[decision.route]
    if not _enforced(route, record):
        price = _price(route.top.name, record, terms)
        return Again(record.id, route.name, decision.reason, "straight", how, route.top.name, price, price)
    return _climb(record, terms, route, decision, first, how)


def _enforced(route: Route, record: Record) -> bool:
    """As `choose.choose`. Which conversations a canary takes cannot be told from a Record of another mode, only how many."""
    if route.mode != "canary":
        return route.mode == "enforce"
    if record.mode == "canary":
        return record.outcome != "straight"
    return portion("canary", record.tenant, record.facts.session) < route.canary


def _as_it_was(record: Record) -> Again:
    usd = record.cost
    return Again(record.id, record.route, record.reason, record.outcome, "kept", record.served, usd, usd)


# -- the decision


def _decision(record: Record, terms: Terms) -> tuple[Decision, str, How]:
    """The decision, the rung to begin with ("" for the first), and where the scores came from."""
    known = record.route in terms.routes
    if record.reason == "pinned" and known:
        return Decision(record.route, "pinned"), "", "kept"
    if record.reason == "tool_loop" and known:
        return Decision(record.route, "tool_loop"), record.attempts[0].rung if record.attempts else "", "kept"
    scores, how = rescore(record, terms)
    if scores is not None:
        return decide(scores, terms.routes, terms.default), "", how
    if not known:
        return Decision(terms.default, "default"), "", how
    return Decision(record.route, record.reason, record.score, record.reason == "out_of_scope"), "", how


def rescore(record: Record, terms: Terms) -> tuple[Scores | None, How]:
    """The router's scores under `terms`; None when what it would have read was not stored."""
    hits: list[str] = []
    sure = True
    for name in terms.routes if terms.rules else ():
        held = [holds(match, record) for match in terms.matches.get(name, ())]
        if True in held:
            hits.append(name)
        elif None in held:
            sure = sure and bool(hits)  # an unknown rule after the first hit changes nobody's first place
    if sure and hits:
        return Scores({name: 1 / rank for rank, name in enumerate(hits, 1)}, None, "rules"), "rules"
    if sure and not terms.readers:
        return Scores({}, None, "rules"), "rules"
    if sure and record.facts.text_chars == 0:  # nothing to read: text readers are silent
        return Scores({}, None, record.router), "rules"
    if sure and not _read(record):
        return None, "unscored"
    return Scores(record.scores, record.out_of_scope, record.router), "stored"


def holds(match: Match, record: Record) -> bool | None:
    """Does `match` hold for what is stored of the request? None: that depends on what was not stored."""
    facts = record.facts
    query = Query(
        text="",
        model=facts.model,
        signature=facts.signature,
        system=facts.system,
        tools=facts.tools,
        tool_names=tuple(facts.tool_names),
        schema=facts.schema,
        schema_name=facts.schema_name,
        turns=facts.turns,
        chars=facts.chars,
        modality=frozenset(facts.modality),
        tenant=record.tenant,
        tool_loop=facts.tool_loop,
        stream=facts.stream,
    )
    unknown = False
    for name, test in match.tests.items():
        if name == "text_chars":
            held = match.text_chars is not None and match.text_chars.holds(facts.text_chars)
        elif name in HIDDEN and not (name == "text" and facts.text_chars == 0):
            unknown = True
            continue
        else:
            held = test(query)
        if not held:
            return False
    return None if unknown else True


def _read(record: Record) -> bool:
    """Did a tier that reads the text speak? Only such a one says how far out of scope a request is, or scores otherwise
    than 1, 1/2, 1/3 ..."""
    ranks = [1 / rank for rank in range(1, len(record.scores) + 1)]
    return record.out_of_scope is not None or sorted(record.scores.values(), reverse=True) != ranks


# -- the attempts


def _climb(record: Record, terms: Terms, route: Route, decision: Decision, first: str, how: How) -> Again:
    """The ladder again, one attempt after the other, each with the answer that is on record."""
    ladder = plan(_configured(route), decision, reserve=terms.reserve, first=first)
    if not record.facts.schema:  # as the pipeline does: there is no schema to be strict about
        ladder = structs.replace(ladder, strict=False)
    seen = _seen(record) if record.route == route.name else {}
    attempts: list[Attempt] = []
    left = route.seconds
    unchecked = False

    def end(outcome: str, served: str = "", why: str = "", more: float = 0.0) -> Again:
        spent = sum(attempt.cost for attempt in attempts)
        return Again(record.id, route.name, decision.reason, outcome, how, served, spent + more, spent, why, unchecked)

    while True:
        step = next_step(ladder, attempts, Budget(left))
        if isinstance(step, Deliver):
            lower = [a for a in attempts if step.degraded or 0 <= a.rung < attempts[step.number].rung]
            why = _rejected(lower[0]) if lower else ""
            served = ladder.rungs[attempts[step.number].rung].name
            return end(_outcome(route, ladder, attempts, step), served, why)
        if not isinstance(step, Start):
            return end("refused", why=step.policy or step.why if isinstance(step, GiveUp) else "")
        rung, top = ladder.rung(step.rung), step.rung == len(ladder.rungs) - 1
        kind = step.purpose.replace("early", "")
        told = next(iter(seen.get((rung.name, kind), ())), None)
        if told is not None and _judged(told, record, top):
            seen[rung.name, kind].remove(told)
            attempt, missing = _again(told, len(attempts), step, rung, route, top=top)
            if not top and (unknown := _unknown(ladder, told, record)):
                return end("open", why=unknown, more=_price(route.top.name, record, terms))
            answer = _answer(told, record)
            attempt = structs.replace(attempt, answer=answer, calls=told.calls, probability=told.probability)
            unchecked = unchecked or (missing and (not top or ladder.strict))
            usd = cost(told.tokens, terms.prices[rung.name]) if rung.name in terms.prices else told.cost
            attempts.append(structs.replace(attempt, cost=usd))
            left -= 0.0 if top else min(told.seconds, step.seconds)
            continue
        usd = _price(rung.name, record, terms)
        attempts.append(Attempt(len(attempts), step.rung, False, True, PASS, None, usd, step.purpose))
        if not top:
            return end("open", why=f"{rung.name} was not asked", more=_price(route.top.name, record, terms))


def _configured(route: Route) -> Route:
    """`route` as if every key were set: what is replayed is the configuration, not this machine's environment."""
    companion = structs.replace(route.companion, missing="") if route.companion is not None else None
    rungs = tuple(structs.replace(rung, missing="") for rung in route.ladder)
    return structs.replace(route, ladder=rungs, companion=companion)


def _seen(record: Record) -> dict[tuple[str, str], list[AttemptRecord]]:
    """(rung, purpose) > its attempts on record, in order. One that was started early is an attempt like any other."""
    seen: dict[tuple[str, str], list[AttemptRecord]] = {}
    for attempt in record.attempts:
        seen.setdefault((attempt.rung, attempt.purpose.replace("early", "")), []).append(attempt)
    return seen


def _answer(told: AttemptRecord, record: Record) -> str:
    """What it said, as far as answers were compared: equal strings mean equal answers."""
    compared = _weighed(record)
    same = (told.agrees or told.purpose == "agree") if compared else record.outcome == "accepted"
    return "the same one" if same else f"answer {told.number}"


def _weighed(record: Record) -> bool:
    return any(attempt.agrees is not None for attempt in record.attempts)


def _unknown(ladder: Plan, told: AttemptRecord, record: Record) -> str:
    """What the Record does not tell of a small rung's answer, and would decide; "" when nothing is missing."""
    if told.purpose in OPINIONS:
        asked = [other for other in record.attempts if other.purpose not in OPINIONS]
        compared = record.outcome == "accepted" or any(other.reason == "disagreement" for other in asked)
        compared = compared or _weighed(record)
        return "" if compared or told.purpose == "sample" else f"whether {told.rung} agrees is not on record"
    if (ladder.agreement == "weighed") != (told.agrees is not None) and told.probability is not None:
        how = "with" if told.agrees is None else "without"
        return f"how sure {told.rung} is {how} a second answer is not on record"
    rules = effect(ladder, told.calls)
    if told.reason == "policy" and rules == "always" and not all(name in ladder.tools for name in told.calls):
        return "a tool was marked by its caller"
    if told.finish == "tool_calls" and not told.calls and effect(ladder, record.facts.tool_names) != "always":
        return "which tool was called is not on record"
    return ""


def _judged(told: AttemptRecord, record: Record, top: bool) -> bool:
    """Is it known how this attempt ended? A small rung's answer that went out unchecked, or that was cut short, is not."""
    if told.purpose in OPINIONS:
        return told.outcome == "error" or bool(told.verdicts)
    if told.outcome == "stopped":
        return False
    return top or told.outcome == "error" or bool(told.verdicts) or record.outcome in ("accepted", "degraded")


def _again(
    told: AttemptRecord, number: int, step: Start, rung: Rung, route: Route, *, top: bool
) -> tuple[Attempt, bool]:
    """The attempt as it would end now, and whether a check stands in the way that did not run then."""
    error = cast(Reason, told.reason or "backend_error") if told.outcome == "error" else None
    if not top and told.seconds > step.seconds:
        error = "timeout"
    verdict, missing = _judge(told, rung, route.validators, top=top or step.purpose in OPINIONS)
    given = verdict if error is None else None
    ended = Attempt(number, step.rung, False, error is None, given, error, purpose=step.purpose, seconds=told.seconds)
    return ended, missing and error is None


def _judge(told: AttemptRecord, rung: Rung, validators: Sequence[Validator], *, top: bool) -> tuple[Verdict, bool]:
    """The verdict under the new checks and threshold, and whether a check is among them that did not run then."""
    stored: dict[str, Verdict] = {}
    for entry in told.verdicts:
        verdict = Verdict(
            cast(Opinion, entry.opinion), cast(Reason, entry.reason) or None, entry.validator, entry.detail
        )
        if entry.validator not in stored or not verdict.passed:
            stored[entry.validator] = verdict
    missing, undecided = False, None
    for validator in validators:
        if top and getattr(validator, "soft", False):
            continue
        if isinstance(validator, SureEnough):
            draft = Draft(finish=told.finish or "stop", probability=told.probability)
            verdict = validator.check(draft, Ask(threshold=rung.threshold))
        else:
            name = _name(validator)
            missing = missing or name not in stored
            verdict = stored.get(name, PASS)
        if verdict.opinion == "fail":
            return verdict, missing
        if verdict.opinion == "undecided":
            undecided = undecided or verdict
    return undecided or PASS, missing


def _outcome(route: Route, ladder: Plan, attempts: Sequence[Attempt], step: Deliver) -> str:
    """As the Record would have named it."""
    if step.degraded:
        return "degraded"
    at_top = attempts[step.number].rung == len(ladder.rungs) - 1
    in_house = len(route.ladder) == 1 and not route.top.cloud
    if not at_top or in_house:
        return "accepted"
    return "escalated" if len(attempts) > 1 else "direct"


def _rejected(attempt: Attempt) -> str:
    return attempt.error or (attempt.verdict.reason if attempt.verdict else None) or ""


def _price(rung: str, record: Record, terms: Terms) -> float:
    """USD for the delivered answer's tokens at this rung; where none was delivered, for the first attempt's."""
    if rung not in terms.prices:
        return record.counterfactual_cost
    delivered = record.tokens != NOTHING or not record.attempts
    return cost(record.tokens if delivered else record.attempts[0].tokens, terms.prices[rung])


def _name(validator: Validator) -> str:
    """As verdicts name it: the kind of ours, the class of a foreign one."""
    module = type(validator).__module__
    kind = module.removeprefix("gateway.validators.")
    return kind if kind != module else type(validator).__name__
