"""What to do next: a function of the past. Pure: no clock, no chance, nothing is started here.

    next_step(plan, attempts, budget) -> Start(rung, seconds, purpose) | Stop(attempt) | Wait | Deliver(attempt) | GiveUp(why)

The pipeline asks after every event (content, verdict, attempt ended, deadline) and does as told. It sees running attempts, so a second
small model beside the first, a speculative large one, voting, a second try and early abort are decisions of this module, not special
cases of the pipeline. One attempt at a time, up the ladder, is the simplest instance.

The table, first line that applies:

    an attempt's answer may be delivered             Deliver   (the pipeline stops the others)
    a running attempt cannot be delivered any more   Stop
    an answer needs a second opinion                 Start     (purpose agree: the companion; sample: the same rung again)
    a running answer looks unsure, waste is granted  Start     (purpose early: the next rung)
    something that may be delivered is under way     Wait
    time is up                                       GiveUp(deadline), or Deliver(degraded)
    a bad form can be mended                         Start     (purpose repair: the same rung, told what was wrong)
    second opinions are under way for nobody         Stop
    a higher rung can be asked                       Start
    the route delivers unproven answers              Deliver(degraded)
    otherwise                                        GiveUp

May an answer be delivered? `standing` says good, open or bad:

    the top rung        good from its first content on, whatever the soft checks say; where the route is `strict` it must first fit
                        the schema. A ladder's only rung, when it is in the house, is a small rung and must prove itself
    a small rung        good when it has ended and its verdict is PASS: undecided is not sure. Bad with `policy` when it calls a tool
                        that only a larger model may call, whatever its verdict
      flows             free text, its window full and nothing failed: good while it runs
      agreement always  and the companion says the same; one that calls a tool of `local: agree` needs that on any route
      agreement weighed what the companion says is part of its verdict: whole, and without one, it is open as long as that runs
      agreement grey    a `low_confidence` in the grey zone is good too when the companion says the same
      samples           or when more than half of the samples and itself do: the first that said so is delivered
    an early rung       open until every attempt below it is bad
    agree, sample       never by itself

What costs more than one try a rung (agree, sample, repair) is only started where an attempt is left for the rung above. After Deliver
nothing is asked any more: that is the commit point.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal, Protocol

from msgspec import Struct

from gateway.plan import (
    BESIDE,
    COMPANION,
    OPINIONS,
    Attempt,
    Budget,
    GiveUp,
    Local,
    Plan,
    Purpose,
    ladder,
    next_rung,
    obstacle,
    passed,
    seconds_for,
    spare,
)
from gateway.validators.base import Verdict
from wire.errors import Reason

SOFT: frozenset[Reason] = frozenset({"low_confidence", "disagreement", "unsupported"})
"""Rejections of an answer that is unproven, not proven bad: only these may be delivered as degraded."""
MENDABLE: frozenset[Reason] = frozenset({"schema", "tool_arguments"})
"""Rejections that name a broken rule, so that a model can be told and asked again."""
GREY = 0.5
"""An answer that is not sure enough, but this likely to be right, is worth a second opinion of a small model."""


class Start(Struct, frozen=True):
    rung: int
    seconds: float
    purpose: Purpose = ""


class Stop(Struct, frozen=True):
    number: int


class Wait(Struct, frozen=True):
    pass


class Deliver(Struct, frozen=True):
    number: int
    degraded: bool = False


Step = Start | Stop | Wait | Deliver | GiveUp


class Standing(Struct, frozen=True):
    """May an attempt's answer be delivered?"""

    state: Literal["good", "open", "bad"]
    reason: Reason | None = None
    """Why it is bad; of an open one that has ended, why it is if nothing more is learnt."""
    needs: Literal["", "agree", "sample"] = ""
    """Open: a second opinion that was not asked for yet."""


GOOD, OPEN = Standing("good"), Standing("open")
WAIT = Wait()


class Tried(Protocol):
    """An attempt, as it stands now: a snapshot of it, or what the snapshot is made of."""

    @property
    def verdict(self) -> Verdict | None: ...
    @property
    def running(self) -> bool: ...
    @property
    def stopped(self) -> bool: ...
    @property
    def error(self) -> object: ...
    @property
    def calls(self) -> Sequence[str]: ...
    @property
    def purpose(self) -> Purpose: ...


