"""Streams that pass through: 16 at once, 50 chunks each, with 10 ms between chunks (paced) and without (burst).

nginx, which looks at nothing, is the floor: a chunk that comes alone costs it too several times one that comes with others, as a core
that slept is woken for it. Time to the first token has its own runs, with arrivals in open loop: 16 streams that start together would
measure each other.
"""

from collections.abc import Callable
from functools import partial

from benchmarks.quality.parts import NotRun, Part
from benchmarks.speed import _peers, _requests
from benchmarks.speed._bench import Target, bench, healthy, interleaved
from benchmarks.speed.numbers import added_ms, middle, middle_cpu_us

GOALS = {
    "stream.paced_us_per_chunk": "<= 45 (aim 27)",
    "stream.burst_us_per_chunk": "<= 15 (aim 6)",
    "stream.ttft_added_p99_ms": "<= 2 (aim 1.2)",
}
STREAMS = 16
RATE = 30
"""New streams a second for the time to the first token: at 0.5 s each, about 16 at once."""


def run(quick: bool) -> Part:
    seconds, count = (1.2, 3) if quick else (3.5, 3)
    paced = _requests.chat("mock-g10-n50", stream=True, schema=False)
    burst = _requests.chat("mock-g0-n50", stream=True, schema=False)
    with bench() as here:
        weir = here.weir()
        targets = [here.direct, weir]
        try:
            targets.append(_peers.nginx(here))
        except NotRun as exc:
            print(f"  nginx: not run: {exc}")

        def streaming(body: bytes, target: Target) -> dict[str, float]:
            return here.measure(target, body, "-c", str(STREAMS), "-t", str(seconds), "-S")

        def arriving(target: Target) -> dict[str, float]:
            return here.measure(target, paced, "-r", str(RATE), "-n", "64", "-t", str(seconds * 1.5), "-S")

        tests: dict[str, Callable[[Target], dict[str, float]]] = {
            "paced": partial(streaming, paced),
            "burst": partial(streaming, burst),
            "arriving": arriving,
        }
        for target in targets[1:]:
            streaming(burst, target)
        found = interleaved(count, targets, tests)
        notes = here.notes()
    for (name, test), rows in found.items():
        healthy(rows, f"{name} {test}")
        if any(row["chunks"] < 50 * row["requests"] for row in rows):
            raise ValueError(f"{name} {test}: chunks are missing")
    figures = {
        "stream.paced_us_per_chunk": middle_cpu_us(found["weir", "paced"], "chunks"),
        "stream.burst_us_per_chunk": middle_cpu_us(found["weir", "burst"], "chunks"),
        "stream.ttft_added_p50_ms": added_ms(found["weir", "arriving"], found["direct", "arriving"], "ttft_p50"),
        "stream.ttft_added_p99_ms": added_ms(found["weir", "arriving"], found["direct", "arriving"], "ttft_p99"),
        "stream.chunk_lag_added_p99_ms": added_ms(found["weir", "paced"], found["direct", "paced"], "lag_p99"),
        "stream.burst_chunks_per_s": middle(
            [{"rate": row["chunks"] / row["seconds"]} for row in found["weir", "burst"]], "rate"
        ),
    }
    table = [
        ("CPU us per chunk", "paced", "burst"),
        *(
            (target.name, *(f"{middle_cpu_us(found[target.name, test], 'chunks'):.1f}" for test in ("paced", "burst")))
            for target in targets[1:]
        ),
    ]
    return Part(figures, table=table, notes={**notes, "ttft": f"{RATE} new streams a second, open loop"})
