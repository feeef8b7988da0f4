"""Requests whose route is found by static embedding: 512 characters that nobody has sent before, of words that the table has met."""

from typing import Any

from benchmarks.quality.parts import Part
from benchmarks.speed import _process, _requests
from benchmarks.speed._bench import Target, bench, healthy, interleaved, records
from benchmarks.speed.numbers import added_ms, middle, middle_cpu_us

GOALS = {"embed.rps": ">= 3000 (aim 7000)"}
EXAMPLES = {
    "refunds": [
        "I want my money back for this order", "please refund the last invoice", "how do I return a broken item",
        "the parcel came damaged and I want a refund", "cancel my order and pay me back",
    ],
    "deliveries": [
        "where is my parcel", "when will the order arrive", "my delivery is late", "change the delivery address",
        "the courier left the box with a neighbour",
    ],
    "accounts": [
        "I forgot my password", "change the email of my account", "close my account", "why can I not log in",
        "how do I add a second user",
    ],
}  # fmt: skip


def embedding(table: dict[str, Any]) -> None:
    """weir.yaml with a cascade of rules and embedding; no rule fits what is sent."""
    table["router"]["use"] = {"kind": "cascade", "of": [{"kind": "rules", "sure": 0.99}, {"kind": "embedding"}]}
    del table["routes"]["structured"]
    for name, examples in EXAMPLES.items():
        table["routes"][name] = {"examples": examples, "ladder": ["small", "large"], "mode": "enforce"}
    table["routes"]["general"]["ladder"] = ["small", "large"]


def run(quick: bool) -> Part:
    seconds, count = (1.0, 3) if quick else (4.0, 3)
    body = _requests.chat("mock-j", text=_requests.UNSEEN)
    with bench() as here:
        words = here.folder / "words"
        words.write_text(
            " ".join(sorted({word for texts in EXAMPLES.values() for text in texts for word in text.split()}))
        )
        weir = here.weir(change=embedding)
        flags = ("-U", str(words), "-t", str(seconds))

        def closed(target: Target) -> dict[str, float]:
            return here.measure(target, body, "-c", "64", *flags)

        def one(target: Target) -> dict[str, float]:
            return here.measure(target, body, "-c", "1", *flags)

        closed(weir)
        found = interleaved(count, [weir], {"embed": closed})
        found |= interleaved(count, [here.direct, weir], {"one": one})
        memory = _process.pss_mib(weir.pid)
        scored = {record.get("router", "") for record in records(here.folder / "weir")}
        notes = here.notes()
    if not any("embedding" in source for source in scored):
        raise ValueError(f"the embedding was not asked, but {', '.join(sorted(scored))}")
    for (name, test), rows in found.items():
        healthy(rows, f"{name} {test}")
    figures = {
        "embed.rps": middle(found["weir", "embed"], "rps"),
        "embed.cpu_us": middle_cpu_us(found["weir", "embed"]),
        "embed.added_p50_ms": added_ms(found["weir", "one"], found["direct", "one"], "p50"),
        "embed.memory_mib": memory,
    }
    return Part(figures, notes=notes)
