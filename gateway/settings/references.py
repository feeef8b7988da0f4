"""What only the whole shows: names that lead nowhere, keys that contradict each other. Pure: Settings in, findings out."""

from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from importlib.util import find_spec
from ipaddress import ip_address
from string import Formatter
from typing import Any

from msgspec import Struct

from backends.base import PriceConfig
from gateway.settings import engines, several
from gateway.settings.mistakes import Severity, Where, did_you_mean
from gateway.settings.model import ResponsesSettings, RouteSettings, Settings, Telemetry

CONSTRAINTS = ("schema", "choice", "regex", "grammar")
SHORTEST_KEY = 32
"""Characters of `responses.key`."""


class Finding(Struct, frozen=True):
    where: Where
    message: str
    severity: Severity = "error"
    depends: tuple[Where, ...] = ()
    """Other places without which this finding says nothing: it is dropped when one of them could not be read."""


def check(
    settings: Settings,
    *,
    backends: Collection[str] | None = None,
    routes: Collection[str] | None = None,
    missing: Mapping[str, str] | None = None,
) -> list[Finding]:
    """All findings. `backends`, `routes`: names that are written down, also those whose tables could not be read.
    `missing`: backend > the variable that must be set before it can be asked.
    """
    known_backends = tuple(settings.backends if backends is None else backends)
    known_routes = tuple(settings.routes if routes is None else routes)
    return [
        *_router(settings, known_routes),
        *(f for name, route in settings.routes.items() for f in _route(name, route, settings, known_backends)),
        *_models(settings, known_backends, known_routes),
        *_access(settings),
        *_backends(settings, missing or {}),
        *_embeddings(settings),
        *_responses(settings.responses),
        *_telemetry(settings.telemetry),
        *(Finding(where, message, severity) for where, message, severity in engines.check(settings)),
        *(Finding(where, message, severity) for where, message, severity in several.check(settings)),
    ]


def _router(settings: Settings, routes: Collection[str]) -> Iterator[Finding]:
    if not routes:
        yield Finding(("routes",), "there is no route: write at least the default one")
    elif settings.router.default not in routes:
        yield _nothing(("router", "default"), "route", settings.router.default, routes, "routes")


def _route(name: str, route: RouteSettings, settings: Settings, backends: Collection[str]) -> Iterator[Finding]:
    here: Where = ("routes", name)
    yield from _ladder((*here, "ladder"), route, settings, backends)
    yield from _mode(here, route, settings)
    if route.accept.risk is not None and len(route.ladder) == 1:
        yield Finding(
            (*here, "accept", "risk"),
            "a ladder of one has nobody above to ask, so no risk can be promised: add a rung or take `risk` away",
            depends=((*here, "ladder"),),
        )
    if route.accept.calibration is not None and route.accept.risk is None:
        yield Finding((*here, "accept", "calibration"), "is not used without `risk`", "warning")
    yield from _second(here, route, settings, backends)
    yield from _judged((*here, "judged", "by"), route, settings, backends)
    yield from _tools(here, route)
    yield from _constraint(here, route)


def _judged(where: Where, route: RouteSettings, settings: Settings, backends: Collection[str]) -> Iterator[Finding]:
    if route.judged is None:
        return
    by = route.judged.by
    if by not in backends:
        yield _nothing(where, "backend", by, backends, "backends")
    elif by in settings.backends and settings.backends[by].cloud and route.egress == "local":
        message = f"`egress: local` forbids {by!r} (`cloud: true`), also as a judge: name a backend in the house"
        yield Finding(where, message, depends=(("backends", by),))
    elif by in route.ladder[:-1]:
        yield Finding(where, f"{by!r} would judge answers of its own: name a larger backend", "warning")


