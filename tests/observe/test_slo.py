"""gateway.slo: what a route is held to becomes rules, and Records become a standing."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.record import Facts, Record
from gateway.settings.load import load
from gateway.settings.model import Slo
from gateway.slo import BURNS, SECONDS, Standing, burns, limit, rules, standing
from tests.observe.prometheus import ROOT

NOW = 1_000_000.0
HELD = {"a": Slo(escalation_rate=0.5, failures=0.01, window="7d")}


def record(outcome: Any, age: float = 0.0, route: str = "a", status: int = 200) -> Record:
    base: dict[str, Any] = {"id": "r", "mode": "enforce", "reason": "matched", "facts": Facts(model="m")}
    return Record(time=NOW - age, outcome=outcome, route=route, status=status, **base)


def alerts(slos: dict[str, Slo]) -> list[dict[str, Any]]:
    return [rule for group in rules(slos)["groups"] for rule in group["rules"] if "alert" in rule]


def test_burn_rates_are_those_of_the_workbook() -> None:
    """Over 30 days: 14.4 and 6 page, 3 and 1 make a ticket, each with a short window of a twelfth of the long one."""
    assert [(burn.long, burn.short, round(burn.rate(30), 2), burn.severity) for burn in BURNS] == [
        ("1h", "5m", 14.4, "page"),
        ("6h", "30m", 6.0, "page"),
        ("1d", "2h", 3.0, "ticket"),
        ("3d", "6h", 1.0, "ticket"),
    ]
    assert all(SECONDS[burn.long] == 12 * SECONDS[burn.short] for burn in BURNS)


@given(st.integers(1, 99), st.floats(0.0001, 0.9999))
def test_an_alert_can_always_fire_and_never_below_its_target(days: int, target: float) -> None:
    """Whatever window and target: a limit is a share that can be reached, not below the target, and slower burns are not stricter."""
    limits = [limit(target, burn.rate(days)) for burn in burns(Slo(window=f"{days}d"))]
    assert all(target <= share < 1 for share in limits)
    assert limits == sorted(limits, reverse=True)


def test_only_what_a_route_is_held_to_becomes_an_alert() -> None:
    """One SLO, its own alerts; none, none; every alert has a severity, a summary and a page."""
    held = alerts({"a": Slo(failures=0.001), "b": Slo(escalation_rate=0.3)})
    budgets = [(a["alert"], a["labels"]["route"], a["labels"]["severity"]) for a in held if "route" in a["labels"]]
    assert budgets == [
        ("WeirFailureBudget", "a", "page"),
        ("WeirFailureBudget", "a", "ticket"),
        ("WeirEscalationBudget", "b", "page"),
        ("WeirEscalationBudget", "b", "ticket"),
    ]
    for alert in held:
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"]["summary"]


def test_every_alert_has_its_page() -> None:
    """docs/runbook has a page for each alert, with symptom, query, first action and undo; and none for an alert that there is not."""
    folder = ROOT / "docs" / "runbook"
    named = {alert["alert"]: alert["annotations"]["runbook_url"] for alert in alerts(HELD)}
    for name, url in named.items():
        page = ROOT / url
        assert page == folder / f"{name}.md"
        headings = [line for line in page.read_text().splitlines() if line.startswith("#")]
        assert headings == [f"# {name}", "## Symptom", "## Query", "## First action", "## Undo"], name
        assert name in (folder / "README.md").read_text()
    assert {path.stem for path in folder.glob("*.md")} - {"README"} == set(named)


def test_the_deployed_rules_are_those_of_the_deployed_configuration() -> None:
    """deploy/prometheus/rules.yml is what `weir rules` prints for deploy/weir.yaml."""
    routes = load(ROOT / "deploy" / "weir.yaml").settings.routes
    slos = {name: route.slo for name, route in routes.items() if route.slo is not None}
    assert slos
    assert yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text()) == rules(slos)


def test_names_of_rules_and_places_of_pages(tmp_path: Path) -> None:
    """Pages may lie anywhere; a recording rule has one name and one set of labels."""
    found = rules(HELD, "https://example.org/run")["groups"]
    assert found[1]["rules"][0]["annotations"]["runbook_url"] == "https://example.org/run/WeirEscalationBudget.md"
    recorded = [(rule["record"], str(rule.get("labels"))) for rule in found[0]["rules"]]
    assert len(recorded) == len(set(recorded))


def test_standing_counts_what_the_slo_means() -> None:
    """Escalated of accepted and escalated; 5xx of all that came to the route; no other route, nothing older than the window."""
    told = [
        *[record("accepted")] * 6, *[record("escalated")] * 2, *[record("direct")] * 91,
        record("refused", status=503), record("refused", status=400),
        record("escalated", route="b"), record("escalated", age=8 * 86400), record("failed", route="", status=500),
    ]  # fmt: skip
    rate, failures = standing(told, HELD, NOW)
    assert (rate.slo, rate.bad, rate.total, rate.share, rate.left) == ("escalation_rate", 2, 8, 0.25, 0.5)
    assert (failures.slo, failures.bad, failures.total) == ("failures", 1, 101)
    assert failures.left == pytest.approx(1 - 100 / 101)
    assert failures.burning["1h"] == pytest.approx(100 / 101)


def test_states() -> None:
    """quiet without requests, ok, burning while both windows of a burn rate are over its limit, spent when nothing is left."""
    first, second = standing([], HELD, NOW)
    assert (first.state, second.state, first.left) == ("quiet", "quiet", None)
    base: dict[str, Any] = {"route": "a", "slo": "failures", "target": 0.01, "days": 30}
    assert Standing(**base, total=1000, bad=9, burning={"1h": 1.0, "5m": 1.0}).state == "ok"
    assert Standing(**base, total=1000, bad=9, burning={"1h": 15.0, "5m": 15.0}).state == "burning"
    assert Standing(**base, total=1000, bad=9, burning={"1h": 15.0, "5m": 0.0}).state == "ok"
    assert Standing(**base, total=1000, bad=11).state == "spent"
    assert Standing("a", "failures", 0.01, 0, 1000, 9).state == "ok"


records = st.lists(
    st.builds(
        record,
        st.sampled_from(["accepted", "escalated", "direct", "refused", "failed"]),
        st.floats(-1, 9 * 86400),
        st.sampled_from(["a", "b"]),
        st.sampled_from([200, 400, 503]),
    ),
    max_size=30,
)


@given(records, st.randoms(use_true_random=False))
def test_the_order_of_records_does_not_matter(found: list[Record], chance: Any) -> None:
    """And never is more bad than there is."""
    expected = standing(found, HELD, NOW)
    chance.shuffle(found)
    assert standing(found, HELD, NOW) == expected
    assert all(0 <= one.bad <= one.total for one in expected)
