"""What seeing costs, and whether it shows anything.

    python -m benchmarks.observe [--quick]          writes results/observe.json

- `dashboard.queries`, `dashboard.empty`, `rules.failed`: mixed traffic through a gateway, scraped by a real Prometheus; every query of
  every committed panel and every rule is asked there.
- `scrape_ms`: median of writing the page of a gateway with 40 routes, each of whose series has been counted.
- `metrics.cpu_share`: CPU of folding one Record into every series / CPU that a gateway takes for the whole request.
- `page.*`: the page of that gateway in a real chromium (`benchmarks._page`); left out where there is none.
- `counts.*`: workers and their deaths, from the module that PARTS names; where it cannot run, the notes say so.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import httpx

from benchmarks import _page, report
from gateway.demo import server
from gateway.metrics import Metrics
from gateway.record import AttemptRecord, Facts, Record, Seconds
from gateway.recorder import stored
from gateway.setup import MANY
from wire.types import Tokens

GOALS = {
    "counts.lost": "0",
    "scrape_ms": "< 50",
    "metrics.cpu_share": "< 0.05",
    "dashboard.empty": "0",
    "rules.failed": "0",
    "page.bytes": "< 200,000",
    "page.first_paint_ms": "< 1,000",
    "page.console_errors": "0",
}
PARTS: Mapping[str, str] = {"counts": "benchmarks._observe_counts"}
"""Prefix of figures > a module with `measure(*, quick: bool) -> dict[str, float]`, which raises RuntimeError where it cannot run."""
ROUTES, SCRAPES, FOLDS = 40, 20, 5_000
PATIENCE = 90.0


def shown() -> dict[str, float]:
    """`dashboard.*` and `rules.failed`; with a browser, `page.*` of that gateway too. Raises FileNotFoundError without Prometheus."""
    with tempfile.TemporaryDirectory(prefix="weir-observe-") as folder:
        return asyncio.run(_shown(Path(folder)))


async def _shown(folder: Path) -> dict[str, float]:
    from tests.observe.prometheus import prometheus, queries
    from tests.observe.traffic import rule_file, traffic

    panels = empty = queries()
    async with traffic(folder) as sent:
        rules = rule_file(sent.served.config, folder / "rules.yml")
        async with prometheus(folder, f"127.0.0.1:{sent.served.port}", rules) as asked:
            until = time.monotonic() + PATIENCE
            while True:
                await sent.round()
                await asyncio.sleep(2.5)
                failed, empty = await asked.failed(), await asked.empty(empty)
                if not (failed or empty) or time.monotonic() > until:
                    break
        figures: dict[str, float] = {
            "dashboard.queries": len(panels),
            "dashboard.empty": len(empty),
            "rules.failed": len(failed),
        }
        with suppress(_page.NoBrowser):
            figures |= await _page.measure(sent.served.url)
        return figures


def scrape_ms(scrapes: int = SCRAPES) -> float:
    """Median of `scrapes` pages after the first, of ROUTES routes in full use."""
    routes = [f"route-{number}" for number in range(ROUTES)]
    metrics = Metrics(routes, ["small", "cloud"], tiers=["rules"], version="1")
    for route in routes:
        for record in _mixed(route):
            metrics.observe([record])
        metrics.wrote(route, 0.001)
    metrics.render()
    return 1000 * statistics.median(_seconds(metrics.render, time.perf_counter) for _ in range(scrapes))


def cpu_share(requests: int, folds: int = FOLDS) -> float:
    """CPU seconds of `observe` for a Record / CPU seconds that a gateway in a process of its own takes for such a request: accepted, from a
    small model over HTTP, under a schema, 8 in flight."""
    whole, record = asyncio.run(_requests(requests))
    metrics = Metrics([record.route], [attempt.rung for attempt in record.attempts], tiers=["rules"])
    metrics.observe([record])

    together = [record] * MANY  # as they come at a gateway that has much to do

    def fold() -> None:
        for _ in range(folds // MANY):
            metrics.observe(together)

    return _seconds(fold, time.process_time) / folds / whole


async def _requests(count: int) -> tuple[float, Record]:
    """CPU seconds of the gateway for one request, as its own page says, and a Record of one."""
    from tests.backends.upstream import upstream
    from tests.line.world import CONFIG, GOOD, asks, says

    with tempfile.TemporaryDirectory(prefix="weir-observe-") as name:
        folder = Path(name)
        async with upstream(says(GOOD)) as model:
            text = CONFIG.format(
                small=model.url, cloud=model.url, routes="", server="", more="", deadline=8, backends=""
            )
            config = folder / "weir.yaml"
            config.write_text(f"{text}\n".replace("server: {", f'server: {{state_dir: "{folder}/var", tend: false, '))
            async with (
                server.serving(config, folder / "log") as gateway,
                httpx.AsyncClient(base_url=gateway.url, timeout=20) as client,
            ):
                lane = asyncio.Semaphore(8)

                async def ask() -> None:
                    async with lane:
                        (await client.post("/v1/chat/completions", json=asks())).raise_for_status()

                await asyncio.gather(*(ask() for _ in range(50)))
                before = await _cpu(gateway)
                await asyncio.gather(*(ask() for _ in range(count)))
                whole = (await _cpu(gateway) - before) / count
        return whole, next(stored(folder / "var"))


async def _cpu(gateway: server.Server) -> float:
    lines = (await gateway.get("/metrics")).decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("process_cpu_seconds_total"))


def _mixed(route: str) -> Sequence[Record]:
    """An accepted, an escalated and a direct request."""
    small = AttemptRecord(1, "small", "delivered", seconds=0.2, first_seconds=0.1, chunks=9, probability=0.95,
                          tokens=Tokens(input=90, output=9), cost=0.001)  # fmt: skip
    cloud = AttemptRecord(2, "cloud", "delivered", start=0.3, seconds=0.9, first_seconds=0.4, chunks=40,
                          tokens=Tokens(input=90, output=30), cost=0.01)  # fmt: skip
    rejected = AttemptRecord(1, "small", "rejected", reason="low_confidence", seconds=0.2, probability=0.5, cost=0.001)
    took = Seconds(total=1.0, router=0.001, upstream=0.9, check=0.001, first_byte=0.5, parse=0.001, accept=0.001)

    def record(outcome: str, *attempts: AttemptRecord) -> Record:
        return Record(
            id="r", time=0.0, outcome=outcome, route=route, mode="enforce", reason="matched", top="cloud",  # type: ignore[arg-type]
            facts=Facts(model="m"), attempts=attempts, served=attempts[-1].rung, direct=outcome == "direct", seconds=took,
            router="rules", cost=0.01, counterfactual_cost=0.01,
        )  # fmt: skip

    return record("accepted", small), record("escalated", rejected, cloud), record("direct", cloud)


def _seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    work()
    return clock() - started


def main() -> None:
    parser = argparse.ArgumentParser(description="What seeing costs, and whether it shows anything.")
    parser.add_argument("--quick", action="store_true", help="fewer requests")
    quick = parser.parse_args().quick
    figures: dict[str, float] = {"scrape_ms": scrape_ms(), "metrics.cpu_share": cpu_share(300 if quick else 3000)}
    notes: dict[str, str] = {"run": "quick" if quick else "full"}
    try:
        figures |= shown()
    except FileNotFoundError:
        notes["dashboard"] = "not run: no prometheus here"
    for name, module in PARTS.items():
        try:
            figures |= import_module(module).measure(quick=quick)
        except (ModuleNotFoundError, RuntimeError) as exc:
            notes[name] = f"not run: {exc}"
    report.finish(report.result("observe", figures, notes=notes), GOALS)


if __name__ == "__main__":
    main()
