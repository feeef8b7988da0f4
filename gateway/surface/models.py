"""The model endpoints: bytes in, one answer out, whatever the dialect."""

import asyncio
import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any

import orjson

from gateway.access import keys as access
from gateway.access.limits import Limits
from gateway.dialects import chat, fields
from gateway.dialects.base import Caller, Dialect, Stamp, Writer
from gateway.fold import Fold
from gateway.log import Log, where
from gateway.pipeline import Opening, answer, opened
from gateway.race import Deadlines, Race
from gateway.record import Facts, Record, Seconds
from gateway.setup import Live, Setup
from gateway.story import Story
from gateway.surface.exchange import ClientLeft, Exchange, Presence, Standing
from gateway.validators.fits_schema import SchemaError, compile_schema
from wire import jsontext, strict, traceparent
from wire.errors import BadRequest, NoAnswer, Replayed, WeirError
from wire.traceparent import Trace
from wire.types import Asked, Chunk

SSE_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
KEEPALIVE = b": keep-alive\n\n"
REQUEST_ID = re.compile(r"^[A-Za-z0-9._:-]{1,128}$")


class Door:
    """One model endpoint: the dialect that is spoken there, and the line behind it."""

    def __init__(self, live: Live, dialect: Dialect, limits: "LimitsOf", log: Log) -> None:
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
        trace = None if live.sample is None else trace_of(live, exchange)
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
                check_constraint(asked, setup, self._dialect.schema_param)
            story = Story(setup, asked, request_id, setup.clock(), setup.now())
            story.accept_seconds = accept
            story.parse_seconds = story.started - started
            story.credential = partial(setup.keys.foreign, exchange.headers)
            story.trace = trace
            await self._answer(exchange, story, told)
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

    async def _answer(self, exchange: Exchange, story: Story, told: dict[str, str]) -> None:
        stamp = self._stamp(exchange, story)
        writer = self._dialect.writer(story.asked, stamp) if story.asked.wants.stream else None
        async with Presence(exchange) as group:
            race = Race(group, self._deadlines, group.host)
            keeper = None
            if writer is not None and (after := story.setup.edge.keepalive_after):
                keeper = group.create_task(_keep_alive(exchange, story, told, after))
            try:
                if writer is not None:
                    await self._deliver(exchange, story, race, told, keeper, stamp, writer)
                else:
                    begun = await opened(self._live, story, race)
                    if story.complete and begun.whole is not None:  # as nearly all of them end
                        data = self._dialect.whole(story.asked, stamp, begun.whole)
                        if self._keep is not None:
                            await self._keep(story, data)
                        standing, own = _how(story)
                        waits = exchange.put(200, data, {**told, **own} if own else told, standing)
                        if waits is not None:
                            await waits
                    else:
                        await self._deliver(exchange, story, race, told, keeper, stamp, None, begun)
            except WeirError as error:
                if keeper is not None:
                    keeper.cancel()
                log_cause(self._log, story.id, error)
                await self._refuse(exchange, error, _told(story, told), None if story.verbatim else writer)
            finally:
                if keeper is not None:
                    keeper.cancel()
                if not race.over:
                    await race.close()

    async def _deliver(
        self,
        exchange: Exchange,
        story: Story,
        race: Race,
        told: dict[str, str],
        keeper: asyncio.Task[None] | None,
        stamp: Stamp,
        writer: Writer | None,
        begun: Opening | None = None,
    ) -> None:
        """An answer that comes in pieces. begun: how it has begun, of one that is wanted whole."""
        asked = story.asked
        responder = exchange.responder
        sink = None if responder is None or writer is None else responder.pour(writer.feed)
        line = answer(self._live, story, race, sink, begun)
        try:
            opening = await anext(line)
            assert isinstance(opening, Opening)
            headers = _told(story, told)
            if story.verbatim:
                await self._pass_through(exchange, line, {**headers, **opening.head}, asked.wants.stream)
            elif writer is not None:
                if keeper is not None:
                    keeper.cancel()
                if not exchange.started:
                    await exchange.stream({**SSE_HEADERS, **headers})
                async for chunks in line:
                    assert not isinstance(chunks, Opening)
                    if data := b"".join(map(writer.feed, chunks)):
                        await exchange.more(data)
                last = writer.end()
                if self._keep is not None:
                    await self._keep(story, writer)
                await exchange.end(last)
            else:
                whole = opening.whole or Fold(native=[])
                async for chunks in line:
                    assert not isinstance(chunks, Opening)
                    for chunk in chunks:
                        whole.add(chunk)
                data = self._dialect.whole(asked, stamp, whole)
                if self._keep is not None:
                    await self._keep(story, data)
                await exchange.whole(200, data, headers)
        finally:
            await line.aclose()

    async def _pass_through(
        self,
        exchange: Exchange,
        line: AsyncGenerator[Opening | Sequence[Chunk], None],
        headers: dict[str, str],
        stream: bool,
    ) -> None:
        """The upstream's bytes as they came. The last piece waits until the Record is told."""
        if not stream:
            raws = [chunk.raw async for chunks in line if not isinstance(chunks, Opening) for chunk in chunks]
            await exchange.whole(200, b"".join(raws), headers)
            return
        await exchange.stream({**SSE_HEADERS, **headers})
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


