"""A gateway between played models, and traffic that leaves nothing out: whatever has a series happens at least once in a round."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import yaml

from gateway.settings.load import load
from gateway.slo import rules
from tests.backends.scripted_engine import ScriptedEngine
from tests.backends.upstream import Asked, upstream
from tests.engines.fakes import FAKE
from tests.gpus import steady
from tests.line.speaking import calibrated, label, speaks
from tests.line.world import BAD, GOOD, asks, says
from tests.ports import free_port
from tests.serving import Served, serving
from tests.waiting import until
from wire.hashing import short_hash

CONFIG = """
engines:
  base: {{model: org/tiny, device: cpu, kv_cache_gib: 1, port: {engine}, command: [{python}, -I, -S, {fake}], stop_seconds: 5,
          env: {{FAKE: "", FAKE_DIR: "{folder}"}}}}
backends:
  small: {{kind: vllm, base_url: "{small}/v1", model: slm, timeout: 40, price: {{input: 0.1, output: 0.1}}}}
  local: {{kind: vllm, engine: base, timeout: 40}}
  cloud: {{kind: openai, base_url: "{cloud}/v1", model: big, cloud: true, timeout: 40, price: {{input: 1, output: 2}}}}
  keyless: {{kind: openai, base_url: "{cloud}/v1", api_key: "${{WEIR_TEST_UNSET}}", model: big, cloud: true,
             price: {{input: 1, output: 2}}}}
router: {{use: {{kind: cascade, of: [{{kind: rules, name: rules}}]}}, default: general}}
routes:
  sure: {{match: {{schema_name: sure}}, ladder: [small, cloud], mode: enforce, accept: {{risk: 0.01, calibration: '{calibration}'}},
          speculate: {{waste: 0.5}}, judged: {{by: cloud, sample: 1}}, slo: {{escalation_rate: 0.3, failures: 0.001}}, holdout: 0.3}}
  checked: {{match: {{schema_name: checked}}, ladder: [small, cloud], mode: enforce, slo: {{escalation_rate: 0.1, window: 7d}}}}
  shadowed: {{match: {{schema_name: shadowed}}, ladder: [small, cloud], mode: shadow, shadow: {{sample: 1}}}}
  unproven: {{match: {{schema_name: unproven}}, ladder: [small, keyless], mode: enforce, on_unavailable: deliver,
             accept: {{risk: 0.01, calibration: '{calibration}'}}}}
  alone: {{match: {{schema_name: alone}}, ladder: [small, keyless], mode: enforce}}
  tooled: {{match: {{tools: true}}, ladder: [small, cloud], mode: enforce}}
  general: {{ladder: [cloud], mode: enforce}}
models:
  weir: routed
  local: backend/local
