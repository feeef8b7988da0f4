"""Records and replays as tables, for people. Markup is off: nothing in a Record can colour or hide anything."""

import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gateway.turning import turning_points

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from gateway.record import AttemptRecord, Record
    from gateway.replay import Report, Side

COLOURS = {
    "accepted": "green", "delivered": "green", "pass": "green", "direct": "cyan", "escalated": "yellow", "degraded": "yellow",
    "rejected": "yellow", "undecided": "yellow", "refused": "red", "failed": "red", "error": "red", "fail": "red",
}  # fmt: skip
SECOND = {None: "", True: "(the second agreed)", False: "(the second disagreed)"}
"""By `AttemptRecord.agrees`."""


def show_record(record: "Record") -> None:
    """The whole story of one request."""
    console = _console()
    head = f"{record.outcome}: {_decided(record)}"
    console.print(head, style=f"bold {COLOURS.get(record.outcome, 'white')}")
    _pairs(console, "request", _request(record))
    _pairs(console, "scores", _scores(record))
    console.print(_attempts(record.attempts))
    for attempt in record.attempts:
        for verdict in attempt.verdicts:
            told = " ".join(part for part in (verdict.opinion, verdict.reason, verdict.detail) if part)
            style = COLOURS.get(verdict.opinion, "white")
            console.print(f"  {attempt.rung} · {verdict.validator}: {told}", style=style)
        if attempt.error:
            console.print(f"  {attempt.rung}: {attempt.error}", style="red")
    _pairs(console, "answer", _answer(record))
    _pairs(console, "seconds", _seconds(record))
    _pairs(console, "hashes", _hashes(record))
    points = turning_points(record)
    console.print("\nwhat would have changed it", style="bold")
    for line in points or ["nothing in the configuration"]:
        console.print(f"  · {line}")


def _decided(record: "Record") -> str:
    route = f"route '{record.route}' ({record.reason}, {record.mode})" if record.route else record.reason
    return f"{route}, served by '{record.served}'" if record.served else f"{route}, nothing was delivered"


def _request(record: "Record") -> Iterable[tuple[str, Any]]:
    facts = record.facts
    yield "id", record.id
    yield "time", datetime.fromtimestamp(record.time, UTC).isoformat(timespec="milliseconds")
    yield "asked for", f"{facts.model} ({record.dialect}{', stream' if facts.stream else ''})"
    yield "tenant", record.tenant
    yield "session", facts.session
    turns = f"{facts.turns} turn{'s' if facts.turns != 1 else ''}"
    yield "size", f"{turns}, {facts.chars} characters, {facts.text_chars} in the last message"
    yield "modality", ", ".join(facts.modality)
    yield "text", facts.text_hash
    yield "signature", facts.signature
    yield "system", facts.system
    yield "tools", f"{facts.tools} ({', '.join(facts.tool_names)})" if facts.tools else ""
    yield "schema", f"{facts.schema} {facts.schema_name}".strip()
    yield "tool loop", "yes" if facts.tool_loop else ""


def _scores(record: "Record") -> Iterable[tuple[str, Any]]:
    for name, score in sorted(record.scores.items(), key=lambda item: -item[1])[:10]:
        yield name, f"{score:.4f}{'  <' if name == record.route else ''}"
    if len(record.scores) > 10:
        yield "...", f"{len(record.scores) - 10} more"
    yield "out of scope", "" if record.out_of_scope is None else f"{record.out_of_scope:.4f}"
    yield "said by", record.router


def _attempts(attempts: "Iterable[AttemptRecord]") -> "Table":
    table = _table(
        "attempts",
        "#",
        "rung",
        "outcome",
        "reason",
        "answered by",
        "sure",
        "needed",
        "from s",
        "took s",
        "in",
        "out",
        "USD",
    )
    for attempt in attempts:
        model = " ".join(
            part for part in (attempt.model, attempt.tier, "(simulated)" if attempt.simulated else "") if part
        )
        tokens = attempt.tokens
        table.add_row(
            str(attempt.number),
            attempt.rung,
            _coloured(attempt.outcome),
            " ".join(part for part in (attempt.reason, SECOND[attempt.agrees]) if part),
            model,
            _number(attempt.probability, 4),
            _number(attempt.threshold, 4),
            f"{attempt.start:.3f}",
            f"{attempt.seconds:.3f}",
            f"{'~' if tokens.estimated else ''}{tokens.input}",
            f"{'~' if tokens.estimated else ''}{tokens.output}",
            f"{attempt.cost:.6f}",
        )
    return table


