"""gateway/engines/plan.py: settings and facts in, processes out."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.vllm import VllmConfig
from gateway.engines.plan import MOST_LORAS, RANKS, STRUCTURED, Adapter, Facts, Plan, change, plan, size
from gateway.settings import engines
from gateway.settings.model import EngineSettings, RouterSettings, RouteSettings, Server, Settings
from routers.base import RouterConfig

VLLM: dict[tuple[str, ...], str] = {(): "/opt/vllm"}
GPU = 80 * 2**30


def settings(table: Mapping[str, Mapping[str, Any]], port: int = 8080) -> Settings:
    return Settings(
        backends={},
        router=RouterSettings(use=RouterConfig(kind="rules"), default="r"),
        routes={"r": RouteSettings(ladder=("x",))},
        engines={name: EngineSettings.model_validate({"model": "org/m", **engine}) for name, engine in table.items()},
        server=Server(port=port),
    )


def planned(facts: Facts | None = None, **table: Mapping[str, Any]) -> Plan:
    return plan(settings(table), facts or Facts(programs=VLLM, gpus={0: GPU, 1: GPU}))


def flag(argv: tuple[str, ...], name: str) -> str:
    assert argv.count(name) == 1, (name, argv)
    return argv[argv.index(name) + 1]


def wrong(plan: Plan) -> dict[str, str]:
    """Place > message of the errors."""
    return {".".join(map(str, where)): message for where, message, severity in plan.told if severity == "error"}


# --- what a process looks like ----------------------------------------------------------------------------------------------------


def test_a_process() -> None:
    """What every engine gets, whatever is written: one grammar backend, tool calls, loopback, a bounded queue, no usage statistics."""
    made = planned(base={"gpu_memory": 0.6, "max_model_len": 8192, "extra": ["--enforce-eager"], "env": {"A": 1}})
    (one,) = made.processes
    assert made.told == ()
    assert one.argv[:3] == ("/opt/vllm", "serve", "org/m")
    assert flag(one.argv, "--structured-outputs-config") == STRUCTURED
    assert orjson.loads(STRUCTURED) == {"backend": "xgrammar", "disable_any_whitespace": True}
    assert flag(one.argv, "--served-model-name") == "m"
    assert flag(one.argv, "--host") == "127.0.0.1"
    assert flag(one.argv, "--port") == "8000"
    assert flag(one.argv, "--tool-call-parser") == "hermes"
    assert "--enable-auto-tool-choice" in one.argv
    assert flag(one.argv, "--max-model-len") == "8192"
    assert flag(one.argv, "--max-num-queued-reqs") == "256"
    assert flag(one.argv, "--gpu-memory-utilization") == "0.6"
    assert one.argv[-1] == "--enforce-eager"
    assert "--enable-lora" not in one.argv
    assert one.env == {
        "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0", "A": "1",
    }  # fmt: skip
    assert (one.url, one.devices) == ("http://127.0.0.1:8000", (0,))


def test_on_the_cpu() -> None:
    """No device, no share of one: memory for the cache instead."""
    (one,) = planned(Facts(programs=VLLM), base={"device": "cpu", "kv_cache_gib": 2}).processes
    assert one.env["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert "CUDA_VISIBLE_DEVICES" not in one.env
    assert "--gpu-memory-utilization" not in one.argv
    assert one.devices == ()


def test_what_can_be_left_out() -> None:
    """null takes a flag away: for a server that does not know it."""
    (one,) = planned(base={"tool_parser": None, "max_in_flight": None}).processes
    assert not {"--enable-auto-tool-choice", "--tool-call-parser", "--max-num-queued-reqs"} & set(one.argv)


def test_several_devices_are_tensor_parallel() -> None:
    """Each replica gets all of `devices`, or its own list of them."""
    (one,) = planned(base={"devices": [0, 1]}).processes
    assert flag(one.argv, "--tensor-parallel-size") == "2"
    assert one.env["CUDA_VISIBLE_DEVICES"] == "0,1"
    first, second = planned(base={"devices": [[0], [1]], "replicas": 2}).processes
    assert (first.devices, second.devices) == ((0,), (1,))
    assert (first.name, second.name) == ("base", "base#2")
    assert [flag(one.argv, "--port") for one in (first, second)] == ["8000", "8001"]
    assert "--tensor-parallel-size" not in first.argv


def test_elsewhere_is_not_started() -> None:
    """`url:` says that somebody else does."""
    assert planned(base={"url": "http://vllm:8000"}, other={}).processes[0].engine == "other"


def test_adapters() -> None:
    """Named as the backends ask for them, with room for their rank and for new versions beside them; loading at run time is allowed."""
    facts = Facts(programs=VLLM, adapters={"a": Adapter("/a=b", 20), "b": Adapter("/b", 8)})
    (one,) = planned(facts, base={"adapters": {"refunds": "a", "triage": "b"}}).processes
    assert flag(one.argv, "--max-lora-rank") == "32"
    assert flag(one.argv, "--max-loras") == "2"
    assert int(flag(one.argv, "--max-cpu-loras")) > 2
    at = one.argv.index("--lora-modules")
    modules = [orjson.loads(text) for text in one.argv[at + 1 : at + 3]]
    assert modules[0] == {"name": "refunds", "path": "/a=b", "base_model_name": "m"}
    assert one.argv[at + 3].startswith("--")
    assert one.env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"


def test_adapters_that_backends_load() -> None:
    """`adapter_path` of a backend: room and permission for it, but it is not loaded twice."""
    made = settings({"base": {"adapters": {"a": "a"}}})
    table = {"kind": "vllm", "engine": "base"}
    backends = {
        "one": VllmConfig.model_validate({**table, "adapter": "a", "adapter_path": "a"}),
        "two": VllmConfig.model_validate({**table, "adapter": "b", "adapter_path": "b"}),
    }
    facts = Facts(programs=VLLM, adapters={"a": Adapter("/a", 8), "b": Adapter("/b", 64)})
    (one,) = plan(made.model_copy(update={"backends": backends}), facts).processes
    assert (flag(one.argv, "--max-lora-rank"), flag(one.argv, "--max-loras")) == ("64", "2")
    assert "--lora-modules" not in one.argv
    assert one.env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"


@given(ranks=st.lists(st.integers(1, 512), min_size=1, max_size=12))
def test_every_rank_fits(ranks: list[int]) -> None:
    """The flag is one that vLLM takes, no adapter is larger, and a batch stays bounded."""
    names = {f"a{index}": Adapter(f"/a{index}", rank) for index, rank in enumerate(ranks)}
    made = planned(Facts(programs=VLLM, adapters=names), base={"adapters": {name: name for name in names}})
    argv = made.processes[0].argv
    assert made.ok
    assert int(flag(argv, "--max-lora-rank")) in RANKS
    assert int(flag(argv, "--max-lora-rank")) >= max(ranks)
    assert int(flag(argv, "--max-loras")) == min(len(ranks), MOST_LORAS) <= int(flag(argv, "--max-cpu-loras"))


# --- ports ------------------------------------------------------------------------------------------------------------------------

ENTRIES = st.lists(st.tuples(st.none() | st.integers(7990, 8020), st.integers(1, 4)), min_size=1, max_size=6)


@given(entries=ENTRIES, gateway=st.integers(7995, 8015))
def test_assigned_ports_never_clash(entries: list[tuple[int | None, int]], gateway: int) -> None:
    """What is written stays; what is assigned lies in nobody's way. Only two that are written can clash, and that is told."""
    table = {f"e{i}": {"port": port, "replicas": n, "gpu_memory": 0.001} for i, (port, n) in enumerate(entries)}
    made = plan(settings(table, gateway), Facts(programs=VLLM))
    used = [process.port for process in made.processes]
    written = [one for port, n in entries if port is not None for one in range(port, port + n)]
    assigned = [p.port for p in made.processes if table[p.engine]["port"] is None]
    assert len(set(assigned)) == len(assigned)
    assert not {gateway, *written} & set(assigned)
    clash = len(set(written)) < len(written) or gateway in written
    assert made.ok is not clash
    assert made.ok is (len({*used, gateway}) == len(used) + 1)
    assert all(p.url == f"http://127.0.0.1:{p.port}" for p in made.processes)


