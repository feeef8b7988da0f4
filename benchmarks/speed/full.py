"""All features on, one core: requests per second, added latency, and the same for nginx, LiteLLM and Portkey in the same rounds.

A peer that cannot be set up has no figure. LiteLLM and Portkey get the same requests; nginx checks nothing.
"""

import shutil
from typing import Any

from benchmarks.quality.parts import NotRun, Part
from benchmarks.speed import _peers, _requests, _tools
from benchmarks.speed._bench import Bench, Rounds, Target, bench, healthy, interleaved, records
from benchmarks.speed.numbers import (
    Row,
    added_ms,
    cores,
    middle,
    middle_cpu_us,
    per_core,
    usd_a_month,
)

GOALS = {
    "full.rps": ">= 6000 (aim 13000)",
    "full.added_p50_ms": "<= 0.45 (aim 0.25)",
    "full.added_p99_ms": "<= 0.9 (aim 0.6)",
    "ratio.litellm": ">= 80 (aim 150)",
    "ratio.portkey": ">= 9 (aim 18)",
    "ratio.nginx": ">= 0.091, that is 1:11 (aim 0.167, 1:6)",
}
CONNECTIONS = 64
AGENT_RATE = 50
"""Requests per second at which the money is told."""


def run(quick: bool) -> Part:
    seconds, count = (1.0, 3) if quick else (4.0, 3)
    body, delayed = _requests.chat("mock-j"), _requests.chat("mock-j-d50")
    with bench() as here:
        weir = here.weir()
        peers, absent = _peers.started(here)
        targets = [here.direct, weir, *peers]

        def closed(target: Target) -> dict[str, float]:
            longer = 2.0 if target.name.startswith("litellm") else 1.0  # 75 req/s: too few otherwise
            return here.measure(target, body, "-c", str(CONNECTIONS), "-t", str(seconds * longer))

        def one(target: Target) -> dict[str, float]:
            return here.measure(target, body, "-c", "1", "-t", str(seconds * 0.75))

        def slow(target: Target) -> dict[str, float]:
            return here.measure(target, delayed, "-r", str(AGENT_RATE), "-t", str(1.5 if quick else 8.0))

        for target in targets:  # warm: caches, JITs, connection pools
            here.measure(target, body, "-c", "16", "-t", str(min(2.0, seconds)))
        found = interleaved(count, targets, {"saturated": closed, "one": one})
        found |= interleaved(1, [weir, *peers], {"agents": slow})
        for name, why in failing(found).items():
            if name not in _peers.PEERS:
                raise ValueError(why)
            absent[name] = why  # a figure of what fails would flatter us
        peers = [peer for peer in peers if peer.name not in absent]
        targets = [here.direct, weir, *peers]
        check = _wrk(here, weir, body, seconds)
        told = records(here.folder / "weir")
        notes = here.notes()
    by = {(record["route"], record["served"]) for record in told if record.get("served")}  # nobody: the client left
    if by != {("structured", "small")}:
        raise ValueError("requests were not answered by the route whose answers are checked")
    direct = found["direct", "one"]
    rates = {target.name: per_core(found[target.name, "saturated"]) for target in [weir, *peers]}
    figures = {
        "full.rps": middle(found["weir", "saturated"], "rps"),
        "full.cpu_us": middle_cpu_us(found["weir", "saturated"]),
        "full.added_p50_ms": added_ms(found["weir", "one"], direct, "p50"),
        "full.added_p99_ms": added_ms(found["weir", "one"], direct, "p99"),
        **{f"ratio.{peer.name}": rates["weir"] / rates[peer.name] for peer in peers},
    }
    for target in [weir, *peers]:
        busy = cores(AGENT_RATE, middle_cpu_us(found[target.name, "agents"]))
        figures[f"agents50.{target.name}_cores"] = busy
        figures[f"agents50.{target.name}_usd_a_month"] = usd_a_month(busy)
    return Part(
        figures=figures,
        table=[
            (
                "one core, 1.5 kB / 1 kB",
                "req/s",
                "req/s per core",
                "CPU us",
                "p50 / p99 ms at 64",
                "added p50 / p99 ms",
            ),
            *(_line(target.name, found, direct) for target in targets),
        ],
        notes={
            **notes,
            "ratio": "requests per second of the gateway's CPU, Weir's divided by the other's, same rounds",
            "agents50": f"cores busy at {AGENT_RATE} req/s (50 ms upstream, open loop), and their price on demand",
            "peers": _peers.versions() | {name: f"not run: {why}" for name, why in absent.items()},
            **check,
        },
    )


def failing(found: Rounds) -> dict[str, str]:
    """Whose requests did not all get a 200: name > what happened."""
    wrong = {}
    for (name, test), rows in found.items():
        try:
            healthy(rows, f"{name} {test}")
        except ValueError as exc:
            wrong[name] = str(exc)
    return wrong


def _line(name: str, found: Rounds, direct: list[dict[str, float]]) -> list[str]:
    full: list[dict[str, float]] = found[name, "saturated"]
    one: list[dict[str, float]] = found[name, "one"]
    tail = f"{middle(full, 'p50') / 1000:,.2f} / {middle(full, 'p99') / 1000:,.2f}"
    if name == "direct":
        bare = f"(itself {middle(one, 'p50') / 1000:.3f} / {middle(one, 'p99') / 1000:.3f})"
        return [name, f"{middle(full, 'rps'):,.0f}", "", "", tail, bare]
    added = f"{added_ms(one, direct, 'p50'):.3f} / {added_ms(one, direct, 'p99'):.3f}"
    return [name, f"{middle(full, 'rps'):,.0f}", f"{per_core(full):,.0f}", f"{middle_cpu_us(full):,.0f}", tail, added]


def _wrk(here: Bench, weir: Target, body: bytes, seconds: float) -> dict[str, Any]:
    """The same by a generator that everybody knows."""
    try:
        _tools.debian(_tools.WRK)
    except NotRun as exc:
        return {"wrk": f"not run: {exc}"}
    program = shutil.which("wrk")
    assert program is not None
    words = [
        program, "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(_tools.KIT / "wrk_chat.lua"),
        f"http://127.0.0.1:{weir.port}",
    ]  # fmt: skip
    row: Row = here.measure(weir, body, command=words)
    return {"wrk": f"{row['rps']:,.0f} req/s by wrk, {CONNECTIONS} connections"}
