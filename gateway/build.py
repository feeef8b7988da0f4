"""Settings > Setup: the one place where parts meet. Everything that only building can find out is found here, all of it at once."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from importlib import resources as package_data
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, cast

from backends.base import Backend, BackendConfig, BackendResources
from backends.embedding.base import Embedder, EmbedderConfig
from gateway import promise as promising
from gateway.access.keys import Keys
from gateway.decide import Route, Rung
from gateway.settings.load import Loaded
from gateway.settings.mistakes import ConfigError, Mistake, Severity, Where
from gateway.settings.model import ModelSettings, RouteSettings
from gateway.setup import Setup, Target
from gateway.validators.base import Validator, ValidatorConfig
from gateway.validators.fits_schema import SchemaError, compile_constraint
from routers.base import Router, RouterResources, RouteSpec
from wire.hashing import short_hash
from wire.kinds import UnknownKind, load_kind
from wire.types import Constraint

SURE_ENOUGH = "sure_enough"


class Lent(BackendResources, RouterResources, Protocol):
    """What the composition root lends to routers and backends."""


class _Parts:
    """What is being built, and what was found wrong so far."""

    def __init__(self, loaded: Loaded, lent: Lent, digests: Mapping[str, str]) -> None:
        self.digests = digests
        self.loaded = loaded
        self.settings = loaded.settings
        self.lent = lent
        self.mistakes: list[Mistake] = []
        self.backends: dict[str, Backend] = {}
        self.embedders: dict[str, Embedder] = {}

    def say(self, where: Where, message: str, severity: Severity = "error") -> None:
        self.mistakes.append(self.loaded.lines.mistake(where, message, severity))


def build(loaded: Loaded, lent: Lent, digests: Mapping[str, str] | None = None) -> Setup:
    """digests: what backends have learnt of their models from their servers before. Raises ConfigError with every mistake that building
    finds."""
    parts = _Parts(loaded, lent, digests or {})
    settings = loaded.settings
    for name, config in settings.backends.items():
        _backend(parts, name, config)
    rungs = {name: _rung(parts, name, config) for name, config in settings.backends.items()}
    routes = {name: _route(parts, name, route, rungs) for name, route in settings.routes.items()}
    router = _router(parts)
    for name, embedder in settings.embeddings.items():
        _embedder(parts, name, embedder)
    if any(m.severity == "error" for m in parts.mistakes) or router is None:
        raise ConfigError([*loaded.warnings, *parts.mistakes])
    return Setup(
        settings=settings,
        digest=loaded.digest,
        router=router,
        router_digest=short_hash([settings.router.model_dump(mode="json"), [_spec_dump(s) for s in _specs(parts)]]),
        routes=routes,
        default=settings.router.default,
        backends=parts.backends,
        rungs=rungs,
        prices={name: config.price.price() for name, config in settings.backends.items()},
        models={name: _target(entry) for name, entry in settings.models.items()},
        keys=Keys(settings.access),
        clock=time.perf_counter,
        now=time.time,
        text_hash=_text_hash(settings.server.state_dir),
        version=weir_version(),
        warnings=tuple(str(m) for m in (*loaded.warnings, *parts.mistakes)),
        embedders=parts.embedders,
    )


def weir_version() -> str:
    try:
        return version("weir")
    except PackageNotFoundError:
        return "0"


def resolve(folder: Path, path: Path) -> Path:
    """`path` as written in the configuration: against its folder, then the working folder, then what Weir ships."""
    if path.is_absolute():
        return path
    home = Path(str(package_data.files("gateway"))).parent
    places = (folder / path, Path(path), home / path)
    return next((place for place in places if place.exists()), folder / path)


# --- backends and rungs -----------------------------------------------------------------------------------------------------------


def _backend(parts: _Parts, name: str, config: BackendConfig) -> None:
    try:
        parts.backends[name] = load_kind("backends", config.kind)(name, config, parts.lent)
    except UnknownKind as exc:
        parts.say(("backends", name, "kind"), str(exc))
    except (
        Exception
    ) as exc:  # a backend's constructor reads files of its user: whatever is wrong there is a mistake with a line
        parts.say(("backends", name), f"cannot be built: {exc}")


def _embedder(parts: _Parts, name: str, config: EmbedderConfig) -> None:
    if missing := config.missing():
        parts.say(("embeddings", name), f"{name} is unavailable until {missing} is set", "warning")
    try:
        parts.embedders[name] = load_kind("backends.embedding", config.kind)(name, config, parts.lent)
    except UnknownKind as exc:
        parts.say(("embeddings", name, "kind"), str(exc))
    except Exception as exc:  # as with backends
        parts.say(("embeddings", name), f"cannot be built: {exc}")


def _rung(parts: _Parts, name: str, config: BackendConfig) -> Rung:
    price = config.price.price()
    backend = parts.backends.get(name)
    return Rung(
        name=name,
        cloud=config.cloud,
        missing=config.missing(),
        timeout=config.timeout,
        paid=bool(price.input or price.output),
        modality=frozenset(config.modalities),
        digest=str(getattr(backend, "digest", "") or parts.digests.get(name) or config.digest()),
        passthrough=getattr(config, "auth", "") == "passthrough",
    )


# --- routes -----------------------------------------------------------------------------------------------------------------------


def _route(parts: _Parts, name: str, route: RouteSettings, rungs: Mapping[str, Rung]) -> Route:
    where: Where = ("routes", name)
    constraint = _constraint(route)
    if constraint is not None:
        try:
            compile_constraint(constraint)
        except SchemaError as exc:
            parts.say((*where, constraint.kind), str(exc))
    if constraint is not None and constraint.kind == "schema":
        _compare(parts, where, route, constraint)
    promises = [_promise(parts, name, route, rungs, position) for position in range(len(route.ladder))]
    mode, ladder, shadowed = _fallen(parts, where, route, promises)
    accept = route.accept
    return Route(
        name=name,
        ladder=ladder,
        mode=mode,
        min_score=route.min_score,
        constraint=constraint,
        render=route.render,
        validators=_validators(parts, where, route),
        risk=accept.risk,
        strict=route.strict,
        deliver_unproven=route.on_unavailable == "deliver",
        egress=route.egress,
        max_usd=route.budget.usd,
        max_attempts=route.budget.attempts,
        seconds=route.deadline or parts.settings.server.deadline,
        companion=rungs[accept.agrees_with.rung] if accept.agrees_with else None,
        agreement=accept.agrees_with.when if accept.agrees_with else "",
        repair=accept.repair,
        samples=accept.self_consistency.samples if accept.self_consistency else 0,
        temperature=accept.self_consistency.temperature if accept.self_consistency else 0.7,
        waste=route.speculate.waste if route.speculate else None,
        window=route.stream.window if route.stream else None,
        lag=route.stream.lag if route.stream else 0,
        writes=route.writes,
        tools=promising.tool_rules(route, promises),
        canary=route.canary,
        holdout=route.holdout,
        shadowed=shadowed,
        sample=route.shadow.sample,
        in_flight=route.shadow.in_flight,
    )


def _second(parts: _Parts, route: RouteSettings, rungs: Mapping[str, Rung]) -> promising.Engine | None:
    if route.accept.agrees_with is None:
        return None
    name = route.accept.agrees_with.rung
    return promising.engine(parts.backends.get(name), parts.settings.backends[name], rungs[name].digest)


def _promise(
    parts: _Parts, name: str, route: RouteSettings, rungs: Mapping[str, Rung], position: int
) -> promising.Promise:
    """The top rung has nothing to prove, unless it is the only one."""
    rung = rungs[route.ladder[position]]
    if position == len(route.ladder) - 1 and position > 0:
        return promising.Promise(rung, True)
    backend, folder = parts.backends.get(rung.name), parts.loaded.folder
    brought = getattr(backend, "calibration", None)
    return promising.promise(
        parts.say,
        ("routes", name),
        name,
        route,
        rung,
        promising.engine(backend, parts.settings.backends[rung.name], rung.digest),
        second=_second(parts, route, rungs),
        folder=parts.loaded.calibrations,
        given=resolve(folder, route.accept.calibration) if route.accept.calibration else None,
        brought=resolve(folder, Path(brought)) if brought else None,
    )


def _fallen(
    parts: _Parts, where: Where, route: RouteSettings, promises: Sequence[promising.Promise]
) -> tuple[str, tuple[Rung, ...], tuple[Rung, ...]]:
    """Mode, ladder and shadowed rungs. A rung that cannot keep the promise for want of a calibration is asked in shadow only: on the path
    every answer of its would go up the ladder. Where nobody above can be asked it stays: an unproven answer is all there is."""
    ladder = tuple(promise.rung for promise in promises)
    small, top = promises[:-1], ladder[-1]
    if route.mode == "shadow":
        return route.mode, ladder, tuple(promise.rung for promise in small)
    lost = tuple(promise.rung for promise in small if not promise.holds)
    reachable = not top.missing and not (route.egress == "local" and top.cloud)
    if route.mode == "observe" or not lost or not reachable:
        return route.mode, ladder, ()
    names = ", ".join(f"'{rung.name}'" for rung in lost)
    if len(lost) == len(small):
        parts.say((*where, "mode"), f"`shadow` instead of `{route.mode}` until {names} is calibrated", "warning")
        return "shadow", ladder, lost
    parts.say((*where, "mode"), f"{names} is asked in `shadow` only until it is calibrated", "warning")
    return route.mode, tuple(rung for rung in ladder if rung not in lost), lost


def _constraint(route: RouteSettings) -> Constraint | None:
    if route.schema_ is not None:
        return Constraint("schema", route.schema_, strict=True, digest=short_hash(route.schema_))
    if route.choice is not None:
        return Constraint("choice", list(route.choice), digest=short_hash(list(route.choice)))
    if route.regex is not None:
        return Constraint("regex", route.regex, digest=short_hash(route.regex))
    if route.grammar is not None:
        return Constraint("grammar", route.grammar, digest=short_hash(route.grammar))
    return None


def _compare(parts: _Parts, where: Where, route: RouteSettings, constraint: Constraint) -> None:
    """A specialist that could never answer this route's schema is a mistake now, not at the first request."""
    for position, rung in enumerate(route.ladder[:-1]):
        check = getattr(parts.backends.get(rung), "check_schema", None)
        for difference in check(constraint.value) if check else ():
            parts.say((*where, "ladder", position), f"'{rung}' cannot answer the route's schema: {difference}")