def test_backends_are_told_the_same_ports() -> None:
    """The plan and the addresses that backends get come from one place."""
    made = settings({"a": {"port": 8000}, "b": {"replicas": 2}, "c": {"url": "http://x:1"}})
    told = {url for one in engines.urls(made).values() for url in one}
    assert {one.url for one in plan(made, Facts(programs=VLLM)).processes} == told - {"http://x:1"}


# --- what cannot be ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "facts", "where", "way_out"),
    [
        ({}, {"programs": {}}, "command", "command: [/path/to/vllm]"),
        ({"command": ["nope"]}, {}, "command", "give its path"),
        ({"model": "./m"}, {}, "model", "no folder"),
        ({"model": "/models/m"}, {}, "model", "no folder"),
        ({"model": "a/b/c"}, {}, "model", "no folder"),
        ({"adapters": {"x": "./x"}}, {}, "adapters.x", "no folder"),
        ({"adapters": {"x": "x"}}, {"adapters": {"x": Adapter("/x")}}, "adapters.x", "adapter_config.json"),
        ({"adapters": {"x": "x"}}, {"adapters": {"x": Adapter("/x", 600)}}, "adapters.x", "512 at most"),
        ({"gpu_memory": "10GiB"}, {"gpus": {}}, "gpu_memory", "write a share"),
        ({"gpu_memory": "100GiB"}, {}, "gpu_memory", "80.0 GiB"),
        ({"devices": [0, 3]}, {}, "devices", "no GPU 3"),
        ({"device": "cpu", "kv_cache_gib": 64}, {"memory": 32 * 2**30}, "kv_cache_gib", "take less"),
    ],
)  # fmt: skip
def test_what_the_machine_has_not(engine: dict[str, Any], facts: dict[str, Any], where: str, way_out: str) -> None:
    """Told at once, at its place, with a way out."""
    made = planned(Facts(**{"programs": VLLM, "gpus": {0: GPU, 1: GPU}, **facts}), base=engine)
    assert not made.ok
    assert list(wrong(made)) == [f"engines.base.{where}"]
    assert way_out in wrong(made)[f"engines.base.{where}"]


