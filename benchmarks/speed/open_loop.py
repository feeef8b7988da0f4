"""Added latency at 2,000 requests a second that come when they come (Poisson), on an upstream of 50 ms."""

from benchmarks.quality.parts import NotRun, Part
from benchmarks.speed import _peers, _requests
from benchmarks.speed._bench import Target, bench, healthy, interleaved
from benchmarks.speed.numbers import added_ms, middle, middle_cpu_us

GOALS = {"open2000.added_p50_ms": "<= 1.2 (aim 0.5)", "open2000.added_p99_ms": "<= 3 (aim 1.0)"}
RATE = 2000


def run(quick: bool) -> Part:
    seconds, count = (1.5, 3) if quick else (5.0, 5)
    body = _requests.chat("mock-j-d50")
    with bench() as here:
        weir = here.weir()
        targets = [here.direct, weir]
        try:
            targets.append(_peers.nginx(here))
        except NotRun as exc:
            print(f"  nginx: not run: {exc}")

        def at_rate(target: Target) -> dict[str, float]:
            return here.measure(target, body, "-r", str(RATE), "-t", str(seconds))

        for target in targets[1:]:
            at_rate(target)
        found = interleaved(count, targets, {"open": at_rate})
        notes = here.notes()
    for (name, _), rows in found.items():
        healthy(rows, name)
    direct = found["direct", "open"]
    weir_rows = found["weir", "open"]
    return Part(
        figures={
            "open2000.added_p50_ms": added_ms(weir_rows, direct, "p50"),
            "open2000.added_p99_ms": added_ms(weir_rows, direct, "p99"),
            "open2000.cpu_us": middle_cpu_us(weir_rows),
            "open2000.generator_late_p99_ms": middle(direct, "late_p99") / 1000,
        },
        table=[
            ("2,000 req/s, open loop", "added p50 ms", "added p99 ms", "CPU us"),
            *(
                (
                    target.name,
                    f"{added_ms(found[target.name, 'open'], direct, 'p50'):.3f}",
                    f"{added_ms(found[target.name, 'open'], direct, 'p99'):.3f}",
                    f"{middle_cpu_us(found[target.name, 'open']):,.0f}",
                )
                for target in targets[1:]
            ),
        ],
        notes={
            **notes,
            "open loop": "latency counts from the moment a request was due; generator_late: how late the generator itself sent",
        },
    )