def next_step(plan: Plan, attempts: Sequence[Attempt], budget: Budget) -> Step:
    """See the table at the head of this file. What most requests come to is told without going through it: the first rung of all, and that
    the only answer, which passed, goes out."""
    if not attempts:
        entry = plan.entry
        if entry is not None and budget.seconds > 0:
            index, timeout, share = entry
            return Start(index, min(timeout, budget.seconds * share))
    elif len(attempts) == 1 and accepted(plan, attempts[0]):
        return Deliver(attempts[0].number)
    return by_table(plan, attempts, budget)


def accepted(plan: Plan, only: Tried) -> bool:
    """Does this attempt's answer go out, as that of nearly all do? It is the only one, has ended and passed, and nobody else is to be
    heard of it."""
    verdict = only.verdict
    if verdict is None or verdict.opinion != "pass" or plan.agreement == "always":
        return False
    return not (only.running or only.stopped or only.error or only.calls or only.purpose)


def begun(plan: Plan, only: Tried, rung: int, content: bool) -> bool:
    """Does this attempt's answer go out while it comes, and has it begun? It is the only one, of a `rung` that need not prove its answers;
    content: some of it has come. The table's `standing` says so of more: an answer that is passed through has begun before its content."""
    return content and not (plan.strict or plan.small(rung) or only.stopped or only.error or only.purpose)


def by_table(plan: Plan, attempts: Sequence[Attempt], budget: Budget) -> Step:
    """As `next_step`, of any past."""
    hopeless: Attempt | None = None
    pending: list[tuple[Attempt, Standing]] = []
    for attempt in attempts:
        stands = standing(plan, attempts, attempt)
        if stands.state == "good":
            return Deliver(attempt.number)
        if stands.state == "open":
            pending.append((attempt, stands))
        elif attempt.running and hopeless is None:
            hopeless = attempt
    if hopeless is not None:
        return Stop(hopeless.number)
    opinion: Attempt | None = None
    if pending:
        beside = _beside(plan, attempts, pending, budget)
        if beside is not None:
            return beside
        if any(_awaited(attempt, stands) for attempt, stands in pending):
            return WAIT
        opinion = next((attempt for attempt, _ in pending if attempt.running), None)
    if budget.seconds <= 0:
        return Stop(opinion.number) if opinion else _unproven(plan, attempts) or GiveUp("deadline")
    repair = _repair(plan, attempts, budget) if plan.repair else None
    if repair is not None:
        return repair
    index, refusal = next_rung(plan, attempts)
    if opinion is not None and (index is None or not (plan.small(index) and plan.agreement in BESIDE)):
        return Stop(opinion.number)
    if index is not None:
        return Start(index, seconds_for(plan, index, attempts, budget))
    return _unproven(plan, attempts) or refusal or GiveUp("exhausted")


def standing(plan: Plan, attempts: Sequence[Attempt], attempt: Attempt) -> Standing:
    """May this attempt's answer go out, proven, now? See the second table at the head of this file."""
    if attempt.error is not None:
        return Standing("bad", attempt.error)
    if attempt.purpose in OPINIONS:
        return _opinion(plan, attempts, attempt)
    if attempt.purpose == "early" and not needed(plan, attempts, attempt):
        return OPEN
    if plan.small(attempt.rung):
        return _small_answer(plan, attempts, attempt)
    if plan.strict:
        if attempt.running:
            return OPEN
        return Standing("bad", "schema") if _reason(attempt) == "schema" else GOOD
    if attempt.stopped:
        return Standing("bad", _reason(attempt))
    return GOOD if attempt.begun or not attempt.running else OPEN


def needed(plan: Plan, attempts: Sequence[Attempt], early: Attempt) -> bool:
    """Would this early start have been made by now anyway? Every attempt below it is bad."""
    return all(
        lower.number >= early.number
        or not COMPANION < lower.rung < early.rung
        or lower.purpose in OPINIONS
        or standing(plan, attempts, lower).state == "bad"
        for lower in attempts
    )


def rejection(plan: Plan, attempts: Sequence[Attempt], attempt: Attempt) -> Reason | None:
    """Why this attempt's answer is not taken; None when it is, or when that is still open."""
    if attempt.error is not None:
        return attempt.error
    if attempt.running or not plan.small(attempt.rung):
        return _reason(attempt)
    stands = standing(plan, attempts, attempt)
    return None if stands.state == "good" else stands.reason


def effect(plan: Plan, calls: Sequence[str]) -> Local:
    """May a small model's answer that calls these tools be delivered? The strictest rule of any of them."""
    if not calls:
        return "always"
    rules = {
        plan.tools.get(name) or ("never" if any(fnmatchcase(name, glob) for glob in plan.writes) else "always")
        for name in calls
    }
    return "never" if "never" in rules else "agree" if "agree" in rules else "always"


