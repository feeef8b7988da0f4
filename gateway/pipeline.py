"""The way of one request, on one page.

    Asked > Scores > Decision > ( Start > Chunk* > Verdict > Attempt )* > Chunk*      and at the end, always, one Record

`answer` is always a stream; `stream: false` is collected at the edge, unless it is over as `opened` returns. It yields one Opening when
the gate opens: until then everything may change, and a failure is a WeirError with a status of its own. Then it yields the answer's
chunks, those that came together at once: nothing may change any more, and a failure is a WeirError that the edge turns into an error
event. The Record is told before the generator ends, so before the last byte goes out; also when the caller left (the generator is closed
then, wherever it stands).
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import NoReturn

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
from gateway.escalate import Deliver, Start, Stop, effect, needed, next_step
from gateway.fold import Fold
from gateway.judge import fails, judge
from gateway.plan import OPINIONS, Budget, GiveUp, can_climb
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
TOGETHER = 16
"""Chunks that have gone out and are folded at once, while what folds them is at hand: each alone it comes out of a cold cache."""


class Opening(Struct, frozen=True):
    """The gate has opened: who answers."""

    rung: str
    degraded: bool
    head: Mapping[str, str]
    """The upstream's response headers, for an answer that is passed through unchanged."""
    whole: Fold | None = None
    """The answer, where all of it has come and it goes out unchanged to a caller who wants it whole: then no chunks follow. It need not be
    folded again (2 us)."""


async def opened(live: Live, story: Story, race: Race) -> Opening:
    """How `answer` begins, for a caller who wants it whole. Most such answers end here (`story.complete`): all has come and has passed, and
    the Record is told. They need no generator, which the loop registers and forgets (3 us). Others go on with `answer` from this Opening,
    and nothing may be waited for until it has yielded that. Raises WeirError."""
    over = True
    try:
        opening = await _open(live, story, race)
        winner = story.delivered
        assert winner is not None
        over = opening.whole is not None and winner.verdict is not None and winner.verdict.opinion == "pass"
        if over:
            story.first_byte = story.setup.clock() - story.started
            _complete(live, story, winner)
        return opening
    except Exception as error:
        _fail(story, error)
    finally:
        if over:
            _tell(live, story)


async def answer(
    live: Live, story: Story, race: Race, sink: Sink | None = None, opening: Opening | None = None
) -> AsyncGenerator[Opening | Sequence[Chunk], None]:
    """Answer `story.asked`. Raises WeirError. `race` belongs to the request's task group, on the surface. sink: may get chunks after the
    Opening while the next ones are waited for here; those that it does not take come out as all do. opening: what `opened` came to."""
    try:
        if opening is None:
            opening = await _open(live, story, race)
        winner, whole = story.delivered, opening.whole
        assert winner is not None
        yield opening
        chunks = _first(story, winner) if whole is None else ()
        if chunks or whole is not None:
            story.first_byte = story.setup.clock() - story.started
        if chunks:
            yield chunks
        while winner.running:
            if chunks := await _more(story, winner, race, sink):
                yield _shown(story, chunks)
        if winner.gate.fold.usage is None and not story.verbatim:
            yield [Chunk(usage=story.estimated(winner))]
        if winner.verdict is None or winner.verdict.opinion != "pass":
            await _late_verdict(story, winner)
        _complete(live, story, winner)
    except Exception as error:
        _fail(story, error)
    finally:
        _tell(live, story)


async def _open(live: Live, story: Story, race: Race) -> Opening:
    """Everything up to the commit. Raises WeirError."""
    await choose(live, story)
    story.plan = fitted(story)
    route = story.route
    if route is not None and route.waste is not None and not story.straight:
        live.waste.earn(route.name, route.waste)
    winner = story.delivered = await _climb(live, story, race)
    return Opening(winner.rung.name, story.degraded, winner.gate.fold.head, _whole(story, winner))


def _complete(live: Live, story: Story, winner: AttemptStory) -> None:
    """All of the answer has come."""
    story.complete = True
    if winner.gate.fold.called:
        _remember(live, story, winner)


def _fail(story: Story, error: Exception) -> NoReturn:
    """Raises what the caller is told of `error`."""
    if isinstance(error, WeirError):
        story.failure = error
        raise error
    story.failure = WeirError("Weir failed to answer; the log says more under this request's id")
    raise story.failure from error


def _tell(live: Live, story: Story) -> None:
    """It is over, however it ended."""
    if story.granted and not story.settled:
        live.waste.settle(story.decision.route, story.vain, wasted=story.speculation() == "wasted")
    story.over = story.setup.clock()
    live.tell(story.record)
    if story.route is not None and story.route.name in story.setup.aside:
        live.after(story)


def _whole(story: Story, winner: AttemptStory) -> Fold | None:
    """`Opening.whole`."""
    fold, route = winner.gate.fold, story.route
    if winner.running or story.asked.wants.stream or story.verbatim or (route is not None and route.render is not None):
        return None
    return fold if fold.plain and fold.usage is not None else None


def _first(story: Story, winner: AttemptStory) -> Sequence[Chunk]:
    """What goes out as the gate opens."""
    route = story.route
    chunks: Sequence[Chunk] = winner.gate.open(route.lag if route and winner.flows and winner.running else None)
    if route is not None and route.render is not None:
        chunks = rendered(story, winner, chunks)
    return _shown(story, chunks)


