"""What every endpoint does before it answers: an id for the request, access, limits, the body.

Also what is told of a request that comes no further.
"""

import re
import secrets
from contextlib import suppress
from typing import Any

import orjson

from gateway.access import keys as access
from gateway.access.limits import Limits
from gateway.log import Log, where
from gateway.record import Facts, Record, Seconds
from gateway.setup import Live, Setup
from gateway.surface.exchange import Exchange
from wire import jsontext, traceparent
from wire.errors import BadRequest, NoAnswer, WeirError
from wire.traceparent import Trace

REQUEST_ID = re.compile(r"^[A-Za-z0-9._:-]{1,128}$")


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


def trace_of(exchange: Exchange, sample: float) -> Trace:
    """Where the request stands in a trace. sample: `Live.sample`, where tracing is on."""
    return traceparent.begin(exchange.headers.get("traceparent", ""), secrets.token_hex(24), sample)


class LimitsOf:
    """The limits in force; a reload puts new ones in their place."""

    def __init__(self, limits: Limits) -> None:
        self.now = limits


async def admitted(
    live: Live, setup: Setup, limits: LimitsOf, exchange: Exchange, told: dict[str, str]
) -> tuple[access.Caller, bytes, Any]:
    """`admit`, then the body: a stranger's bytes are not even read. The caller, the body as it came, and decoded. Raises WeirError,
    ClientLeft."""
    caller = admit(live, setup, limits, exchange, told)
    raw = await exchange.body(setup.edge.body_bytes)
    return caller, raw, decoded(raw)


def admit(live: Live, setup: Setup, limits: LimitsOf, exchange: Exchange, told: dict[str, str]) -> access.Caller:
    """Access, then limits. The caller; what the limits have to say goes into `told`. Raises WeirError."""
    keys, head = setup.keys, exchange.head
    if head is not None and head.found is not None and head.found[0] is keys:
        caller = head.found[1]
    else:
        caller = keys.check(exchange.headers)
        if head is not None:
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
