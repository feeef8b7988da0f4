"""Memory after 50,000 requests, and the time from the process's start to its first answer. Rules only; embedding is told by `embed`."""

from statistics import median

from benchmarks.quality.parts import Part
from benchmarks.speed import _process, _requests
from benchmarks.speed._bench import bench, healthy

GOALS = {"memory_mib": "<= 90 (aim 60)", "start_s": "<= 1.0 (aim 0.6)"}
REQUESTS = 50_000


def run(quick: bool) -> Part:
    body, starts = _requests.chat("mock-j"), []
    with bench() as here:
        for turn in range(3 if quick else 5):
            once = here.weir(f"start-{turn}")
            starts.append(once.started_s)
            here.stop(once)
        weir = here.weir()
        idle = _process.pss_mib(weir.pid)
        done, rows = 0.0, []
        while done < REQUESTS:
            row = here.measure(weir, body, "-c", "64", "-t", "2")
            rows.append(row)
            healthy([row], "weir")
            done += row["requests"]
        after = _process.pss_mib(weir.pid)
        notes = here.notes()
    figures = {
        "memory_mib": after,
        "memory_idle_mib": idle,
        "start_s": median(starts),
    }
    return Part(
        figures, notes={**notes, "memory": f"PSS of the process tree after {done:,.0f} requests, 64 connections"}
    )
