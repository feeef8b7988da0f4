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
    validators_for,
)
from gateway.choose import choose
from gateway.escalate import Deliver, Start, Stop, accepted, begun, effect, needed, next_step
from gateway.fold import Fold
from gateway.judge import fails, judgement
from gateway.outgoing import rendered, shown
from gateway.plan import COMPANION, OPINIONS, Budget, GiveUp, can_climb
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
            story.complete = True
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
        story.complete = True
    except Exception as error:
        _fail(story, error)
    finally:
        _tell(live, story)


async def _open(live: Live, story: Story, race: Race) -> Opening:
    """Everything up to the commit: rungs are asked as `next_step` says until one may be delivered. Raises WeirError, also when none may."""
    await choose(live, story)
    asked, route, clock, attempts = story.asked, story.route, story.setup.clock, story.attempts
    if asked.wants.n > 1 or asked.native or asked.body.get("tools"):  # most requests want nothing of that
        story.plan = fitted(story)
    if route is not None and route.waste is not None and not story.straight:
        live.waste.earn(route.name, route.waste)
    due = story.started + (story.setup.settings.server.deadline if route is None else route.seconds)
    while True:
        now = clock()
        if len(attempts) == 1:  # a snapshot of it would tell the same
            only = attempts[0]
            if accepted(story.plan, only) or begun(story.plan, only, only.index, only.gate.fold.begun):
                return _delivered(story, race, only)
        step = next_step(story.plan, story.snapshots() if attempts else (), Budget(due - now))
        if isinstance(step, Start):
            _start(live, story, race, step)
            if story.plan.beside:
                continue
        elif isinstance(step, Deliver):
            story.degraded = step.degraded
            return _delivered(story, race, attempts[step.number])
        elif isinstance(step, Stop):
            race.stop(step.number)
            attempts[step.number].stop(now)
            continue
        elif isinstance(step, GiveUp):
            raise _given_up(story, step)
        latest = attempts[-1]
        chunks: list[Chunk] = []
        event: Came | Ended | None
        if race.alone and latest.growing is None:  # nothing is to be decided from one chunk to the next
            seconds = min(due, latest.deadline) - now
            event = await (race.more(seconds) if latest.live else race.rest(seconds, chunks))
        else:
            event = await race.event(min([due, *(tried.deadline for tried in attempts if tried.running)]) - now)
        ended = _taken_in(live, story, race, event, chunks, due)
        if ended is not None and not story.straight:
            await _judge(story, ended)
        if story.plan.agreement == "weighed":
            for attempt in await weigh(story):
                _ahead(live, story, attempt)
        if story.granted and not story.settled:
            _settle(live, story)


def _delivered(story: Story, race: Race, winner: AttemptStory) -> Opening:
    """Its answer goes out; the other attempts are stopped."""
    story.delivered = winner
    for other in story.attempts:
        if other.running and other is not winner:
            race.stop(other.number)
            other.stop(story.setup.clock())
    fold, route = winner.gate.fold, story.route
    changes = (
        winner.running or story.asked.wants.stream or story.verbatim or (route is not None and route.render is not None)
    )
    whole = None if changes or fold.usage is None or not fold.plain else fold
    return Opening(winner.rung.name, story.degraded, fold.head, whole)


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
    winner = story.delivered
    if winner is not None and story.complete and winner.gate.fold.called:
        _remember(live, story, winner)
    if story.route is not None and story.route.name in story.setup.aside:
        live.after(story)


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


