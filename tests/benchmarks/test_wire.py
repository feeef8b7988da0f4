"""How `benchmarks.wire` counts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from benchmarks import _streams, wire
from benchmarks.wire import Row
from tests.backends.upstream import Asked, upstream
from tests.clients.suites import SUITES, Counts

JUNIT = """<testsuites>
<testcase classname="t" name="test_point_01_roles"/><testcase classname="t" name="test_point_01_again[x]"/>
<testcase classname="t" name="test_point_02_ids"/><testcase classname="t" name="test_point_02_more"><failure message="no"/></testcase>
<testcase classname="t" name="test_point_03_usage"><skipped/></testcase><testcase classname="t" name="test_other"/></testsuites>"""


def row(name: str, mode: str, counts: Counts) -> Row:
    return Row(next(suite for suite in SUITES if suite.name == name), mode, counts)


def test_a_point_passes_when_all_of_its_tests_do() -> None:
    """One failure and the point has not passed; skipped tests are none."""
    assert wire.points(JUNIT) == ({1}, {1, 2})


def test_a_missing_checklist_has_passed_nothing() -> None:
    """No folder, no point."""
    assert wire.checklist(wire.CHECKLIST / "nowhere") == (set(), set())


def test_clients_and_generated_requests_are_counted_apart() -> None:
    """Generated requests do not make the clients' counts look larger; their server errors are a figure."""
    rows = [
        row("langchain-chat", "enforce", Counts(43, 44)),
        row("openai-python-chat", "observe", Counts(5, 5)),
        row("schemathesis-chat", "enforce", Counts(900, 1000, server_errors=2)),
    ]
    figures = wire.counted(rows)
    assert (figures["clients.passed"], figures["clients.total"], figures["langchain.passed"]) == (48, 49, 43)
    assert (figures["schemathesis.server_errors"], figures["schemathesis.requests"]) == (2, 1000)


def test_the_table_has_a_line_for_each_client_and_mode() -> None:
    """What ran with its counts, what did not with its reason."""
    table = wire.document([row("openai-python-chat", "observe", Counts(5, 6, 1))], [SUITES[1]], "abc")
    assert "| openai-python |" in table
    assert "| observe | 5 / 6 (1) |" in table
    assert "Not run: openai-python (responses)" in table


def test_somebody_elses_words_are_seen() -> None:
    """A stream with another's marker, or with too few of its own, counts as mixed."""

    async def swapped(asked: Asked) -> None:
        words = orjson.dumps(asked.json).decode()
        own = words[words.index("repeat ") + 7 :][:6]
        shown = {"m00001": "m00000", "m00002": "m00002"}.get(own, own)
        times = 1 if own == "m00002" else 2
        await asked.stream(*[f"data: {shown} \n\n".encode()] * times)

    async def go() -> int:
        async with upstream(swapped) as played:
            return await _streams.crosstalk(played.url, 5, pieces=2, pause=0)

    assert asyncio.run(go()) == 2


@asynccontextmanager
async def deaf(working: list[int]) -> AsyncIterator[str]:
    """A gateway whose upstream never notices that anybody left, and that upstream's own count, on one port."""

    async def play(asked: Asked) -> None:
        if "/stats" in asked.line:
            await asked.answer(orjson.dumps({"running": len(working)}))
            return
        working.append(1)
        if "direct" in asked.body.decode():
            await asked.stream(b"data: m00000\n\n", end=False)
        await asyncio.sleep(60)

    async with upstream(play) as played:
        yield played.url


def test_a_leak_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upstream that works on for clients that have left is counted, in every phase and at every endpoint."""
    monkeypatch.setattr(_streams, "GRACE", 0.01)
    monkeypatch.setattr(_streams, "LEAVERS", 1)

    async def go() -> dict[str, int]:
        async with deaf([]) as url:
            return await _streams.leaked(url, url)

    found = asyncio.run(go())
    assert len(found) == (len(_streams.ENDPOINTS) + 1) * len(_streams.PHASES)
    assert set(found.values()) == {1}
