"""The way of one request, on one page.

    Asked > Scores > Decision > ( Start > Chunk* > Verdict > Attempt )* > Chunk*      and at the end, always, one Record

`answer` is always a stream; `stream: false` is collected at the edge. It yields one Opening when the gate opens: until then
everything may change, and a failure is a WeirError with a status of its own. Then it yields the answer's chunks: nothing may
change any more, and a failure is a WeirError that the edge turns into an error event. The Record is told before the generator
ends, so before the last byte goes out; also when the caller left (the generator is closed then, wherever it stands).
"""

from collections.abc import AsyncGenerator, Mapping

from msgspec import Struct

from gateway.calls import ask_of, call_for, may_hold, rendered, validators_for
from gateway.choose import choose
from gateway.escalate import Budget, Deliver, GiveUp, Start, Stop, next_step
from gateway.judge import judge
from gateway.race import Came, Ended, Race
from gateway.refusal import refusal, upstream
from gateway.setup import Live
from gateway.story import AttemptStory, Story
from wire.errors import Replayed, TimedOut, WeirError
from wire.types import Chunk


class Opening(Struct, frozen=True):
    """The gate has opened: who answers."""

    rung: str
    degraded: bool
    head: Mapping[str, str]
    """The upstream's response headers, for an answer that is passed through unchanged."""


async def answer(live: Live, story: Story, race: Race) -> AsyncGenerator[Opening | Chunk, None]:
    """Answer `story.asked`. Raises WeirError. `race` belongs to the request's task group, on the surface."""
    try:
        await choose(live, story)
        winner = await _climb(story, race)
        story.delivered = winner
        yield Opening(winner.rung.name, story.degraded, winner.gate.fold.head)
        for chunk in rendered(story, winner, winner.gate.open()):
            story.first_byte = story.first_byte or story.setup.clock() - story.started
            yield chunk
        while winner.running:
            for chunk in await _more(story, winner, race):
                yield chunk
        if winner.gate.fold.usage is None and not story.verbatim:
            yield Chunk(usage=story.estimated(winner))
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
        live.tell(story.record)
        live.after(story)


async def _climb(story: Story, race: Race) -> AttemptStory:
    """Ask rungs as `next_step` says until one may be delivered. Raises WeirError when none may."""
    while True:
        step = next_step(story.plan, story.snapshots(), Budget(story.left()))
        if isinstance(step, Start):
            _start(story, race, step)
        elif isinstance(step, Stop):
            race.stop(step.number)
            story.attempts[step.number].end(story.setup.clock())
        elif isinstance(step, Deliver):
            for attempt in story.attempts:
                if attempt.running and attempt.number != step.number:
                    race.stop(attempt.number)
                    attempt.end(story.setup.clock())
            story.degraded = step.degraded
            return story.attempts[step.number]
        elif isinstance(step, GiveUp):
            raise _given_up(story, step)
        else:
            await _event(story, race)


def _start(story: Story, race: Race, step: Start) -> None:
    rung = story.plan.rungs[step.rung]
    now = story.setup.clock()
    attempt = AttemptStory(len(story.attempts), step.rung, rung, story.setup.prices[rung.name], now, now + step.seconds)
    story.attempts.append(attempt)
    call = call_for(story, rung, step.seconds, held=may_hold(story, attempt))
    race.start(attempt.number, story.setup.backends[rung.name].stream(call))


async def _event(story: Story, race: Race) -> None:
    """Wait for what happens next to any attempt, and take it in."""
    clock = story.setup.clock
    deadline = min((a.deadline for a in story.attempts if a.running), default=clock())
    event = await race.event(min(deadline - clock(), story.left()))
    now = clock()
    if event is None:
        for attempt in story.attempts:
            if attempt.running and (now >= attempt.deadline or story.left() <= 0):
                race.stop(attempt.number)
                attempt.end(now, TimedOut(f"'{attempt.rung.name}' took longer than {now - attempt.started:.1f} s"))
        return
    attempt = story.attempts[event.number]
    if isinstance(event, Came):
        attempt.came = True
        attempt.first = attempt.first if attempt.first is not None else now
        attempt.gate.feed(event.chunk)
        return
    attempt.end(now, event.error)
    if event.error is None and not story.straight:
        await _judge(story, attempt)


async def _judge(story: Story, attempt: AttemptStory) -> None:
    started = story.setup.clock()
    attempt.verdict, attempt.verdicts = await judge(
        validators_for(story, attempt.rung), attempt.gate.fold.drafts(), ask_of(story, attempt.rung)
    )
    story.check_seconds += story.setup.clock() - started


async def _more(story: Story, winner: AttemptStory, race: Race) -> list[Chunk]:
    """What came after the commit. A transport that breaks now is an error, never a silent end."""
    event = await race.event(story.setup.settings.server.idle)
    now = story.setup.clock()
    if isinstance(event, Came):
        return winner.gate.feed(event.chunk)
    error = event.error if isinstance(event, Ended) else TimedOut(f"'{winner.rung.name}' stopped sending", phase="idle")
    winner.end(now, error)
    if event is None:
        race.stop(winner.number)
    if error is not None:
        raise upstream(error, tried=len(story.attempts))
    return []


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
    return refusal(step, story.snapshots(), [a.error for a in story.attempts], story.decision.route)


def _remember(live: Live, story: Story, winner: AttemptStory) -> None:
    """While a tool loop is open, the rung that asked the question answers."""
    if story.route is not None and not story.straight and any(d.tool_calls for d in winner.gate.fold.drafts()):
        query = story.asked.query
        live.sessions.remember(query.tenant, query.session, story.decision.route, winner.rung.name)
