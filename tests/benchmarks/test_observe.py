"""benchmarks.observe: its figures come from what it says they come from. Everything else of it is tests/live/test_prometheus.py."""

from benchmarks import observe
from gateway.metrics import Metrics


def test_a_page_in_full_use_is_what_is_timed() -> None:
    """Accepted, escalated and direct requests all count; the time of writing it is a time."""
    metrics = Metrics(["a"], ["small", "cloud"], tiers=["rules"])
    for record in observe._mixed("a"):
        metrics.observe([record])
    page = metrics.render().decode()
    for series in (
        "weir_escalations_total{",
        "weir_accepted_total{",
        "weir_direct_total{",
        "weir_chunk_gap_seconds_count{",
    ):
        assert series in page
    assert "weir_observer_errors_total 0.0" in page
    assert observe.scrape_ms(scrapes=1) > 0


def test_every_goal_has_a_figure_of_its_own() -> None:
    """Parts that others measure are named by their prefix, and only those."""
    mine = {"scrape_ms", "metrics.cpu_share", "dashboard.empty", "rules.failed"}
    theirs = set(observe.GOALS) - mine
    assert {name.split(".")[0] for name in theirs} == {*observe.PARTS, "page"}