async def admitted(
    live: Live, setup: Setup, limits: "LimitsOf", exchange: Exchange, told: dict[str, str]
) -> tuple[access.Caller, bytes, Any]:
    """`admit`, then the body: a stranger's bytes are not even read. The caller, the body as it came, and decoded. Raises WeirError,
    ClientLeft."""
    caller = admit(live, setup, limits, exchange, told)
    raw = await exchange.body(setup.edge.body_bytes)
    return caller, raw, decoded(raw)


def admit(live: Live, setup: Setup, limits: "LimitsOf", exchange: Exchange, told: dict[str, str]) -> access.Caller:
    """Access, then limits. The caller; what the limits have to say goes into `told`. Raises WeirError."""
    keys, head = setup.keys, exchange.head
    if head is None:
        caller = keys.check(exchange.headers)
    elif head.found is not None and head.found[0] is keys:
        caller = head.found[1]
    else:
        caller = keys.check(exchange.headers)
        head.found = (keys, caller)
    told.update(limits.now.admit(caller, exchange.headers, setup.clock()))
    if live.in_flight > setup.edge.in_flight:
        raise NoAnswer(
            "too many requests at once (limits.in_flight)",
            status=503,
            code="overloaded",
            type="service_unavailable_error",
            headers={"retry-after": "1"},
        )
    return caller


def decoded(raw: bytes) -> Any:
    """Raises BadRequest."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        return _mended(raw, exc)


def _mended(raw: bytes, error: orjson.JSONDecodeError) -> Any:
    """Agents cut strings in the middle of an emoji and send the lone half as an escape: that is read as U+FFFD, not refused.
    Raises BadRequest, for what is wrong otherwise."""
    if b"\\ud" in raw or b"\\uD" in raw:
        with suppress(ValueError):
            raw.decode()  # what is no UTF-8 is refused all the same
            return jsontext.parse(raw)
    raise BadRequest(
        f"the request body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})",
        param="body",
        code="invalid_json",
    ) from error


class LimitsOf:
    """The limits in force; a reload puts new ones in their place."""

    def __init__(self, limits: Limits) -> None:
        self.now = limits


def request_id_of(exchange: Exchange) -> str:
    """The caller's `x-request-id` when it is a sane one, else a new one."""
    given = exchange.headers.get("x-request-id", "")
    return given if given and REQUEST_ID.match(given) else f"req_{_ids.pop() if _ids else _drawn()}"


_ids: list[str] = []
_IDS = 64


def _drawn() -> str:
    """24 random hex digits. The kernel is asked for those of many requests at once: 1.1 us instead of 3.0 in a running server."""
    digits = secrets.token_hex(12 * _IDS)
    _ids.extend([digits[at : at + 24] for at in range(0, len(digits), 24)])
    return _ids.pop()


def trace_of(live: Live, exchange: Exchange) -> Trace | None:
    """Where the request stands in a trace; None when tracing is off."""
    if live.sample is None:
        return None
    return traceparent.begin(exchange.headers.get("traceparent", ""), secrets.token_hex(24), live.sample)


