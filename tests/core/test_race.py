"""Attempts side by side: order, stopping, back-pressure, failures, cancellation."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

import pytest

from backends._steps import Steps
from gateway.race import Came, Deadlines, Ended, Race
from wire.errors import BackendError, Broken, Overloaded
from wire.types import Chunk, Sink

AGES = 30.0
"""Seconds: longer than any of these tests takes."""


def chunk(text: str) -> Chunk:
    return Chunk(delta={"content": text})


class Source:
    """A backend's stream: `texts`, then `end`; it tells how far it was read and whether it was closed."""

    def __init__(
        self, *texts: str, end: BaseException | None = None, hang: bool = False, closing: Exception | None = None
    ) -> None:
        self.texts = texts
        self.end = end
        self.hang = hang
        self.closing = closing
        self.given = 0
        self.closed = False

    async def stream(self) -> AsyncGenerator[Chunk, None]:
        try:
            for text in self.texts:
                self.given += 1
                yield chunk(text)
            if self.hang:
                await asyncio.sleep(AGES)
            if self.end is not None:
                raise self.end
        finally:
            self.closed = True
            if self.closing is not None:
                raise self.closing


def race(body: Callable[[Race], Awaitable[None]], size: int = 64) -> None:
    """Runs `body` with a race in a task group, as the surface does. It must end by itself."""

    async def run() -> None:
        async with asyncio.timeout(AGES):
            async with asyncio.TaskGroup() as group:
                await body(Race(group, size=size))

    asyncio.run(run())


async def turns(number: int = 20) -> None:
    """Lets the others run."""
    for _ in range(number):
        await asyncio.sleep(0)


def test_events_come_in_order() -> None:
    """Of one attempt: its chunks in their order, then that it ended; then nothing more."""
    source = Source("a", "b")

    async def body(race: Race) -> None:
        race.start(0, source.stream())
        told = [await race.event(AGES) for _ in range(3)]
        assert told == [Came(0, [chunk("a")]), Came(0, [chunk("b")]), Ended(0)]
        assert await race.event(0.01) is None
        assert source.closed

    race(body)


def test_attempts_run_side_by_side() -> None:
    """Two at once: the events of both come, each with its number and in its own order, and a slow one keeps no other waiting."""
    slow, fast = Source("s", hang=True), Source("a", "b", "c")

    async def body(race: Race) -> None:
        race.start(0, slow.stream())
        race.start(1, fast.stream())
        told = [await race.event(AGES) for _ in range(5)]
        assert [event for event in told if event and event.number == 1] == [
            *(Came(1, [chunk(text)]) for text in "abc"),
            Ended(1),
        ]
        assert Came(0, [chunk("s")]) in told
        race.stop(0)

    race(body)
    assert slow.closed


@pytest.mark.parametrize("error", [Overloaded("busy", retry_after=2.0), BackendError("no")])
def test_a_backend_error_is_an_event(error: BackendError) -> None:
    """A missing answer ends the attempt with the very error; what came before it is not lost."""

    async def body(race: Race) -> None:
        race.start(0, Source("a", end=error).stream())
        assert await race.event(AGES) == Came(0, [chunk("a")])
        event = await race.event(AGES)
        assert isinstance(event, Ended)
        assert event.error is error

    race(body)


@pytest.mark.parametrize("error", [ValueError("the prompt: SECRET"), KeyError("SECRET"), TimeoutError("SECRET")])
def test_any_other_exception_is_broken(error: Exception) -> None:
    """A backend that breaks its contract is one that did not answer: Broken, naming the exception's class and never its text."""

    async def body(race: Race) -> None:
        race.start(0, Source(end=error).stream())
        event = await race.event(AGES)
        assert isinstance(event, Ended)
        assert isinstance(event.error, Broken)
        assert type(error).__name__ in event.error.message
        assert "SECRET" not in event.error.message

    race(body)


def test_stop_silences_and_closes() -> None:
    """Nothing of a stopped attempt comes out any more, not even what had come already, and its generator is closed."""
    stopped, other = Source("a", "b", hang=True), Source("x")

    async def body(race: Race) -> None:
        race.start(0, stopped.stream())
        await turns()
        assert stopped.given == 2
        race.stop(0)
        race.start(1, other.stream())
        assert await race.event(AGES) == Came(1, [chunk("x")])
        assert await race.event(AGES) == Ended(1)
        assert await race.event(0.01) is None
        assert stopped.closed

    race(body)


