"""`engines:` seen with the rest of the configuration: who listens where, what backends get of it, and what cannot be. Pure.

What needs the machine to tell (folders, sizes of devices) is in `gateway.engines.plan`.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from gateway.settings.mistakes import Severity, Where, did_you_mean
from gateway.settings.model import EngineSettings, Settings

FIRST_PORT = 8000
MOST = 0.95
"""Share of a device that engines may take together: the driver and every process's own context need the rest."""
OWNED = {
    "--host": "`weir serve` reaches it on 127.0.0.1",
    "--port": "write `port:`",
    "--served-model-name": "write `served_as:`",
    "--api-key": "on 127.0.0.1 none is asked for",
    "--gpu-memory-utilization": "write `gpu_memory:`",
    "--tensor-parallel-size": "list several `devices:`",
    "-tp": "list several `devices:`",
    "--max-model-len": "write `max_model_len:`",
    "--tool-call-parser": "write `tool_parser:`",
    "--lora-modules": "write `adapters:`",
    "--max-num-queued-reqs": "write `max_in_flight:`",
}
"""Flags that follow from a key of their own: given twice, Weir would plan with one and vLLM run with the other."""
OWNED_ENV = {"CUDA_VISIBLE_DEVICES": "write `devices:`"}

Told = tuple[Where, str, Severity]


def served_as(engine: EngineSettings) -> str:
    return engine.served_as or engine.model.rstrip("/").rpartition("/")[2]


def devices(engine: EngineSettings) -> list[tuple[int, ...]]:
    """The GPUs of each replica; empty ones for an engine on the CPU. As many as there are replicas."""
    if engine.device == "cpu":
        return [()] * engine.replicas
    given = engine.devices
    if isinstance(given[0], tuple):
        return [one for one in given if isinstance(one, tuple)]
    return [tuple(one for one in given if isinstance(one, int))] * engine.replicas


def ports(settings: Settings) -> dict[str, int]:
    """Engine > the port of its first replica. What is written stays; the others get the first run of ports that nobody has, in the
    order of the file. Engines that run elsewhere have none."""
    own = {name: engine for name, engine in settings.engines.items() if engine.url is None}
    taken = {settings.server.port}
    for engine in own.values():
        if engine.port is not None:
            taken.update(_run(engine.port, engine))
    found: dict[str, int] = {}
    for name, engine in own.items():
        port = engine.port
        if port is None:
            port = next(one for one in range(FIRST_PORT, 2**17) if taken.isdisjoint(_run(one, engine)))
            taken.update(_run(port, engine))
        found[name] = port
    return found


