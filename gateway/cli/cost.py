"""`weir cost`: what was spent, by key, route or session, from the Records on disk."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, configured, console, fail, print_json
from gateway.cli.records import Files, _named, files_in

if TYPE_CHECKING:
    from gateway.record import Record

BY = ("key", "route", "session", "rung", "day")
COLUMNS = (
    "requests",
    "accepted",
    "llm",
    "cost_usd",
    "counterfactual_usd",
    "saved_usd",
    "input_tokens",
    "output_tokens",
)
ASIDE = "(off the path)"
"""What shadowing and judging cost: known by route and rung only, so it is a line of its own."""


def register(app: typer.Typer) -> None:
    @app.command()
    def cost(
        config: ConfigOption = DEFAULT_CONFIG,
        records: Files = None,
        by: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(BY)}.")] = "route",
        month: Annotated[
            str, typer.Option(help="YYYY-MM, UTC; `this` for the current one. Default: all there is.")
        ] = "",
        as_csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout.")] = False,
        as_json: JsonOption = False,
    ) -> None:
        """Print what was spent and saved. Sessions are hashes; only the Records still on disk are counted."""
        keys = tuple(part.strip() for part in by.split(",") if part.strip())
        if not keys or not set(keys) <= set(BY):
            fail(f"--by {by}: some of {', '.join(BY)}", 2)
        if month and (span := _month(month)) is None:
            fail(f"--month {month}: YYYY-MM, as in 2026-11, or `this`", 2)
        files = _named(records) or files_in(configured(config).settings.server.state_dir)
        rows = spent(files, keys, span if month else None)
        if as_json:
            print_json([dict(zip((*keys, *COLUMNS), row, strict=True)) for row in rows])
        elif as_csv:
            _csv(keys, rows)
        else:
            _show(keys, rows)


def spent(files: Iterable[Path], keys: Sequence[str], span: tuple[float, float] | None = None) -> list[tuple[Any, ...]]:
    """Rows: the keys' values, then COLUMNS; dearest first. span: Unix seconds, from and until."""
    sums: dict[tuple[str, ...], list[float]] = {}
    for found, values in _read(files, keys):
        when = found.time
        if span is not None and not span[0] <= when < span[1]:
            continue
        row = sums.setdefault(values, [0.0] * len(COLUMNS))
        for at, number in enumerate(_numbers(found)):
            row[at] += number
    rows = [(*values, *_rounded(row)) for values, row in sums.items()]
    money = len(keys) + COLUMNS.index("cost_usd")
    return sorted(rows, key=lambda row: (-row[money], row))


def _read(files: Iterable[Path], keys: Sequence[str]) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Every line that cost something: Records, and what was asked beside them."""
    import msgspec

    from gateway.record import JudgedRecord, Record, ShadowRecord

    whole = msgspec.json.Decoder(Record)
    beside = msgspec.json.Decoder(ShadowRecord | JudgedRecord)
    for path in files:
        try:
            lines = path.open("rb")
        except FileNotFoundError:
            continue
        with lines:
            for line in lines:
                try:
                    if b'"kind":"shadow"' in line or b'"kind":"judged"' in line:
                        aside = beside.decode(line)
                        known = {
                            "route": aside.route,
                            "rung": getattr(aside, "by", aside.rung),
                            "day": _day(aside.time),
                        }
                        yield aside, tuple(known.get(key, ASIDE) if key != keys[0] else ASIDE for key in keys)
                    else:
                        record = whole.decode(line)
                        yield record, tuple(_value(record, key) for key in keys)
                except msgspec.MsgspecError:
                    continue


def _value(record: "Record", key: str) -> str:
    if key == "key":
        return record.tenant
    if key == "session":
        return record.facts.session
    if key == "rung":
        return record.served
    return _day(record.time) if key == "day" else record.route


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _numbers(found: Any) -> tuple[float, ...]:
    from gateway.metrics import had_to
    from gateway.record import Record

    if not isinstance(found, Record):
        return (0, 0, 0, found.cost, 0, -found.cost, found.tokens.input, found.tokens.output)
    return (
        1,
        found.outcome == "accepted",
        had_to(found),
        found.cost,
        found.counterfactual_cost,
        found.counterfactual_cost - found.cost,
        sum(attempt.tokens.input for attempt in found.attempts),
        sum(attempt.tokens.output for attempt in found.attempts),
    )


def _rounded(row: Sequence[float]) -> Iterator[float]:
    """Counts as whole numbers; USD to a millionth of a cent, so that sums of floats read as what they are."""
    return (round(value, 8) if name.endswith("_usd") else int(value) for name, value in zip(COLUMNS, row, strict=True))


def _month(text: str) -> tuple[float, float] | None:
    """From and until, Unix seconds; None for what is no month."""
    if text == "this":
        text = datetime.now(UTC).strftime("%Y-%m")
    try:
        first = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        return None
    after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return first.timestamp(), after.timestamp()


def _csv(keys: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    import csv

    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow([*keys, *COLUMNS])
    for row in rows:
        # A spreadsheet takes what begins so for a formula; a key's or route's name cannot, what else there is may.
        out.writerow([f"'{cell}" if isinstance(cell, str) and cell[:1] in "=+-@" and cell else cell for cell in row])


def _show(keys: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for column in (*keys, *COLUMNS):
        table.add_column(column, justify="left" if column in keys else "right")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    total: Mapping[str, float] = {name: sum(row[len(keys) + at] for row in rows) for at, name in enumerate(COLUMNS)}
    table.add_section()
    table.add_row("all", *[""] * (len(keys) - 1), *(_cell(total[name]) for name in COLUMNS))
    console().print(table)


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