def test_no_gpu_is_a_warning() -> None:
    """Where nobody can tell, an engine for a GPU may still run: on another maker's."""
    made = planned(Facts(programs=VLLM), base={})
    assert made.ok
    assert [(where, severity) for where, _, severity in made.told] == [(("engines", "base"), "warning")]


def test_a_name_on_the_hub_needs_no_folder() -> None:
    """`OWNER/NAME` is taken for one; a folder of that name comes first."""
    assert planned(base={"model": "org/m"}).processes[0].argv[2] == "org/m"
    facts = Facts(programs=VLLM, folders={"org/m": "/here/org/m"})
    assert planned(facts, base={"model": "org/m"}).processes[0].argv[2] == "/here/org/m"


def test_no_windows() -> None:
    """There is no vLLM for it."""
    assert "url" in wrong(planned(Facts(programs=VLLM, posix=False), base={}))["engines"]


def test_sizes_and_shares_add_up() -> None:
    """A size is a share of the smallest device that it is taken from; together no more than 95 % of one is given away."""
    made = planned(a={"gpu_memory": "40GiB", "devices": [0]}, b={"gpu_memory": 0.4, "devices": [0, 1]})
    assert made.ok
    assert flag(made.processes[0].argv, "--gpu-memory-utilization") == "0.5"
    over = planned(a={"gpu_memory": "40GiB"}, b={"gpu_memory": 0.5})
    assert list(wrong(over)) == ["engines.b.gpu_memory"]
    assert "a 0.5, b 0.5" in wrong(over)["engines.b.gpu_memory"]


@given(shares=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=5))
def test_no_device_is_given_away_twice(shares: list[tuple[int, int, int]]) -> None:
    """The sum over replicas on each device decides, and nothing else."""
    table = {
        f"e{i}": {"gpu_memory": share / 100, "replicas": n, "devices": [gpu]}
        for i, (share, n, gpu) in enumerate(shares)
    }
    sums = [sum(share * n for share, n, gpu in shares if gpu == one) for one in range(3)]
    told = [where for where, _, severity in engines.check(settings(table)) if severity == "error"]
    assert len(told) == sum(one > 95 for one in sums)


@pytest.mark.parametrize(
    ("text", "bytes"), [("1GiB", 2**30), ("1.5 GiB", 3 * 2**29), ("512MiB", 2**29), ("1GB", 10**9)]
)
def test_sizes(text: str, bytes: int) -> None:
    """Binary and decimal ones."""
    assert size(text) == bytes


# --- reload -----------------------------------------------------------------------------------------------------------------------


def test_what_a_new_plan_means() -> None:
    """Same name and address: it runs on, and that it is stale is told. Another address, another name: another process."""
    old = planned(a={"gpu_memory": 0.1}, b={"gpu_memory": 0.1}, c={"gpu_memory": 0.1}).processes
    new = planned(a={"gpu_memory": 0.1}, b={"gpu_memory": 0.2}, d={"gpu_memory": 0.1}).processes
    found = change(old, new)
    assert [one.name for one in found.stop] == ["c"]
    assert [one.name for one in found.start] == ["d"]
    assert [one.name for one in found.stale] == ["b"]
    same: dict[str, Any] = {"gpu_memory": 0.1}
    moved = change(old, planned(a={**same, "port": 9000}, b={**same, "port": 8001}, c={**same, "port": 8002}).processes)
    assert [one.port for one in moved.stop] == [8000]
    assert [one.port for one in moved.start] == [9000]
    assert change(old, old) == change((), ())


def test_planning_twice_is_planning_once() -> None:
    """The same settings and facts give equal processes: a reload that changes nothing here starts nothing."""
    table: dict[str, Any] = {"a": {"adapters": {"x": "org/x"}}, "b": {"device": "cpu", "replicas": 2}}
    assert plan(settings(table), Facts(programs=VLLM)) == plan(settings(table), Facts(programs=VLLM))
