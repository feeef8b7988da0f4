"""`weir rules`: Prometheus rules of the configuration. `weir slo`: how its routes stand."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, configured, console, fail, print_json
from gateway.cli.records import Files, _named, files_in, stored

if TYPE_CHECKING:
    from gateway.settings.load import Loaded
    from gateway.settings.model import Slo
    from gateway.slo import Standing

SECONDS = 5.0
"""For a running gateway to answer."""
STYLES = {"spent": "red", "burning": "yellow", "ok": "green", "quiet": "dim"}
SHOWN = ("1h", "6h", "3d")


def register(app: typer.Typer) -> None:
    @app.command()
    def rules(
        config: ConfigOption = DEFAULT_CONFIG,
        runbooks: Annotated[
            str, typer.Option(help="Folder or URL of the runbook pages, before their names.")
        ] = "docs/runbook",
    ) -> None:
        """Print Prometheus recording and alert rules; those of a route come from its `slo:`."""
        import yaml

        from gateway.slo import rules as made

        told = made(slos_of(configured(config)), runbooks.rstrip("/"))
        typer.echo("# Written by `weir rules`. Change `slo:` in the configuration, not this file.")
        typer.echo(yaml.safe_dump(told, sort_keys=False, width=1000, allow_unicode=True), nl=False)

    @app.command()
    def slo(
        config: ConfigOption = DEFAULT_CONFIG,
        records: Files = None,
        url: Annotated[
            str, typer.Option(help="Ask a running gateway's /metrics instead: counts since its start, no burn rates.")
        ] = "",
        as_json: JsonOption = False,
    ) -> None:
        """Say how the routes stand against their `slo:`. Exit code 1: a budget is spent."""
        from gateway.slo import standing

        loaded = configured(config)
        slos = slos_of(loaded)
        if not slos:
            fail("no route has an SLO: give one `slo: {escalation_rate: 0.3, failures: 0.001, window: 30d}`")
        if url:
            found = of_page(page(url), slos)
        else:
            files = _named(records) or files_in(loaded.settings.server.state_dir)
            found = standing(stored(files), slos, time.time())
        if as_json:
            print_json([_told(one) for one in found])
        else:
            _show(found)
        if any(one.state == "spent" for one in found):
            raise typer.Exit(1)


def slos_of(loaded: "Loaded") -> "dict[str, Slo]":
    """Route > what it is held to, of those that are."""
    return {name: route.slo for name, route in loaded.settings.routes.items() if route.slo is not None}


def page(url: str) -> str:
    """The metrics of a running gateway; when there are none, this is told and the command ends with 1."""
    import httpx

    try:
        answer = httpx.get(f"{url.rstrip('/')}/metrics", timeout=SECONDS)
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        fail(f"{url}/metrics: {exc}")
    return answer.text


def of_page(text: str, slos: "Mapping[str, Slo]") -> "list[Standing]":
    """Counts since the gateway's start."""
    from prometheus_client.parser import text_string_to_metric_families

    from gateway.slo import Standing

    requests: dict[tuple[str, str], int] = {}
    failures: dict[str, int] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            route = sample.labels.get("route", "")
            if sample.name == "weir_requests_total":
                key = (route, sample.labels.get("outcome", ""))
                requests[key] = requests.get(key, 0) + int(sample.value)
            elif sample.name == "weir_failures_total":
                failures[route] = failures.get(route, 0) + int(sample.value)
    found = []
    for route, slo in slos.items():
        small, up = requests.get((route, "accepted"), 0), requests.get((route, "escalated"), 0)
        every = sum(count for (name, _), count in requests.items() if name == route)
        if slo.escalation_rate is not None:
            found.append(Standing(route, "escalation_rate", slo.escalation_rate, 0, small + up, up))
        if slo.failures is not None:
            found.append(Standing(route, "failures", slo.failures, 0, every, failures.get(route, 0)))
    return found


def _told(one: "Standing") -> dict[str, object]:
    return {
        "route": one.route,
        "slo": one.slo,
        "target": one.target,
        "days": one.days or None,
        "requests": one.total,
        "bad": one.bad,
        "share": one.share,
        "budget_left": one.left,
        "burn_rate": dict(one.burning),
        "state": one.state,
    }


def _show(found: "list[Standing]") -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("route", "slo", "target", "bad", "share", "budget left", "burn rate", "state"):
        left = column in ("route", "slo", "burn rate", "state")
        table.add_column(column, justify="left" if left else "right", no_wrap=column != "burn rate")
    for one in found:
        window = f"over {one.days}d" if one.days else "since start"
        share, rest = one.share, one.left
        numbers = ("-", "-") if share is None or rest is None else (f"{share:.3%}", f"{rest:.0%}")
        pace = ", ".join(f"{one.burning[at]:.1f} over {at}" for at in SHOWN if at in one.burning)
        bad = f"{one.bad} of {one.total}"
        cells = (one.route, f"{one.slo}\n{window}", f"{one.target:.3g}", bad, *numbers, pace)
        table.add_row(*cells, one.state, style=STYLES[one.state])
    console().print(table)
