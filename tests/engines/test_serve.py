"""`weir serve --with-vllm` from the outside: the gateway, its engines, their ends. `fake_vllm.py` in the engine's place."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway import cli
from gateway.settings.mistakes import ConfigError
from tests.engines.fakes import FAKE, alive, gone, notes, pids
from tests.ports import free_port
from tests.serving import Served, serving
from tests.waiting import PATIENCE, until

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX"),
    pytest.mark.timeout(240),
]

CONFIG = """
engines:
  base: {{model: org/tiny, device: cpu, kv_cache_gib: 1, port: {port}, command: [{python}, -I, -S, {fake}], stop_seconds: 5,
          env: {{FAKE: "{how}", FAKE_DIR: "{folder}"}}}}
{more}
backends:
  small: {{kind: vllm, engine: base, timeout: 40}}
  cloud: {{kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: "${{WEIR_TEST_KEY}}", model: big, cloud: true,
          price: {{input: 1, output: 1}}}}
router: {{use: {{kind: rules}}, default: general}}
routes:
  general: {{ladder: [small], mode: enforce}}
models: {{weir: routed}}
server: {{state_dir: "{folder}/var", watch: 0.05}}
"""
ASKED = {"model": "weir", "messages": [{"role": "user", "content": "hello"}]}


def config(folder: Path, how: str = "", port: int = 0, more: str = "") -> str:
    given = {"port": port or free_port(), "python": sys.executable, "fake": FAKE, "folder": folder}
    return CONFIG.format(how=how, more=more, **given)


async def engines(served: Served) -> dict[str, Any]:
    told: dict[str, Any] = (await served.client.get("/readyz")).json()["engines"]
    return told


async def ready(served: Served, name: str = "base") -> None:
    await until(lambda: served.app.engines.states().get(name, {}).get("ready", False))


def test_answers_come_through_the_engine(tmp_path: Path) -> None:
    """The gateway serves at once: until the engine is up its rung fails, then it answers. /readyz and the metrics tell which it is."""

    async def go() -> None:
        (tmp_path / "held").touch()
        async with serving(config(tmp_path), tmp_path, engines=os.environ) as served:
            assert (await engines(served))["base"]["ready"] is False
            assert served.metric('weir_engine_up{engine="base"}') == 0
            early = await served.chat(ASKED)
            assert early.status_code in (502, 503), early.text
            (tmp_path / "held").unlink()
            await ready(served)
            assert served.metric('weir_engine_up{engine="base"}') == 1
            assert (await engines(served))["base"]["phase"] == "ready"

            async def answered() -> bool:
                return (await served.chat(ASKED)).status_code == 200

            async with asyncio.timeout(PATIENCE):
                while not await answered():  # noqa: ASYNC110 - the backend may still keep away from what failed just now
                    await asyncio.sleep(0.1)
            assert any(line.endswith(" asked tiny") for line in notes(tmp_path))
        assert gone(tmp_path)

    asyncio.run(go())


def test_without_the_option_nothing_is_started(tmp_path: Path) -> None:
    """The table then only says where backends find their engines."""

    async def go() -> None:
        async with serving(config(tmp_path, port=9123), tmp_path) as served:
            assert "engines" not in (await served.client.get("/readyz")).json()
            small = served.app.live.setup.settings.backends["small"]
            assert getattr(small, "base_url", "") == "http://127.0.0.1:9123/v1"
        assert pids(tmp_path) == []

    asyncio.run(go())


def test_a_crash_loop_leaves_the_gateway_serving(tmp_path: Path) -> None:
    """/healthz is 200 all the while, and the reason stands in /readyz."""

    async def go() -> None:
        async with serving(config(tmp_path, "crash"), tmp_path, engines=os.environ) as served:
            await until(lambda: served.app.engines.states().get("base", {}).get("reason", "") != "")
            assert (await engines(served))["base"]["reason"] == "ended with status 3"
            assert (await served.client.get("/healthz")).status_code == 200

    asyncio.run(go())


def test_a_reload_starts_and_ends(tmp_path: Path) -> None:
    """A new entry is started, a removed one ended; a mistake that only this machine shows keeps everything as it is."""

    async def go() -> None:
        port = free_port()
        here = config(tmp_path, port=port)
        second = (
            config(tmp_path, port=free_port()).partition("engines:\n")[2].partition("\n\n")[0].replace("base", "next")
        )
        async with serving(here, tmp_path, engines=os.environ) as served:
            await ready(served)
            both = config(tmp_path, port=port, more=second)
            served.rewrite(both.replace("org/tiny", "./nowhere", 1))
            await until(lambda: served.metric('weir_config_reloads_total{result="failed"}') == 1)
            served.rewrite(both)
            await ready(served, "next")
            assert len(pids(tmp_path)) == 2
            served.rewrite(here)
            await until(lambda: set(served.app.engines.states()) == {"base"})
            assert [alive(pid) for pid in pids(tmp_path)] == [True, False]
            assert served.metric('weir_engine_up{engine="next"}') == 0
            assert served.metric('weir_engine_restarts_total{engine="next"}') == 0

    asyncio.run(go())


def test_what_this_machine_has_not_is_a_mistake_with_a_line(tmp_path: Path) -> None:
    """Before anything is started."""

    async def go() -> None:
        async with serving(config(tmp_path).replace("org/tiny", "./nowhere"), tmp_path, engines=os.environ):
            raise AssertionError("it serves")

    with pytest.raises(ConfigError, match=r"weir.yaml:3: engines.base.model: there is no folder './nowhere'"):
        asyncio.run(go())


def _weir(folder: Path, how: str) -> "subprocess.Popen[bytes]":
    """`weir serve --with-vllm` as a process, once its engine is up."""
    file = folder / "weir.yaml"
    file.write_text(config(folder, how))
    with (folder / "log").open("wb") as log:
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "gateway.cli",
            "serve",
            "--with-vllm",
            "-c",
            file,
            "--port",
            "0",
        ]
        ours = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
        environ = {**ours, "WEIR_TEST_KEY": "cloud-key", "VLLM_API_KEY": "x", "OMP_NUM_THREADS": "7"}
        weir = subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=FAKE.parents[2])
    try:
        asyncio.run(until(lambda: b"engine_ready" in (folder / "log").read_bytes(), 90))
    except BaseException:
        weir.kill()
        weir.wait()
        raise
    return weir


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
def test_the_environment_of_an_engine(tmp_path: Path) -> None:
    """Its own threads, nobody's keys. And SIGTERM ends Weir, and the engine with all that it started."""
    weir = _weir(tmp_path, "child")
    try:
        environ = Path(f"/proc/{pids(tmp_path)[0]}/environ").read_bytes().decode().split("\0")
    finally:
        weir.terminate()
        weir.wait(60)
    assert "OMP_NUM_THREADS=7" in environ
    assert "VLLM_CPU_KVCACHE_SPACE=1" in environ
    assert "OPENBLAS_NUM_THREADS=1" not in environ
    assert not [one for one in environ if one.startswith(("WEIR_TEST_KEY=", "VLLM_API_KEY="))]
    assert gone(tmp_path)
    events = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines() if line[:1] == "{"]
    assert [one for one in events if one.startswith("engine")] == ["engine_started", "engine_ready", "engine_stopped"]


