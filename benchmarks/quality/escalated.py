"""What escalation costs in time: `escalated.*`, `speculation.*`.

A real gateway between two scripted models. The small one says token by token, with their log-probabilities, what the real specialist said
to each text (kept by the part `snips`), in a share of the large one's time; the large one takes a log-normal time around 2 s. The tagger
beside them is the real one. Every text is asked of the route with speculation, of the route without, and of the large model alone, through
the same gateway and with the same times. Of the texts that escalated: p95 of the route's time over p95 of the large model's alone. Waste:
large answers that were begun and that nobody got, over all requests. The texts come in an order without meaning, as traffic does (the
data's is intent by intent).

A p95 hangs on the few requests that happen to be slow: of 500 escalated ones and one draw of times the ratio is known to +-0.04. So the
headline pools DRAWS draws of both models' times (the notes say what each gave alone).

It is a measurement of waiting, not of computing: so few are in flight that client, models and gateway need a small part of two cores
(`escalated.added_p95_ms` says what they add to the large model's own time, on the way without a small one; a run where it is above 2 % of
the large model's p95 does not count, and is not kept).
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from benchmarks.quality import _house, snips
from benchmarks.quality._bfcl_data import Spoken
from benchmarks.quality._players import Large, Small, playing
from benchmarks.quality.parts import NotRun, Part
from gateway.calibrate.collect import Answer
from gateway.demo import server
from gateway.demo.account import percentile
from models.rebuild.snips import data
from models.rebuild.snips.data import Utterance

RATIOS = (0.1, 0.3, 0.5)
HEADLINE = 0.3
WASTE = 0.03
DRAWS = 3
"""Of times, at the headline ratio."""
BUSY = 0.02
"""Of the large model's p95: as much may client, models and gateway add."""
PARALLEL = 64
QUICK = 240
GOALS = {"escalated.p95_ratio": "<= 1.05", "speculation.waste": "<= 0.03"}


Said = dict[str, Answer]
"""Text > what the specialist said to it."""


class Run(Struct, frozen=True):
    """One pass over all texts."""

    seconds: Mapping[str, float]
    """Text > seconds to the whole answer."""
    escalated: frozenset[str]
    """Texts that the large model answered."""
    wasted: int
    """Large answers that were begun and that nobody got: hung up on, or come before the small one was taken."""


async def ask(route: str, texts: Sequence[Utterance], config: Path, large: Large, folder: Path) -> Run:
    """Every text once. Raises RuntimeError on an answer that is no 200."""
    seconds: dict[str, float] = {}
    escalated: set[str] = set()
    before = large.asked
    async with (
        server.serving(config, folder / "gateway.log") as served,
        httpx.AsyncClient(
            base_url=served.url, timeout=120, trust_env=False, limits=httpx.Limits(max_connections=PARALLEL)
        ) as client,
    ):
        for _ in range(400):  # the tagger's process is still starting
            answer = await client.post("/v1/chat/completions", json=_body("tagger", texts[0]))
            if answer.status_code == 200:
                break
            await asyncio.sleep(0.05)
        else:
            raise RuntimeError(f"the tagger does not answer: {answer.text[:300]}")
        todo = iter(texts)

        async def work() -> None:
            for utterance in todo:
                body = _body(route, utterance)
                began = time.perf_counter()
                answer = await client.post("/v1/chat/completions", json=body)
                seconds[utterance.text] = time.perf_counter() - began
                if answer.status_code != 200:
                    raise RuntimeError(f"{answer.status_code}: {answer.text[:300]}")
                if answer.headers["x-weir-rung"] == "large":
                    escalated.add(utterance.text)

        async with asyncio.TaskGroup() as group:
            for _ in range(PARALLEL):
                group.create_task(work())
        await asyncio.sleep(0.1)  # the last of those that were hung up on are noticed
    return Run(seconds, frozenset(escalated), large.asked - before - len(escalated))


def _body(route: str, utterance: Utterance) -> dict[str, Any]:
    return {**data.request(utterance), "model": f"route/{route}"}


class Both(Struct, frozen=True):
    """The route's times and the large model's alone, of texts that escalated; both (n,) in seconds."""

    mine: Sequence[float]
    theirs: Sequence[float]

    def ratio(self, q: float) -> float:
        return percentile(self.mine, q) / percentile(self.theirs, q)


