"""The process's log: JSON lines, one object each, to stderr.

    {"time": "2026-11-21T03:43:53.123456Z", "level": "info", "event": "request", "id": ..., "route": ..., ...}

Plain orjson and a thread behind a queue (`gateway.backlog`): measured 1 us a line, structlog 13 us, stdlib logging with json
13 us; and a stderr that nobody reads blocks no request. Until `start` and after `close` lines are written at once.

What may stand in a line: names from the configuration, ids, counts, seconds, money. Never prompt or answer text and never a
key: values of fields named like secrets are masked, and of foreign log records (uvicorn, asyncio) only the first line is
taken, scrubbed, and of exceptions only type and place, as their messages quote what they choked on.
"""

import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO

import orjson

from gateway.backlog import Backlog
from gateway.record import Record

SECRET = frozenset({"authorization", "api_key", "x-api-key", "key", "password", "secret", "token", "cookie"})
"""Fields whose value is never written."""
MASK = "***"
_SCRUB = re.compile(
    r"(?i)(bearer\s+|\b(?:sk|weir)-|(?:api[_-]?key|token|password|secret)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]+"
)
_LONGEST = 500
_WHOLE = 4096
_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE


class Log:
    """Where lines go. `limit`: most lines that wait for a slow reader; more are dropped, counted and told later.

    stream: binary; default stderr. off: nothing is written at all. clock: Unix seconds.
    """

    def __init__(
        self,
        stream: BinaryIO | None = None,
        *,
        limit: int = 8192,
        off: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.dropped = 0
        self._told = 0
        self._stream = stream
        self._off = off
        self._clock = clock
        self._backlog: Backlog[bytes] = Backlog(self._write, limit=limit, name="weir-log", every=0.05)

    def event(self, name: str, /, *, level: str = "info", **fields: Any) -> None:
        """One line about the process. Raises nothing; a value that JSON does not know becomes the name of its type."""
        if self._off:
            return
        safe = {k: MASK if k.lower() in SECRET and v else v for k, v in fields.items()}
        self.line(_dumps({"time": _moment(self._clock()), "level": level, "event": name, **safe}))

    def request(self, record: Record) -> None:
        """The one line of a request."""
        if not self._off:
            self.line(access_line(record))

    def line(self, data: bytes) -> None:
        """One line that is encoded already, newline included. Never waits once `start` was called; raises nothing."""
        if self._off:
            return
        if not self._backlog.running:
            self._write([data])
        elif not self._backlog.put(data):
            self.dropped += 1

    def start(self) -> None:
        """From now on a thread writes. Called once, by the lifespan."""
        self._backlog.start()

    async def close(self, seconds: float = 1.0) -> None:
        """Write what waits, for at most `seconds`."""
        self.dropped += await self._backlog.close(seconds)

    def _write(self, lines: list[bytes]) -> None:
        try:
            stream = self._stream if self._stream is not None else sys.stderr.buffer
            if self.dropped > self._told:
                count, self._told = self.dropped - self._told, self.dropped
                note = {
                    "time": _moment(self._clock()),
                    "level": "warning",
                    "event": "log_lines_dropped",
                    "count": count,
                }
                lines = [*lines, _dumps(note)]
            for data in _pieces(lines):
                stream.write(data)
                stream.flush()
        except (OSError, ValueError, AttributeError):  # broken pipe, closed or no stderr: nobody is left to tell
            return


def _pieces(lines: list[bytes]) -> Iterator[bytes]:
    """What a pipe takes whole (PIPE_BUF): several processes write to the same one, and lines must not get into one another."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > _WHOLE:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    yield b"".join(piece)


def access_line(record: Record) -> bytes:
    """The log line of one request: where it went, how it ended, how long, how much. No text, newline included."""
    line: dict[str, Any] = {
        "time": _moment(record.time),
        "level": "info" if record.status < 500 else "error",
        "event": "request",
        "id": record.id,
        "route": record.route,
        "mode": record.mode,
        "outcome": record.outcome,
        "reason": record.reason,
        "served": record.served,
        "attempts": len(record.attempts),
        "status": record.status,
        "seconds": round(record.seconds.total, 6),
        "input_tokens": record.tokens.input,
        "output_tokens": record.tokens.output,
        "cost": record.cost,
    }
    if record.escalation:
        line["escalation"] = record.escalation
    if record.late_verdict:
        line["late_verdict"] = record.late_verdict
    if record.error:
        line["error"] = record.error
    if record.tenant:
        line["tenant"] = record.tenant
    if record.trace:
        line["trace_id"], line["span_id"] = record.trace.id, record.trace.span
    return _dumps(line)


class JsonHandler(logging.Handler):
    """Takes what libraries log and writes it as `event`s of `log`."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # asyncio's exception handler puts reprs of exceptions on the lines after the first.
            first = record.getMessage().partition("\n")[0][:_LONGEST]
            fields: dict[str, Any] = {"logger": record.name, "message": _SCRUB.sub(rf"\1{MASK}", first)}
            if record.exc_info and record.exc_info[1] is not None:
                fields["error"] = type(record.exc_info[1]).__name__
                fields["at"] = where(record.exc_info[1])
            self._log.event("log", level=record.levelname.lower(), **fields)
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """A record that cannot be formatted is told by its place; the standard handler would print its arguments."""
        self._log.event(
            "log", level="error", logger=record.name, message="unformattable", at=[f"{record.filename}:{record.lineno}"]
        )


def where(exc: BaseException, frames: int = 8) -> list[str]:
    """Where `exc` was raised, innermost last: "file.py:12 function". No message and no values."""
    found = traceback.extract_tb(exc.__traceback__)[-frames:]
    return [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in found]


def capture_logging(log: Log, *, level: int = logging.WARNING) -> Callable[[], None]:
    """Route the `logging` of uvicorn, asyncio and everybody else into `log`; uvicorn's access log is switched off.

    uvicorn must be configured with `log_config=None`. Returns a function that puts everything back.
    """
    root = logging.getLogger()
    loud = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error")]
    access = logging.getLogger("uvicorn.access")
    before = [(each, each.handlers[:], each.propagate, each.level, each.disabled) for each in (root, access, *loud)]
    root.handlers[:] = [JsonHandler(log)]
    root.setLevel(level)
    for each in loud:
        each.handlers[:] = []
        each.propagate = True
        each.setLevel(logging.INFO)
    access.handlers[:] = []
    access.disabled = True

    def restore() -> None:
        for each, handlers, propagate, old, disabled in before:
            each.handlers[:], each.propagate, each.disabled = handlers, propagate, disabled
            each.setLevel(old)

    return restore


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _dumps(line: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line, _type_name, _OPTIONS)
    except (TypeError, ValueError):  # a lone surrogate, an integer past 64 bits: the line without its values
        plain = {key: value if isinstance(value, datetime) else ascii(value)[:_LONGEST] for key, value in line.items()}
        return orjson.dumps(plain, None, _OPTIONS)


def _type_name(value: object) -> str:
    return f"<{type(value).__name__}>"
