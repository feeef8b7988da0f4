"""How long a routing decision takes: rules, then static embeddings, then `decide`. Also MiniLM, which is never on that way.

    python -m benchmarks.router [--quick]

Texts have exactly 64 tokens, are put together from words of CLINC150 and GSM8K, and none is shown twice. The process is pinned to one
core, and what the collector could look at is frozen, as `weir serve` does it. Two states of the static tier's memo, which keeps the
sum of each word's tokens: *warm* (words seen before, the text not) is `router.decision_*`; *cold* is
`router.decision_cold_*`, an eighth of the words being invented, so that the memo never helps.

The cascade is the demo's: rules for two routes, embedding with a handful of examples. `router.decision_150_routes_*` is the same with
150 routes of ten examples each, which is far more than a configuration usually has.
"""

import argparse
import asyncio
import gc
import os
import random
import string
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import structs

from benchmarks import report
from embed.client import Client
from embed.minilm import MiniLM
from embed.static import StaticTable
from gateway.app import Resources, build
from gateway.decide import decide
from gateway.demo import setting, traffic
from gateway.demo.account import percentile
from gateway.demo.run import DATA
from gateway.dialects import chat
from gateway.dialects.base import Caller
from gateway.settings.load import load
from gateway.setup import Setup
from routers.base import RouteSpec
from routers.cascade import Cascade, CascadeConfig
from wire.types import Query

STATIC, MINILM = Path("models/static-minilm-256"), Path("models/minilm-int8")
TOKENS = 64
INVENTED = 8
"""One word in so many, in texts that are to find the memo cold."""
GOALS = {"router.decision_p50_ms": "< 0.3", "router.decision_p99_ms": "< 2"}


class Writer:
    """Texts of exactly TOKENS tokens, never the same twice."""

    def __init__(self, table: StaticTable, words: Sequence[str], seed: int) -> None:
        self._table = table
        self._words = words
        self._chance = random.Random(seed)
        self._seen: set[str] = set()

    def text(self, *, invented: bool = False) -> str:
        while True:
            text = self._attempt(invented)
            if text and text not in self._seen:
                self._seen.add(text)
                return text

    def _attempt(self, invented: bool) -> str:
        words: list[str] = []
        while True:
            made = invented and len(words) % INVENTED == INVENTED - 1
            words.append(self._word() if made else self._chance.choice(self._words))
            count = len(self._table.ids(" ".join(words)) if len(words) > TOKENS // 3 else words)
            if count >= TOKENS:
                return " ".join(words) if count == TOKENS else ""

    def _word(self) -> str:
        return "".join(self._chance.choices(string.ascii_lowercase, k=7))


def words(data: traffic.Data) -> list[str]:
    texts = [text for text, _ in (*data.test, *data.prompts)]
    return sorted({word for text in texts for word in text.lower().split() if word.isalpha()})


def query(text: str) -> Query:
    """As the front door understands a chat with this text: no rule matches, so both tiers are asked."""
    body = {"model": traffic.MODEL, "messages": [{"role": "user", "content": text}]}
    return chat.understand(body, b"", Caller({}, "")).query


async def decisions(setup: Setup, queries: Sequence[Query]) -> list[float]:
    """Milliseconds of each decision, score and `decide` together."""
    took = []
    for asked in queries:
        started = time.perf_counter()
        scores = await setup.router.score(asked)
        decide(scores, setup.routes, setup.default)
        took.append(1000 * (time.perf_counter() - started))
    return took


@contextmanager
def one_core() -> Iterator[None]:
    """This process on one core, where the system can do that, and its collector as in `weir serve`."""
    able = hasattr(os, "sched_setaffinity")
    before = os.sched_getaffinity(0) if able else set()
    thresholds = gc.get_threshold()
    if able:
        os.sched_setaffinity(0, {min(before)})
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        if able:
            os.sched_setaffinity(0, before)


async def timed(texts: Sequence[str], encode: Callable[[str], Awaitable[Any]]) -> list[float]:
    """Milliseconds of each call, one at a time."""
    took = []
    for text in texts:
        started = time.perf_counter()
        await encode(text)
        took.append(1000 * (time.perf_counter() - started))
    return took


async def minilm(resources: Resources, long: Sequence[str], short: Sequence[str]) -> dict[str, float]:
    """MiniLM in its worker process, asked from here, one text at a time: 64 tokens, and utterances of CLINC150."""
    worker = Client(resources.resolve(MINILM))
    client = MiniLM(worker)
    await worker.start()
    try:
        await timed(short[:20], client.encode)
        full = await timed(long, client.encode)
        brief = await timed(short, client.encode)
    finally:
        await worker.close()
    return {**_percentiles("minilm.encode", full), **_percentiles("minilm.utterance", brief)}


def _percentiles(name: str, took: Sequence[float]) -> dict[str, float]:
    return {f"{name}_p50_ms": percentile(took, 0.5), f"{name}_p99_ms": percentile(took, 0.99)}


def measure(*, quick: bool = False) -> tuple[dict[str, float], dict[str, Any]]:
    """(figures, notes)."""
    count = 1000 if quick else 5000
    data = traffic.load(DATA)
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
        loaded = load(setting.write(Path(folder), setting.Setting(), data, ()))
        resources = Resources(loaded.folder)
        setup = build(loaded, resources)
    large = structs.replace(setup, router=many_routes(data, resources))
    writer = Writer(resources.static_table(STATIC), words(data), seed=1)
    kinds = {"": (setup, False), "_cold": (setup, True), "_150_routes": (large, False)}
    figures: dict[str, float] = {}
    for name, (used, invented) in kinds.items():
        queries = [query(writer.text(invented=invented)) for _ in range(500 + count)]
        with one_core():
            took = asyncio.run(decisions(used, queries))
        figures |= _percentiles(f"router.decision{name}", took[500:])
    texts = [writer.text() for _ in range(100 if quick else 500)]
    utterances = [text for text, _ in data.test[: 200 if quick else 1000]]
    figures |= asyncio.run(minilm(resources, texts, utterances))
    return figures, {
        "router.decisions": f"rules > embedding; {count} unseen texts of {TOKENS} tokens after 500 others, one core",
        "router.memo": f"decision_*: words seen before; decision_cold_*: one word in {INVENTED} never seen before",
    }


def many_routes(data: traffic.Data, resources: Resources) -> Cascade:
    """Rules and embedding over one route per intent, ten examples each."""
    config = CascadeConfig.model_validate({"kind": "cascade", "of": [{"kind": "rules"}, {"kind": "embedding"}]})
    specs = [
        RouteSpec(
            name=label,
            match={"schema_name": label},
            examples=[text for text, found in data.test if found == label][:10],
        )
        for label in data.labels
    ]
    return Cascade(config, specs, resources)


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a routing decision takes.")
    parser.add_argument("--quick", action="store_true", help="a fifth of the decisions")
    figures, notes = measure(quick=parser.parse_args().quick)
    report.finish(report.result("router", figures, notes=notes), GOALS)


if __name__ == "__main__":
    main()