server: {{deadline: 45, idle: 40}}
"""
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


class _Models:
    """Both upstreams. What is said depends on the first word of the question."""

    def __init__(self) -> None:
        self.engine = ScriptedEngine(base="slm", root="/models/slm")
        self.asked_early = asyncio.Event()
        self.judged = 0

    async def small(self, asked: Asked) -> None:
        word = _word(asked)
        if word == "sure":
            await speaks(*label(0.95))(asked)
        elif word == "unsure":
            await speaks(*label(0.6))(asked)
        elif word == "early":
            await speaks(*label(0.92, self.asked_early))(asked)
        elif word in ("good", "bad", "other"):
            await says({"good": GOOD, "bad": BAD, "other": '{"label":"b"}'}[word])(asked)
        elif word == "tool":
            await says(None, "tool_calls", tool_calls=[{"index": 0, **CALL}])(asked)
        else:
            await self.engine(asked)

    async def cloud(self, asked: Asked) -> None:
        first = str(asked.json["messages"][0]["content"])
        if first.startswith("You judge"):
            self.judged += 1
            right = "true" if self.judged % 4 else "false"
            await says(f'{{"why": "because", "correct": {right}}}')(asked)
            return
        if _word(asked) == "early":
            self.asked_early.set()
        await says(BAD if _word(asked) == "bad" else GOOD)(asked)


def _word(asked: Asked) -> str:
    if not asked.line.startswith("POST") or not asked.line.split(" ")[1].endswith("/chat/completions"):
        return ""
    messages = asked.json["messages"]
    said = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
    return said.split(" ")[0] if isinstance(said, str) and " of round" in said else ""


class Traffic:
    def __init__(self, served: Served, models: _Models) -> None:
        self.served = served
        self._models = models
        self.rounds = 0

    async def round(self) -> int:
        """One of everything, one after the other. Returns how many requests there were."""
        self.rounds += 1
        self._models.asked_early.clear()
        self._models.engine.running, self._models.engine.kv = 2.0, 0.25
        sent = [
            self._ask("sure", "sure"), self._ask("sure", "sure", session="held"), self._ask("sure", "unsure"),
            self._ask("sure", "early"), self._ask("checked", "good"), self._ask("checked", "bad"),
            self._ask("checked", "good", stream=True), self._ask("shadowed", "good"), self._ask("shadowed", "other"),
            self._ask("unproven", "unsure"), self._ask("alone", "bad"), self._tool(), self._tool(error=True),
            self._ask("checked", "good", session="same", retries=1), self._ask("checked", "good", session="same"),
            self._plain("weir"), self._plain("local"), self._broken(),
        ]  # fmt: skip
        for one in sent:
            await one
        return len(sent)

    async def _ask(self, route: str, word: str, *, session: str = "", retries: int = 0, stream: bool = False) -> None:
        body = asks(route, stream=stream)
        body["messages"] = [{"role": "user", "content": f"{word} of round {self.rounds}"}]
        # Sessions are named so that the hold-out takes `held-...` of the route `sure` sometimes, and the others too.
        headers = {"x-session-id": session or f"{word}-{self.rounds}"}
        headers |= {"x-stainless-retry-count": str(retries)} if retries else {}
        await self.served.client.post("/v1/chat/completions", json=body, headers=headers)

    async def _tool(self, *, error: bool = False) -> None:
        messages: list[dict[str, Any]] = [{"role": "user", "content": f"tool of round {self.rounds}"}]
        if error:
            messages.append({"role": "assistant", "content": None, "tool_calls": [CALL]})
            messages.append({"role": "tool", "tool_call_id": "c1", "content": "Error: no such order"})
        body = {"model": "weir", "messages": messages, "tools": [TOOL]}
        await self.served.client.post("/v1/chat/completions", json=body, headers={"x-session-id": f"t{self.rounds}"})

    async def _plain(self, model: str) -> None:
        body = {"model": model, "messages": [{"role": "user", "content": f"hello of round {self.rounds}"}]}
        await self.served.client.post("/v1/chat/completions", json=body)

    async def _broken(self) -> None:
        await self.served.client.post("/v1/chat/completions", content=b"{")


@asynccontextmanager
async def traffic(folder: Path) -> AsyncIterator[Traffic]:
    """A running gateway, one local engine of its own and a card that counts its energy included, and the traffic for it."""
    models = _Models()
    async with upstream(models.small) as small, upstream(models.cloud) as cloud:
        text = CONFIG.format(
            small=small.url,
            cloud=cloud.url,
            calibration=_calibrated(folder),
            engine=free_port(),
            python=sys.executable,
            fake=FAKE,
            folder=folder,
        )
        async with serving(text, folder, tend=True, engines=os.environ, gpus=steady()) as served:
            await until(lambda: served.app.engines.states().get("base", {}).get("ready", False))
            await until(lambda: served.app.live.setup.routes["sure"].mode == "enforce")  # its engine has been asked
            yield Traffic(served, models)


def _calibrated(folder: Path) -> str:
    """For the model that `_Models.engine` says it serves."""
    path = Path(calibrated(folder, soft=0.94))
    table = orjson.loads(path.read_bytes())
    path.write_bytes(orjson.dumps({**table, "model_digest": short_hash(["vllm", ["slm#1024"]])}))
    return str(path)


def rule_file(config: Path, path: Path) -> Path:
    """The rules of a configuration, written to `path`."""
    routes = load(config).settings.routes
    slos = {name: route.slo for name, route in routes.items() if route.slo is not None}
    path.write_text(yaml.safe_dump(rules(slos), sort_keys=False))
    return path
