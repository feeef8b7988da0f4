"""The model endpoints: bytes in, one answer out, whatever the dialect."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from gateway.dialects.base import Caller, Dialect, Stamp, Writer
from gateway.fold import Fold
from gateway.log import Log
from gateway.pipeline import Opening, answer, opened
from gateway.race import Deadlines, Race
from gateway.setup import Live
from gateway.story import Story
from gateway.surface.admission import LimitsOf, admit, decoded, log_cause, request_id_of, trace_of, unanswered
from gateway.surface.exchange import ClientLeft, Exchange
from gateway.surface.headers import HeaderLines
from gateway.surface.presence import Presence
from gateway.surface.schema import check_constraint
from wire.errors import Replayed, WeirError
from wire.types import Asked, Chunk

EVENTS = HeaderLines.of(
    {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no"}
)
KEEPALIVE = b": keep-alive\n\n"


class Door:
    """One model endpoint: the dialect that is spoken there, and the line behind it."""

    def __init__(self, live: Live, dialect: Dialect, limits: LimitsOf, log: Log) -> None:
        self._live = live
        self._dialect = dialect
        self._limits = limits
        self._log = log
        self._deadlines = Deadlines()
        self._id_header: str = getattr(dialect, "id_header", "")

    async def __call__(self, exchange: Exchange) -> None:
        live = self._live
        setup = live.setup
        request_id = request_id_of(exchange)
        told = {"x-request-id": request_id, "x-weir-request-id": request_id}
        if self._id_header:
            told[self._id_header] = request_id
        started = setup.clock()
        accept = None if exchange.arrived is None else started - exchange.arrived
        trace = None if live.sample is None else trace_of(exchange, live.sample)
        live.in_flight += 1
        story: Story | None = None
        try:
            caller = admit(live, setup, self._limits, exchange, told)
            raw = exchange.taken(setup.edge.body_bytes)
            if raw is None:
                raw = await exchange.body(setup.edge.body_bytes)
            body = decoded(raw)
            who = Caller(exchange.public_headers(), caller.tenant)
            if self._read is None:
                asked = self._dialect.understand(body, raw, who)
            else:
                asked = await self._read(body, raw, who)
            if asked.constraint is not None:
                check_constraint(asked.constraint, setup.edge, self._dialect.schema_param)
            story = Story(setup, asked, request_id, setup.clock(), setup.now())
            story.accept_seconds = accept
            story.parse_seconds = story.started - started
            story.credential = partial(setup.keys.foreign, exchange.headers)
            story.trace = trace
            await (self._stream if asked.wants.stream else self._whole)(exchange, story, told)
        except WeirError as error:
            seconds = setup.clock() - started
            live.observe(unanswered(setup, self._dialect.name, request_id, error, seconds, trace, accept))
            await self._refuse(exchange, error, told)
        except ClientLeft:
            pass  # before there was a request to tell of
        finally:
            live.in_flight -= 1
            if exchange.started:
                live.wrote(story.decision.route if story else "", exchange.writing)

    _read: Callable[[Any, bytes, Caller], Awaitable[Asked]] | None = None
    """The body in our words. Raises WeirError. A door whose requests build on something that is kept has this ..."""
    _keep: Callable[[Story, bytes | Writer], Awaitable[None]] | None = None
    """... and has this, which sees a complete answer before its last byte goes out: the whole body, or the writer at its end."""

    def _stamp(self, exchange: Exchange, story: Story) -> Stamp:
        id, reasoning = story.id.removeprefix("req_"), story.setup.edge.reasoning_field
        return Stamp(id, int(story.time), story.asked.query.model, reasoning)

    async def _whole(self, exchange: Exchange, story: Story, told: dict[str, str]) -> None:
        """For a caller who wants the answer whole. Nearly always it is complete as it is `opened`."""
        stamp = self._stamp(exchange, story)
        async with Presence(exchange) as group:
            race = Race(group, self._deadlines, group.host)
            try:
                begun = await opened(self._live, story, race)
                if story.complete:
                    usual, own = _how(story)
                    rest: Sequence[Chunk] = ()
                else:
                    usual, own, rest = await _rest(story, answer(self._live, story, race, opening=begun))
                if story.verbatim:
                    raw = b"".join([chunk.raw for chunk in rest])
                    await exchange.whole(200, raw, {**told, **usual.headers, **own, **begun.head})
                    return
                whole = begun.whole or Fold(native=[])
                for chunk in rest:
                    whole.add(chunk)
                data = self._dialect.whole(story.asked, stamp, whole)
                if self._keep is not None:
                    await self._keep(story, data)
                waits = exchange.put(200, data, {**told, **own} if own else told, usual)
                if waits is not None:
                    await waits
            except WeirError as error:
                await self._fail(exchange, story, told, error)
            finally:
                if not race.over:
                    await race.close()

    async def _stream(self, exchange: Exchange, story: Story, told: dict[str, str]) -> None:
        """For a caller who wants the answer as it comes."""
        writer = self._dialect.writer(story.asked, self._stamp(exchange, story))
        sink = None if exchange.responder is None else exchange.responder.pour(writer.feed)
        async with Presence(exchange) as group:
            race = Race(group, self._deadlines, group.host)
            line = answer(self._live, story, race, sink)
            keeper = None
            if after := story.setup.edge.keepalive_after:
                keeper = group.create_task(_keep_alive(exchange, story, told, after))
            try:
                try:
                    opening = await anext(line)
                finally:
                    if keeper is not None:
                        keeper.cancel()
                assert isinstance(opening, Opening)
                usual, own = _how(story)
                if story.verbatim:
                    headers = {**EVENTS.headers, **told, **usual.headers, **own, **opening.head}
                    await _pass_through(exchange, line, headers)
                    return
                if not exchange.started:
                    await exchange.stream({**told, **own} if own else told, EVENTS, usual)
                async for chunks in line:
                    assert not isinstance(chunks, Opening)
                    if data := b"".join(map(writer.feed, chunks)):
                        await exchange.more(data)
                last = writer.end()
                if self._keep is not None:
                    await self._keep(story, writer)
                await exchange.end(last)
            except WeirError as error:
                await line.aclose()  # the Record is told before the last byte
                await self._fail(exchange, story, told, error, None if story.verbatim else writer)
            finally:
                try:
                    await line.aclose()
                finally:
                    if not race.over:
                        await race.close()

    async def _fail(
        self, exchange: Exchange, story: Story, told: dict[str, str], error: WeirError, writer: Writer | None = None
    ) -> None:
        """The request came to the line and gets no answer, or no end of one. writer: of the stream that has begun, or would have."""
        log_cause(self._log, story.id, error)
        usual, own = _how(story)
        await self._refuse(exchange, error, {**told, **usual.headers, **own}, writer)

    async def _refuse(
        self, exchange: Exchange, error: WeirError, told: dict[str, str], writer: Writer | None = None
    ) -> None:
        error.request_id = told["x-request-id"]
        if exchange.started:
            if writer is not None:
                await exchange.end(writer.error(error))
            else:
                await exchange.end(b"event: error\ndata: " + self._dialect.error(error) + b"\n\n")
            return
        data = error.raw if isinstance(error, Replayed) else self._dialect.error(error)
        status = getattr(self._dialect, "status", None)
        code = status(error) if status and not isinstance(error, Replayed) else error.status
        await exchange.whole(code, data, {**told, **error.headers})


async def _rest(
    story: Story, line: AsyncGenerator[Opening | Sequence[Chunk], None]
) -> tuple[HeaderLines, dict[str, str], list[Chunk]]:
    """All chunks of an answer that is wanted whole, and `_how` it was answered, as it stands before them: what a late check says changes
    nothing for the caller. From the first step on, `line` tells the Record whatever happens."""
    try:
        await anext(line)
        usual, own = _how(story)
        return usual, own, [chunk async for chunks in line if not isinstance(chunks, Opening) for chunk in chunks]
    finally:
        await line.aclose()


async def _pass_through(
    exchange: Exchange, line: AsyncGenerator[Opening | Sequence[Chunk], None], headers: Mapping[str, str]
) -> None:
    """The upstream's stream, byte for byte. The last piece waits until the Record is told."""
    if not exchange.started:
        await exchange.stream(headers)
    last = b""
    async for chunks in line:
        assert not isinstance(chunks, Opening)
        out: list[bytes] = []
        for chunk in chunks:
            if last:
                out.append(last)
                last = b""
            if b"[DONE]" in chunk.raw or b"message_stop" in chunk.raw:
                last = chunk.raw
            elif chunk.raw:
                out.append(chunk.raw)
        if out:
            await exchange.more(b"".join(out))
    await exchange.end(last)


