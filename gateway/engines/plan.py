"""Settings and facts of the machine in, processes out. Pure: `facts.py` looks, `supervisor.py` starts.

Every process is an OpenAI server of vLLM (docs.vllm.ai, `vllm serve --help`) with the same pinned ways:

- structured outputs by xgrammar alone: `auto` latches onto whichever backend the first schema needs;
- no whitespace between JSON tokens, so that a small model cannot spend its tokens on it;
- at most `max_in_flight` requests, then 503: the sign that makes Weir go up the ladder instead of waiting in a queue;
- 127.0.0.1 only, and without a key for that reason.
"""

import re
from collections.abc import Collection, Iterable, Mapping

import orjson
from msgspec import Struct

from gateway.settings import engines
from gateway.settings.engines import Told
from gateway.settings.mistakes import Where
from gateway.settings.model import MEMORY_PATTERN, EngineSettings, Settings

STRUCTURED = '{"backend":"xgrammar","disable_any_whitespace":true}'
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What `--max-lora-rank` takes."""
MOST_LORAS = 8
"""Adapters in one batch: each costs memory on the device. More can be loaded, and take turns."""
SPARE_LORAS = 2
"""Room in memory for new versions of adapters beside the ones that serve."""
UNITS = {"MiB": 2**20, "GB": 10**9, "GiB": 2**30}
RUNTIME_LORA = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


class Adapter(Struct, frozen=True):
    """A folder with a LoRA adapter. rank: of its matrices; None when its adapter_config.json does not say."""

    path: str
    rank: int | None = None


class Facts(Struct, frozen=True):
    """What only the machine knows. `facts.look` fills it."""

    folders: Mapping[str, str] = {}
    """Model as written > the folder that it is. Without an entry: there is no such folder."""
    adapters: Mapping[str, Adapter] = {}
    """Adapter as written > what was found there. Without an entry: there is no such folder."""
    programs: Mapping[tuple[str, ...], str] = {}
    """Command as written > the program that its first word means. Without an entry: nothing can be started by it."""
    gpus: Mapping[int, int] = {}
    """Number of a GPU > its memory in bytes. Empty when nobody could tell."""
    memory: int = 0
    """Bytes of the machine's memory; 0 when nobody could tell."""
    posix: bool = True


class Process(Struct, frozen=True):
    """One vLLM server. Equal processes need not be started anew."""

    name: str
    """The engine's; its second and further replicas have #2, #3, ... behind it."""
    engine: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """Variables beside the inherited ones."""
    port: int
    url: str
    devices: tuple[int, ...]
    """GPUs; () on the CPU."""
    memory: str
    """For people: what it takes."""
    start_seconds: float
    stop_seconds: float


class Plan(Struct, frozen=True):
    processes: tuple[Process, ...]
    told: tuple[Told, ...]
    """What is wrong, and what is probably not meant. With an error in it nothing may be started."""

    @property
    def ok(self) -> bool:
        return all(severity != "error" for _, _, severity in self.told)


class Change(Struct, frozen=True):
    """What a new plan means for what runs."""

    stop: tuple[Process, ...]
    start: tuple[Process, ...]
    stale: tuple[Process, ...]
    """Run on as they are: their new form waits for a restart of Weir."""


def change(old: Iterable[Process], new: Iterable[Process]) -> Change:
    """A process is the same while it has its name and its address. Where both stay and the rest differs it runs on: nobody takes a model
    from its callers because a file was saved. A new address is a new process, for its callers look for it there already."""
    before = {(one.name, one.url): one for one in old}
    after = {(one.name, one.url): one for one in new}
    return Change(
        stop=tuple(one for key, one in before.items() if key not in after),
        start=tuple(one for key, one in after.items() if key not in before),
        stale=tuple(one for key, one in after.items() if key in before and before[key] != one),
    )