def _shown(story: Story, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    for chunk in chunks:
        if chunk.logprobs is not None:
            return [shown(story, chunk) for chunk in chunks]
    return chunks


async def _climb(live: Live, story: Story, race: Race) -> AttemptStory:
    """Ask rungs as `next_step` says until one may be delivered. Raises WeirError when none may."""
    clock, due = story.setup.clock, story.due()
    while True:
        past = story.snapshots() if story.attempts else ()
        step = next_step(story.plan, past, Budget(due - clock()))
        if isinstance(step, Start):
            _start(live, story, race, step)
            if story.plan.beside:
                continue
        elif isinstance(step, Deliver):
            for attempt in story.attempts:
                if attempt.running and attempt.number != step.number:
                    race.stop(attempt.number)
                    attempt.stop(clock())
            if step.degraded:
                story.degraded = True
            return story.attempts[step.number]
        elif isinstance(step, Stop):
            race.stop(step.number)
            story.attempts[step.number].stop(clock())
            continue
        elif isinstance(step, GiveUp):
            raise _given_up(story, step)
        await _event(live, story, race, due)
        if story.plan.agreement == "weighed":
            for attempt in await weigh(story):
                _ahead(live, story, attempt)
        if story.granted and not story.settled:
            _settle(live, story)


def _start(live: Live, story: Story, race: Race, step: Start) -> None:
    setup, rung = story.setup, story.plan.rung(step.rung)
    now, number = setup.clock(), len(story.attempts)
    attempt = AttemptStory(number, step.rung, rung, setup.prices[rung.name], now, now + step.seconds, step.purpose)
    story.attempts.append(attempt)
    if story.route is not None and story.route.looks:
        attempt.growing = growing(story, attempt)
    attempt.live = attempt.growing is not None or (story.asked.wants.stream and not may_hold(story, attempt))
    call = call_for(story, rung, step.seconds, live=attempt.live, attempt=attempt if step.purpose else None)
    alone = number == 0 or not any(other.running for other in story.attempts[:-1])
    race.start(number, setup.backends[rung.name].stream(call), alone=alone)
    if attempt.growing is not None:
        _ahead(live, story, attempt)


async def _event(live: Live, story: Story, race: Race, due: float) -> None:
    """Wait for what happens next to any attempt, and take it in. due: when the time for all of them is up."""
    clock = story.setup.clock
    now = clock()
    seconds = due - now
    for running in story.attempts:
        if running.running and running.deadline - now < seconds:
            seconds = running.deadline - now
    latest = story.attempts[-1]
    chunks: list[Chunk] = []
    if race.alone and not latest.live:  # its answer comes whole: nothing is to be decided before its end
        event: Came | Ended | None = await race.rest(seconds, chunks)
    else:
        event = await race.event(seconds)
    now = clock()
    for chunk in chunks:
        _take(live, story, latest, chunk, now)
    if event is None:
        under_way = [a for a in story.attempts if a.running]
        late = [a for a in under_way if now >= a.deadline or now >= due]
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
    if attempt.first is None:
        attempt.first = now
    attempt.gate.feed(chunk)
    if attempt.growing is not None and attempt.verdict is None:
        _look(live, story, attempt, chunk)


async def _judge(story: Story, attempt: AttemptStory) -> None:
    clock = story.setup.clock
    started = clock()
    weighed = story.plan.agreement == "weighed" and weighs(story, attempt)  # then `weigh` will say how sure
    soft = attempt.purpose not in OPINIONS and not weighed  # a second opinion need not be sure of itself
    attempt.verdict, attempt.verdicts = await judge(
        validators_for(story, attempt.rung, soft=soft), attempt.gate.fold.drafts(), ask_of(story, attempt.rung)
    )
    learnt(story, attempt)
    if weighed and attempt.verdict.passed:
        attempt.verdict = None
    story.check_seconds += clock() - started


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
    lags, idle = winner.gate.lags, story.setup.settings.server.idle
    if sink is None or lags or story.verbatim:
        event = await race.more(idle)
    else:
        gone: list[Chunk] = []
        try:
            event = await race.more(idle, _through(story, winner, sink, gone))
        finally:  # also when the caller leaves: the Record tells what he got
            _went(winner, gone)
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


def _through(story: Story, winner: AttemptStory, sink: Sink, gone: list[Chunk]) -> Sink:
    """What is done to chunks about which nothing is left to decide: `sink` gets them, and they are folded, the last of them by `_went`."""

    def through(chunks: Sequence[Chunk]) -> bool:
        plain = len(chunks) == 1 and chunks[0].logprobs is None
        if not sink(chunks if plain else _shown(story, chunks)):
            return False
        gone.extend(chunks)
        if len(gone) >= TOGETHER:
            _went(winner, gone)
        return True

    return through


def _went(winner: AttemptStory, gone: list[Chunk]) -> None:
    winner.chunks += len(gone)
    winner.gate.pass_on(gone)
    gone.clear()


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
    """While a tool loop is open, the rung that asked the question answers. winner: has called a tool."""
    if story.route is not None and not story.straight:
        query = story.asked.query
        live.sessions.remember(query.tenant, query.session, story.decision.route, winner.rung.name)