async def measure(texts: Sequence[Utterance], said: Said, draws: Mapping[float, int]) -> dict[str, Any]:
    """Figures and rows. draws: ratio > how many draws of times."""
    right = {u.text: Spoken(calls=((u.intent, dict(data.arguments(u))),)) for u in texts}
    figures: dict[str, float] = {}
    each: dict[str, list[float]] = {}
    rows: list[tuple[str, ...]] = [
        ("small / large", "speculation", "escalated", "p95 / large alone", "p50 /", "wasted")
    ]
    with tempfile.TemporaryDirectory(prefix="weir-escalated-") as name:
        folder = Path(name)
        large = Large(right)
        async with playing(large) as above:
            config = _house.config(folder, snips.NOWHERE, above, tend=False)
            await snips.scored(config, kept=True)  # writes the calibration beside the configuration
            alone: list[Run] = []
            for draw in range(max(draws.values())):
                large.draw = draw
                alone.append(await ask("direct", texts, config, large, folder))
            added = [1000 * (seconds - _house.large_seconds(text)) for text, seconds in alone[0].seconds.items()]
            figures |= {
                "escalated.added_p50_ms": percentile(added, 0.5),
                "escalated.added_p95_ms": percentile(added, 0.95),
            }
            most = 1000 * BUSY * percentile(list(alone[0].seconds.values()), 0.95)
            if figures["escalated.added_p95_ms"] > most:
                raise NotRun(
                    f"the machine is busy: {figures['escalated.added_p95_ms']:.0f} ms added at p95, at most {most:.0f} count"
                )
            for ratio, count in draws.items():
                small = Small(said, ratio)
                async with playing(small) as below:
                    for early in (True, False):
                        more = f", speculate: {{waste: {WASTE}}}" if early else ""
                        config = _house.config(folder, below, above, more=more, tend=False)
                        runs: list[Run] = []
                        for draw in range(count):
                            large.draw = small.draw = draw
                            runs.append(await ask("snips", texts, config, large, folder))
                        pooled = [_both(run, other) for run, other in zip(runs, alone, strict=False)]
                        all_of_them = Both(
                            [s for one in pooled for s in one.mine], [s for one in pooled for s in one.theirs]
                        )
                        waste = sum(run.wasted for run in runs) / len(texts) / count
                        escalated = sum(len(run.escalated) for run in runs) / len(texts) / count
                        label = "with" if early else "without"
                        p95, p50 = all_of_them.ratio(0.95), all_of_them.ratio(0.5)
                        each[f"{label}_at_{ratio:g}"] = [round(one.ratio(0.95), 4) for one in pooled]
                        figures |= {
                            f"escalated.p95_ratio_{label}_at_{ratio:g}": p95,
                            f"escalated.p50_ratio_{label}_at_{ratio:g}": p50,
                            f"speculation.waste_{label}_at_{ratio:g}": waste,
                            "escalated.share": escalated,
                        }
                        rows.append(
                            (f"{ratio:g}", label, f"{escalated:.1%}", f"{p95:.3f}", f"{p50:.3f}", f"{waste:.2%}")
                        )
    return {"figures": figures, "rows": rows, "draws": each}


def _both(run: Run, alone: Run) -> Both:
    return Both([run.seconds[text] for text in run.escalated], [alone.seconds[text] for text in run.escalated])


def run(quick: bool = False) -> Part:
    """1,750 texts that the confidence was not fitted on, at three ratios; --quick: 240 of them, at the headline ratio. Raises NotRun."""
    mine = snips.parts()
    texts, said = _known([*mine["certify"], *mine["test"]])
    if quick:
        texts = texts[:: max(1, len(texts) // QUICK)]
    random.Random("order").shuffle(texts)
    draws = {HEADLINE: 1} if quick else {ratio: DRAWS if ratio == HEADLINE else 1 for ratio in RATIOS}
    found = asyncio.run(measure(texts, said, draws))
    figures = {
        "escalated.p95_ratio": found["figures"][f"escalated.p95_ratio_with_at_{HEADLINE:g}"],
        "speculation.waste": found["figures"][f"speculation.waste_with_at_{HEADLINE:g}"],
        **found["figures"],
    }
    notes = {
        "models": f"both scripted; the large one log-normal, median {_house.MEDIAN} s, sigma {_house.SIGMA}; the small one replays the "
        "specialist's own tokens and log-probabilities",
        "requests": len(texts),
        "in_flight": PARALLEL,
        "p95_ratio_of_each_draw": found["draws"],
    }
    return Part(figures, found["rows"], notes)


def _known(utterances: Sequence[Utterance]) -> tuple[list[Utterance], Said]:
    """Texts to which the specialist has said something, each text once, and what it said."""
    answers = [msgspec.json.decode(line, type=Answer) for line in snips.kept_answers()]
    by_key = {answer.key: answer for answer in answers if answer.drafts}
    keys = snips.keys(utterances)
    said = {u.text: by_key[key] for u, key in zip(utterances, keys, strict=True) if key in by_key}
    return list({u.text: u for u in utterances if u.text in said}.values()), said
