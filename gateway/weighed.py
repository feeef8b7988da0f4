"""`agrees_with: {when: weighed}`: a second small model answers beside the first, and what it says and how sure it is of that are evidence
of how likely the first is right. A disagreement alone rejects nothing, an agreement alone accepts nothing.

    answer ends > hard checks > the second has ended, or never will > how sure, by both (soft checks) > Verdict
"""

from collections.abc import Sequence

from msgspec.structs import replace

from gateway.calls import ask_of, validators_for
from gateway.confidence import Second
from gateway.judge import judge
from gateway.plan import OPINIONS
from gateway.story import AttemptStory, Story
from gateway.validators.base import Verdict
from wire.types import Draft


def weighs(story: Story, attempt: AttemptStory) -> bool:
    """Is it by a second answer, too, that this attempt's is judged?"""
    plan, route = story.plan, story.route
    if plan.agreement != "weighed" or route is None or attempt.purpose in OPINIONS:
        return False
    return route.small(attempt.rung)


def second_of(said: str, other: str, drafts: Sequence[Draft], verdict: Verdict | None) -> Second | None:
    """What a second answer says of one. said, other: their canonical forms. drafts, verdict: the second's, and what the hard checks say of
    it. None: there is none that may be weighed."""
    if not drafts or verdict is None or not verdict.passed:
        return None
    sure = [draft.probability for draft in drafts if draft.probability is not None]
    return Second(bool(said) and other == said, min(sure) if len(sure) == len(drafts) else None)


async def weigh(story: Story) -> list[AttemptStory]:
    """Judge how sure the answers are that have passed the hard checks and waited for the second one; unless that is still to come. Returns
    those that still grow, which have heard it now."""
    companion = next((attempt for attempt in story.attempts if attempt.purpose == "agree"), None)
    if companion is not None and companion.running:
        return []
    started = story.setup.clock()
    for attempt in story.attempts:
        if _waits(story, attempt):
            attempt.second = _heard(attempt, companion)
            soft = [check for check in validators_for(story, attempt.rung) if getattr(check, "soft", False)]
            ask = replace(ask_of(story, attempt.rung), second=attempt.second)
            attempt.verdict, more = await judge(soft, attempt.gate.fold.drafts(), ask)
            attempt.verdicts = [*attempt.verdicts, *more]
            attempt.known = attempt.probability
    story.check_seconds += story.setup.clock() - started
    return [attempt for attempt in story.attempts if attempt.running and _hears(attempt, companion)]


def _hears(attempt: AttemptStory, companion: AttemptStory | None) -> bool:
    """Tell an answer that still grows what the second one is. False: it knows already, or has no use for it."""
    look = attempt.growing
    if look is None or not look.listens:
        return False
    second = _heard(attempt, companion)
    if second is None or companion is None:
        look.hear(None, None)
    else:
        look.hear(companion.gate.fold.drafts()[0], second.probability)
    return True


def _waits(story: Story, attempt: AttemptStory) -> bool:
    over = not attempt.running and not attempt.stopped and attempt.error is None
    return over and attempt.verdict is None and weighs(story, attempt)


def _heard(attempt: AttemptStory, companion: AttemptStory | None) -> Second | None:
    if companion is None:
        return None
    # One that was stopped, or has not come to its end, has no verdict.
    return second_of(attempt.answer, companion.answer, companion.gate.fold.drafts(), companion.verdict)
