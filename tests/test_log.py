"""gateway.log: JSON lines without secrets and without text."""

import asyncio
import io
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends._secret import Secret
from gateway.log import JsonHandler, Log, access_lines, capture_logging, where
from gateway.record import AttemptRecord, Facts, Record, Seconds
from tests.waiting import PATIENCE, until
from wire.types import Tokens


def lines(stream: io.BytesIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def captured() -> Iterator[io.BytesIO]:
    stream = io.BytesIO()
    restore = capture_logging(Log(stream, clock=lambda: 0.0))
    yield stream
    restore()


def test_an_event_is_one_json_object() -> None:
    """Time in UTC, level, event, then the fields as they came."""
    stream = io.BytesIO()
    Log(stream, clock=lambda: 1_700_000_000.5).event(
        "config_reloaded", level="warning", hash="abc", routes=3, note="a\nb"
    )
    assert lines(stream) == [
        {
            "time": "2023-11-14T22:13:20.500000Z",
            "level": "warning",
            "event": "config_reloaded",
            "hash": "abc",
            "routes": 3,
            "note": "a\nb",
        }
    ]
    assert stream.getvalue().count(b"\n") == 1


def test_secrets_are_masked() -> None:
    """Fields named like secrets, and secrets themselves, never show their value."""
    stream = io.BytesIO()
    Log(stream).event("x", api_key="sk-hush", Authorization="Bearer hush", cloud=Secret("hush"), tokens=7)
    assert b"hush" not in stream.getvalue()
    assert lines(stream)[0]["tokens"] == 7


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8), st.text() | st.integers() | st.floats() | st.binary() | st.none(), max_size=4
    )
)
def test_whatever_the_fields_an_event_is_one_line(fields: dict[str, Any]) -> None:
    """Surrogates, huge integers, bytes: one line of JSON all the same, and no exception."""
    stream = io.BytesIO()
    Log(stream).event("x", **fields)
    assert stream.getvalue().count(b"\n") == 1
    orjson.loads(stream.getvalue())


def test_off_writes_nothing() -> None:
    """`telemetry.log: off`."""
    stream = io.BytesIO()
    log = Log(stream, off=True)
    log.event("x")
    log.requests([record()])
    assert stream.getvalue() == b""


def record(**more: Any) -> Record:
    facts = Facts(
        model="secret-model-name", tool_names=("secret_tool",), schema_name="secret_schema", session="secret-session"
    )
    base: dict[str, Any] = {
        "id": "req_1", "time": 0.0, "outcome": "escalated", "route": "intents", "mode": "enforce", "reason": "matched",
        "facts": facts, "served": "cloud", "escalation": "low_confidence", "seconds": Seconds(total=1.25),
        "tokens": Tokens(input=10, output=5), "cost": 0.001,
        "attempts": (
            AttemptRecord(number=1, rung="slm", outcome="rejected", reason="low_confidence"),
            AttemptRecord(number=2, rung="cloud", outcome="delivered"),
        ),
    }  # fmt: skip
    return Record(**{**base, **more})


def test_a_request_is_one_line_without_text() -> None:
    """Where it went, how it ended, how long, how much; nothing that the caller wrote."""
    (line,) = access_lines([record()])
    assert orjson.loads(line) == {
        "time": "1970-01-01T00:00:00Z", "level": "info", "event": "request", "id": "req_1", "route": "intents",
        "mode": "enforce", "outcome": "escalated", "reason": "matched", "served": "cloud", "attempts": 2, "status": 200,
        "seconds": 1.25, "input_tokens": 10, "output_tokens": 5, "cost": 0.001, "escalation": "low_confidence",
    }  # fmt: skip
    assert line.endswith(b"\n")
    assert b"secret" not in line
    failed = record(status=503, error="escalation_unavailable", tenant="ops")
    assert orjson.loads(access_lines([failed])[0]).items() >= {
        "level": "error", "error": "escalation_unavailable", "tenant": "ops",
    }.items()  # fmt: skip


def test_what_json_cannot_say_is_a_line_all_the_same() -> None:
    """And the lines beside it are as they are without it."""
    odd, plain = record(route="\ud800"), record(tenant="a\nb\r\u2028\x85")
    first, second, third = access_lines([plain, odd, plain])
    assert "\\ud800" in orjson.loads(second)["route"]
    assert [first, third] == access_lines([plain, plain])
    assert orjson.loads(first)["tenant"] == plain.tenant


