"""The composition root: configuration in, a running ASGI application out.

    weir.yaml > Loaded > Setup > Surface

Whatever lives longer than a request is started and stopped here, in one lifespan: the HTTP client, small models' worker processes, the
recorder, the log, and the watcher that reloads. A reload builds a whole new Setup beside the old one and swaps one reference; when
anything about it is wrong the old one stays, and says so.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

from msgspec import structs

from backends.base import BackendConfig
from backends.embedding.base import EmbedderConfig
from embed.client import Client, Worker
from gateway import build as building
from gateway import store
from gateway.access.limits import Limits
from gateway.dashboard.page import Dashboard
from gateway.decide import Route
from gateway.dialects import chat, completions, messages
from gateway.energy import Energy, Open, nvml
from gateway.engines.facts import look
from gateway.engines.plan import Plan
from gateway.engines.plan import plan as plan_engines
from gateway.engines.process import inherited
from gateway.engines.supervisor import Supervisor
from gateway.instance import Alone, Instance
from gateway.judged import Judged
from gateway.log import Log
from gateway.metrics import Held, Metrics
from gateway.offpath import OffPath
from gateway.record import JudgedRecord, ShadowRecord
from gateway.recorder import Recorder
from gateway.resources import Resources as Resources
from gateway.settings import bypass, several
from gateway.settings.engines import addressed
from gateway.settings.load import Loaded, load
from gateway.settings.mistakes import ConfigError
from gateway.settings.watch import Fingerprint
from gateway.setup import Live, Setup
from gateway.shadow import Shadow
from gateway.surface.admission import LimitsOf
from gateway.surface.app import Endpoint, Surface
from gateway.surface.count import Count
from gateway.surface.embeddings import Embeddings
from gateway.surface.exchange import Receive, Scope, Send
from gateway.surface.listing import Listing
from gateway.surface.models import Door
from gateway.surface.ops import operations
from gateway.surface.responses import Kept, ResponsesDoor, Shelf
from gateway.tending import Tending, findings
from gateway.tracing import Tracing
from routers.base import RouterConfig


class Siblings(Protocol):
    """What a worker shares with the other ones, through the supervisor that started them (`gateway.workers`)."""

    @property
    def loaded(self) -> Loaded:
        """The configuration that the supervisor has read for all of them."""

    @property
    def instance(self) -> Instance: ...

    def model(self, folder: Path) -> Worker: ...


def read(config: Path, overrides: Mapping[str, object]) -> Loaded:
    """The configuration, with keys of `server:` overridden. Raises ConfigError."""
    loaded = load(config)
    if not overrides:
        return loaded
    server = loaded.settings.server.model_copy(update=overrides)
    # Engines whose port is not written keep out of the way of the gateway's own.
    settings = addressed(loaded.settings.model_copy(update={"server": server}))
    found = [loaded.lines.mistake(*told) for told in several.check(settings)] if "workers" in overrides else []
    found = [mistake for mistake in found if mistake not in loaded.warnings]
    if any(mistake.severity == "error" for mistake in found):
        raise ConfigError([*loaded.warnings, *found])
    return structs.replace(loaded, settings=settings, warnings=(*loaded.warnings, *found))


def build(loaded: Loaded, resources: Resources | None = None, digests: Mapping[str, str] | None = None) -> Setup:
    """The Setup of a configuration. Without `resources`: for looking at only, nothing can be asked. digests: as in `gateway.build`.
    Raises ConfigError."""
    return building.build(loaded, resources or Resources(loaded.folder), digests)


def engines_of(loaded: Loaded, resolve: Callable[[Path], Path], environ: Mapping[str, str]) -> Plan:
    """The local engines of a configuration on this machine. Raises ConfigError."""
    planned = plan_engines(loaded.settings, look(loaded.settings, resolve, environ))
    if not planned.ok:
        raise ConfigError([*loaded.warnings, *(loaded.lines.mistake(*told) for told in planned.told)])
    return planned


def want_engines(
    engines: Supervisor, loaded: Loaded, planned: Plan, environ: Mapping[str, str], log: Log, metrics: Metrics
) -> None:
    """From now on `engines` runs what was planned for `loaded`; what the plan has to say is logged."""
    for told in planned.told:
        log.event("config_warning", level="warning", warning=str(loaded.lines.mistake(*told)))
    metrics.engines([process.name for process in planned.processes])
    engines.want(planned.processes, inherited(loaded.settings, environ))


class Application:
    """The ASGI application of one configuration file."""

    def __init__(
        self,
        config: Path,
        *,
        overrides: Mapping[str, object] | None = None,
        log: Log | None = None,
        engines: Mapping[str, str] | None = None,
        loaded: Loaded | None = None,
        siblings: Siblings | None = None,
        gpus: Open = nvml,
    ) -> None:
        """overrides: of `server:` keys, from the command line. engines: start those of `engines:`, with this environment; None: somebody
        else does. loaded: `config` as it was just read. siblings: this process is one of several workers; it then watches no files, but
        is told (`prepare`, `commit`). gpus: who counts the energy of this machine's. Raises ConfigError."""
        self._config = config
        self._overrides = dict(overrides or {})
        self._environ = engines
        self._siblings = siblings
        self._loaded = siblings.loaded if siblings else loaded or read(config, self._overrides)
        self._candidate: tuple[Loaded, Setup] | None = None
        self.resources = Resources(self._loaded.folder, siblings.model if siblings else Client)
        setup = build(self._loaded, self.resources)
        settings = setup.settings
        self.log = log or Log(off=settings.telemetry.log == "off")
        self.metrics = Metrics(
            list(setup.routes),
            [*setup.rungs, *setup.embedders],
            version=setup.version,
            tiers=tiers(settings.router.use),
        )
        self.recorder = Recorder(
            settings.server.state_dir,
            memory=settings.telemetry.records,
            on_drop=self.metrics.dropped,
            warn=lambda name, **told: self.log.event(name, **told),
        )
        self.tracing = self._traced(setup)
        traces = (self.tracing.observe,) if self.tracing else ()
        self.live = Live(setup, (self.metrics.observe, self.recorder.record, self.log.requests, *traces))
        self.live.sample = settings.telemetry.otlp.sample if settings.telemetry.otlp else None
        self.off_path = OffPath(
            on_error=lambda exc: self.log.event("off_path_failed", level="error", error=type(exc).__name__)
        )
        self.live.afterwards.append(Shadow(self.off_path, self._shadowed, self.metrics.shadow_dropped))
        self.live.afterwards.append(Judged(self.off_path, self._judged, self.metrics.judged_dropped))
        self.live.wrote = self.metrics.wrote
        self.live.counted = self.metrics.settle
        self.metrics.in_flight(lambda: self.live.in_flight)
        self.metrics.queue("off_path", lambda: self.off_path.waiting)
        self.metrics.findings(lambda: findings(self.live.setup))
        # The cards are the instance's: of several workers none counts them, but their supervisor.
        self._energy = Energy(gpus, self.metrics, self.log.event) if siblings is None else None
        self.tending = Tending(self.log)
        self.tending.use(setup.backends)
        self._limits = LimitsOf(Limits(settings.access.keys))
        self._state_dir = settings.server.state_dir
        self._otlp = settings.telemetry.otlp
        self.engines = Supervisor(self._state_dir / "engines", self.log.event, self.metrics)
        self._want(self._loaded, self._planned(self._loaded))
        self._reload = asyncio.Event()
        self._digests: dict[str, str] = {}
        self._workers: set[Path] = set()
        self._responses = settings.responses
        self._store = store.make(settings.responses, time.monotonic, self.metrics.stored)
        shelf = Shelf(self.live, self._store)
        doors: dict[str, Endpoint] = {
            "/chat/completions": Door(self.live, chat, self._limits, self.log),
            "/completions": Door(self.live, completions, self._limits, self.log),
            "/embeddings": Embeddings(self.live, self._limits, self.log),
            "/messages": Door(self.live, messages, self._limits, self.log),
            "/messages/count_tokens": Count(self.live, self._limits),
            "/responses": ResponsesDoor(self.live, self._limits, self.log, shelf),
        }
        instance = (
            siblings.instance if siblings else Alone(self.metrics, self.recorder, self.engines.states, self.live.fold)
        )
        administration = operations(self.live, instance)
        self.dashboard = Dashboard(
            self.live, instance.find, lambda: self._loaded.calibrations, self.resources.resolve, alone=siblings is None
        )
        self.dashboard.serve(administration)
        self.live.observers = (*self.live.observers, self.dashboard.observe)
        self.surface = Surface(
            self.live,
            doors,
            Listing(self.live, int(time.time())),
            administration,
            self._lifespan,
            below={"/responses/": Kept(self.live, shelf, self._limits)},
        )
        self._tell(setup)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.surface(scope, receive, send)

    def _planned(self, loaded: Loaded) -> Plan | None:
        """What to run here; None when somebody else does. Raises ConfigError."""
        return None if self._environ is None else engines_of(loaded, self.resources.resolve, self._environ)

    def _want(self, loaded: Loaded, planned: Plan | None) -> None:
        if planned is not None and self._environ is not None:
            want_engines(self.engines, loaded, planned, self._environ, self.log, self.metrics)

    def _traced(self, setup: Setup) -> Tracing | None:
        """None when `telemetry.otlp` names no collector."""
        otlp = setup.settings.telemetry.otlp
        if otlp is None:
            return None
        version, dropped = setup.version, self.metrics.spans_dropped
        return Tracing(otlp, self._upstream, version=version, on_drop=dropped, warn=self.log.event)

    def _upstream(self, name: str) -> BackendConfig | EmbedderConfig | None:
        settings = self.live.setup.settings
        return settings.backends.get(name) or settings.embeddings.get(name)

    # -- lifespan -------------------------------------------------------------------------------------------------------------------

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            try:
                await self._start(stack)
            except Exception as exc:
                await send({"type": "lifespan.startup.failed", "message": f"{type(exc).__name__}: {exc}"})
                return
            async with asyncio.TaskGroup() as group:
                watcher = group.create_task(self._watch())
                workers = group.create_task(self.resources.workers(self.log, self._workers))
                warm = group.create_task(self.resources.warm(self.live.setup))
                engines = group.create_task(self.engines.run())
                off_path = group.create_task(self.off_path.run())
                tending = group.create_task(self._tend())
                await send({"type": "lifespan.startup.complete"})
                await receive()
                watcher.cancel()
                workers.cancel()
                warm.cancel()
                engines.cancel()  # requests under way have had their time: the server has drained
                off_path.cancel()
                tending.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    async def _tend(self) -> None:
        if self.live.setup.settings.server.tend:
            await self.tending.run()

    async def _start(self, stack: AsyncExitStack) -> None:
        self.log.start()
        stack.push_async_callback(self.log.close)
        await self.resources.open()
        stack.push_async_callback(self.resources.close)
        if self.tracing is not None:
            self.tracing.start()
            stack.push_async_callback(self.tracing.close)
        self.recorder.start()
        stack.push_async_callback(self.recorder.close)
        if self._store is not None:
            stack.push_async_callback(self._store.close)
        if self._energy is not None:
            self._energy.start()
            stack.callback(self._energy.close)
        self.live.gather()
        stack.callback(self.live.settle)
        self._read_bypass()

    # -- reload ---------------------------------------------------------------------------------------------------------------------

    def reload_soon(self) -> None:
        """For a signal handler: look at the configuration again now, changed or not."""
        self._reload.set()

    async def _watch(self) -> None:
        """Notices changed files (and SIGHUP), and the bypass switch. One look a second; never lets an error out."""
        seen = Fingerprint.of(self._loaded.watched)
        while True:
            try:
                async with asyncio.timeout(self.live.setup.settings.server.watch):
                    await self._reload.wait()
            except TimeoutError:
                pass
            try:
                self._read_bypass()
                now = seen if self._siblings else Fingerprint.of(self._loaded.watched)
                if self._learn() or self._reload.is_set() or now != seen:
                    self._reload.clear()
                    seen = now
                    await self.reload()
            except Exception as exc:
                self.log.event("watch_failed", level="error", error=type(exc).__name__)

    def _learn(self) -> bool:
        """Has a server said that another model answers behind a rung than was thought? Calibrations are then looked at again."""
        setup = self.live.setup
        promised = [route for route in setup.settings.routes.values() if route.accept.risk is not None]
        seconds = [route.accept.agrees_with.rung for route in promised if route.accept.agrees_with is not None]
        names = {*seconds, *(rung for route in promised for rung in route.ladder)}
        told = {name: str(getattr(setup.backends[name], "digest", "")) for name in names}
        known = {name: self._digests.get(name, rung.digest) for name, rung in setup.rungs.items()}
        new = {name: digest for name, digest in told.items() if digest and digest != known[name]}
        self._digests.update(new)
        return bool(new)

    async def reload(self) -> bool:
        """Validate whole, then swap. False, and the old configuration stays, when anything is wrong with the new one."""
        try:
            loaded, setup, planned = await asyncio.to_thread(self._load_and_build)
        except ConfigError as exc:
            self.metrics.reloaded(False)
            wrong = [str(m) for m in exc.mistakes if m.severity == "error"]
            self.log.event("reload_refused", level="error", kept=self.live.setup.digest, mistakes=wrong)
            return False
        await self._use(loaded, setup, planned)
        self.log.event("reloaded", config=setup.digest)
        if self._siblings is None:  # else it was one worker that has learnt something, and no reload of the instance
            self.metrics.reloaded(True)
        return True

    async def prepare(self, loaded: Loaded) -> None:
        """A worker is told of a new configuration: build it beside the old one. Raises ConfigError, and nothing has changed."""
        self._candidate = None
        self._candidate = loaded, await asyncio.to_thread(build, loaded, self.resources, dict(self._digests))

    async def commit(self) -> None:
        """All workers could build it: use it from now on."""
        if self._candidate is not None:
            (loaded, setup), self._candidate = self._candidate, None
            await self._use(loaded, setup, None)

    async def _use(self, loaded: Loaded, setup: Setup, planned: Plan | None) -> None:
        self.live.fold()  # under the names of the configuration that they were answered by
        self._loaded = loaded
        self._limits.now = Limits(setup.settings.access.keys, self._limits.now)
        names = [*setup.rungs, *setup.embedders]
        self.metrics.reconfigure(list(setup.routes), names, tiers(setup.settings.router.use))
        self.live.setup = setup
        self.tending.use(setup.backends)
        self._tell(setup)
        self._want(loaded, planned)
        if setup.settings.responses.model_copy(update={"ttl": self._responses.ttl}) != self._responses:
            self.log.event("restart_needed", level="warning", table="responses")  # what it keeps cannot move elsewhere
        if setup.settings.telemetry.otlp != self._otlp:
            self.log.event("restart_needed", level="warning", table="telemetry.otlp")
        await self.resources.workers(self.log, self._workers)

    def _load_and_build(self) -> tuple[Loaded, Setup, Plan | None]:
        loaded = self._loaded if self._siblings else read(self._config, self._overrides)
        return loaded, build(loaded, self.resources, self._digests), self._planned(loaded)

    def _shadowed(self, record: ShadowRecord) -> None:
        self.metrics.shadow(record)
        self.recorder.beside(record)

    def _judged(self, record: JudgedRecord) -> None:
        self.metrics.judged(record)
        self.recorder.beside(record)

    def _tell(self, setup: Setup) -> None:
        self.metrics.config(setup.digest)
        self.metrics.held({name: _held(setup, route) for name, route in setup.routes.items()})
        for name, rung in setup.rungs.items():
            self.metrics.available(name, not rung.missing)
            self.metrics.local(name, not rung.cloud)
        for name, embedder in setup.settings.embeddings.items():
            self.metrics.available(name, not embedder.missing())

    def _read_bypass(self) -> None:
        before, now = self.live.bypass, bypass.read(self._state_dir).bypass
        if now == before:
            return
        self.live.bypass = now
        self.metrics.bypass("all", now.all)
        for route in self.live.setup.routes:
            self.metrics.bypass(route, route in now.routes)
        self.log.event("bypass", level="warning", all=now.all, routes=sorted(now.routes))


def tiers(router: RouterConfig) -> list[str]:
    """What may stand in a Record's `router`: the names of a cascade's tiers, else the router's kind."""
    inner: Sequence[RouterConfig] | None = getattr(router, "of", None)
    if inner is None:
        return [router.kind]
    named = ((tier.name or tier.kind, tier) for tier in inner)
    return [
        f"{name}/{below}" if hasattr(tier, "of") else name
        for name, tier in named
        for below in (tiers(tier) if hasattr(tier, "of") else [""])
    ]


def _held(setup: Setup, route: Route) -> Held:
    slo = setup.settings.routes[route.name].slo
    given = {"escalation_rate": slo.escalation_rate, "failures": slo.failures} if slo is not None else {}
    return Held(
        risk=route.risk,
        thresholds={rung.name: rung.threshold for rung in route.ladder if rung.threshold is not None},
        slos={name: share for name, share in given.items() if share is not None},
    )
