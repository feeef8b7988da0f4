"""The process's log: JSON lines, one object each, to stderr.

    {"time": "2026-11-21T03:43:53.123456Z", "level": "info", "event": "request", "id": ..., "route": ..., ...}

Plain orjson and a thread behind a queue (`gateway.backlog`): measured 1 us a line, structlog 13 us, stdlib logging with json
13 us; and a stderr that nobody reads blocks no request. Until `start` and after `close` lines are written at once. Requests stand in
the order in which they ended, and are told some at a time (`gateway.setup.Live.tell`): a line about the process may stand before
those of requests that ended 10 ms earlier.

What may stand in a line: names from the configuration, ids, counts, seconds, money. Never prompt or answer text and never a
key: values of fields named like secrets are masked, and of foreign log records (uvicorn, asyncio) only the first line is
taken, scrubbed, and of exceptions only type and place, as their messages quote what they choked on.
"""

import logging
import os
import re
import stat
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO

import msgspec
import orjson
from msgspec import Struct, structs

from gateway.backlog import Backlog
from gateway.record import Record

SECRET = frozenset({"authorization", "api_key", "x-api-key", "key", "password", "secret", "token", "cookie"})
"""Fields whose value is never written."""
MASK = "***"
_SCRUB = re.compile(
    r"(?i)(bearer\s+|\b(?:sk|weir)-|(?:api[_-]?key|token|password|secret)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]+"
)
_LONGEST = 500
_PIPE, _FILE = 4096, 2**20
_encode = msgspec.json.Encoder().encode
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
        self._put: Callable[[list[bytes]], int] = self._at_once
        """Takes lines, and says how many it did not."""

    def event(self, name: str, /, *, level: str = "info", **fields: Any) -> None:
        """One line about the process. Raises nothing; a value that JSON does not know becomes the name of its type."""
        if self._off:
            return
        safe = {k: MASK if k.lower() in SECRET and v else v for k, v in fields.items()}
        self.line(_dumps({"time": _moment(self._clock()), "level": level, "event": name, **safe}))

    def requests(self, records: Sequence[Record]) -> None:
        """The one line of each request."""
        if not self._off:
            self.dropped += self._put(access_lines(records))

    def line(self, data: bytes) -> None:
        """One line that is encoded already, newline included. Never waits once `start` was called; raises nothing."""
        if not self._off:
            self.dropped += self._put([data])

    def start(self) -> None:
        """From now on a thread writes. Called once, by the lifespan."""
        self._backlog.start()
        self._put = self._backlog.put_all

    async def close(self, seconds: float = 1.0) -> None:
        """Write what waits, for at most `seconds`."""
        self._put = self._at_once
        self.dropped += await self._backlog.close(seconds)

    def _at_once(self, lines: list[bytes]) -> int:
        self._write(lines)
        return 0

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
            for data in _pieces(lines, _most(stream)):
                stream.write(data)
                stream.flush()
        except (OSError, ValueError, AttributeError):  # broken pipe, closed or no stderr: nobody is left to tell
            return


def _most(stream: BinaryIO) -> int:
    """Bytes that may be written in one go. Several processes write to the same stream, and lines must not get into one another: a file
    takes each write whole, a pipe what PIPE_BUF says. Each write gives the interpreter away and has to wait for it."""
    try:
        return _FILE if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) else _PIPE
    except (OSError, ValueError):  # it is in memory, or closed
        return _PIPE


def _pieces(lines: list[bytes], most: int) -> Iterator[bytes]:
    """Whole lines, at most `most` bytes of them at once where one is not longer."""
    if sum(map(len, lines)) <= most:  # to a file, all
        yield b"".join(lines)
        return
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > most:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    yield b"".join(piece)


class _AccessLine(Struct, frozen=True, omit_defaults=True):
    time: datetime
    level: str
    event: str
    id: str
    route: str
    mode: str
    outcome: str
    reason: str
    served: str
    attempts: int
    status: int
    seconds: float
    input_tokens: int
    output_tokens: int
    cost: float
    escalation: str = ""
    late_verdict: str = ""
    error: str = ""
    tenant: str = ""
    trace_id: str = ""
    span_id: str = ""


def access_lines(records: Sequence[Record]) -> list[bytes]:
    """The log line of each request: where it went, how it ended, how long, how much. No text, newline included. 1.4 us; 2.2 as a dict."""
    lines = []
    for record in records:
        tokens, trace = record.tokens, record.trace
        line = _AccessLine(
            datetime.fromtimestamp(record.time, UTC),
            "info" if record.status < 500 else "error",
            "request",
            record.id,
            record.route,
            record.mode,
            record.outcome,
            record.reason,
            record.served,
            len(record.attempts),
            record.status,
            round(record.seconds.total, 6),
            tokens.input,
            tokens.output,
            record.cost,
            record.escalation,
            record.late_verdict,
            record.error,
            record.tenant,
            trace.id if trace else "",
            trace.span if trace else "",
        )
        try:
            lines.append(_encode(line) + b"\n")
        except (TypeError, ValueError):
            lines.append(_dumps(structs.asdict(line)))
    return lines


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