def _mode(here: Where, route: RouteSettings, settings: Settings) -> Iterator[Finding]:
    given, small = route.model_fields_set, route.ladder[:-1]
    if route.mode in ("shadow", "canary") and not small:
        message = f"`{route.mode}` needs a small rung below the top one: this ladder has one rung"
        yield Finding((*here, "mode"), message, "warning", depends=((*here, "ladder"),))
    if "canary" in given and route.mode != "canary":
        yield Finding((*here, "canary"), "is not used without `mode: canary`", "warning")
    if route.holdout and (route.mode in ("observe", "shadow") or not small):
        message = "is not used: small rungs answer nobody here, so there is nothing to compare with"
        yield Finding((*here, "holdout"), message, "warning", depends=((*here, "ladder"),))
    top = settings.backends.get(route.ladder[-1])
    if route.holdout and route.egress == "local" and top is not None and top.cloud:
        yield Finding(
            (*here, "holdout"), "is not used: `egress: local` forbids the top rung (`cloud: true`)", "warning"
        )
    if route.slo is not None and route.slo.escalation_rate is None and route.slo.failures is None:
        yield Finding((*here, "slo"), "says nothing: give `escalation_rate:` or `failures:`", "warning")
    if route.slo is not None and route.slo.escalation_rate is not None and not small:
        message = "nothing escalates on a ladder of one rung"
        yield Finding((*here, "slo", "escalation_rate"), message, "warning", depends=((*here, "ladder"),))
    if "shadow" in given and route.mode == "observe":
        yield Finding((*here, "shadow"), "is not used in `mode: observe`: write `mode: shadow`", "warning")
    cloudy = [rung for rung in small if rung in settings.backends and settings.backends[rung].cloud]
    if route.mode == "shadow" and route.egress == "local" and cloudy:
        message = f"`egress: local` forbids {', '.join(map(repr, cloudy))}: never asked, not even in shadow"
        yield Finding((*here, "ladder"), message, "warning")


def _second(here: Where, route: RouteSettings, settings: Settings, backends: Collection[str]) -> Iterator[Finding]:
    """Further opinions of small models."""
    accept, where = route.accept, (*here, "accept")
    second = accept.agrees_with
    if second is not None and second.rung not in backends:
        yield _nothing((*where, "agrees_with"), "backend", second.rung, backends, "backends")
    elif second is not None and second.rung in route.ladder[:1]:
        yield Finding((*where, "agrees_with"), f"{second.rung!r} always agrees with itself: name another backend")
    elif second is not None and second.rung in route.ladder[1:][-1:] and (accept.risk or second.when == "always"):
        message = f"{second.rung!r} is the top rung, which is asked anyway when a small answer is not taken: name another small one"
        yield Finding((*where, "agrees_with"), message, depends=((*here, "ladder"),))
    if second is not None and second.when == "weighed":
        yield from _weighed((*where, "agrees_with"), here, route, settings)
    yield from _spending(here, route)
    if accept.risk is None:
        if second is not None and second.when == "grey":
            message = "the grey zone is where a risk is not kept: it needs `risk`; or say `when: always`"
            yield Finding((*where, "agrees_with"), message, depends=((*where, "risk"),))
        if second is not None and second.when == "weighed":
            message = "what is weighed is held against a risk: it needs `risk`; or say `when: always`"
            yield Finding((*where, "agrees_with"), message, depends=((*where, "risk"),))
        if accept.self_consistency is not None:
            message = "is not used without `risk`: no answer is unsure"
            yield Finding((*where, "self_consistency"), message, "warning")


def _weighed(where: Where, here: Where, route: RouteSettings, settings: Settings) -> Iterator[Finding]:
    """A second answer is weighed with log-probabilities, and nothing else is asked then to be surer."""
    for rung in route.ladder[:-1] or route.ladder:
        if rung in settings.backends and settings.backends[rung].sure:
            told = f"{rung!r} says a probability of its own, and only log-probabilities can be weighed"
            message = f"{told}: say `when: always` or `when: grey`"
            yield Finding(where, message, depends=((*here, "ladder"),))
    if route.accept.self_consistency is not None:
        message = "is not used: `agrees_with: {when: weighed}` knows no grey zone"
        yield Finding((*here, "accept", "self_consistency"), message, "warning")


def _spending(here: Where, route: RouteSettings) -> Iterator[Finding]:
    """What is asked beside and ahead of the rungs in their turn: is there a rung above, and are there attempts for it?"""
    accept, above = route.accept, len(route.ladder) > 1
    if route.speculate is not None and not above:
        message = "there is no next rung to start early: this ladder has one rung"
        yield Finding((*here, "speculate"), message, depends=((*here, "ladder"),))
    elif route.speculate is not None and accept.risk is None:
        message = "is not used without `accept: {risk: ...}`: no answer is seen to be unsure"
        yield Finding((*here, "speculate"), message, "warning", depends=((*here, "accept"),))
    most = max(accept.self_consistency.samples if accept.self_consistency else 0, 1 if accept.agrees_with else 0)
    needed = 1 + most + above
    if route.budget.attempts < needed and needed > 1 + above:
        key = "self_consistency" if accept.self_consistency else "agrees_with"
        message = f"never happens with `budget: {{attempts: {route.budget.attempts}}}`: it takes {needed} with the rungs of the ladder"
        yield Finding((*here, "accept", key), message, "warning", depends=((*here, "budget"),))
    if route.stream is not None and accept.risk is not None and not _formed(route):
        message = (
            "free text under a `risk` is held whole all the same: only the early end of a bad answer is left of it"
        )
        yield Finding((*here, "stream"), message, "warning", depends=((*here, "accept"),))