def _start(live: Live, story: Story, race: Race, step: Start) -> None:
    setup, plan, index, number = story.setup, story.plan, step.rung, len(story.attempts)
    now = setup.clock()
    rung = plan.rung(index) if index == COMPANION else plan.rungs[index]
    attempt = AttemptStory(number, index, rung, setup.prices[rung.name], now, now + step.seconds, step.purpose)
    story.attempts.append(attempt)
    if story.route is not None and story.route.looks:
        attempt.growing = growing(story, attempt)
    attempt.live = attempt.growing is not None or (story.asked.wants.stream and not may_hold(story, attempt))
    call = call_for(story, rung, step.seconds, live=attempt.live, attempt=attempt if step.purpose else None)
    alone = number == 0 or not any(other.running for other in story.attempts[:-1])
    race.start(number, setup.backends[rung.name].stream(call), alone=alone)
    if attempt.growing is not None:
        _ahead(live, story, attempt)


def _taken_in(
    live: Live, story: Story, race: Race, event: Came | Ended | None, chunks: Sequence[Chunk], due: float
) -> AttemptStory | None:
    """What has happened to the attempts. chunks: what came of the latest before that. event: None, when the time of one of them is up, or
    that of all, at `due`. Returns the one whose answer has come to its end."""
    now = story.setup.clock()
    attempt = story.attempts[-1 if event is None else event.number]
    for chunk in event.chunks if isinstance(event, Came) else chunks:
        attempt.came = True
        attempt.chunks += 1
        if attempt.first is None:
            attempt.first = now
        attempt.gate.feed(chunk)
        if attempt.growing is not None and attempt.verdict is None:
            _look(live, story, attempt, chunk)
    if isinstance(event, Ended):
        attempt.end(now, event.error)
        return attempt if event.error is None else None
    if event is None:
        under_way = [a for a in story.attempts if a.running]
        late = [a for a in under_way if now >= a.deadline or now >= due]
        # The loop's clock counts milliseconds: the time of the first to end has come, whatever ours says.
        for attempt in late or sorted(under_way, key=lambda a: a.deadline)[:1]:
            race.stop(attempt.number)
            attempt.end(now, TimedOut(f"'{attempt.rung.name}' took longer than {now - attempt.started:.1f} s"))
    return None


async def _judge(story: Story, attempt: AttemptStory) -> None:
    clock = story.setup.clock
    started = clock()
    weighed = story.plan.agreement == "weighed" and weighs(story, attempt)  # then `weigh` will say how sure
    soft = attempt.purpose not in OPINIONS and not weighed  # a second opinion need not be sure of itself
    found = judgement(
        validators_for(story, attempt.rung, soft=soft), attempt.gate.fold.drafts(), ask_of(story, attempt.rung)
    )
    attempt.verdict, attempt.verdicts = found if isinstance(found, tuple) else await found
    attempt.known = attempt.probability
    if story.plan.compares:
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
        attempt.verdict, attempt.verdicts, attempt.known = failed, [failed], attempt.probability
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
            event = await race.more(idle, _through(story, winner, race, idle, sink, gone))
        finally:  # also when the caller leaves: the Record tells what he got
            _went(winner, gone)
    if isinstance(event, Came):
        if lags:
            return _flow(story, winner, race, event.chunks)
        if race.take_end():
            winner.end(story.setup.clock())
        winner.chunks += len(event.chunks)
        return winner.gate.pass_on(event.chunks)
    error = event.error if event is not None else TimedOut(f"'{winner.rung.name}' stopped sending", phase="idle")
    winner.end(story.setup.clock(), error)
    if event is None:
        race.stop(winner.number)
    if error is not None:
        raise upstream(error, tried=len(story.attempts))
    return await _last(story, winner) if winner.gate.lags else []


def _through(story: Story, winner: AttemptStory, race: Race, idle: float, sink: Sink, gone: list[Chunk]) -> Sink:
    """What is done to chunks about which nothing is left to decide: `sink` gets them, which gives the next `idle` seconds more, and they
    are folded, the last of them by `_went`."""
    time = race.deadlines.loop.time

    def through(chunks: Sequence[Chunk]) -> bool:
        if not sink(chunks if len(chunks) == 1 and chunks[0].logprobs is None else _shown(story, chunks)):
            return False
        race.until = time() + idle
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
