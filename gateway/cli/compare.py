"""`weir compare`: conversations that the large model answered alone (`holdout:`) against the routed ones.

Which conversation goes where is a hash of its session, so the two differ by nothing but the routing, and a difference is its effect.
The unit is the conversation, not the request: requests of one agent run resemble each other. Intervals are a bootstrap over conversations
(Efron; cluster bootstrap of a ratio of means), percentile, with a fixed seed: the same Records give the same numbers.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, configured, console, fail, print_json
from gateway.cli.records import Files, _named, files_in, stored

if TYPE_CHECKING:
    from gateway.record import Record

ROUNDS = 2000
SEED = 6
ENOUGH = 30
"""Conversations of either kind, below which nothing is said: a bootstrap of fewer is too narrow."""
SURE = 0.95
MEASURES: Mapping[str, str] = {
    "usd": "USD a request",
    "seconds": "seconds a request",
    "tool_errors": "tool errors a request",
    "retries": "retried by the client, a request",
    "asked_again": "asked again within minutes, a request",
    "failures": "failed (5xx), a request",
}
SKIPPED = ("straight", "bypass")
"""Reasons of requests whose way was not left to chance."""


def register(app: typer.Typer) -> None:
    @app.command()
    def compare(
        config: ConfigOption = DEFAULT_CONFIG,
        records: Files = None,
        route: Annotated[str, typer.Option(help="This route only.")] = "",
        as_json: JsonOption = False,
    ) -> None:
        """Compare routed conversations with those that the large model answered alone (`holdout:` of a route)."""
        loaded = configured(config)
        held = {name for name, table in loaded.settings.routes.items() if table.holdout}
        if route and route not in loaded.settings.routes:
            fail(f"no route named {route!r}", 2)
        files = _named(records) or files_in(loaded.settings.server.state_dir)
        # Files stand newest first; what was asked again is seen in the order of time.
        found = compared(stored(reversed(files)), {route} if route else None)
        if not found["conversations"]["holdout"]:
            hint = "" if held else ": no route has `holdout: 0.02`"
            fail(f"no conversation was answered by the large model alone{hint}")
        if as_json:
            print_json(found)
        else:
            _show(found)


def compared(records: "Iterable[Record]", routes: "set[str] | None" = None) -> dict[str, Any]:
    """Both arms and their differences. records: oldest first. routes: only these; None: every route that held a conversation out.

    `measures`: name > {holdout, routed: mean per request, difference: routed less holdout, low, high: 95 % interval}; the latter three
    are None when there are too few conversations."""
    arms: dict[str, _Arm] = {"holdout": _Arm(), "routed": _Arm()}
    begun: set[str] = set()
    for record, again in _chosen(records):
        if routes is not None and record.route not in routes:
            continue
        if record.reason == "holdout":
            begun.add(record.route)
        if record.route in begun:  # what was answered before a route held anything out has nothing to be held against
            arms["holdout" if record.reason == "holdout" else "routed"].add(record, again)
    holdout, routed = arms["holdout"], arms["routed"]
    few = min(len(holdout.sums), len(routed.sums)) < ENOUGH
    return {
        "conversations": {arm: len(found.sums) for arm, found in arms.items()},
        "requests": {arm: int(found.total("requests")) for arm, found in arms.items()},
        "routes": sorted(begun),
        "enough": not few,
        "measures": {name: _measure(name, holdout, routed, few) for name in MEASURES},
    }


def _chosen(records: "Iterable[Record]") -> "Iterator[tuple[Record, bool]]":
    """Records of requests that chance could have sent either way, and whether each asks again what was just asked."""
    from gateway.suspects import Suspects

    suspects = Suspects()
    for record in records:
        again = any(suspect.kind == "asked_again" for suspect in suspects.look(record))
        chosen = record.route and record.reason not in SKIPPED and record.outcome not in ("straight", "cancelled")
        if chosen and record.facts.session:
            yield record, again


class _Arm:
    """Sums by conversation."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, str], dict[str, float]] = {}

    def add(self, record: "Record", again: bool) -> None:
        from gateway.slo import failure

        sums = self.sums.setdefault((record.tenant, record.facts.session), dict.fromkeys(("requests", *MEASURES), 0.0))
        sums["requests"] += 1
        sums["usd"] += record.cost
        sums["seconds"] += record.seconds.total
        sums["tool_errors"] += record.facts.tool_error
        sums["retries"] += record.facts.retries > 0
        sums["asked_again"] += again
        sums["failures"] += failure(record)

    def total(self, name: str) -> float:
        return sum(sums[name] for sums in self.sums.values())

    def column(self, name: str) -> list[float]:
        return [sums[name] for sums in self.sums.values()]

    def mean(self, name: str) -> float | None:
        return self.total(name) / self.total("requests") if self.sums else None


def _measure(name: str, holdout: _Arm, routed: _Arm, few: bool) -> dict[str, float | None]:
    one, other = holdout.mean(name), routed.mean(name)
    found: dict[str, float | None] = {"holdout": one, "routed": other, "difference": None, "low": None, "high": None}
    if few or one is None or other is None:
        return found
    pairs = [(arm.column(name), arm.column("requests")) for arm in (routed, holdout)]
    low, high = interval(*pairs)
    return {**found, "difference": other - one, "low": low, "high": high}


def interval(
    routed: tuple[Sequence[float], Sequence[float]], holdout: tuple[Sequence[float], Sequence[float]]
) -> tuple[float, float]:
    """Of routed less holdout, each (sums, requests) by conversation: mean per request, conversations drawn with replacement."""
    import numpy as np

    chance = np.random.default_rng(SEED)

    def means(sums: Sequence[float], requests: Sequence[float]) -> Any:
        top, bottom = np.asarray(sums, float), np.asarray(requests, float)
        found = np.empty(ROUNDS)
        for at in range(ROUNDS):
            drawn = chance.integers(0, len(top), len(top))
            found[at] = top[drawn].sum() / bottom[drawn].sum()
        return found

    spread = means(*routed) - means(*holdout)
    edge = (1 - SURE) / 2
    low, high = np.quantile(spread, [edge, 1 - edge])
    return float(low), float(high)


def _show(found: Mapping[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    out = console()
    table = Table(title=f"routes: {', '.join(found['routes'])}", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("", "large model alone", "routed", "difference", "95 % interval"):
        table.add_column(column, justify="right" if column else "left", no_wrap=not column)
    for name in ("conversations", "requests"):
        table.add_row(name, str(found[name]["holdout"]), str(found[name]["routed"]), "", "")
    for name, words in MEASURES.items():
        told = found["measures"][name]
        cells = [_number(told[key]) for key in ("holdout", "routed", "difference")]
        span = "" if told["low"] is None else f"{_number(told['low'])} to {_number(told['high'])}"
        table.add_row(words, *cells, span)
    out.print(table)
    if not found["enough"]:
        out.print(f"too few conversations to compare: at least {ENOUGH} of either kind")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