def test_stopping_what_does_not_run_is_nothing() -> None:
    """An attempt that ended, was stopped before, or never was."""

    async def body(race: Race) -> None:
        race.start(0, Source("a").stream())
        assert [await race.event(AGES), await race.event(AGES)] == [Came(0, [chunk("a")]), Ended(0)]
        race.stop(0)
        race.stop(0)
        race.stop(7)

    race(body)


def test_stopped_before_it_ran() -> None:
    """Started and stopped in one breath: the source is never read."""
    source = Source("a")

    async def body(race: Race) -> None:
        race.start(0, source.stream())
        race.stop(0)
        await turns()
        assert source.given == 0

    race(body)


def test_a_source_whose_task_never_ran_is_closed() -> None:
    """An attempt that ran alone and has begun gets a task as a second one starts. Both end before their first turn: its upstream must not
    be held for ever, and nobody but the race knows it."""

    async def body(race: Race) -> None:
        first = Poured()
        race.start(0, first.stream(), alone=True)
        await race.event(AGES)
        race.start(1, Source("a").stream())
        await race.close()
        assert first.closed

    alone(body)


def test_a_fast_source_is_not_read_beyond_the_bound() -> None:
    """Back-pressure: with room for four, at most one more is held; every read makes room, and nothing is lost."""
    source = Source(*map(str, range(100)))

    async def body(race: Race) -> None:
        race.start(0, source.stream())
        await turns(300)
        assert source.given == 5
        for number in range(100):
            assert await race.event(AGES) == Came(0, [chunk(str(number))])
            await turns(3)
            assert source.given <= number + 6
        assert await race.event(AGES) == Ended(0)

    race(body, size=4)


def test_waiting_has_an_end() -> None:
    """None after so many seconds, also none at all or fewer; what is there already comes first, and nothing is lost by waiting."""

    async def body(race: Race) -> None:
        for seconds in (0.01, 0.0, -1.0):
            assert await race.event(seconds) is None
        race.start(0, Source("a").stream())
        await turns()
        assert await race.event(0.0) == Came(0, [chunk("a")])
        assert await race.event(-1.0) == Ended(0)

    race(body)


def test_the_caller_leaves() -> None:
    """The group is cancelled: every generator is closed, the one that hangs and the one that waits for room in the queue."""
    sources = [Source("a", hang=True), Source(*"abcdefgh"), Source(hang=True)]

    class Left(Exception):
        pass

    async def body(race: Race) -> None:
        for number, source in enumerate(sources):
            race.start(number, source.stream())
        await turns()
        raise Left

    with pytest.raises(ExceptionGroup) as caught:
        race(body, size=2)
    assert caught.group_contains(Left)
    assert all(source.closed for source in sources)


def test_the_group_waits_until_a_source_is_closed() -> None:
    """Closing may take its time (an upstream is told): when the group has ended, it is done, also for a source that waited for room."""
    done = []

    async def slow_to_close() -> AsyncGenerator[Chunk, None]:
        try:
            while True:
                yield chunk("a")
        finally:
            await turns()
            done.append(True)

    async def run() -> None:
        async with asyncio.timeout(AGES), asyncio.TaskGroup() as group:
            made = Race(group, size=2)
            made.start(0, slow_to_close())
            await turns()
            made.stop(0)
        assert done == [True]

    asyncio.run(run())


@pytest.mark.parametrize("closing", [ValueError("on the way out"), Overloaded("on the way out")])
def test_a_backend_that_raises_while_it_is_closed(closing: Exception) -> None:
    """It cannot keep the request's task group open: not after a stop, and not when the group is cancelled, with a full queue."""
    source, other = Source(*"abc", hang=True, closing=closing), Source(*"abc", hang=True, closing=closing)

    async def body(race: Race) -> None:
        race.start(0, source.stream())
        await turns()
        race.stop(0)
        race.start(1, other.stream())
        await turns()
        raise LookupError

    with pytest.raises(ExceptionGroup) as caught:
        race(body, size=2)
    assert caught.group_contains(LookupError)
    assert source.closed
    assert other.closed


def test_stop_all_lets_the_group_end() -> None:
    """Nobody reads any more: after `stop_all` even an attempt that waits for room in the queue ends, and the group with it."""
    sources = [Source(*map(str, range(100))), Source(hang=True)]

    async def body(race: Race) -> None:
        for number, source in enumerate(sources):
            race.start(number, source.stream())
        await turns()
        race.stop_all()

    race(body, size=2)
    assert all(source.closed for source in sources)
    assert sources[0].given == 3


