"""The way of one request, on one page.

    Asked > Scores > Decision > ( Start > Chunk* > Verdict > Attempt )* > Chunk*      and at the end, always, one Record

`answer` is always a stream; `stream: false` is collected at the edge. It yields one Opening when the gate opens: until then
everything may change, and a failure is a WeirError with a status of its own. Then it yields the answer's chunks, those that came
together at once: nothing may change any more, and a failure is a WeirError that the edge turns into an error event. The Record is
told before the generator ends, so before the last byte goes out; also when the caller left (the generator is closed then, wherever
it stands).
"""

from collections.abc import AsyncGenerator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from gateway.calls import (
    ask_of,
    call_for,
    fitted,
    growing,
    learnt,
    may_hold,
    rendered,
    shown,
    validators_for,
)
from gateway.choose import choose
from gateway.escalate import OPINIONS, Budget, Deliver, GiveUp, Start, Stop, can_climb, effect, needed, next_step
from gateway.judge import fails, judge
from gateway.race import Came, Ended, Race
from gateway.refusal import refusal, upstream
from gateway.setup import Live
from gateway.story import AttemptStory, Story
from gateway.validators.base import Verdict
from gateway.weighed import weigh, weighs
from wire.errors import Replayed, TimedOut, WeirError
from wire.types import Chunk, Sink

STRIDE = 16
"""Characters of an answer that flows, after which the hard checks look at it again."""


class Opening(Struct, frozen=True):
    """The gate has opened: who answers."""

    rung: str
    degraded: bool
    head: Mapping[str, str]
    """The upstream's response headers, for an answer that is passed through unchanged."""


async def answer(
    live: Live, story: Story, race: Race, sink: Sink | None = None
) -> AsyncGenerator[Opening | Sequence[Chunk], None]:
    """Answer `story.asked`. Raises WeirError. `race` belongs to the request's task group, on the surface. sink: may get chunks after the
    Opening while the next ones are waited for here; those that it does not take come out as all do."""
    try:
        await choose(live, story)
        story.plan = fitted(story)
        if story.route is not None and story.route.waste is not None and not story.straight:
            live.waste.earn(story.route.name, story.route.waste)
        winner = await _climb(live, story, race)
        story.delivered = winner
        yield Opening(winner.rung.name, story.degraded, winner.gate.fold.head)
        lag = story.route.lag if story.route is not None and winner.flows and winner.running else None
        if chunks := rendered(story, winner, winner.gate.open(lag)):
            story.first_byte = story.setup.clock() - story.started
            yield _shown(story, chunks)
        while winner.running:
            if chunks := await _more(story, winner, race, sink):
                yield _shown(story, chunks)
        if winner.gate.fold.usage is None and not story.verbatim:
            yield [Chunk(usage=story.estimated(winner))]
        await _late_verdict(story, winner)
        story.complete = True
        _remember(live, story, winner)
    except WeirError as error:
        story.failure = error
        raise
    except Exception as error:
        story.failure = WeirError("Weir failed to answer; the log says more under this request's id")
        raise story.failure from error
    finally:
        if story.granted and not story.settled:
            live.waste.settle(story.decision.route, story.vain, wasted=story.speculation() == "wasted")
        live.tell(story.record)
        live.after(story)