def _formed(route: RouteSettings) -> bool:
    return any(_imposed(route, key) is not None for key in CONSTRAINTS)


def _tools(here: Where, route: RouteSettings) -> Iterator[Finding]:
    for name, policy in route.tools.items():
        where = (*here, "tools", name)
        if policy.risk is not None and route.accept.risk is None:
            message = "needs `accept: {risk: ...}`: it is held against the same calibration"
            yield Finding((*where, "risk"), message, depends=((*here, "accept"),))
        elif policy.risk is not None and route.accept.risk is not None and policy.risk > route.accept.risk:
            yield Finding((*where, "risk"), "is laxer than the route's own `accept.risk`, which counts", "warning")
        if policy.local == "agree" and route.accept.agrees_with is None:
            message = "nobody can agree: name a second backend in `accept: {agrees_with: ...}`"
            yield Finding((*where, "local"), message, "warning", depends=((*here, "accept"),))


def _ladder(here: Where, route: RouteSettings, settings: Settings, backends: Collection[str]) -> Iterator[Finding]:
    for index, rung in enumerate(route.ladder):
        if rung not in backends:
            yield _nothing((*here, index), "backend", rung, backends, "backends")
        elif rung in route.ladder[:index]:
            yield Finding((*here, index), f"{rung!r} is already on this ladder: the same rung is asked once")
    if route.egress == "local" and all(rung in settings.backends for rung in route.ladder):
        cloud = [settings.backends[rung].cloud for rung in route.ladder]
        if all(cloud):
            yield Finding(here, "every rung is `cloud: true` and `egress: local` forbids them: nobody can answer")
        elif cloud[-1]:
            message = f"`egress: local` forbids the top rung {route.ladder[-1]!r} (`cloud: true`): it is never asked"
            yield Finding(here, message, "warning")


def _constraint(here: Where, route: RouteSettings) -> Iterator[Finding]:
    given = [key for key in CONSTRAINTS if _imposed(route, key) is not None]
    if len(given) > 1:
        yield Finding((*here, given[1]), f"only one of {', '.join(given)} can be imposed on an answer")
    if route.render is None:
        return
    where = (*here, "render")
    if not given:
        message = f"there is nothing to render: it needs one of {', '.join(CONSTRAINTS)}"
        yield Finding(where, message, depends=tuple((*here, key) for key in CONSTRAINTS))
        return
    try:
        fields = [field for _, field, _, _ in Formatter().parse(route.render) if field is not None]
    except ValueError as exc:
        yield Finding(where, f'is no template like "{{label}}": {exc}')
        return
    if not fields:
        yield Finding(where, 'names no field, so every answer would read the same: "{label}"', "warning")


def _imposed(route: RouteSettings, key: str) -> Any:
    return route.schema_ if key == "schema" else getattr(route, key)


def _models(settings: Settings, backends: Collection[str], routes: Collection[str]) -> Iterator[Finding]:
    if not settings.models:
        yield Finding(("models",), "no model name is known: every request gets 404 model_not_found", "warning")
    globs: list[str] = []
    for pattern, model in settings.models.items():
        here: Where = ("models", pattern)
        group, _, name = model.use.partition("/")
        if group == "route" and name not in routes:
            yield _nothing((*here, "use"), "route", name, routes, "routes")
        if group == "backend" and name not in backends:
            yield _nothing((*here, "use"), "backend", name, backends, "backends")
        if model.through is not None and model.through not in backends:
            yield _nothing((*here, "through"), "backend", model.through, backends, "backends")
        if not is_glob(pattern):
            continue
        earlier = next((glob for glob in globs if covers(glob, pattern)), None)
        if earlier is not None:
            message = f"never matches: {earlier!r} stands before it and takes every such name"
            yield Finding(here, message, "warning")
        globs.append(pattern)


def is_glob(pattern: str) -> bool:
    return any(sign in pattern for sign in "*?[")


def covers(glob: str, other: str) -> bool:
    """Every name that `other` matches, `glob` matches too. False where that cannot be told (`[...]`)."""
    if "[" in other:
        return glob == other
    # A star stands for no character, one, or several; characters that no pattern names stand for "any".
    samples = (other.replace("?", "\0").replace("*", stars) for stars in ("", "\1", "\1\2\1"))
    return all(fnmatchcase(sample, glob) for sample in samples)