# --- standings --------------------------------------------------------------------------------------------------------------------


def _small_answer(plan: Plan, attempts: Sequence[Attempt], attempt: Attempt) -> Standing:
    verdict = attempt.verdict
    if attempt.running and not (verdict is not None and verdict.opinion == "fail"):
        flows = attempt.flows and verdict is None and plan.agreement not in BESIDE
        return GOOD if flows else OPEN
    if verdict is None and not attempt.running and not attempt.stopped and _weighing(plan, attempts):
        return OPEN
    if attempt.running or attempt.stopped or verdict is None:
        return Standing("bad", _reason(attempt))
    grey = not verdict.passed and _in_grey(attempt) and plan.agreement not in BESIDE
    if not verdict.passed and not grey:
        return Standing("bad", verdict.reason)
    rule = effect(plan, attempt.calls)
    if rule == "never" or (rule == "agree" and plan.companion is None):
        return Standing("bad", "policy")
    if rule == "agree" or plan.agreement == "always" or (grey and plan.agreement == "grey"):
        return _agreed(plan, attempts, attempt)
    if not grey:
        return GOOD
    return _voted(plan, attempts, attempt) if plan.samples else Standing("bad", verdict.reason)


def _agreed(plan: Plan, attempts: Sequence[Attempt], attempt: Attempt) -> Standing:
    """Does the companion say the same?"""
    companion = next((other for other in attempts if other.purpose == "agree"), None)
    if companion is None:
        reason = _reason(attempt) or "disagreement"
        return Standing("bad", reason) if _passed_by(attempts, attempt) else Standing("open", reason, "agree")
    if companion.error is not None:
        return Standing("bad", companion.error)
    if companion.running:
        return Standing("open", "disagreement")
    if passed(companion) and attempt.answer and companion.answer == attempt.answer:
        return GOOD
    return Standing("bad", "disagreement")


def _weighing(plan: Plan, attempts: Sequence[Attempt]) -> bool:
    """Is the companion's answer, which is to be weighed with others, still to come?"""
    return plan.agreement == "weighed" and any(other.purpose == "agree" and other.running for other in attempts)


def _voted(plan: Plan, attempts: Sequence[Attempt], attempt: Attempt) -> Standing:
    """Do more than half of all that were asked say the same? Those that have not answered yet count for nobody."""
    reason = _reason(attempt)
    samples = [other for other in attempts if other.purpose == "sample" and other.rung == attempt.rung]
    winner, most = _majority(plan, attempt, samples)
    if winner is not None:
        return GOOD if winner is attempt else Standing("bad", reason)
    unasked = 0 if _passed_by(attempts, attempt) else plan.samples - len(samples)
    running = sum(sample.running for sample in samples)
    if 2 * (most + running + unasked) <= plan.samples + 1:
        return Standing("bad", reason)
    return Standing("open", reason, "sample" if unasked > 0 else "")


def _majority(plan: Plan, base: Attempt, samples: Sequence[Attempt]) -> tuple[Attempt | None, int]:
    """The first attempt of the answer that has the majority of all that are to be asked, and how often the likeliest answer was given."""
    votes = [base, *(sample for sample in samples if passed(sample))]
    counts = [sum(other.answer == vote.answer for other in votes) if vote.answer else 0 for vote in votes]
    most = max(counts)
    return (votes[counts.index(most)] if 2 * most > plan.samples + 1 else None), most


def _opinion(plan: Plan, attempts: Sequence[Attempt], attempt: Attempt) -> Standing:
    """Of a companion's or a sample's own answer: only a sample that the vote chose may go out, and nothing that calls what it may not."""
    if attempt.running and _reason(attempt) is None:
        return OPEN
    if attempt.purpose == "sample" and passed(attempt) and effect(plan, attempt.calls) == "always":
        base = _asked_for(plan, attempts, attempt)
        samples = [other for other in attempts if other.purpose == "sample" and other.rung == attempt.rung]
        if base is not None and _majority(plan, base, samples)[0] is attempt:
            return GOOD
    return Standing("bad", _reason(attempt))


def _asked_for(plan: Plan, attempts: Sequence[Attempt], sample: Attempt) -> Attempt | None:
    """The answer in the grey zone that this sample was asked for."""
    found = (other for other in ladder(attempts) if other.rung == sample.rung and not other.running)
    return next((other for other in found if other.error is None and not other.stopped and _in_grey(other)), None)


