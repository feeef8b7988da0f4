"""`weir rules`, `weir slo` and `weir cost`, as a person types them."""

import csv
import io
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from typer.testing import CliRunner, Result

from gateway import cli
from gateway.cli.slo import of_page
from gateway.metrics import Metrics
from gateway.record import AttemptRecord, Facts, JudgedRecord, Record, ShadowRecord, encode
from gateway.settings.model import Slo
from wire.types import Tokens

NOVEMBER = datetime(2026, 11, 5, tzinfo=UTC).timestamp()
OCTOBER = datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC).timestamp()


def weir(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.application(), [str(word) for word in words])


def record(outcome: Any = "accepted", *, when: float = NOVEMBER, usd: float = 0.25, **more: Any) -> Record:
    rung = "small" if outcome == "accepted" else "cloud"
    tried = AttemptRecord(1, rung, "delivered", tokens=Tokens(input=100, output=10), cost=usd)
    base: dict[str, Any] = {
        "id": "r", "time": when, "outcome": outcome, "route": "intents", "mode": "enforce", "reason": "matched",
        "facts": Facts(model="m", session="s1"), "tenant": "agent-1", "served": rung, "top": "cloud", "cost": usd,
        "counterfactual_cost": 1.0, "attempts": [tried],
    }  # fmt: skip
    return Record(**{**base, **more})


def write(path: Path, *lines: Record | ShadowRecord | JudgedRecord) -> Path:
    path.write_bytes(b"".join(encode(line) + b"\n" for line in lines) + b'{"torn": ')
    return path


def rows(*words: str | Path) -> list[dict[str, str]]:
    done = weir("cost", "--csv", *words)
    assert done.exit_code == 0, done.output
    return list(csv.DictReader(io.StringIO(done.stdout)))


def test_rules_are_yaml_with_pages_where_they_lie() -> None:
    """Ready for `rule_files:`."""
    done = weir("rules", "--runbooks", "https://example.org/run/")
    groups = yaml.safe_load(done.stdout)["groups"]
    assert [group["name"] for group in groups] == ["weir-shares", "weir-slo", "weir-health"]
    assert all(
        rule["annotations"]["runbook_url"].startswith("https://example.org/run/Weir")
        for group in groups[1:]
        for rule in group["rules"]
    )


def test_slo_from_records(tmp_path: Path) -> None:
    """ok is 0, a spent budget is 1; --json has the numbers."""
    now = time.time()
    fine = write(tmp_path / "fine", *[record(when=now)] * 9, record("escalated", when=now))
    done = weir("slo", "--records", fine, "--json")
    assert done.exit_code == 0, done.output
    rate = orjson.loads(done.stdout)[0]
    assert (rate["slo"], rate["share"], rate["requests"], rate["state"]) == ("escalation_rate", 0.1, 10, "ok")
    assert rate["burn_rate"]["1h"] == pytest.approx(0.1 / 0.3)
    spent = write(tmp_path / "spent", record(when=now), record("escalated", when=now))
    told = weir("slo", "--records", spent)
    assert told.exit_code == 1
    assert "spent" in told.stdout


def test_slo_from_a_page() -> None:
    """What a running gateway has counted since its start, over all modes."""
    metrics = Metrics(["a", "b"], ["small", "cloud"])
    for outcome, status in (("accepted", 200), ("escalated", 200), ("direct", 200), ("refused", 503)):
        metrics.observe([record(outcome, route="a", status=status)])
    metrics.observe([record("escalated", route="b")])
    rate, failures = of_page(metrics.render().decode(), {"a": Slo(escalation_rate=0.6, failures=0.5)})
    assert (rate.bad, rate.total, rate.days, rate.state) == (1, 2, 0, "ok")
    assert (failures.bad, failures.total) == (1, 4)


def test_slo_of_a_gateway_that_does_not_answer() -> None:
    """One line, and no traceback."""
    done = weir("slo", "--url", "http://127.0.0.1:9")
    assert done.exit_code == 1
    assert "http://127.0.0.1:9/metrics" in done.output


def test_cost_by_what_is_asked(tmp_path: Path) -> None:
    """Sums by key, route, session, rung and day, the dearest first; a torn line is skipped."""
    other = record("direct", usd=2.0, tenant="agent-2", facts=Facts(model="m", session="s2"))
    file = write(tmp_path / "r", record(), record(), other)
    by_key = rows("--records", file, "--by", "key")
    assert [(row["key"], row["requests"], row["llm"]) for row in by_key] == [
        ("agent-2", "1", "1"),
        ("agent-1", "2", "0"),
    ]
    assert by_key[1] == {
        "key": "agent-1", "requests": "2", "accepted": "2", "llm": "0", "cost_usd": "0.5", "counterfactual_usd": "2.0",
        "saved_usd": "1.5", "input_tokens": "200", "output_tokens": "20",
    }  # fmt: skip
    several = rows("--records", file, "--by", "route,session,day")
    assert [(row["route"], row["session"], row["day"]) for row in several] == [
        ("intents", "s2", "2026-11-05"),
        ("intents", "s1", "2026-11-05"),
    ]


def test_cost_of_a_month(tmp_path: Path) -> None:
    """UTC, from its first second to before the next one's; December has an end too."""
    file = write(tmp_path / "r", record(), record(when=OCTOBER))
    assert [row["requests"] for row in rows("--records", file, "--month", "2026-10")] == ["1"]
    assert rows("--records", file, "--month", "2026-12") == []
    assert weir("cost", "--records", file, "--month", "2026-13").exit_code == 2
    assert weir("cost", "--records", file, "--by", "colour").exit_code == 2


def test_cost_has_what_was_asked_beside_the_answers(tmp_path: Path) -> None:
    """Shadow and judge in a line of their own, by rung too: their sum is no request's."""
    shadow = ShadowRecord("r", NOVEMBER, "intents", "small", "agree", cost=0.125)
    judge = JudgedRecord("r", NOVEMBER, "intents", "small", "cloud", "right", cost=0.5)
    found = rows("--records", write(tmp_path / "r", record(), shadow, judge), "--by", "route,rung")
    assert [(row["route"], row["rung"], row["cost_usd"]) for row in found] == [
        ("(off the path)", "cloud", "0.5"),
        ("intents", "small", "0.25"),
        ("(off the path)", "small", "0.125"),
    ]


def test_a_cell_is_no_formula(tmp_path: Path) -> None:
    """A spreadsheet runs what begins with =, +, - or @; a negative number stays a number."""
    found = rows("--records", write(tmp_path / "r", record(tenant="=1+1", usd=3.0)), "--by", "key")
    assert (found[0]["key"], found[0]["saved_usd"]) == ("'=1+1", "-2.0")


def test_a_table_for_people(tmp_path: Path) -> None:
    """With a sum at its end."""
    done = weir("cost", "--records", write(tmp_path / "r", record(), record()))
    assert done.exit_code == 0
    assert "0.5000" in done.stdout
