"""Real traffic, a real Prometheus: every panel and every rule has something to show, and promtool agrees with both."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.observe.prometheus import NAMES, ROOT, Prometheus, prometheus, queries
from tests.observe.traffic import Traffic, rule_file, traffic

pytestmark = [pytest.mark.live("prometheus"), pytest.mark.timeout(180)]
DEPLOYED = ROOT / "deploy" / "prometheus"
PATIENCE = 60.0
"""Seconds until everything must have been scraped, and the rules have run over it, twice."""


def test_every_panel_and_every_rule_has_something_to_show(tmp_path: Path) -> None:
    """Mixed traffic is scraped: no query of a dashboard is empty, no rule fails, and no series is named that there is not."""

    async def run() -> None:
        async with traffic(tmp_path) as sent:
            rules = rule_file(sent.served.config, tmp_path / "rules.yml")
            async with prometheus(tmp_path, f"127.0.0.1:{sent.served.port}", rules) as asked:
                failed, empty, unknown = await settled(sent, asked)
                assert failed == []
                assert empty == []
                assert unknown == set()

    asyncio.run(run())


async def settled(sent: Traffic, asked: Prometheus) -> tuple[list[str], list[str], set[str]]:
    """What still fails, is empty or unknown when there is nothing more, or when patience ends."""
    until = asyncio.get_running_loop().time() + PATIENCE
    empty = queries()
    named = {name for query in empty for name in NAMES.findall(query.expr)}
    while True:
        await sent.round()
        await asyncio.sleep(2.5)  # a scrape and a run of the rules lie between two rounds
        failed = await asked.failed()
        empty = await asked.empty(empty)
        unknown = named - await asked.names()
        if not (failed or empty or unknown) or asyncio.get_running_loop().time() > until:
            return failed, [f"{query.board} / {query.panel}: {query.filled}" for query in empty], unknown


@pytest.mark.parametrize(
    "command",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        ["test", "rules", str(ROOT / "tests" / "observe" / "burn_rates.yml")],
    ],
)
def test_promtool_agrees(command: list[str]) -> None:
    """What is deployed can be read, and the burn-rate alerts fire when they should and not otherwise."""
    done = subprocess.run(["promtool", *command], cwd=DEPLOYED, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
