"""BFCL's function calls through the whole gateway, answered by an oracle: is anything lost on the wire? `bfcl.*`.

A gateway in a process of its own, two routes. `calls`: the oracle (_oracle.py) is both rungs, so that what a check turns down is
answered too, the same; answers of the first rung are held until they are checked, and then replayed. `direct`: the top rung alone,
whose stream is passed on as it comes. Every item is asked on both routes in every dialect, streamed and not.

Lost = the client's names, arguments (as canonical JSON), order or text are not the oracle's, or the request came to the oracle with
another text or other tools than the client sent.

    bfcl.wire_loss          share of the replays that lost anything
    bfcl.replays            items x routes x dialects x (streamed, whole)
    bfcl.first_rung_share   of route `calls`, delivered by the first rung; the rest are items whose ground truth does not fit
                            the schema of its own tool
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import httpx
from msgspec import Struct

from benchmarks.quality._bfcl_data import Item, items
from benchmarks.quality._dialects import DIALECTS, Broken, read
from benchmarks.quality._oracle import Oracle, oracle
from benchmarks.quality.parts import Part
from gateway.demo import server

CONFIG = """
backends:
  small: {{kind: vllm, base_url: "{url}/v1", model: oracle, timeout: 30, probe: false}}
  large: {{kind: openai, base_url: "{url}/v1", model: oracle, timeout: 30, cloud: true}}
router:
  use: {{kind: rules}}
  default: calls
routes:
  calls: {{ladder: [small, large], mode: enforce}}
  direct: {{ladder: [large], mode: enforce}}
models:
  weir: routed
server: {{state_dir: "{folder}/var"}}
limits: {{in_flight: 256}}
"""
ROUTES = ("calls", "direct")
FIRST = "small"
PARALLEL = 8
EVERY = 10
"""--quick asks every so-many-th item."""
SHOWN = 10
"""Losses that the notes tell of."""
GOALS = {"bfcl.wire_loss": "0"}


class Replay(Struct, frozen=True):
    """One item, asked once."""

    id: str
    category: str
    route: str
    dialect: str
    stream: bool
    rung: str
    lost: str
    """Why; "" when nothing was."""


async def replay(chosen: Sequence[Item], folder: Path) -> tuple[list[Replay], Oracle]:
    """Ask for every item in every way. Raises DidNotStart."""
    config = folder / "weir.yaml"
    async with oracle({item.key: item.answer for item in chosen}) as upstream:
        config.write_text(CONFIG.format(url=upstream.url, folder=folder))
        async with (
            server.serving(config, folder / "gateway.log") as served,
            httpx.AsyncClient(base_url=served.url, timeout=60, trust_env=False) as client,
        ):
            ways = iter(product(chosen, ROUTES, DIALECTS, (False, True)))
            found: list[Replay] = []

            async def worker() -> None:
                for item, route, name, stream in ways:
                    found.append(await ask(client, item, route, name, stream))

            async with asyncio.TaskGroup() as group:
                for _ in range(PARALLEL):
                    group.create_task(worker())
            return found, upstream


async def ask(client: httpx.AsyncClient, item: Item, route: str, name: str, stream: bool) -> Replay:
    """One replay. What goes wrong is a loss."""
    dialect = DIALECTS[name]
    answer = await client.post(dialect.path, json=dialect.body(item, f"route/{route}", stream))
    rung = answer.headers.get("x-weir-rung", "")
    lost = ""
    if answer.status_code != 200:
        lost = f"status {answer.status_code}: {answer.text[:200]}"
    else:
        try:
            received = read(dialect, stream, answer.content)
        except Broken as exc:
            lost = str(exc)
        else:
            if received.canonical() != item.answer.canonical():
                lost = f"sent {item.answer.canonical()[:200]!r}, received {received.canonical()[:200]!r}"
    return Replay(item.id, item.category, route, name, stream, rung, lost)


def part(found: Sequence[Replay], upstream: Oracle) -> Part:
    """Figures and table of all replays."""
    lost = [one for one in found if one.lost]
    held = [one for one in found if one.route == "calls"]
    rows = [("route", "dialect", "streamed", "replays", "lost")]
    for route, name, stream in product(ROUTES, DIALECTS, (False, True)):
        among = [one for one in found if (one.route, one.dialect, one.stream) == (route, name, stream)]
        rows.append(
            (route, name, "yes" if stream else "no", str(len(among)), str(sum(bool(one.lost) for one in among)))
        )
    figures = {
        "bfcl.wire_loss": len(lost) / len(found),
        "bfcl.replays": len(found),
        "bfcl.items": len({one.id for one in found}),
        "bfcl.first_rung_share": sum(one.rung == FIRST for one in held) / len(held),
    }
    notes = {
        "items": dict(Counter({one.id: one.category for one in found}.values())),
        "oracle": {"asked": upstream.asked, "streamed": upstream.streamed, "did_not_know": upstream.unknown},
        "not_by_the_first_rung": sorted({one.id for one in held if one.rung != FIRST}),
        "lost": [
            f"{one.id} {one.route} {one.dialect} {'stream' if one.stream else 'whole'}: {one.lost}"
            for one in lost[:SHOWN]
        ],
    }
    return Part(figures, rows, notes)


def run(quick: bool = False) -> Part:
    """All 1,240 items twelve times; with --quick every tenth."""
    chosen = items()[:: EVERY if quick else 1]
    with tempfile.TemporaryDirectory(prefix="weir-bfcl-") as folder:
        return part(*asyncio.run(replay(chosen, Path(folder))))