def test_a_killed_gateway_leaves_no_engine(tmp_path: Path) -> None:
    """SIGKILL: it can clean up nothing, and the engine ends all the same."""
    weir = _weir(tmp_path, "child")
    assert len(pids(tmp_path)) == 2
    weir.send_signal(signal.SIGKILL)
    weir.wait(60)
    asyncio.run(until(lambda: gone(tmp_path)))


# --- weir engines -----------------------------------------------------------------------------------------------------------------


def _engines(folder: Path, text: str, *more: str) -> Any:
    file = folder / "weir.yaml"
    file.write_text(text)
    return CliRunner().invoke(cli.application(), ["engines", "-c", str(file), *more], catch_exceptions=False)


def test_the_plan_is_printed(tmp_path: Path) -> None:
    """Command lines as a shell would take them, whom they are for, where the log will stand. Nothing is started."""
    elsewhere = "  far: {model: org/m, url: 'http://gpu:8000'}\n"
    done = _engines(tmp_path, config(tmp_path, port=9124, more=elsewhere))
    assert done.exit_code == 0, done.stderr
    assert "base: http://127.0.0.1:9124, 1 GiB of cache" in done.stdout
    assert f"{FAKE} serve org/tiny --served-model-name tiny" in done.stdout
    assert "for small" in done.stdout
    assert "far: http://gpu:8000, started by somebody else" in done.stdout
    assert pids(tmp_path) == []


def test_the_plan_for_machines(tmp_path: Path) -> None:
    """`--json`: arguments and variables to start it with; a value that could be a secret is not shown."""
    done = _engines(tmp_path, config(tmp_path, port=9124).replace("env: {", "env: {HF_TOKEN: abc, "), "--json")
    told = json.loads(done.stdout)
    (one,) = told["processes"]
    assert told["ok"] is True
    assert one["argv"][0] == sys.executable
    assert (one["env"]["HF_TOKEN"], one["env"]["VLLM_NO_USAGE_STATS"]) == ("***", "1")
    assert one["log"] == str(tmp_path / "var" / "engines" / "base.log")
    assert told["backends"] == {"small": {"engine": "base", "url": "http://127.0.0.1:9124/v1"}}


def test_mistakes_of_the_plan(tmp_path: Path) -> None:
    """On stderr with their line, and exit code 1; `weir check` asks nothing of the machine, and finds the file good."""
    text = config(tmp_path).replace("org/tiny", "./nowhere")
    done = _engines(tmp_path, text)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "weir.yaml:3: engines.base.model: there is no folder './nowhere'" in done.stderr
    found = json.loads(_engines(tmp_path, text, "--json").stdout)
    assert found["ok"] is False
    assert found["mistakes"][0]["where"] == "engines.base.model"
    checked = CliRunner().invoke(
        cli.application(), ["check", "-c", str(tmp_path / "weir.yaml")], catch_exceptions=False
    )
    assert checked.exit_code == 0


def test_nothing_to_start(tmp_path: Path) -> None:
    """Said, and no mistake."""
    text = "backends:" + config(tmp_path).partition("backends:")[2].replace("engine: base", "model: m")
    done = _engines(tmp_path, text)
    assert (done.exit_code, "nothing to start" in done.stdout) == (0, True)