def _shown(story: Story, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    for chunk in chunks:
        if chunk.logprobs is not None:
            return [shown(story, chunk) for chunk in chunks]
    return chunks


async def _climb(live: Live, story: Story, race: Race) -> AttemptStory:
    """Ask rungs as `next_step` says until one may be delivered. Raises WeirError when none may."""
    while True:
        step = next_step(story.plan, story.snapshots(), Budget(story.left()))
        if isinstance(step, Start):
            _start(live, story, race, step)
        elif isinstance(step, Stop):
            race.stop(step.number)
            story.attempts[step.number].stop(story.setup.clock())
        elif isinstance(step, Deliver):
            for attempt in story.attempts:
                if attempt.running and attempt.number != step.number:
                    race.stop(attempt.number)
                    attempt.stop(story.setup.clock())
            story.degraded = step.degraded
            return story.attempts[step.number]
        elif isinstance(step, GiveUp):
            raise _given_up(story, step)
        else:
            await _event(live, story, race)
            if story.plan.agreement == "weighed":
                for attempt in await weigh(story):
                    _ahead(live, story, attempt)
            if story.granted and not story.settled:
                _settle(live, story)


def _start(live: Live, story: Story, race: Race, step: Start) -> None:
    rung = story.plan.rung(step.rung)
    now, price = story.setup.clock(), story.setup.prices[rung.name]
    attempt = AttemptStory(len(story.attempts), step.rung, rung, price, now, now + step.seconds, step.purpose)
    story.attempts.append(attempt)
    attempt.growing = growing(story, attempt)
    call = call_for(
        story,
        rung,
        step.seconds,
        held=may_hold(story, attempt),
        watched=attempt.growing is not None,
        attempt=attempt if step.purpose else None,
    )
    alone = not any(other.running for other in story.attempts[:-1])
    attempt.live = call.live
    race.start(attempt.number, story.setup.backends[rung.name].stream(call), alone=alone)
    _ahead(live, story, attempt)


async def _event(live: Live, story: Story, race: Race) -> None:
    """Wait for what happens next to any attempt, and take it in."""
    clock = story.setup.clock
    seconds, now = story.left(), clock()
    for running in story.attempts:
        if running.running and running.deadline - now < seconds:
            seconds = running.deadline - now
    chunks: list[Chunk] = []
    if race.alone and not story.attempts[-1].live:  # its answer comes whole: nothing is to be decided before its end
        event: Came | Ended | None = await race.rest(seconds, chunks)
    else:
        event = await race.event(seconds)
    now = clock()
    for chunk in chunks:
        _take(live, story, story.attempts[-1], chunk, now)
    if event is None:
        under_way = [a for a in story.attempts if a.running]
        late = [a for a in under_way if now >= a.deadline or story.left() <= 0]
        # The loop's clock counts milliseconds: the time of the first to end has come, whatever ours says.
        for attempt in late or sorted(under_way, key=lambda a: a.deadline)[:1]:
            race.stop(attempt.number)
            attempt.end(now, TimedOut(f"'{attempt.rung.name}' took longer than {now - attempt.started:.1f} s"))
        return
    attempt = story.attempts[event.number]
    if isinstance(event, Came):
        _take(live, story, attempt, event.chunk, now)
        return
    attempt.end(now, event.error)
    if event.error is None and not story.straight:
        await _judge(story, attempt)


def _take(live: Live, story: Story, attempt: AttemptStory, chunk: Chunk, now: float) -> None:
    attempt.came = True
    attempt.chunks += 1
    attempt.first = attempt.first if attempt.first is not None else now
    attempt.gate.feed(chunk)
    if attempt.growing is not None and attempt.verdict is None:
        _look(live, story, attempt, chunk)


async def _judge(story: Story, attempt: AttemptStory) -> None:
    started = story.setup.clock()
    weighed = story.plan.agreement == "weighed" and weighs(story, attempt)  # then `weigh` will say how sure
    soft = attempt.purpose not in OPINIONS and not weighed  # a second opinion need not be sure of itself
    attempt.verdict, attempt.verdicts = await judge(
        validators_for(story, attempt.rung, soft=soft), attempt.gate.fold.drafts(), ask_of(story, attempt.rung)
    )
    learnt(story, attempt)
    if weighed and attempt.verdict.passed:
        attempt.verdict = None
    story.check_seconds += story.setup.clock() - started


def _look(live: Live, story: Story, attempt: AttemptStory, chunk: Chunk) -> None:
    """Take in what a piece of a growing answer shows: that it failed, may flow, or looks unsure enough to ask the next rung."""
    look = attempt.growing
    assert look is not None
    failed = look.feed(chunk)
    if failed is None and look.full and not attempt.flows:
        failed = _fails(story, attempt)
        attempt.flows = failed is None
    if failed is not None:
        attempt.verdict, attempt.verdicts = failed, [failed]
    else:
        _ahead(live, story, attempt)


def _ahead(live: Live, story: Story, attempt: AttemptStory) -> None:
    """May the next rung be asked ahead of its turn? Before the answer has begun this hangs on the request's words alone."""
    look = attempt.growing
    if look is None or not look.unsure or story.granted:
        return
    if can_climb(story.plan, story.snapshots(), attempt.index):
        story.vain = 1 - look.doubt
        story.granted = live.waste.reserve(story.decision.route, story.vain, 1 - (attempt.rung.start or 0.0))
        story.plan = replace(story.plan, early=story.granted)


def _settle(live: Live, story: Story) -> None:
    """An early start has been of use once the answer that looked unsure is rejected: its share of the budget is free for others from then
    on, not only when the large model has answered."""
    snapshots = story.snapshots()
    early = next((attempt for attempt in snapshots if attempt.purpose == "early"), None)
    if early is not None and needed(story.plan, snapshots, early):
        story.settled = True
        live.waste.settle(story.decision.route, story.vain, wasted=False)


def _fails(story: Story, attempt: AttemptStory) -> Verdict | None:
    """The hard checks, on what has come of the answer."""
    assert attempt.growing is not None
    attempt.looked = attempt.growing.chars
    return fails(validators_for(story, attempt.rung), attempt.gate.fold.drafts(), ask_of(story, attempt.rung))


async def _more(story: Story, winner: AttemptStory, race: Race, sink: Sink | None) -> Sequence[Chunk]:
    """What came after the commit. A transport that breaks now is an error, never a silent end."""
    lags = winner.gate.lags
    through = None if sink is None or lags or story.verbatim else _through(story, winner, sink)
    event = await race.more(story.setup.settings.server.idle, through)
    if event is not None and not isinstance(event, Ended):
        if lags:
            return _flow(story, winner, race, event)
        winner.chunks += len(event)
        return winner.gate.pass_on(event)
    error = event.error if event is not None else TimedOut(f"'{winner.rung.name}' stopped sending", phase="idle")
    winner.end(story.setup.clock(), error)
    if event is None:
        race.stop(winner.number)
    if error is not None:
        raise upstream(error, tried=len(story.attempts))
    return await _last(story, winner) if winner.gate.lags else []


def _through(story: Story, winner: AttemptStory, sink: Sink) -> Sink:
    """What is done to chunks about which nothing is left to decide: `sink` gets them, and they are folded."""

    def through(chunks: Sequence[Chunk]) -> bool:
        if not sink(_shown(story, chunks)):
            return False
        winner.chunks += len(chunks)
        winner.gate.pass_on(chunks)
        return True

    return through


def _flow(story: Story, winner: AttemptStory, race: Race, chunks: Sequence[Chunk]) -> list[Chunk]:
    """What may go out of a small rung's free text that flows. A check that fails now cuts what was held back and ends the answer."""
    look = winner.growing
    assert look is not None
    out: list[Chunk] = []
    for chunk in chunks:
        winner.chunks += 1
        winner.gate.feed(chunk)
        failed = look.feed(chunk)
        if failed is None and look.chars - winner.looked >= STRIDE:
            failed = _fails(story, winner)
            if failed is None:
                out += winner.gate.flow()
        if failed is not None:
            race.stop(winner.number)
            winner.stop(story.setup.clock())
            winner.verdict, winner.verdicts = failed, [failed]
            return out + winner.gate.cut()
    return out


async def _last(story: Story, winner: AttemptStory) -> list[Chunk]:
    """The end of an answer that flowed: what was held back of it, once all of it was checked."""
    await _judge(story, winner)
    verdict = winner.verdict
    if verdict is not None and verdict.passed and effect(story.plan, winner.calls) != "always":
        verdict = winner.verdict = Verdict(
            "fail", "policy", "tools", "calls a tool that a small model may not call alone"
        )
        winner.verdicts = [*winner.verdicts, verdict]
    bad = verdict is not None and verdict.opinion == "fail" and verdict.reason != "truncated"
    return winner.gate.cut() if bad else winner.gate.rest()


async def _late_verdict(story: Story, winner: AttemptStory) -> None:
    """A delivered answer that was not checked before is checked now, for the Record only."""
    if winner.verdict is None and not story.straight:
        await _judge(story, winner)
    if winner.verdict is not None and not winner.verdict.passed and not story.degraded:
        story.late = winner.verdict.reason or ""


def _given_up(story: Story, step: GiveUp) -> WeirError:
    last = story.attempts[-1].error if story.attempts else None
    if story.verbatim and last is not None and last.status is not None:
        return Replayed(last.message, status=last.status, body=last.body, headers=last.head)
    errors = [attempt.error for attempt in story.attempts]
    return refusal(step, story.snapshots(), errors, story.decision.route, story.plan)


def _remember(live: Live, story: Story, winner: AttemptStory) -> None:
    """While a tool loop is open, the rung that asked the question answers."""
    if story.route is not None and not story.straight and any(d.tool_calls for d in winner.gate.fold.drafts()):
        query = story.asked.query
        live.sessions.remember(query.tenant, query.session, story.decision.route, winner.rung.name)
