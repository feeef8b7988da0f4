"""What people see."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from gateway.demo import account, show
from gateway.demo.account import Observation
from gateway.demo.run import Outcome, stories
from gateway.demo.setting import CLOUD, INTENTS, SPECIALIST, Setting
from gateway.demo.traffic import Item
from tests.demo.test_account import record_of

SEEN = [
    Observation(
        Item("intent", "[red]fly", "translate"), 200, 0.004, "translate", True, "req_1", INTENTS, SPECIALIST, 1
    ),
    Observation(
        Item("intent", "x " * 99, "alarm"), 200, 2.0, "alarm", True, "req_2", INTENTS, CLOUD, 2, "low_confidence"
    ),
]


def outcome(*books: str) -> Outcome:
    records = [record_of(o) for o in SEEN]
    return Outcome(
        figures=account.figures(SEEN, records, 2.0),
        books=books,
        stories=stories(SEEN),
        seen=SEEN,
        records=records,
        url="http://127.0.0.1:1",
        config=Path("/x/weir.yaml"),
        start_seconds=0.5,
    )


def shown(found: Outcome, **console: object) -> str:
    out = io.StringIO()
    options = {"file": out, "width": 120, "markup": False, "highlight": False, "emoji": False, **console}
    show.report(Console(**options), Setting(), found)  # type: ignore[arg-type]
    return out.getvalue()


def test_the_table_has_every_figure() -> None:
    """Share, accuracies, LLM share, escalations by reason, latency per rung, cost, the three books, and ids to look at."""
    text = shown(outcome())
    for expected in (
        "served locally", "50.0%", "100.0%", "low_confidence 1", "4.0 ms", "2,000 ms", "USD", "agree", "req_1", "req_2",
        "escalation rate", "out of scope",
    ):  # fmt: skip
        assert expected in text, expected


def test_what_is_kept_can_be_looked_at() -> None:
    """With --keep: a command for each story, the metrics, and where an agent can be pointed at."""
    out = io.StringIO()
    show.look_further(Console(file=out, width=200), outcome())
    assert "weir why req_1 --config /x/weir.yaml" in out.getvalue()
    assert "http://127.0.0.1:1/metrics" in out.getvalue()


def test_the_stand_in_is_called_one() -> None:
    """Nobody can take the stand-in's figures for a cloud's."""
    assert "stand-in on this machine (x-weir-simulated)" in shown(outcome())


def test_without_colours_there_are_none() -> None:
    """On something that is no terminal nothing but text is written."""
    assert "\x1b" not in shown(outcome())


def test_a_terminal_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR is heard: the table is there, no colour is."""
    monkeypatch.setenv("NO_COLOR", "1")
    text = shown(outcome(), force_terminal=True)
    assert "served locally" in text
    assert "\x1b[3" not in text


def test_texts_cannot_format_the_table() -> None:
    """An utterance is shown as it is, shortened; what looks like markup stays text."""
    text = shown(outcome())
    assert "[red]fly" in text
    assert "x " * 60 not in text


def test_books_that_differ_are_told() -> None:
    """A difference between the books is shown in words, and the demo did not go well."""
    assert "7 against 8" in shown(outcome("/metrics: 7 against 8"))
    assert not outcome("/metrics: 7 against 8").well
    assert outcome().well


def test_the_bar_follows_the_answers() -> None:
    """On a terminal a bar counts answers and says the shares so far; elsewhere nothing is written."""
    out = io.StringIO()
    with show.bar(Console(file=out, force_terminal=True, width=120), 2) as tell:
        for observation in SEEN:
            tell(observation)
    assert "2/2" in out.getvalue()
    assert "local 50%  LLM 50%  p50 4.0 ms" in out.getvalue()
    out = io.StringIO()
    with show.bar(Console(file=out), 2) as tell:
        tell(SEEN[0])
    assert out.getvalue() == ""


def test_json_holds_the_figures_only() -> None:
    """`--json`: setting, stand-in, figures; no utterance in it."""
    import orjson

    text = orjson.dumps(outcome().table(Setting())).decode()
    assert '"llm_share":0.5' in text
    assert "fly" not in text
