"""A structured answer that streams and is held until it is checked: when does the client get its first useful byte?

Against the bare upstream's last byte, which is the earliest moment at which anybody can know that the answer fits. Both are measured
from the time that the mock stamps into its last piece, so the upstream's own pace drops out.
"""

from benchmarks.quality.parts import Part
from benchmarks.speed import _requests
from benchmarks.speed._bench import Target, bench, healthy, interleaved
from benchmarks.speed.numbers import middle

GOALS = {"gated.first_byte_added_ms": "<= 1.5 (aim 0.5)"}


def run(quick: bool) -> Part:
    seconds, count = (1.0, 3) if quick else (3.0, 3)
    body = _requests.chat("mock-j-g5-n10", stream=True)
    with bench() as here:
        weir = here.weir()

        def streams(target: Target) -> dict[str, float]:
            return here.measure(target, body, "-c", "4", "-t", str(seconds), "-S")

        streams(weir)
        found = interleaved(count, [here.direct, weir], {"gated": streams})
        notes = here.notes()
    for (name, _), rows in found.items():
        healthy(rows, name)
    ours, bare = found["weir", "gated"], found["direct", "gated"]
    if middle(ours, "gate_p50") < 0:
        raise ValueError("the answer was not held: its first byte came before the upstream's last piece")
    figures = {
        f"gated.first_byte_added{name}_ms": (middle(ours, f"gate_{q}") - middle(bare, f"tail_{q}")) / 1000
        for name, q in (("", "p50"), ("_p99", "p99"))
    }
    return Part(figures, notes=notes)
