"""A real Prometheus on a free port, what is asked of it, and the dashboards' queries. Also for `benchmarks.observe`."""

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
BOARDS = ROOT / "deploy" / "grafana" / "dashboards"
VARIABLES = {"$__rate_interval": "1m", "$__range": "5m", "$route": ".+", "$rung": ".+"}
"""What Grafana would put there."""
NAMES = re.compile(r"[a-zA-Z_:]*weir[_:][a-zA-Z0-9_:]+|process_[a-z_]+|\bup\b")
START_SECONDS = 60.0
CONFIG = """
global: {{scrape_interval: 2s, evaluation_interval: 2s}}
rule_files: [{rules}]
scrape_configs: [{{job_name: weir, static_configs: [{{targets: ["{target}"]}}]}}]
"""


class Query(NamedTuple):
    board: str
    panel: str
    expr: str
    """As in the dashboard, variables and all."""

    @property
    def filled(self) -> str:
        found = self.expr
        for name, value in VARIABLES.items():
            found = found.replace(name, value)
        return found


class Prometheus:
    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def _get(self, path: str, **params: str) -> Any:
        told = (await self._client.get(path, params=params)).json()
        if told["status"] != "success":
            raise ValueError(f"{params}: {told.get('error')}")
        return told["data"]

    async def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series now. Raises ValueError for what is no query."""
        data = await self._get("/api/v1/query", query=expr)
        return [(found["metric"], float(found["value"][1])) for found in data["result"]]

    async def rules(self) -> list[dict[str, Any]]:
        """As `/api/v1/rules` tells them: name, query, type, health, lastError."""
        groups = (await self._get("/api/v1/rules"))["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def names(self) -> set[str]:
        """Of every series there is."""
        return set(await self._get("/api/v1/label/__name__/values"))

    async def empty(self, queries: Iterable[Query]) -> list[Query]:
        """Those that return nothing, or nothing that is a number."""
        return [query for query in queries if not any(map(math.isfinite, await self._values(query.filled)))]

    async def _values(self, expr: str) -> list[float]:
        return [value for _, value in await self.query(expr)]

    async def failed(self) -> list[str]:
        """Rules that cannot be evaluated, recording rules without a result, and alerts on a series that there is not."""
        known, found = await self.names(), []
        for rule in await self.rules():
            absent = sorted(set(NAMES.findall(rule["query"])) - known)
            if rule["health"] != "ok":
                found.append(f"{rule['name']}: {rule['health']} {rule.get('lastError', '')}")
            elif absent:
                found.append(f"{rule['name']}: no series {', '.join(absent)}")
            elif rule["type"] == "recording" and not await self.query(rule["query"]):
                found.append(f"{rule['name']}: no result")
        return found


def queries() -> list[Query]:
    """Every query of every panel, as committed."""
    found = []
    for path in sorted(BOARDS.glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            found += [Query(board["title"], panel["title"], target["expr"]) for target in panel.get("targets", ())]
    return found


@asynccontextmanager
async def prometheus(folder: Path, target: str, rules: Path) -> AsyncIterator[Prometheus]:
    """Scrapes `target` (HOST:PORT) every other second. Its data and its log stand in `folder`."""
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(rules=rules, target=target))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    command += [f"--web.listen-address={address}", "--log.level=warn"]
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as client:
            await _ready(client, process, folder / "prometheus.log")
            yield Prometheus(client)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _ready(client: httpx.AsyncClient, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            if process.returncode is not None:
                raise RuntimeError(f"prometheus ended while starting: see {log}")
            try:
                if (await client.get("/-/ready")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)