def alone(body: Callable[[Race], Awaitable[None]]) -> None:
    """As `race`, ended as the surface ends it."""

    async def closing(made: Race) -> None:
        try:
            await body(made)
        finally:
            if not made.over:
                await made.close()

    race(closing)


@pytest.mark.parametrize("error", [None, Overloaded("busy"), ValueError("SECRET")])
def test_one_that_runs_alone_is_read_when_somebody_waits(error: Exception | None) -> None:
    """The same events as of any attempt, and nothing is read ahead."""
    source = Source("a", "b", end=error)

    async def body(race: Race) -> None:
        race.start(0, source.stream(), alone=True)
        await turns()
        assert (source.given, race.alone is not None) == (0, True)
        assert [await race.event(AGES), await race.event(AGES)] == [Came(0, [chunk("a")]), Came(0, [chunk("b")])]
        ended = await race.event(AGES)
        assert isinstance(ended, Ended)
        assert type(ended.error) is (Broken if isinstance(error, ValueError) else type(error))
        assert "SECRET" not in str(ended.error)
        assert await race.event(0.01) is None

    alone(body)
    assert source.closed


def test_one_that_runs_alone_and_is_late() -> None:
    """None after so many seconds; its source is closed then, and the task that waited was not cancelled for good."""
    source = Source("a", hang=True)

    async def body(race: Race) -> None:
        race.start(0, source.stream(), alone=True)
        assert await race.event(AGES) == Came(0, [chunk("a")])  # a later, earlier end counts
        assert await race.event(0.01) is None
        assert source.closed
        race.stop(0)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        race.start(1, Source("b").stream(), alone=True)
        assert await race.event(AGES) == Came(1, [chunk("b")])

    alone(body)


@pytest.mark.parametrize("error", [None, Overloaded("busy"), ValueError("SECRET")])
def test_the_rest_of_one_that_runs_alone(error: Exception | None) -> None:
    """All its chunks and its end at once, and it has ended then."""
    source = Source("a", "b", end=error)

    async def body(race: Race) -> None:
        race.start(3, source.stream(), alone=True)
        chunks: list[Chunk] = []
        ended = await race.rest(AGES, chunks)
        assert isinstance(ended, Ended)
        assert (ended.number, chunks) == (3, [chunk("a"), chunk("b")])
        assert type(ended.error) is (Broken if isinstance(error, ValueError) else type(error))
        assert not race.alone

    alone(body)
    assert source.closed


def test_the_rest_of_one_that_is_late() -> None:
    """No end after so many seconds: what came before is kept, and its source is closed."""
    source = Source("a", hang=True)

    async def body(race: Race) -> None:
        race.start(0, source.stream(), alone=True)
        chunks: list[Chunk] = []
        assert await race.rest(0.01, chunks) is None
        assert (chunks, source.closed) == ([chunk("a")], True)

    alone(body)


def test_a_second_attempt_beside_one_that_runs_alone() -> None:
    """Then both run side by side, and nothing of the first is lost."""
    first, second = Source("a", "b"), Source("x", hang=True)

    async def body(race: Race) -> None:
        race.start(0, first.stream(), alone=True)
        assert await race.event(AGES) == Came(0, [chunk("a")])
        race.start(1, second.stream(), alone=True)
        assert not race.alone
        told = [await race.event(AGES) for _ in range(3)]
        assert [event for event in told if event and event.number == 0] == [Came(0, [chunk("b")]), Ended(0)]
        assert Came(1, [chunk("x")]) in told

    alone(body)
    assert second.closed


@pytest.mark.parametrize("waiting", [True, False])
def test_the_caller_leaves_one_that_runs_alone(waiting: bool) -> None:
    """Cancelled while it is read, or while a piece of it goes out: its source is closed when the group has ended."""
    source = Source("a", hang=True)

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            made = Race(group)
            try:
                made.start(0, source.stream(), alone=True)
                await made.event(AGES)
                await (made.event(AGES) if waiting else asyncio.sleep(AGES))
            finally:
                await made.close()

    async def outer() -> None:
        async with asyncio.timeout(AGES):
            async with asyncio.TaskGroup() as group:
                task = group.create_task(run())
                await turns()
                task.cancel()
            assert task.cancelled()
            assert source.closed

    asyncio.run(outer())


