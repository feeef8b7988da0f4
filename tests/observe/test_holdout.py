"""`holdout`: a share of the conversations gets the large model alone, and `weir compare` holds the others against them."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from gateway import cli
from gateway.cli.compare import ENOUGH, compared
from gateway.record import Facts, Record, Seconds, encode
from tests.line.world import GOOD, asks, says, world
from wire.hashing import portion

HELD = "held: {match: {schema_name: held}, ladder: [small, cloud], mode: enforce, holdout: 0.5}"
KEPT = "held: {match: {schema_name: held}, ladder: [small, cloud], mode: enforce, holdout: 0.5, egress: local}"


def test_a_conversation_is_always_or_never_held_out(tmp_path: Path) -> None:
    """By its session: every request of it goes to the top with the reason `holdout`, or none; both kinds occur."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says(GOOD), routes=HELD) as w:
            seen = {}
            for name in map(str, range(12)):
                reasons = set()
                for _ in range(2):
                    response = await w.served.chat(asks("held"), x_session_id=name)
                    record = w.served.record(response)
                    reasons.add((record.reason, record.outcome, record.served, record.direct))
                assert len(reasons) == 1
                seen[name] = reasons.pop()
            assert set(seen.values()) == {
                ("holdout", "direct", "cloud", True),
                ("matched", "accepted", "small", False),
            }
            series = 'weir_direct_total{route="held",reason="holdout"}'
            assert w.served.metric(series) == 2 * sum(told[0] == "holdout" for told in seen.values())

    asyncio.run(run())


def test_nobody_is_held_out_where_the_top_may_not_be_asked(tmp_path: Path) -> None:
    """`egress: local` outranks a hold-out."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("leaked"), routes=KEPT) as w:
            for name in map(str, range(8)):
                assert (await w.served.chat(asks("held"), x_session_id=name)).status_code == 200
            assert w.cloud.asked == []

    asyncio.run(run())


def record(session: int, reason: str, usd: float, *, seconds: float = 1.0, route: str = "a", **facts: Any) -> Record:
    outcome: Any = "direct" if reason == "holdout" else "accepted"
    told = Facts(model="m", session=str(session), **facts)
    return Record(id="r", time=0.0, outcome=outcome, route=route, mode="enforce", reason=reason, facts=told, cost=usd,
                  served="x", seconds=Seconds(total=seconds))  # fmt: skip


def conversations(count: int, first: int, reason: str, usd: float) -> list[Record]:
    """Costs differ between conversations, by what is no chance."""
    return [record(first + n, reason, usd * (0.5 + portion(reason, str(n)))) for n in range(count) for _ in range(3)]


def test_a_difference_that_is_there_is_seen_with_its_interval() -> None:
    """Routed costs a tenth: the interval has the difference in it, and excludes none."""
    told = compared([*conversations(60, 0, "holdout", 1.0), *conversations(300, 1000, "matched", 0.1)])
    usd = told["measures"]["usd"]
    assert told["enough"]
    assert told["conversations"] == {"holdout": 60, "routed": 300}
    assert usd["low"] < usd["difference"] < usd["high"] < 0
    assert usd["difference"] == pytest.approx(-0.9, abs=0.15)
    seconds = told["measures"]["seconds"]
    assert (seconds["difference"], seconds["low"], seconds["high"]) == (0, 0, 0)


def test_no_difference_is_none() -> None:
    """Two halves of the same: zero lies in the interval, and the same Records give the same numbers."""
    told = [*conversations(60, 0, "holdout", 1.0), *conversations(60, 1000, "matched", 1.0)]
    usd = compared(told)["measures"]["usd"]
    assert usd["low"] < 0 < usd["high"]
    assert compared(told)["measures"]["usd"] == usd


def test_too_few_conversations_are_said_to_be() -> None:
    """However many requests they have: no difference and no interval."""
    told = compared([*conversations(ENOUGH - 1, 0, "holdout", 1.0), *conversations(300, 1000, "matched", 0.1)])
    assert not told["enough"]
    assert told["measures"]["usd"]["low"] is None
    assert told["measures"]["usd"]["holdout"] is not None


def test_only_what_chance_decided_is_compared() -> None:
    """Not what came before the route held anything out, nor bypassed or observed requests, nor routes without a hold-out."""
    told = [
        record(1, "matched", 5.0), record(2, "holdout", 1.0), record(3, "bypass", 5.0), record(4, "matched", 2.0),
        record(5, "matched", 5.0, route="b"), record(6, "matched", 4.0, tool_error=True, retries=1),
    ]  # fmt: skip
    found = compared(told)
    assert found["requests"] == {"holdout": 1, "routed": 2}
    assert found["measures"]["usd"]["routed"] == 3
    assert found["measures"]["tool_errors"]["routed"] == 0.5
    assert found["measures"]["retries"]["routed"] == 0.5
    assert compared(told, {"b"})["requests"] == {"holdout": 0, "routed": 0}


def test_the_command(tmp_path: Path) -> None:
    """A table for people, JSON for machines; without a hold-out it says what to write."""
    file = tmp_path / "records.jsonl"
    told = [*conversations(40, 0, "holdout", 1.0), *conversations(40, 1000, "matched", 0.1)]
    file.write_bytes(b"".join(encode(one) + b"\n" for one in told))
    runner, command = CliRunner(), ["compare", "--records", str(file)]
    shown = runner.invoke(cli.application(), command)
    assert shown.exit_code == 0, shown.output
    assert "USD a request" in shown.stdout
    assert orjson.loads(runner.invoke(cli.application(), [*command, "--json"]).stdout)["enough"] is True
    file.write_bytes(encode(record(1, "matched", 1.0)) + b"\n")
    empty = runner.invoke(cli.application(), command)
    assert empty.exit_code == 1
    assert "holdout: 0.02" in empty.output