def _in_grey(attempt: Attempt) -> bool:
    """Not sure enough, and nothing else is wrong with it; but it may well be right."""
    verdict = attempt.verdict
    return (
        verdict is not None
        and (verdict.opinion, verdict.reason) == ("fail", "low_confidence")
        and attempt.probability is not None
        and attempt.probability >= GREY
    )


def _passed_by(attempts: Sequence[Attempt], attempt: Attempt) -> bool:
    """A higher rung was asked since: no second opinion is started for this one any more."""
    return any(other.rung > attempt.rung for other in attempts)


def _reason(attempt: Attempt) -> Reason | None:
    return attempt.verdict.reason if attempt.verdict is not None and not attempt.verdict.passed else None


# --- what to start ----------------------------------------------------------------------------------------------------------------


def _awaited(attempt: Attempt, stands: Standing) -> bool:
    return attempt.purpose not in OPINIONS and stands.state == "open" and (attempt.running or not stands.needs)


def _beside(
    plan: Plan, attempts: Sequence[Attempt], pending: Sequence[tuple[Attempt, Standing]], budget: Budget
) -> Start | None:
    """A second opinion, or the next rung ahead of its turn: what is asked while something else runs."""
    if budget.seconds <= 0 or not plan.beside:
        return None
    for attempt, stands in pending:
        if attempt.purpose in OPINIONS or not plan.small(attempt.rung):
            continue
        beside = attempt.running and plan.agreement in BESIDE
        if beside or stands.needs == "agree":
            start = _companion(plan, attempts, budget)
        elif stands.needs == "sample":
            start = _sample(plan, attempts, attempt, budget)
        else:
            start = None
        if start is None and attempt.unsure and attempt.running and plan.early:
            start = _early(plan, attempts, attempt, budget)
        if start is not None:
            return start
    return None


def _companion(plan: Plan, attempts: Sequence[Attempt], budget: Budget) -> Start | None:
    rung = plan.companion
    if rung is None or any(attempt.purpose == "agree" for attempt in attempts):
        return None
    if not spare(plan, attempts, 1) or obstacle(plan, rung, attempts) is not None:
        return None
    return Start(COMPANION, seconds_for(plan, COMPANION, attempts, budget), "agree")


def _sample(plan: Plan, attempts: Sequence[Attempt], base: Attempt, budget: Budget) -> Start | None:
    """All of them or none: a vote that cannot be won is not begun."""
    asked = sum(attempt.purpose == "sample" and attempt.rung == base.rung for attempt in attempts)
    seconds = seconds_for(plan, base.rung, attempts, budget)
    if not spare(plan, attempts, plan.samples - asked) or seconds < base.seconds:
        return None
    if obstacle(plan, plan.rungs[base.rung], attempts) is not None:
        return None
    return Start(base.rung, seconds, "sample")


def _early(plan: Plan, attempts: Sequence[Attempt], unsure: Attempt, budget: Budget) -> Start | None:
    if _passed_by(attempts, unsure) or any(attempt.purpose == "early" for attempt in attempts):
        return None
    index, _ = next_rung(plan, attempts)
    return None if index is None else Start(index, seconds_for(plan, index, attempts, budget), "early")


def _repair(plan: Plan, attempts: Sequence[Attempt], budget: Budget) -> Start | None:
    """The same rung again, for an answer of a broken form that has just ended, if it can be had in the time that is left."""
    last = next(iter(reversed(ladder(attempts))), None)
    if last is None or last.error is not None or not plan.small(last.rung):
        return None
    if _reason(last) not in MENDABLE or _passed_by(attempts, last):
        return None
    tried = sum(attempt.purpose == "repair" and attempt.rung == last.rung for attempt in attempts)
    seconds = seconds_for(plan, last.rung, attempts, budget)
    if tried >= plan.repair or not spare(plan, attempts, 1) or seconds < last.seconds:
        return None
    if obstacle(plan, plan.rungs[last.rung], attempts) is not None:
        return None
    return Start(last.rung, seconds, "repair")


def _unproven(plan: Plan, attempts: Sequence[Attempt]) -> Deliver | None:
    """The highest rung's whole answer that is unproven but not proven bad, where the route delivers such. Never one that calls a tool
    which only a larger model may call."""
    if not plan.deliver_unproven:
        return None
    for attempt in reversed(ladder(attempts)):
        verdict = attempt.verdict
        if attempt.error is not None or attempt.running or attempt.stopped or verdict is None:
            continue
        if (verdict.passed or verdict.reason in SOFT) and effect(plan, attempt.calls) == "always":
            return Deliver(attempt.number, degraded=True)
    return None