async def _keep_alive(exchange: Exchange, story: Story, told: dict[str, str], after: float) -> None:
    """Sends the 200 and comments while the gate is shut, so that nobody in between gives up. Escalation stays possible."""
    await asyncio.sleep(after)
    while not story.verbatim:
        if not exchange.started:
            await exchange.stream(told, EVENTS)
        await exchange.more(KEEPALIVE)
        await asyncio.sleep(after)


def _how(story: Story) -> tuple[HeaderLines, dict[str, str]]:
    """What the caller may know of how it was answered: the `x-weir-*` headers, those that many answers have and those of this one."""
    attempt, decision, tried = story.delivered, story.decision, len(story.attempts)
    reason: str | None = decision.reason
    if (tried > 1 or attempt is None or story.degraded) and (rejected := story.rejected()):
        reason = rejected[-1][1] or reason
    usual = _usual(decision.route, tried, reason, story.mode, "" if attempt is None else attempt.rung.name)
    own: dict[str, str] = {}
    if story.asked.dropped and not story.verbatim:
        own["x-weir-dropped"] = ", ".join(story.asked.dropped)
    if attempt is None:
        return usual, own
    known = attempt.known if attempt.verdict is not None else attempt.probability
    if known is not None:
        own["x-weir-confidence"] = f"{known:.4f}"
    if story.degraded:
        own["x-weir-degraded"] = "true"
    if meta := attempt.gate.fold.meta:
        if meta.get("simulated"):
            own["x-weir-simulated"] = "true"
        if meta.get("tier"):
            own["x-weir-tier"] = str(meta["tier"])
    return usual, own


@lru_cache(maxsize=256)
def _usual(route: str, tried: int, reason: str | None, mode: str, rung: str) -> HeaderLines:
    """What most answers tell: of a configuration's few routes and rungs. "" and None are not told."""
    named = {"x-weir-route": route, "x-weir-attempts": str(tried), "x-weir-reason": reason, "x-weir-mode": mode}
    return HeaderLines.of({name: value for name, value in {**named, "x-weir-rung": rung}.items() if value})
