"""Cost against load: added latency at 10, 30, 50, 70 and 90 % of capacity, and what happens past it: does it shed, and come back?"""

from functools import partial
from statistics import median
from typing import Any

from benchmarks.quality.parts import Part
from benchmarks.speed import _plot, _requests
from benchmarks.speed._bench import Target, bench, healthy, interleaved
from benchmarks.speed.numbers import added_ms, middle, refused_share

GOALS = {
    "load.90_added_p99_ms": "reported",
    "overload.goodput_ratio": "it does not collapse: reported",
    "overload.recovered_ratio": "about 1: latency after against before",
}
LOADS = (10, 30, 50, 70, 90)
"""Percent of what 64 connections in closed loop reach."""
OVERLOAD = 1.5
CONNECTIONS = 1024
"""Of the generator when it asks for too much: more than `limits.in_flight`, so that something must be shed."""


def run(quick: bool) -> Part:
    seconds, count = (1.0, 2) if quick else (2.0, 3)
    body = _requests.chat("mock-j")
    with bench() as here:
        weir = here.weir()
        here.measure(weir, body, "-c", "64", "-t", "1")
        peaks = [here.measure(weir, body, "-c", "64", "-t", str(seconds)) for _ in range(count)]
        healthy(peaks, "capacity")
        capacity = middle(peaks, "rps")

        def at(rate: float, target: Target, connections: int = 512) -> dict[str, float]:
            return here.measure(target, body, "-r", f"{rate:.1f}", "-n", str(connections), "-t", str(seconds))

        tests = {str(load): partial(at, capacity * load / 100) for load in LOADS}
        found = interleaved(count, [here.direct, weir], tests)
        before, during, after = [], [], []
        for _ in range(count):
            before.append(at(capacity / 2, weir))
            during.append(at(capacity * OVERLOAD, weir, CONNECTIONS))
            after.append(at(capacity / 2, weir))
        notes = here.notes()
    for (name, test), rows in found.items():
        healthy(rows, f"{name} {test} %", may_shed=True)
    healthy(after, "after the overload", may_shed=True)
    figures: dict[str, float] = {"load.capacity_rps": capacity}
    refused = {load: median(map(refused_share, found["weir", str(load)])) for load in LOADS}
    figures["load.90_refused_share"] = refused[90]
    curve: dict[str, list[float]] = {}
    for quantile in ("p50", "p99"):
        curve[quantile] = [added_ms(found["weir", str(load)], found["direct", str(load)], quantile) for load in LOADS]
        figures |= {f"load.{load}_added_{quantile}_ms": ms for load, ms in zip(LOADS, curve[quantile], strict=True)}
    figures |= {
        "overload.goodput_ratio": middle(during, "rps") / capacity,
        "overload.refused_share": median(map(refused_share, during)),
        "overload.shed": median(row["shed"] for row in during),
        "overload.broken": median(row["broken"] + row["other"] + row["unanswered"] for row in during),
        "overload.p99_ms": middle(during, "p99") / 1000,
        "overload.refused_share_after": median(map(refused_share, after)),
        "overload.recovered_ratio": middle(after, "p50") / middle(before, "p50"),
    }
    table: list[Any] = [("load", "req/s", "added p50 ms", "added p99 ms", "refused")]
    for load, p50, p99 in zip(LOADS, curve["p50"], curve["p99"], strict=True):
        table.append((f"{load} %", f"{capacity * load / 100:,.0f}", f"{p50:.3f}", f"{p99:.3f}", f"{refused[load]:.1%}"))
    return Part(
        figures,
        table,
        {**notes, "overload": f"{OVERLOAD} x capacity, open loop, {CONNECTIONS} connections; limits.in_flight 512"},
        {"speed-load.svg": _plot.load(LOADS, curve, capacity)},
    )