def _access(settings: Settings) -> Iterator[Finding]:
    access, host = settings.access, settings.server.host
    if not is_loopback(host) and not access.open and not access.keys:
        message = "others can reach this address: give `access:` keys (`weir key NAME`) or say `access: open`"
        yield Finding(("server", "host"), message, depends=(("access", "keys"), ("access", "open")))
    if access.open and access.keys:
        yield Finding(("access", "open"), "with `open`, a request without a key is answered all the same", "warning")
    if settings.ui.enabled and settings.ui.key == "none" and not is_loopback(host):
        message = "everybody who reaches this address sees every tenant's decisions on the page"
        yield Finding(("ui", "key"), message, "warning")
    for attribute, what in (("name", "the name"), ("hash", "the hash")):
        seen: dict[str, int] = {}
        for index, key in enumerate(access.keys):
            first = seen.setdefault(getattr(key, attribute), index)
            if first != index:
                message = f"{what} is already that of key {first} ({access.keys[first].name!r})"
                yield Finding(("access", "keys", index, attribute), message)


def _responses(responses: ResponsesSettings) -> Iterator[Finding]:
    here: Where = ("responses",)
    if responses.store != "redis":
        for key in ("redis", "key"):
            if getattr(responses, key) is not None:
                yield Finding((*here, key), f"is not used with `store: {responses.store}`", "warning")
        return
    where: Where = (*here, "store")
    if find_spec("redis") is None or find_spec("cryptography") is None:
        yield Finding(where, "needs the extra [redis]: pip install 'weir[redis]'")
    if responses.redis is None:
        yield Finding(where, "needs `redis: {url: ...}`", depends=((*here, "redis"),))
    elif responses.redis.url.missing:
        message = f"no response is kept until {responses.redis.url.missing} is set"
        yield Finding((*here, "redis", "url"), message, "warning")
    if responses.key is None:
        message = "needs `key: ${NAME}`: what callers said leaves this process encrypted, or not at all"
        yield Finding(where, message, depends=((*here, "key"),))
    elif responses.key.missing:
        yield Finding((*here, "key"), f"no response is kept until {responses.key.missing} is set", "warning")
    elif len(responses.key.reveal()) < SHORTEST_KEY:
        yield Finding((*here, "key"), f"is shorter than {SHORTEST_KEY} characters: take a long random one")


def _telemetry(telemetry: Telemetry) -> Iterator[Finding]:
    if telemetry.otlp is None:
        return
    here: Where = ("telemetry", "otlp")
    try:
        there = find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:  # not even the package around it
        there = False
    if not there:
        yield Finding(here, "needs the extra [otel]: pip install 'weir[otel]'")
    for name, value in telemetry.otlp.headers.items():
        if value.missing:
            yield Finding((*here, "headers", name), f"is empty until {value.missing} is set", "warning")


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _backends(settings: Settings, missing: Mapping[str, str]) -> Iterator[Finding]:
    used = {rung for route in settings.routes.values() for rung in route.ladder}
    used |= {r.accept.agrees_with.rung for r in settings.routes.values() if r.accept.agrees_with is not None}
    used |= {r.judged.by for r in settings.routes.values() if r.judged is not None}
    used |= {model.use.removeprefix("backend/") for model in settings.models.values()}
    used |= {model.through for model in settings.models.values() if model.through}
    for name, backend in settings.backends.items():
        here: Where = ("backends", name)
        if missing.get(name):
            yield Finding(here, f"{name} is unavailable until {missing[name]} is set", "warning")
        if backend.cloud and backend.price.price() == PriceConfig().price():
            yield Finding(here, "no `price:`, so every cost of this cloud backend will read 0", "warning")
        if backend.kind == "scripted":
            message = "plays a script: its answers are no model's; for demos and tests only"
            yield Finding((*here, "kind"), message, "warning")
        if name not in used:
            yield Finding(here, "is on no ladder and no model name leads to it", "warning")


def _embeddings(settings: Settings) -> Iterator[Finding]:
    globs: list[str] = []
    for pattern, embedder in settings.embeddings.items():
        here: Where = ("embeddings", pattern)
        if embedder.cloud and embedder.price.price() == PriceConfig().price():
            yield Finding(here, "no `price:`, so every cost of this cloud embedder will read 0", "warning")
        if is_glob(pattern):
            earlier = next((glob for glob in globs if covers(glob, pattern)), None)
            if earlier is not None:
                message = f"never matches: {earlier!r} stands before it and takes every such name"
                yield Finding(here, message, "warning")
            globs.append(pattern)


def _nothing(where: Where, what: str, name: str, known: Collection[str], table: str) -> Finding:
    return Finding(where, f"no {what} named {name!r}{did_you_mean(name, known)}", depends=((table,),))