def plan(settings: Settings, facts: Facts) -> Plan:
    """The processes of `engines:`, in the order of the file, but for those that somebody else starts."""
    told: list[Told] = list(engines.clashes(settings))
    own = {name: engine for name, engine in settings.engines.items() if engine.url is None}
    if own and not facts.posix:
        told.append((("engines",), "vLLM runs on Linux (or macOS) only: give each engine a `url:` instead", "error"))
    shares = {name: _share(name, engine, facts, told) for name, engine in own.items()}
    _sizes(own, shares, told)
    _cpu_memory(own, facts, told)
    first = engines.ports(settings)
    processes = []
    for name, engine in own.items():
        later = engines.loaded_later(settings, name)
        argv = _argv(name, engine, shares[name], later, facts, told)
        env = RUNTIME_LORA if engine.adapters or later else {}
        for index, gpus in enumerate(engines.devices(engine)):
            parallel = ["--tensor-parallel-size", str(len(gpus))] if len(gpus) > 1 else []
            port = first[name] + index
            process = Process(
                name=name if index == 0 else f"{name}#{index + 1}",
                engine=name,
                argv=(*argv, "--port", str(port), *parallel, *engine.extra),  # the user's own last: the last one counts
                env={**env, **_env(engine, gpus)},
                port=port,
                url=f"http://127.0.0.1:{port}",
                devices=gpus,
                memory=f"{shares[name]:.3g} of {_gpus(gpus)}" if gpus else f"{engine.kv_cache_gib} GiB of cache",
                start_seconds=engine.start_seconds,
                stop_seconds=engine.stop_seconds,
            )
            processes.append(process)
    return Plan(tuple(processes), tuple(told))


def _gpus(gpus: Collection[int]) -> str:
    return f"GPU{'s' if len(gpus) > 1 else ''} {', '.join(map(str, gpus))}"


def _env(engine: EngineSettings, gpus: tuple[int, ...]) -> dict[str, str]:
    env = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if engine.device == "cpu":
        env["VLLM_CPU_KVCACHE_SPACE"] = str(engine.kv_cache_gib)
    else:
        # In the order of the bus, as nvidia-smi counts: CUDA's own order puts the fastest first.
        env |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus))}
    return {**env, **engine.env}


def _argv(
    name: str, engine: EngineSettings, share: float, later: Mapping[str, str], facts: Facts, told: list[Told]
) -> list[str]:
    """The command line, but for what differs between replicas."""
    here: Where = ("engines", name)
    argv = [*_command(here, engine, facts, told), "serve", _model(here, engine, facts, told)]
    argv += ["--served-model-name", engines.served_as(engine), "--host", "127.0.0.1"]
    argv += ["--structured-outputs-config", STRUCTURED]
    if engine.tool_parser:
        argv += ["--enable-auto-tool-choice", "--tool-call-parser", engine.tool_parser]
    if engine.max_model_len:
        argv += ["--max-model-len", str(engine.max_model_len)]
    if engine.max_in_flight:
        argv += ["--max-num-queued-reqs", str(engine.max_in_flight)]
    if engine.device == "gpu":
        argv += ["--gpu-memory-utilization", f"{share:.4g}"]
    argv += _loras(here, engine, later, facts, told)
    # Half of the time it has to end is for requests under way; the rest for ending.
    argv += ["--shutdown-timeout", str(int(engine.stop_seconds / 2)), "--disable-uvicorn-access-log"]
    return argv


def _command(here: Where, engine: EngineSettings, facts: Facts, told: list[Told]) -> list[str]:
    program = facts.programs.get(engine.command)
    if program is not None:
        return [program, *engine.command[1:]]
    if engine.command:
        message = f"there is no program {engine.command[0]!r} that can be run: give its path"
    else:
        message = (
            "no `vllm` stands beside this Python or on PATH: install it in an environment of its own (on a CPU: `make vllm`) "
            "and say `command: [/path/to/vllm]`"
        )
    told.append(((*here, "command"), message, "error"))
    return list(engine.command) or ["vllm"]


def _model(here: Where, engine: EngineSettings, facts: Facts, told: list[Told]) -> str:
    folder = facts.folders.get(engine.model)
    if folder is None and not is_hub_name(engine.model):
        told.append(((*here, "model"), f"there is no folder {engine.model!r}", "error"))
    return folder or engine.model


