"""`weir serve --with-vllm` with a real vLLM (CPU build): planned, started, answered, ended. One start, for it takes half a minute."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import setup
from tests.engines.fakes import alive
from tests.live import engine
from tests.ports import free_port

pytestmark = pytest.mark.timeout(400)

CONFIG = """
engines:
  base:
    model: {model}
    served_as: tiny
    device: cpu
    kv_cache_gib: 1
    max_model_len: 1024
    max_in_flight: 8
    port: {engine}
    command: [{vllm}]
    extra: [--enforce-eager]
    env: {{HF_HUB_OFFLINE: 1}}
backends:
  small: {{kind: vllm, engine: base, timeout: 60}}
router: {{use: {{kind: rules}}, default: labels}}
routes:
  labels: {{ladder: [small], mode: enforce, choice: [refund, invoice]}}
models: {{weir: routed}}
server: {{port: {port}, state_dir: {folder}/var, drain: 5, deadline: 90}}
"""


@pytest.fixture
def config(tmp_path: Path) -> tuple[Path, int]:
    """weir.yaml, and the port at which Weir will be."""
    if not engine.there():
        reason = "needs vLLM's CPU build: make vllm"
        if setup.in_ci():
            pytest.fail(reason)
        pytest.skip(reason)
    model = tmp_path / "model"
    maker = engine.ROOT / "tests" / "live" / "tiny_model.py"
    subprocess.run([engine.BIN / "python", maker, model], check=True, capture_output=True)
    path = tmp_path / "weir.yaml"
    ports = {"engine": free_port(), "port": free_port()}
    path.write_text(CONFIG.format(model=model, vllm=engine.BIN / "vllm", folder=tmp_path, **ports))
    return path, ports["port"]


def test_a_real_engine_serves_and_is_gone_afterwards(config: tuple[Path, int]) -> None:
    """The gateway serves at once, answers through the engine once that is up, and after SIGTERM none of its processes is left."""
    file, port = config
    with (file.parent / "weir.log").open("wb") as log:
        weir = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "serve", "--with-vllm", "-c", file],
            cwd=engine.ROOT,
            env={**os.environ, "WEIR_TEST_KEY": "x"},
            stdout=log,
            stderr=log,
        )
    family: set[int] = set()
    try:
        url = asyncio.run(_answers(file, port, weir, family))
        assert len(family) >= 3, "keeper, server and core"
    finally:
        weir.send_signal(signal.SIGTERM)
        try:
            status = weir.wait(60)
        finally:
            weir.kill()
    assert status in (0, -signal.SIGTERM)  # uvicorn ends as the signal would have it, once everything is down
    assert not list(filter(alive, family)), _log(file)
    told = [json.loads(line) for line in (file.parent / "weir.log").read_text().splitlines() if line.startswith("{")]
    events = [line["event"] for line in told if line["event"].startswith("engine_")]
    assert events == ["engine_started", "engine_ready", "engine_stopped"]
    assert next(line["url"] for line in told if line["event"] == "engine_started") == url


async def _answers(config: Path, port: int, weir: "subprocess.Popen[bytes]", family: set[int]) -> str:
    """Ask until the engine is up, then for an answer and for an overload. Collects the processes; the engine's URL."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=90) as client:
        await _ready(client, weir, config, "gateway", lambda told: True)
        told = await _ready(client, weir, config, "engine", lambda told: told["engines"]["base"]["ready"])
        family |= _descendants(weir.pid)
        body = {"model": "weir", "messages": [{"role": "user", "content": "where is my money?"}], "max_tokens": 20}
        response = await client.post("/v1/chat/completions", json=body)
        assert response.status_code == 200, response.text
        assert response.json()["choices"][0]["message"]["content"] in ("refund", "invoice")
        assert response.headers["x-weir-rung"] == "small"
        assert 'weir_engine_up{engine="base"} 1.0' in (await client.get("/metrics")).text
        url: str = told["engines"]["base"]["url"]
        many = {**body, "model": "tiny", "max_tokens": 200, "ignore_eos": True}
        asked = (client.post(f"{url}/v1/chat/completions", json=many) for _ in range(40))
        statuses = {answer.status_code for answer in await asyncio.gather(*asked)}
        assert statuses == {200, 503}, "more than `max_in_flight` at once is 503: the sign to go up the ladder"
        return url


async def _ready(
    client: httpx.AsyncClient, weir: "subprocess.Popen[bytes]", config: Path, what: str, is_so: Any
) -> dict[str, Any]:
    until = time.monotonic() + engine.START_SECONDS
    while time.monotonic() < until and weir.poll() is None:
        try:
            told: dict[str, Any] = (await client.get("/readyz")).json()
            if is_so(told):
                return told
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.5)
    raise AssertionError(f"the {what} is not up:\n{_log(config)}")


def _log(config: Path) -> str:
    files = [config.parent / "weir.log", config.parent / "var" / "engines" / "base.log"]
    return "\n".join(file.read_text()[-3000:] for file in files if file.exists())


def _descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            child = int(path.parent.name)
            found |= {child, *_descendants(child)}
    return found