def test_stopping_one_that_runs_alone_closes_it() -> None:
    """Between two of its pieces, also when it raises on its way out."""
    source = Source("a", "b", closing=ValueError("on the way out"))

    async def body(race: Race) -> None:
        race.start(0, source.stream(), alone=True)
        assert await race.event(AGES) == Came(0, [chunk("a")])
        race.stop(0)
        await turns()
        assert source.closed
        assert await race.event(0.01) is None

    alone(body)


class Clock:
    """A loop's clock that the test turns, and its timers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.made = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        timer = (when, call)
        self.timers.append(timer)
        self.made += 1
        clock = self

        class Handle:
            def cancel(self) -> None:
                clock.timers.remove(timer)

        return Handle()  # type: ignore[return-value]

    def until(self, now: float) -> None:
        """Let time pass to `now`, and call what comes due on the way."""
        while due := [timer for timer in self.timers if timer[0] <= now]:
            timer = min(due, key=lambda timer: timer[0])
            self.timers.remove(timer)
            self.now = max(self.now, timer[0])
            timer[1]()
        self.now = now


class Late:
    """In a race's place: tells when it was late."""

    def __init__(self, clock: Clock, told: list[tuple[str, float]], name: str) -> None:
        self._clock, self._told, self._name = clock, told, name

    def expire(self) -> None:
        self._told.append((self._name, self._clock.now))


def test_what_is_over_leaves_nothing() -> None:
    """Nothing to close and no deadline; what still runs, alone or beside another, is not over, and only the one alone has a deadline."""

    async def body(race: Race) -> None:
        until = race.deadlines.until
        assert race.over
        race.start(0, Source("a", "b").stream(), alone=True)
        assert not race.over
        assert await race.event(AGES) == Came(0, [chunk("a")])
        assert set(until) == {race}
        chunks: list[Chunk] = []
        assert await race.rest(AGES, chunks) == Ended(0)
        assert chunks == [chunk("b")]
        assert race.over
        assert not until
        race.start(1, Source("c", hang=True).stream(), alone=True)
        assert await race.event(AGES) == Came(1, [chunk("c")])
        race.start(2, Source("d", hang=True).stream())
        assert not race.over
        assert not until
        await race.close()

    race(body)


def test_races_share_one_timer() -> None:
    """Each is late in its own time, in whatever order they were set; a wait that began anew counts anew; what is over is never late."""
    clock = Clock()
    told: list[tuple[str, float]] = []
    deadlines = Deadlines()
    deadlines.__dict__["loop"] = clock
    races = {name: Late(clock, told, name) for name in "abcde"}
    for name, seconds in (("a", 60.0), ("b", 20.0), ("c", 10.0), ("d", 30.0), ("e", -1.0)):
        deadlines.set(races[name], seconds)  # type: ignore[arg-type]
        assert len(clock.timers) == 1
    clock.until(5)
    assert told == [("e", 0.0)]
    del deadlines.until[races["c"]]  # type: ignore[arg-type]
    deadlines.set(races["b"], 20.0)  # type: ignore[arg-type]
    clock.until(100)
    assert told[1:] == [("b", 25.0), ("d", 30.0), ("a", 60.0)]
    assert clock.timers == []


def test_a_timer_for_many() -> None:
    """While requests come and go in time, none sets a timer of its own."""
    clock = Clock()
    deadlines = Deadlines()
    deadlines.__dict__["loop"] = clock
    for at in range(1000):
        clock.until(at / 10)
        race = Late(clock, [], "")
        deadlines.set(race, 60.0)  # type: ignore[arg-type]
        del deadlines.until[race]  # type: ignore[arg-type]
    assert clock.made <= 3
    assert deadlines.until == {}


class Poured:
    """A source that can be read in steps: it offers each to the sink it was lent, and tells which the sink did not take."""

    def __init__(self, *steps: str, pause: float = 0.0, hang: bool = False) -> None:
        self.steps = steps
        self.pause = pause
        self.hang = hang
        self.closed = False

    def stream(self) -> Steps:
        return Steps(self._steps())

    async def _steps(self) -> AsyncGenerator[list[Chunk], Sink | None]:
        try:
            sink = yield [chunk("first")]
            for texts in self.steps:
                await asyncio.sleep(self.pause)
                step = [chunk(text) for text in texts]
                if sink is None or not sink(step):
                    sink = yield step
            if self.hang:
                await asyncio.sleep(AGES)
        finally:
            self.closed = True