def check_constraint(asked: Asked, setup: Setup, param: str = chat.schema_param) -> None:
    """A schema that no one could check is refused before anything is asked. Raises BadRequest."""
    wanted = asked.constraint
    if wanted is None or wanted.kind != "schema":
        return
    edge = setup.edge
    written = wanted.written or fields.written(wanted.value, param)
    found = (written, wanted.strict, edge.schema_depth, edge.schema_bytes)
    if found in _well:
        return
    _check(wanted.value, written, wanted.strict, edge.schema_depth, edge.schema_bytes, param)
    if len(written) <= _KEPT:
        if len(_well) >= _MOST_KEPT:
            del _well[next(iter(_well))]
        _well[found] = None


_KEPT = 2**15
"""Bytes of a schema that is remembered to be well."""
_MOST_KEPT = 256
_well: dict[tuple[bytes, bool, int, int], None] = {}
"""Schemas and the limits that they were within, the oldest first: a task sends the same one each time (0.3 us instead of 4.3)."""


def _check(value: Any, written: bytes, strictly: bool, depth: int, most: int, param: str) -> None:
    if deeper(value, depth):
        raise BadRequest(f"the schema is nested deeper than {depth} levels (limits.schema_depth)", param=param)
    if len(written) > most:
        raise BadRequest(f"the schema is larger than {most} bytes (limits.schema_bytes)", param=param)
    if strictly and (why := strict.outside(value)):
        raise BadRequest(
            f"invalid schema for strict mode: {why} (field: {param})", param=param, code="invalid_json_schema"
        )
    try:
        compile_schema(value)
    except SchemaError as exc:
        raise BadRequest(f"{exc} (field: {param})", param=param, code="invalid_json_schema") from exc


def deeper(value: object, levels: int) -> bool:
    """Is `value` nested deeper than `levels`?"""
    layer: list[object] = [value]
    for _ in range(levels):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not layer:
            return False
    return any(isinstance(rest, (dict, list)) for rest in layer)


async def _keep_alive(exchange: Exchange, story: Story, told: dict[str, str], after: float) -> None:
    """Sends the 200 and comments while the gate is shut, so that nobody in between gives up. Escalation stays possible."""
    await asyncio.sleep(after)
    while not story.verbatim:
        if not exchange.started:
            await exchange.stream({**SSE_HEADERS, **told})
        await exchange.more(KEEPALIVE)
        await asyncio.sleep(after)


def _told(story: Story, told: Mapping[str, str]) -> dict[str, str]:
    """`told`, and `_how`."""
    standing, own = _how(story)
    return {**told, **standing.headers, **own}


def _how(story: Story) -> tuple[Standing, dict[str, str]]:
    """What the caller may know of how it was answered: the `x-weir-*` headers, those that many answers have and those of this one."""
    attempt, decision, tried = story.delivered, story.decision, len(story.attempts)
    reason: str | None = decision.reason
    if (tried > 1 or attempt is None or story.degraded) and (rejected := story.rejected()):
        reason = rejected[-1][1] or reason
    standing = _usual(decision.route, tried, reason, story.mode, "" if attempt is None else attempt.rung.name)
    own: dict[str, str] = {}
    if story.asked.dropped and not story.verbatim:
        own["x-weir-dropped"] = ", ".join(story.asked.dropped)
    if attempt is None:
        return standing, own
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
    return standing, own


@lru_cache(maxsize=256)
def _usual(route: str, tried: int, reason: str | None, mode: str, rung: str) -> Standing:
    """What most answers tell: of a configuration's few routes and rungs. "" and None are not told."""
    named = {"x-weir-route": route, "x-weir-attempts": str(tried), "x-weir-reason": reason, "x-weir-mode": mode}
    return Standing.of({name: value for name, value in {**named, "x-weir-rung": rung}.items() if value})


def unanswered(
    setup: Setup,
    dialect: str,
    request_id: str,
    error: WeirError,
    seconds: float,
    trace: Trace | None = None,
    accept: float | None = None,
) -> Record:
    """The Record of a request that never came to the line."""
    return Record(
        id=request_id,
        time=setup.now() - seconds,
        outcome="refused",
        route="",
        mode="",
        reason=error.code or "invalid_request",
        facts=Facts(model=""),
        dialect=dialect,
        status=error.status,
        error=error.code or error.type,
        seconds=Seconds(total=seconds, accept=accept),
        config=setup.digest,
        weir=setup.version,
        trace=trace,
    )


def log_cause(log: Log, request_id: str, error: WeirError) -> None:
    cause = error.__cause__
    if cause is not None and error.status == 500:
        log.event("failure", level="error", id=request_id, type=type(cause).__name__, where=where(cause))