def _validators(parts: _Parts, where: Where, route: RouteSettings) -> tuple[Validator, ...]:
    """As named, then `sure_enough` when a risk is promised: hard checks before the soft one."""
    named = list(route.accept.validators)
    kinds = [entry if isinstance(entry, str) else entry.kind for entry in named]
    if route.accept.risk is not None and SURE_ENOUGH not in kinds:
        named.append(SURE_ENOUGH)
    built = []
    for position, entry in enumerate(named):
        table = {"kind": entry} if isinstance(entry, str) else entry.model_dump()
        try:
            kind = load_kind("gateway.validators", table["kind"])
            config: ValidatorConfig = kind.Config.model_validate(table)
            built.append(kind(config))
        except Exception as exc:
            parts.say((*where, "accept", "validators", position), str(exc))
    built.sort(key=lambda validator: bool(getattr(validator, "soft", False)))
    return tuple(built)


# --- router, models, hashes -------------------------------------------------------------------------------------------------------


def _router(parts: _Parts) -> Router | None:
    config = parts.settings.router.use
    try:
        router: Router = load_kind("routers", config.kind)(config, _specs(parts), parts.lent)
    except Exception as exc:  # as with backends
        parts.say(("router", "use"), f"cannot be built: {exc}")
        return None
    return router