def test_more_is_all_that_came_together() -> None:
    """In steps where the backend has them, else chunk by chunk; then the end. Also of one that no longer runs alone."""

    async def body(race: Race) -> None:
        race.start(0, Poured("ab", "c").stream(), alone=True)
        assert await race.event(AGES) == Came(0, [chunk("first")])
        assert await race.more(AGES) == Came(0, [chunk("a"), chunk("b")])
        assert await race.more(AGES) == Came(0, [chunk("c")])
        assert await race.more(AGES) == Ended(0)
        race.start(1, Source("a", end=Overloaded("busy")).stream(), alone=True)
        assert await race.more(AGES, lambda chunks: True) == Came(1, [chunk("a")])
        ended = await race.more(AGES)
        assert isinstance(ended, Ended)
        assert isinstance(ended.error, Overloaded)

    async def beside(race: Race) -> None:
        race.start(0, Poured("ab").stream())
        told = [await race.more(AGES, lambda chunks: True) for _ in range(4)]
        assert told == [*(Came(0, [chunk(text)]) for text in ("first", "a", "b")), Ended(0)]

    alone(body)
    race(beside)


def test_the_rest_in_steps() -> None:
    """All that came together and all that came after it, in order, up to the end; also where the first chunk was read alone."""

    async def body(race: Race) -> None:
        for first in (False, True):
            source = Poured("ab", "c")
            race.start(0, source.stream(), alone=True)
            chunks: list[Chunk] = []
            if first:
                event = await race.event(AGES)
                assert isinstance(event, Came)
                chunks.extend(event.chunks)
            assert await race.rest(AGES, chunks) == Ended(0)
            assert chunks == [chunk("first"), chunk("a"), chunk("b"), chunk("c")]
            assert source.closed
            assert not race.alone

    alone(body)


def test_an_end_that_is_known_need_not_be_asked_for() -> None:
    """A source that says with its last chunks that it is over is so at once; of one that does not, the end has to be waited for."""

    async def begin(steps: Steps) -> Sequence[Chunk]:
        steps.over = True
        return [chunk("a"), chunk("b")]

    async def body(race: Race) -> None:
        race.start(0, Steps(begin=begin), alone=True)
        assert not race.take_end()
        assert await race.more(AGES) == Came(0, [chunk("a"), chunk("b")])
        assert race.take_end()
        assert race.over
        assert not race.deadlines.until
        assert not race.take_end()
        race.start(1, Poured().stream(), alone=True)
        assert await race.more(AGES) == Came(1, [chunk("first")])
        assert not race.take_end()
        assert await race.more(AGES) == Ended(1)

    alone(body)


def test_a_sink_hears_what_nobody_waits_for() -> None:
    """It gets the steps in their order; the first that it does not take comes out, and nothing is lost or told twice."""
    heard: list[Chunk] = []

    def sink(chunks: Sequence[Chunk]) -> bool:
        if chunk("no") in chunks or len(heard) > 3:
            return False
        heard.extend(chunks)
        return True

    async def body(race: Race) -> None:
        race.start(0, Poured("ab", "c", "d", "e").stream(), alone=True)
        assert await race.event(AGES) == Came(0, [chunk("first")])
        assert await race.more(AGES, sink) == Came(0, [chunk("e")])
        assert heard == [chunk(text) for text in "abcd"]
        assert await race.more(AGES, sink) == Ended(0)

    alone(body)


def test_what_a_sink_hears_gives_more_time() -> None:
    """Late is what lets the sink wait for so many seconds, not who waits for it; and a shorter wait later on is as long as it says."""
    heard: list[Chunk] = []
    source = Poured(*"abcdefgh", pause=0.1, hang=True)

    async def body(race: Race) -> None:
        def sink(chunks: Sequence[Chunk]) -> bool:
            heard.extend(chunks)
            race.until = asyncio.get_running_loop().time() + 0.5
            return True

        race.start(0, source.stream(), alone=True)
        assert await race.event(AGES) == Came(0, [chunk("first")])
        assert await race.more(0.5, sink) is None
        assert heard == [chunk(text) for text in "abcdefgh"]
        assert source.closed
        race.stop(0)
        race.start(1, Poured("a", hang=True).stream(), alone=True)
        assert await race.event(AGES) == Came(1, [chunk("first")])
        assert await race.more(0.01, lambda chunks: True) is None

    alone(body)
