"""Every 10th answer of the small rung breaks the schema and goes up the ladder: throughput against none doing so, same rounds."""

from functools import partial
from pathlib import Path

from benchmarks.quality.parts import Part
from benchmarks.speed import _requests
from benchmarks.speed._bench import Target, bench, healthy, interleaved, records
from benchmarks.speed.numbers import middle

GOALS = {"escalating.ratio": ">= 0.85"}


def run(quick: bool) -> Part:
    seconds, count = (1.0, 3) if quick else (4.0, 3)
    with bench() as here:
        weir = here.weir()

        def sending(model: str, target: Target) -> dict[str, float]:
            return here.measure(target, _requests.chat(model), "-c", "64", "-t", str(seconds))

        tests = {"none": partial(sending, "mock-j"), "tenth": partial(sending, "mock-x")}
        for send in tests.values():
            send(weir)
        found = interleaved(count, [weir], tests)
        escalated = _escalated(here.folder / "weir")
        notes = here.notes()
    for (name, test), rows in found.items():
        healthy(rows, f"{name} {test}")
    plain, tenth = middle(found["weir", "none"], "rps"), middle(found["weir", "tenth"], "rps")
    figures = {"escalating.ratio": tenth / plain, "escalating.rps": tenth, "escalating.share": escalated}
    return Part(figures, notes=notes)


def _escalated(folder: Path) -> float:
    """Share of that route's Records that tell of an escalation, in the newest file of them."""
    ours = [record for record in records(folder) if record["route"] == "escalating"]
    if not ours:
        raise ValueError("no Record of the escalating route")
    return sum(bool(record.get("escalation")) for record in ours) / len(ours)