def urls(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Engine > where each of its replicas is reached, without a path."""
    first = ports(settings)
    return {
        name: (engine.url,)
        if engine.url is not None
        else tuple(f"http://127.0.0.1:{port}" for port in _run(first[name], engine))
        for name, engine in settings.engines.items()
    }


def loaded_later(settings: Settings, engine: str) -> dict[str, str]:
    """Adapter > folder of those that backends themselves load into this engine (`adapter_path`)."""
    users = [backend for backend in settings.backends.values() if getattr(backend, "engine", None) == engine]
    found = {getattr(backend, "adapter", None): getattr(backend, "adapter_path", None) for backend in users}
    return {adapter: path for adapter, path in found.items() if adapter and path}


def addressed(settings: Settings) -> Settings:
    """`settings` in which every backend with `engine:` has that engine's address, and its model where none is written."""
    if not settings.engines:
        return settings
    where = urls(settings)
    backends = dict(settings.backends)
    for name, backend in backends.items():
        engine = getattr(backend, "engine", None)
        if engine not in where:
            continue
        update: dict[str, Any] = {"base_url": f"{where[engine][0]}/v1"}
        if len(where[engine]) > 1 and "replicas" in type(backend).model_fields:
            update["replicas"] = tuple(f"{url}/v1" for url in where[engine][1:])
        if getattr(backend, "model", None) is None:
            update["model"] = served_as(settings.engines[engine])
        backends[name] = backend.model_copy(update=update)
    return settings.model_copy(update={"backends": backends})


def check(settings: Settings) -> Iterator[Told]:
    """What is wrong with `engines:` and with who refers to it."""
    yield from _users(settings)
    yield from clashes(settings)
    yield from _memory(settings)
    for name, engine in settings.engines.items():
        yield from _engine(("engines", name), engine)


def _users(settings: Settings) -> Iterator[Told]:
    adapters: dict[str, set[str]] = {}
    for name, backend in settings.backends.items():
        engine = getattr(backend, "engine", None)
        if engine is None:
            continue
        here: Where = ("backends", name)
        for key in sorted({"base_url", "replicas", "dns"} & backend.model_fields_set):
            message = f"`engine: {engine}` says where it runs: take `{key}` away (elsewhere: `engines.{engine}.url`)"
            yield (*here, key), message, "error"
        if engine not in settings.engines:
            known = did_you_mean(engine, settings.engines) or ": write it under `engines:`"
            yield (*here, "engine"), f"no engine named {engine!r}{known}", "error"
            continue
        adapter = getattr(backend, "adapter", None)
        has = settings.engines[engine].adapters
        adapters.setdefault(engine, set()).update([adapter] if adapter else [])
        if adapter and adapter not in has and "adapter_path" not in backend.model_fields_set:
            known = did_you_mean(adapter, has)
            message = f"engine {engine!r} has no adapter {adapter!r}{known}: write its folder under `engines.{engine}.adapters`"
            yield (*here, "adapter"), message, "error"
    for name, settings_ in settings.engines.items():
        if name not in adapters:
            yield ("engines", name), f"no backend says `engine: {name}`: it would run for nobody", "warning"
            continue
        for adapter in settings_.adapters:
            if adapter not in adapters[name]:
                yield ("engines", name, "adapters", adapter), "no backend on this engine names this adapter", "warning"


def clashes(settings: Settings) -> Iterator[Told]:
    """Ports that two would listen on."""
    owners = {settings.server.port: "the gateway itself (`server.port`)"}
    for name, first in ports(settings).items():
        engine = settings.engines[name]
        here: Where = ("engines", name, *(("port",) if engine.port is not None else ()))
        for port in _run(first, engine):
            if port > 65535:
                yield here, f"its replicas need ports up to {first + engine.replicas - 1}: begin lower", "error"
                break
            if port in owners:
                message = f"port {port} is already that of {owners[port]}: take another one, or leave it out to have one assigned"
                yield here, message, "error"
                break
            owners[port] = f"engine {name!r}"


def _memory(settings: Settings) -> Iterator[Told]:
    """Shares only: sizes need the device (`gateway.engines.plan`)."""
    taken: dict[int, dict[str, float]] = {}
    for name, engine in settings.engines.items():
        if engine.device == "gpu" and engine.url is None and isinstance(engine.gpu_memory, float):
            for device in chain.from_iterable(devices(engine)):
                shares = taken.setdefault(device, {})
                shares[name] = shares.get(name, 0.0) + engine.gpu_memory
    yield from overfull(taken)


def overfull(taken: dict[int, dict[str, float]]) -> Iterator[Told]:
    """taken: device > engine > the share of it that its replicas take together."""
    for device, shares in sorted(taken.items()):
        total = sum(shares.values())
        if total > MOST + 1e-9:
            parts = ", ".join(f"{name} {share:.3g}" for name, share in shares.items())
            message = (
                f"engines take {total:.3g} of device {device} together ({parts}), and at most {MOST:g} can be given away: "
                "take less, or other `devices:`"
            )
            yield ("engines", list(shares)[-1], "gpu_memory"), message, "error"


def _engine(here: Where, engine: EngineSettings) -> Iterator[Told]:
    given = engine.model_fields_set
    if engine.device == "cpu":
        for key in sorted(given & {"gpu_memory", "devices"}):
            yield (*here, key), "is not used with `device: cpu`", "warning"
    elif "kv_cache_gib" in given:
        yield (
            (*here, "kv_cache_gib"),
            "is only for `device: cpu`: on a GPU `gpu_memory` bounds weights and cache",
            "warning",
        )
    yield from _devices((*here, "devices"), engine)
    if served_as(engine) in engine.adapters:
        message = f"{served_as(engine)!r} is the base model's own name: rename the adapter, or say `served_as`"
        yield (*here, "adapters", served_as(engine)), message, "error"
    for index, flag in enumerate(engine.extra):
        way = OWNED.get(flag.partition("=")[0].replace("_", "-"))
        if way:
            yield (*here, "extra", index), f"{flag.partition('=')[0]} is Weir's to set: {way}", "error"
    for variable, way in OWNED_ENV.items():
        if variable in engine.env:
            yield (*here, "env", variable), f"is Weir's to set: {way}", "error"
    if engine.url is not None:
        unused = sorted(given & {"port", "command", "extra", "env", "gpu_memory", "kv_cache_gib", "replicas"})
        if unused:
            yield (*here, "url"), f"somebody else starts it, so nobody reads {', '.join(unused)}", "warning"
        if urlsplit(engine.url).path.strip("/"):
            yield (*here, "url"), "is written without a path: http://HOST:PORT", "error"


def _devices(here: Where, engine: EngineSettings) -> Iterator[Told]:
    if engine.device == "cpu":
        return
    if isinstance(engine.devices[0], tuple) and len(engine.devices) != engine.replicas:
        message = f"lists GPUs for {len(engine.devices)} replicas, but `replicas` is {engine.replicas}"
        yield here, message, "error"
    for one in devices(engine):
        if not one or len(set(one)) < len(one) or min(one) < 0:
            yield here, "names GPUs by their numbers from 0 up, each once", "error"
            return


def _run(port: int, engine: EngineSettings) -> range:
    return range(port, port + engine.replicas)
