"""A narrow task end to end: `narrow.*`. SNIPS utterances through the whole gateway to the specialist behind a real vLLM (CPU build).

Time to the whole answer as a client sees it, one request at a time and 32 at once, of what the specialist answered and was trusted with;
the rest goes to a scripted large model, whose time (log-normal around 2 s) is what the ratio compares with: p95 over p95.
"""

import asyncio
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from benchmarks.quality import _engine, _house, snips
from benchmarks.quality._oracle import oracle
from benchmarks.quality.parts import Part
from gateway.demo import server
from gateway.demo.account import percentile
from models.rebuild.snips import FOLDER, data
from models.rebuild.snips.data import Utterance

LOADS = {1: 300, 32: 1400}
"""In parallel > requests."""
WARM = 40
GOALS = {"narrow.e2e_p95_ms": "aim < 200"}
LARGE_P95 = 1000 * _house.MEDIAN * math.exp(1.6449 * _house.SIGMA)
"""Milliseconds, of the scripted large model alone."""


async def times(client: httpx.AsyncClient, utterances: Sequence[Utterance], parallel: int) -> tuple[list[float], int]:
    """Milliseconds of what the specialist served, and how many requests there were."""
    local: list[float] = []
    todo = iter(utterances)

    async def work() -> None:
        for utterance in todo:
            began = time.perf_counter()
            answer = await client.post("/v1/chat/completions", json=data.request(utterance))
            if answer.headers.get("x-weir-rung") == "snips":
                local.append(1000 * (time.perf_counter() - began))

    async with asyncio.TaskGroup() as group:
        for _ in range(parallel):
            group.create_task(work())
    return local, len(utterances)


async def measure(quick: bool) -> Part:
    mine = snips.parts()
    pool = [*mine["certify"], *mine["test"]]
    figures: dict[str, float] = {}
    rows: list[tuple[str, ...]] = [("in parallel", "p50 ms", "p95 ms", "p95 / large alone", "served by the specialist")]
    with tempfile.TemporaryDirectory(prefix="weir-narrow-") as name:
        folder = Path(name)
        async with (
            _engine.serving(FOLDER, folder / "vllm.log") as small,
            oracle(_house.oracle_answers(tuple(pool))) as large,
        ):
            config = _house.config(folder, small, large.url)
            await snips.scored(config, kept=True, live=True)
            async with (
                server.serving(config, folder / "gateway.log") as served,
                httpx.AsyncClient(base_url=served.url, timeout=120, trust_env=False) as client,
            ):
                await times(client, pool[-WARM:], 8)  # the first constrained request compiles the grammar
                for parallel, count in LOADS.items():
                    local, asked = await times(client, pool[: count // (4 if quick else 1)], parallel)
                    p50, p95 = percentile(local, 0.5), percentile(local, 0.95)
                    suffix = "" if parallel == 1 else f"_{parallel}"
                    figures |= {
                        f"narrow.e2e_p50{suffix}_ms": p50,
                        f"narrow.e2e_p95{suffix}_ms": p95,
                        f"narrow.ratio_to_llm{suffix}": p95 / LARGE_P95,
                        f"narrow.local_share{suffix}": len(local) / asked,
                    }
                    share = f"{len(local) / asked:.1%}"
                    rows.append((str(parallel), f"{p50:.1f}", f"{p95:.1f}", f"{p95 / LARGE_P95:.3f}", share))
    notes = {
        "large": f"scripted: log-normal, median {_house.MEDIAN} s, sigma {_house.SIGMA}; its p95 is {LARGE_P95:.0f} ms"
    }
    return Part(figures, rows, notes)


def run(quick: bool = False) -> Part:
    """--quick: a quarter of the requests. Raises NotRun without vLLM, or when `snips` has kept no answers of this model."""
    snips.kept_answers()
    return asyncio.run(measure(quick))
