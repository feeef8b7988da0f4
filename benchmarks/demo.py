"""The main line in figures: quality on CLINC150, what a demo saves, and what Weir itself costs in time.

    python -m benchmarks.demo [--quick]          writes results/demo.json and results/demo-coverage.svg

- `clinc.*`: all 5,500 test items in process (benchmarks.clinc), also with --quick.
- `demo.*`, `cost.*`: one `weir demo`: 1,000 utterances at speed 1; with --quick 250 against a stand-in that is 20 times faster.
  Shares and costs do not depend on the stand-in's speed, only on the sample.
- `router.*`, `minilm.*`: benchmarks.router.
- `start_s`: from the start of `weir serve --config deploy/weir.yaml` to the first 200 of /readyz, median of 5.
- `overhead.*`: Records of requests that the encoder answered, one in flight: total less upstream, and its parts.
"""

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import clinc, report, router
from gateway.demo import run, server
from gateway.demo.account import Observation, percentile
from gateway.demo.run import Outcome
from gateway.demo.setting import Setting
from gateway.record import Record

FULL, QUICK = Setting(1000, 16, 1, 1.0), Setting(250, 16, 1, 20.0)
ALONE = Setting(300, 1, 2, 1000.0)
"""One in flight; the stand-in's answers are not looked at."""
CONFIG = report.ROOT / "deploy" / "weir.yaml"
STARTS = 5
GOALS = {
    **clinc.GOALS,
    **router.GOALS,
    "start_s": "< 2",
}


async def play(given: Setting) -> Outcome:
    """One demo. Raises RuntimeError when it did not go well: figures of a broken run are worth nothing."""
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
        async with run.playing(given, Path(folder), _nobody) as outcome:
            if not outcome.well:
                raise RuntimeError(f"the demo did not go well: {outcome.figures}; {outcome.books}")
            return outcome


def _nobody(observation: Observation) -> None:
    """Nobody watches."""


def of_demo(outcome: Outcome) -> dict[str, float]:
    """`demo.*` and `cost.*`; latencies as the gateway measured them."""
    found = outcome.figures
    figures = {
        "demo.overall_accuracy": found.overall_accuracy,
        "demo.llm_share": found.llm_share,
        "cost.ratio_to_all_llm": found.cost_ratio,
        "demo.local_share": found.local_share,
        "demo.local_accuracy": found.local_accuracy,
        "demo.local_coverage": found.local_coverage,
        "demo.oos_to_top": found.oos_to_top,
        "demo.escalation_rate": found.escalation_rate,
    }
    for rung, at in found.latency.items():
        name = f"demo.{rung.replace('-', '_')}"
        figures |= {f"{name}_p50_ms": at.gateway_p50_ms, f"{name}_p99_ms": at.gateway_p99_ms}
    return figures


def overhead() -> dict[str, float]:
    """Milliseconds per stage of the requests that the encoder answered, one at a time."""
    return stages(asyncio.run(play(ALONE)).records)


def stages(records: Sequence[Record]) -> dict[str, float]:
    """`overhead.STAGE_pNN_ms`; total is without upstream, `encoder` is that upstream."""
    local = [record for record in records if record.outcome == "accepted"]
    took = {
        "total": [record.seconds.total - record.seconds.upstream for record in local],
        "router": [record.seconds.router for record in local],
        "check": [record.seconds.check for record in local],
        "encoder": [record.seconds.upstream for record in local],
    }
    return {
        f"overhead.{stage}_p{at}_ms": 1000 * percentile(seconds, at / 100)
        for stage, seconds in took.items()
        for at in (50, 99)
    }


def start_seconds() -> float:
    """Median of STARTS starts of the shipped configuration."""

    async def once(folder: Path) -> float:
        async with server.serving(CONFIG, folder / "log") as served:
            return served.start_seconds

    with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
        return statistics.median(asyncio.run(once(Path(folder))) for _ in range(STARTS))


def main() -> None:
    parser = argparse.ArgumentParser(description="The main line in figures.")
    parser.add_argument("--quick", action="store_true", help="a smaller demo against a faster stand-in")
    quick = parser.parse_args().quick
    given = QUICK if quick else FULL
    quality = clinc.evaluate()
    played = asyncio.run(play(given))
    routed, about = router.measure(quick=quick)
    figures = quality["figures"] | of_demo(played) | routed | {"start_s": start_seconds()} | overhead()
    notes = {"clinc": {**quality["notes"], "curve": quality["curve"]}} | {"demo": played.table(given)} | about
    notes["run"] = (
        f"{'quick' if quick else 'full'}: demo of {given.utterances} utterances, stand-in at speed {given.speed:g}"
    )
    report.finish(report.result("demo", figures, notes=notes), GOALS)
    clinc.plot(quality["curve"], figures, report.RESULTS / "demo-coverage.svg")


if __name__ == "__main__":
    main()
