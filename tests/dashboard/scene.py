"""A gateway with a quarter of an hour of traffic behind it, for pictures: real requests, only the wall clock runs faster."""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from msgspec import structs

from gateway.dashboard.data import BUCKETS, STEP, Window
from gateway.demo import traffic
from tests.backends.upstream import Asked, upstream
from tests.line.world import GOOD, SCHEMA, says
from tests.serving import Served, serving
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent
CONFIG = """
backends:
  intents: {{kind: encoder, specialist: models/clinc150, price: {{gpu_hour: 0.1, tokens_per_second: 2000}}}}
  ticket-slm: {{kind: vllm, base_url: "{small}/v1", model: qwen3-4b-tickets, timeout: 40,
               price: {{gpu_hour: 2.0, tokens_per_second: 1500}}}}
  cloud: {{kind: openai, base_url: "{cloud}/v1", model: gpt-5, cloud: true, price: {{input: 1.25, output: 10}}}}
  night: {{kind: openai, base_url: "{cloud}/v1", api_key: "${{WEIR_TEST_UNSET}}", model: claude, cloud: true,
          price: {{input: 3, output: 15}}}}
router: {{use: {{kind: rules}}, default: general}}
routes:
  intents: {{match: {{schema_name: intent}}, ladder: [intents, cloud], accept: {{risk: 0.01}}, mode: enforce,
             slo: {{escalation_rate: 0.3, failures: 0.01}}}}
  tickets: {{match: {{schema_name: ticket}}, ladder: [ticket-slm, cloud], mode: enforce, slo: {{escalation_rate: 0.1}}}}
  summaries: {{match: {{schema_name: summary}}, ladder: [ticket-slm, cloud]}}
  general: {{ladder: [cloud], mode: enforce}}
models: {{weir: routed, gpt-*: {{use: routed, through: cloud}}}}
"""


class Player:
    """A small model that is mostly right, and fails in every way that small models do."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    async def __call__(self, asked: Asked) -> None:
        await asyncio.sleep(self._chance.lognormvariate(-4.2, 0.35))
        draw = self._chance.random()
        if draw < 0.045:
            await says('{"label":"zzz"}')(asked)
        elif draw < 0.06:
            await says('{"label":', finish="length")(asked)
        elif draw < 0.068:
            await says(None, refusal="I cannot help with that.")(asked)
        elif draw < 0.08:
            await asked.answer(orjson.dumps({"error": {"message": "queue full"}}), 503)
        else:
            await says(GOOD)(asked)


async def cloud(asked: Asked) -> None:
    name = ((asked.json.get("response_format") or {}).get("json_schema") or {}).get("name")
    await asyncio.sleep(random.Random(len(asked.body)).lognormvariate(-2.2, 0.5))
    await says('{"intent":"oos"}' if name == "intent" else GOOD)(asked)


@asynccontextmanager
async def scene(folder: Path, *, quiet: bool = False, seed: int = 4) -> AsyncIterator[Served]:
    """quiet: no traffic at all."""
    async with (
        upstream(Player(seed)) as small,
        upstream(cloud) as large,
        serving(CONFIG.format(small=small.url, cloud=large.url), folder) as served,
    ):
        if not quiet:
            await until(lambda: all(worker.ready for worker in served.app.resources._workers.values()), 60)
            await play(served, seed)
        yield served


async def play(served: Served, seed: int) -> None:
    chance = random.Random(seed)
    data = traffic.load(ROOT / "data")
    items = traffic.sample(data, 1400, seed)
    began = time.time() - BUCKETS * STEP
    clock = [began]
    live = served.app.live
    live.setup = structs.replace(live.setup, now=lambda: clock[0])
    served.app.dashboard.window = Window(began)
    for number in range(BUCKETS):
        clock[0] = began + number * STEP + 2
        many = max(1, round(5 + 2.5 * math.sin(number / 19) + chance.gauss(0, 1)))
        async with asyncio.TaskGroup() as group:
            for _ in range(many):
                group.create_task(_one(served, chance.random(), items.pop(), data.labels))
    # The clock stands still from here: pictures take a while, and the window would run empty meanwhile.


async def _one(served: Served, draw: float, item: traffic.Item, labels: Sequence[str]) -> None:
    body: dict[str, Any]
    if draw < 0.6:
        body = dict(traffic.body(item, labels))
    else:
        name = "ticket" if draw < 0.9 else "summary" if draw < 0.93 else ""
        body = {"messages": [{"role": "user", "content": "Where does this belong? " + item.text}]}
        if name:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": name, "schema": SCHEMA}}
    await served.chat({**body, "model": "gpt-5"})