def _specs(parts: _Parts) -> list[RouteSpec]:
    return [
        RouteSpec(
            name=name,
            match=route.match if isinstance(route.match, tuple) else (route.match,) if route.match else (),
            examples=route.examples if isinstance(route.examples, tuple) else (),
            description=route.description,
        )
        for name, route in parts.settings.routes.items()
    ]


def _spec_dump(spec: RouteSpec) -> list[Any]:
    return [spec.name, str(spec.match), list(spec.examples), spec.description]


def _target(entry: ModelSettings) -> Target:
    use, _, name = entry.use.partition("/")
    through = entry.through or (name if use == "backend" else "")
    return Target(cast(Any, use), name, through)


def _text_hash(state_dir: Path) -> Callable[[str], str]:
    """A keyed hash: equal prompts can be seen in Records, but nobody without the key file can try prompts out."""
    path = state_dir / "hash.key"
    try:
        key = path.read_bytes()
    except OSError:
        key = secrets.token_bytes(32)
        try:
            state_dir.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_bytes(key)
        except OSError:
            pass  # a read-only disk: hashes are then comparable within this process only
    keyed = blake2b(digest_size=8, key=key[:64])

    def text_hash(text: str) -> str:
        digest = keyed.copy()  # the key is taken in once: 0.45 us instead of 0.7
        digest.update(text.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    return text_hash