def _answer(record: "Record") -> Iterable[tuple[str, Any]]:
    yield "status", f"{record.status} {record.error}".strip()
    yield "finish", record.finish
    yield "size", f"{record.answer_chars} characters, {record.tool_calls} tool calls"
    yield "escalation", record.escalation
    yield "late verdict", record.late_verdict
    saved = record.counterfactual_cost - record.cost
    yield (
        "cost",
        f"{record.cost:.6f} USD, {abs(saved):.6f} {'less' if saved >= 0 else 'more'} than '{record.top}' alone",
    )


def _seconds(record: "Record") -> Iterable[tuple[str, Any]]:
    spent = record.seconds
    yield "total", f"{spent.total:.4f}"
    yield "first byte", _number(spent.first_byte, 4)
    yield "router", f"{spent.router:.6f}"
    yield "upstream", f"{spent.upstream:.4f}"
    yield "check", f"{spent.check:.6f}"


def _hashes(record: "Record") -> Iterable[tuple[str, Any]]:
    yield "configuration", record.config
    yield "router", record.router_hash
    yield "calibration", record.calibration
    yield "weir", record.weir


# -- replay


def show_report(report: "Report") -> None:
    """What another configuration would have made of the stored requests."""
    console = _console()
    console.print(
        f"{report.records} requests, {report.changed} would go another way, {report.rerouted} of them to another route"
    )
    table = _table("", "", "before", "after", "at best")
    sides = (report.before, report.after, report.at_best)
    for outcome in sorted({outcome for side in sides for outcome in side.outcomes}):
        table.add_row(_coloured(outcome), *(str(side.outcomes.get(outcome, 0)) for side in sides))
    table.add_row("LLM share", *(f"{side.llm_share:.1%}" for side in sides))
    table.add_row("escalation rate", *(_number(side.escalation_rate, 4) for side in sides))
    table.add_row("cost USD", *(f"{side.cost:.4f}" for side in sides))
    table.add_row("all at the top USD", *(f"{report.counterfactual_cost:.4f}" for _ in sides))
    console.print(table)
    console.print(_routes(report.before, report.after))
    if report.moves:
        _pairs(console, "newly", ((move, count) for move, count in report.moves.items()))
    changes = _table(
        f"changes (the first {len(report.changes)} of {report.changed})", "request", "was", "would be", "why"
    )
    for change in report.changes:
        changes.add_row(change.id, change.before, change.after, change.why)
    if report.changes:
        console.print(changes)
    for line in notes(report):
        console.print(f"  · {line}")


def _routes(before: "Side", after: "Side") -> "Table":
    table = _table("routes", "route", "requests before", "after", "outcomes before", "outcomes after")
    for name in sorted({*before.routes, *after.routes}):
        old, new = before.routes.get(name, {}), after.routes.get(name, {})
        table.add_row(name or "(none)", str(sum(old.values())), str(sum(new.values())), _counts(old), _counts(new))
    return table


def notes(report: "Report") -> list[str]:
    """What the figures rest on, where that is not everything."""
    opened = report.after.outcomes.get("open", 0)
    told = [
        (report.scored["stored"], "were scored by a tier that reads the text: its scores are taken as stored"),
        (
            report.scored["unscored"],
            "could not be re-scored (rules answered then, no text was kept): the old decision stands",
        ),
        (report.scored["kept"], "need no scores: bypass, pinned, tool loops, asked for by name, callers that left"),
        (report.unchecked, "meet a check that did not run then: taken to pass"),
        (
            opened,
            "are open: a small rung that was not asked then; `after` counts them as escalated, `at best` as accepted",
        ),
    ]
    return [f"{count} {what}" for count, what in told if count]


# -- paper


def _console() -> "Console":
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 160)


def _table(title: str, *columns: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    numbers = {
        "#",
        "sure",
        "needed",
        "from s",
        "took s",
        "in",
        "out",
        "USD",
        "before",
        "after",
        "at best",
        "requests before",
    }
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return table


def _pairs(console: "Console", title: str, pairs: Iterable[tuple[str, Any]]) -> None:
    """Two columns without the empty ones."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for name, value in pairs:
        if value not in ("", None):
            table.add_row(_plain(f"  {name}"), _plain(str(value)))
    if table.row_count:
        console.print(f"\n{title}", style="bold")
        console.print(table)


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def _coloured(word: str) -> Any:
    from rich.text import Text

    return Text(word, style=COLOURS.get(word, ""))


def _number(value: float | None, places: int) -> str:
    return "" if value is None else f"{value:.{places}f}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
