"""`mode: shadow`: the small rungs are asked too, off the path, and compared with what was delivered.

    Story (over) > sampled? > room? > OffPath > ask > checks > compare > metric, a line beside the Records

Which requests is no chance: a hash of the request's id, so that a replay knows it. At most `shadow.in_flight` requests of a route are asked
at once; further ones are dropped and counted. Nothing leaves the house that the route keeps in (`egress: local`), and no rung is asked with
the caller's own key.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, Protocol

from gateway import money
from gateway.aside import ask, askable, check, twin
from gateway.calls import ask_of, canonical_of
from gateway.canonical import canonical
from gateway.confidence import Second
from gateway.decide import Route, Rung
from gateway.escalate import SOFT
from gateway.offpath import OffPath
from gateway.outgoing import render, template_for
from gateway.record import ShadowRecord
from gateway.story import AttemptStory, Story
from gateway.weighed import second_of
from wire.hashing import portion
from wire.types import Draft

Result = Literal["agree", "disagree", "invalid", "error"]


class Dropped(Protocol):
    def __call__(self, route: str, rung: str) -> None: ...


class Shadow:
    """One of `Live.afterwards`. tell: gets every ShadowRecord. dropped: told of rungs that were not asked for want of room."""

    def __init__(self, work: OffPath, tell: Callable[[ShadowRecord], None], dropped: Dropped) -> None:
        self._work = work
        self._tell = tell
        self._dropped = dropped
        self._in_flight: Counter[str] = Counter()

    def __call__(self, story: Story) -> None:
        route = story.route
        if route is None or not route.shadowed or not wanted(story, route):  # the sample costs a hash (1 us)
            return
        rungs = [rung for rung in route.shadowed if askable(rung, route, story.asked.query)]
        if not rungs:
            return
        if self._in_flight[route.name] < route.in_flight and self._work.offer(partial(self._job, story, route, rungs)):
            self._in_flight[route.name] += 1
            return
        for rung in rungs:
            self._dropped(route.name, rung.name)

    async def _job(self, story: Story, route: Route, rungs: Sequence[Rung]) -> None:
        try:
            for rung in rungs:
                self._tell(await shadowed(story, route, rung))
        finally:
            self._in_flight[route.name] -= 1


def wanted(story: Story, route: Route) -> bool:
    """Is there an answer to compare with, would a small rung have been asked, and is this request of the sample?"""
    if story.delivered is None or not story.complete or story.decision.direct or story.decision.reason == "bypass":
        return False
    return portion("shadow", story.id) < route.sample


async def shadowed(story: Story, route: Route, rung: Rung) -> ShadowRecord:
    """Ask `rung` what was asked in `story`, and compare. A second model whose answer is weighed with this one's is asked, too, after it."""
    aside = twin(story.setup, story.asked, story.id, route, story.decision)
    attempt = await ask(aside, rung)
    second, spent = None, 0.0
    if attempt.error is None:
        said = attempt.gate.fold.drafts()
        if route.agreement == "weighed":
            second, spent = await _second(aside, route, canonical_of(aside, rung, said))
        attempt.verdict, attempt.verdicts = await check(aside, rung, said, second=second)
    verdict = attempt.verdict
    reason = attempt.error.reason if attempt.error else verdict.reason if verdict else None
    drafts = attempt.gate.fold.drafts()
    used = attempt.tokens(aside)
    known = [v.probability for v in attempt.verdicts if v.probability is not None]
    return ShadowRecord(
        request=story.id,
        time=story.time,
        route=route.name,
        rung=rung.name,
        result=_result(story, aside, attempt),
        reason=reason or "",
        accepted=verdict is not None and verdict.passed,
        served=story.delivered.rung.name if story.delivered else "",
        probability=known[-1] if known else drafts[0].probability if drafts else None,
        threshold=rung.threshold,
        model=str(attempt.gate.fold.meta.get("model") or rung.digest),
        seconds=(attempt.ended or attempt.started) - attempt.started,
        tokens=used,
        cost=money.cost(used, attempt.price) + spent,
        config=story.setup.digest,
        calibration=rung.calibrated,
        weir=story.setup.version,
    )


async def _second(aside: Story, route: Route, said: str) -> tuple[Second | None, float]:
    """What the second model says of an answer whose canonical form is `said`, None when it cannot be asked or says nothing valid; and what
    that cost, USD."""
    companion = route.companion
    if companion is None or not askable(companion, route, aside.asked.query):
        return None, 0.0
    heard = await ask(aside, companion)
    spent = money.cost(heard.tokens(aside), heard.price)
    if heard.error is not None:
        return None, spent
    drafts = heard.gate.fold.drafts()
    verdict, _ = await check(aside, companion, drafts, soft=False)
    return second_of(said, canonical_of(aside, companion, drafts), drafts, verdict), spent


def _result(story: Story, aside: Story, attempt: AttemptStory) -> Result:
    if attempt.error is not None:
        return "error"
    verdict = attempt.verdict
    # A validator that could not decide says nothing against the answer.
    hard = verdict is None or (not verdict.passed and verdict.reason not in SOFT)
    if hard or story.delivered is None:
        return "invalid"
    said = _canonical(aside, attempt.rung, attempt.gate.fold.drafts()[0])
    told = _canonical(story, story.delivered.rung, story.delivered.gate.fold.drafts()[0])
    return "agree" if said == told else "disagree"


def _canonical(story: Story, rung: Rung, draft: Draft) -> str:
    """The answer in the form in which two are compared; rendered first, where the caller would have read it so."""
    ask, template = ask_of(story, rung), template_for(story, rung)
    constraint, text = ask.constraint, draft.text
    schema = constraint.value if constraint is not None and constraint.kind == "schema" else None
    if template is not None:
        text, schema = render(template, text), None
    tools = {name: tool.parameters for name, tool in ask.tools.items()}
    return canonical(text, draft.tool_calls, schema=schema, tools=tools)
