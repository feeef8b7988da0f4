"""What large requests cost: bodies of 6, 30 and 300 kB at 200 requests a second (open loop), TLS from the client and to the upstream.

Weir speaks plain HTTP to its clients, so nginx ends their TLS in front of it, on the gateway's core, as it would in production; the
mock gets its TLS from another nginx, on the load's core, which `direct` goes through too.
"""

from typing import Any

from benchmarks.quality.parts import Part
from benchmarks.speed import _peers, _requests
from benchmarks.speed._bench import Target, bench, healthy, interleaved
from benchmarks.speed.numbers import added_ms, middle_cpu_us

GOALS = {"bodies.300kb_added_p99_ms": "reported"}
SIZES_KB = (6, 30, 300)
RATE = 200


def run(quick: bool) -> Part:
    seconds, count = (1.0, 3) if quick else (3.0, 3)
    with bench() as here:
        certificate, _ = _peers.certificate_of(here)
        bare = _peers.tls_front(here, "direct-tls", here.direct.port, here.load_core)
        direct = Target("direct", bare.port, tls=True)
        upstream = f"https://127.0.0.1:{bare.port}/v1"
        behind = here.weir(upstream=upstream, environ={"SSL_CERT_FILE": certificate})
        front = _peers.tls_front(here, "front", behind.port, here.gateway_core)
        weir = Target("weir", front.port, behind.pid, tls=True)
        tests = {}
        for size in SIZES_KB:
            body = _requests.chat("mock-j", size=size * 1000)

            def at_rate(target: Target, body: bytes = body) -> dict[str, float]:
                return here.measure(target, body, "-r", str(RATE), "-n", "64", "-t", str(seconds))

            at_rate(weir)
            tests[f"{size}kb"] = at_rate
        found = interleaved(count, [direct, weir], tests)
        notes = here.notes()
    for (name, test), rows in found.items():
        healthy(rows, f"{name} {test}")
    figures: dict[str, float] = {}
    table: list[Any] = [("TLS both sides, 200 req/s", "added p50 ms", "added p99 ms", "CPU us")]
    for test in tests:
        ours, theirs = found["weir", test], found["direct", test]
        figures[f"bodies.{test}_added_p50_ms"] = added_ms(ours, theirs, "p50")
        figures[f"bodies.{test}_added_p99_ms"] = added_ms(ours, theirs, "p99")
        cost = f"{middle_cpu_us(ours):,.0f}"
        table.append((test, *(f"{figures[f'bodies.{test}_added_{q}_ms']:.3f}" for q in ("p50", "p99")), cost))
    grown = SIZES_KB[-1] - SIZES_KB[0]
    slope = figures["bodies.300kb_added_p50_ms"] - figures["bodies.6kb_added_p50_ms"]
    figures["bodies.added_us_per_kb"] = slope * 1000 / grown
    return Part(figures, table, {**notes, "tls": "nginx ends TLS before Weir (on its core) and before the mock"})