def _loras(here: Where, engine: EngineSettings, later: Mapping[str, str], facts: Facts, told: list[Told]) -> list[str]:
    """Room for all of them. Those that backends load themselves (`later`) are not loaded at the start."""
    everything = {**engine.adapters, **later}
    if not everything:
        return []
    ranks = [_rank((*here, "adapters", name), path, facts, told) for name, path in everything.items()]
    rank = next((rank for rank in RANKS if rank >= max(*ranks, 16)), RANKS[-1])  # 16 is vLLM's own default
    flags = ["--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(min(len(everything), MOST_LORAS))]
    flags += ["--max-cpu-loras", str(len(everything) + SPARE_LORAS)]
    modules = []
    for name, path in engine.adapters.items():
        if name not in later:
            found = facts.adapters.get(path)
            module = {"name": name, "path": found.path if found else path, "base_model_name": engines.served_as(engine)}
            modules.append(orjson.dumps(module).decode())
    return [*flags, "--lora-modules", *modules] if modules else flags


def _rank(here: Where, path: str, facts: Facts, told: list[Told]) -> int:
    """Of the adapter in `path`; 0 where nobody knows."""
    found = facts.adapters.get(path)
    if found is None and not is_hub_name(path):
        told.append((here, f"there is no folder {path!r}", "error"))
    elif found is None:
        message = "on the hub, so its rank is not known yet: above 16 say `extra: [--max-lora-rank, ...]`"
        told.append((here, message, "warning"))
    elif found.rank is None:
        told.append((here, f"{path!r} has no adapter_config.json with a rank `r`", "error"))
    elif found.rank > RANKS[-1]:
        told.append((here, f"has rank {found.rank}: vLLM takes {RANKS[-1]} at most", "error"))
    return (found.rank or 0) if found else 0


def is_hub_name(model: str) -> bool:
    """`OWNER/NAME` or `NAME`, and no path: it may be on the hub when it is no folder."""
    return HUB_NAME.fullmatch(model) is not None and not model.startswith(".")


# -- memory


def size(text: str) -> int:
    """Bytes of "10GiB"."""
    found = re.fullmatch(MEMORY_PATTERN, text)
    assert found is not None  # the settings' own check
    return int(float(found[1]) * UNITS[found[2]])


def _share(name: str, engine: EngineSettings, facts: Facts, told: list[Told]) -> float:
    """The share of each of its GPUs that a replica takes; 0 on the CPU. A size becomes the share of the smallest of its GPUs."""
    if engine.device == "cpu":
        return 0.0
    used = sorted({gpu for one in engines.devices(engine) for gpu in one})
    strange = [gpu for gpu in used if facts.gpus and gpu not in facts.gpus]
    if strange:
        message = f"there is no {_gpus(strange)}: this machine has {_gpus(sorted(facts.gpus))}"
        told.append((("engines", name, "devices"), message, "error"))
        return 0.0
    if isinstance(engine.gpu_memory, float):
        if not facts.gpus:
            message = "no GPU was found (no nvidia-smi here): without one say `device: cpu`"
            told.append((("engines", name), message, "warning"))
        return engine.gpu_memory
    here: Where = ("engines", name, "gpu_memory")
    if not facts.gpus:
        message = "nobody can tell how large the device is (no nvidia-smi here): write a share of it, like 0.6"
        told.append((here, message, "error"))
        return 0.0
    smallest = min(facts.gpus[gpu] for gpu in used)
    share = size(engine.gpu_memory) / smallest
    if share > 1:
        told.append((here, f"is more than the {smallest / 2**30:.1f} GiB of {_gpus(used)}", "error"))
        return 0.0
    return share


def _sizes(own: Mapping[str, EngineSettings], shares: Mapping[str, float], told: list[Told]) -> None:
    """Devices that are promised too often, where sizes take part: of shares alone `weir check` has told already."""
    taken: dict[int, dict[str, float]] = {}
    sized: set[int] = set()
    for name, engine in own.items():
        for gpu in (gpu for one in engines.devices(engine) for gpu in one):
            of = taken.setdefault(gpu, {})
            of[name] = of.get(name, 0.0) + shares[name]
            if isinstance(engine.gpu_memory, str):
                sized.add(gpu)
    told.extend(engines.overfull({gpu: of for gpu, of in taken.items() if gpu in sized}))


def _cpu_memory(own: Mapping[str, EngineSettings], facts: Facts, told: list[Told]) -> None:
    wanted = {n: e.kv_cache_gib * e.replicas for n, e in own.items() if e.device == "cpu"}
    if wanted and facts.memory and sum(wanted.values()) * 2**30 > engines.MOST * facts.memory:
        message = (
            f"the caches of {', '.join(wanted)} take {sum(wanted.values())} GiB together, weights not counted, and this machine has "
            f"{facts.memory / 2**30:.1f} GiB: take less"
        )
        told.append((("engines", list(wanted)[-1], "kv_cache_gib"), message, "error"))