class Stuck(io.BytesIO):
    """A pipe that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.let_go = threading.Event(), threading.Event()

    def write(self, data: Any, /) -> int:
        self.entered.set()
        self.let_go.wait(PATIENCE)
        return super().write(data)


def test_a_stuck_stderr_blocks_nobody() -> None:
    """Lines that do not fit are dropped and counted, and told when the reader is back."""
    stream = Stuck()

    async def whole() -> Log:
        log = Log(stream, limit=2)
        log.start()
        log.event("first")
        await until(stream.entered.is_set)
        for _ in range(5):
            log.event("more")
        assert log.dropped == 3
        stream.let_go.set()
        await log.close(PATIENCE)
        return log

    log = asyncio.run(asyncio.wait_for(whole(), 2 * PATIENCE))
    events = [line["event"] for line in lines(stream)]
    assert events == ["first", "more", "more", "log_lines_dropped"]
    assert lines(stream)[-1]["count"] == 3
    log.event("after")
    assert lines(stream)[-1]["event"] == "after"


def test_a_closed_stderr_is_no_error() -> None:
    """Nobody reads any more: the process goes on."""
    stream = io.BytesIO()
    stream.close()
    Log(stream).event("x")


def test_what_libraries_log_comes_out_as_json(captured: io.BytesIO) -> None:
    """uvicorn's lines are events; its access log, which holds query strings, is silent."""
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    logging.getLogger("uvicorn.access").info("GET /?key=hush")
    logging.getLogger("somebody").info("chatter")
    logging.getLogger("somebody").warning("careful")
    assert [(line["logger"], line["level"], line["message"]) for line in lines(captured)] == [
        ("uvicorn.error", "info", "Started server process [7]"),
        ("somebody", "warning", "careful"),
    ]


def test_exceptions_are_told_by_type_and_place_only(captured: io.BytesIO) -> None:
    """An exception's message may quote a prompt: neither logger.exception nor asyncio's handler lets it through."""
    try:
        raise ValueError("the prompt was hush")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application\nhush")
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: <Task ValueError('hush')>")
    first, second = lines(captured)
    assert first["message"] == "Exception in ASGI application"
    assert first["error"] == "ValueError"
    assert first["at"][-1].startswith("test_log.py:")
    assert second["message"] == "Task exception was never retrieved"
    assert b"hush" not in captured.getvalue()


@pytest.mark.parametrize("text", ["authorization: Bearer hush", "key sk-hush", "api_key=hush&x", 'x "api-key": "hush"'])
def test_keys_in_foreign_messages_are_scrubbed(captured: io.BytesIO, text: str) -> None:
    """The shapes that keys have are masked in what libraries log."""
    logging.getLogger("somebody").warning(text)
    assert len(lines(captured)) == 1
    assert b"hush" not in captured.getvalue()


def test_a_broken_log_call_is_told_by_its_place() -> None:
    """A library that formats its own arguments wrongly breaks nothing and shows none of them."""
    stream = io.BytesIO()
    JsonHandler(Log(stream)).emit(
        logging.LogRecord("somebody", logging.WARNING, "/x/lib.py", 12, "%d", ("hush",), None)
    )
    assert lines(stream)[0]["message"] == "unformattable"
    assert lines(stream)[0]["at"] == ["lib.py:12"]
    assert b"hush" not in stream.getvalue()


def test_logging_is_put_back() -> None:
    """capture_logging undone leaves every handler and level as it was."""
    names = ("root", "uvicorn", "uvicorn.error", "uvicorn.access")

    def state() -> list[Any]:
        loggers = [logging.getLogger(None if name == "root" else name) for name in names]
        return [(each.handlers[:], each.level, each.propagate, each.disabled) for each in loggers]

    before = state()
    restore = capture_logging(Log(io.BytesIO()))
    assert state() != before
    restore()
    assert state() == before


def test_where_names_the_innermost_frame_last() -> None:
    """file:line function, without the message."""

    def inner() -> None:
        raise KeyError("hush")

    with pytest.raises(KeyError) as caught:
        inner()
    assert where(caught.value)[-1].endswith(" inner")
    assert "hush" not in "".join(where(caught.value))


@pytest.mark.parametrize("pipe", [True, False])
def test_a_pipe_gets_no_more_than_it_takes_whole(tmp_path: Path, pipe: bool) -> None:
    """Two processes that log into one pipe do not cut each other's lines; a file gets what waits at once."""
    sizes: list[int] = []

    class Counting(io.BytesIO):
        def fileno(self) -> int:
            return ends[1]

        def write(self, data: Any, /) -> int:
            sizes.append(len(data))
            return super().write(data)

    ends = os.pipe() if pipe else (os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR),) * 2
    stream = Counting()

    async def whole() -> None:
        log = Log(stream)
        log.start()
        for _ in range(100):
            log.line(b"x" * 99 + b"\n")
        await log.close(PATIENCE)

    try:
        asyncio.run(whole())
    finally:
        for end in set(ends):
            os.close(end)
    assert stream.getvalue() == (b"x" * 99 + b"\n") * 100
    assert sizes == ([4000, 4000, 2000] if pipe else [10_000])
