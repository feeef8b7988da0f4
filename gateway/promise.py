"""A route's promised risk > what it demands of each small rung: the calibration files, and which of them still hold.

    accept.calibration    else    calibration/<route>@<rung>@<digest>.json beside the configuration    else    the specialist's own

A file holds for the model that it was measured on and for the rule that accepts (`rule`). A rung without one cannot keep a promise: it is
asked in `shadow` until `weir calibrate` or `weir recalibrate` has written one, as long as somebody above it can answer meanwhile.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from pathlib import Path

import orjson
from msgspec import Struct, structs

from backends.base import BackendConfig
from gateway.confidence import Calibration, CalibrationError, calibration
from gateway.confidence.calibration import RULE
from gateway.decide import Rung, ToolRule
from gateway.settings.mistakes import Severity, Where
from gateway.settings.model import RouteSettings
from wire.hashing import short_hash

DIGITS = 16
"""Of a model's digest, in a file's name."""

Say = Callable[[Where, str, Severity], None]


class Engine(Struct, frozen=True):
    """What answers behind a rung."""

    digest: str
    model: str = ""
    """As configured."""
    adapter: str = ""
    known: bool = True
    """The digest is the model's own. False: it is known once the server was asked; until then the configured names speak for it."""


class Promise(Struct, frozen=True):
    """One rung under one route."""

    rung: Rung
    holds: bool
    """A calibration holds for it, whether or not the promised risk can be kept."""
    calibration: Calibration | None = None


def engine(backend: object, config: BackendConfig, digest: str) -> Engine:
    """digest: the rung's. A backend that learns its model's digest from its server has an attribute `digest` that is "" until then."""
    own = getattr(backend, "digest", None)
    return Engine(
        digest=digest,
        model=str(getattr(config, "model", "") or ""),
        adapter=str(getattr(config, "adapter", "") or ""),
        known=own is None or bool(own) or digest != config.digest(),
    )


def short(digest: str) -> str:
    """A model's digest in a file's name. Names of models have slashes in them and begin alike: they are hashed."""
    hexadecimal = len(digest) >= DIGITS and not set(digest.lower()) - set("0123456789abcdef")
    return digest[:DIGITS] if hexadecimal else short_hash(digest)


def file_of(folder: Path, route: str, rung: str, digest: str) -> Path:
    return folder / f"{route}@{rung}@{short(digest)}.json"


def rule_of(route: RouteSettings) -> str:
    """What accepts an answer on this route, as a calibration file names it."""
    second = route.accept.agrees_with
    return RULE if second is None else f"{RULE}+agrees:{second.rung}@{second.when}"


def read(path: Path) -> Calibration:
    """Raises OSError, CalibrationError."""
    data = path.read_bytes()
    try:
        return calibration(orjson.loads(data), short_hash(data))
    except orjson.JSONDecodeError as exc:
        raise CalibrationError(f"is no JSON: {exc}") from exc


def unfit(found: Calibration, who: Engine, rule: str, second: Engine | None = None) -> str:
    """Why a calibration does not hold for this engine under this rule; "" when it does. second: the one that must agree."""
    if not _same((found.model_digest, found.model, found.adapter), who, named=found.version > 1):
        return f"was measured on another model ({found.model_digest[:DIGITS]}) than this is ({who.digest[:DIGITS]})"
    if found.rule != rule:
        return f"was measured for the rule `{found.rule}`, and the route accepts by `{rule}`"
    if second is not None and (found.companion is None or not _same(found.companion, second, named=True)):
        return "was measured with another second model than agrees now"
    return ""


def _same(measured: tuple[str, str, str], who: Engine, *, named: bool) -> bool:
    """(digest, model, adapter), and who answers now. named: the names count while the digest is not known."""
    return measured[0] == who.digest if who.known or not named else measured[1:] == (who.model, who.adapter)


def promise(
    say: Say,
    where: Where,
    name: str,
    route: RouteSettings,
    rung: Rung,
    who: Engine,
    *,
    second: Engine | None,
    folder: Path,
    given: Path | None,
    brought: Path | None,
) -> Promise:
    """`rung` with what the route's promised risk demands of it. where: the route. second: who must agree. folder: of calibration files.
    given: the file that the route names; brought: the specialist's own. A file that is named and cannot be read is an error, told through
    `say`."""
    risk = route.accept.risk
    if risk is None:
        return Promise(rung, True)
    here: Where = (*where, "accept")
    found, why = _find(say, here, _places(name, rung, who, folder, given, brought), given, who, rule_of(route), second)
    if found is None:
        if why or given is None:
            what = why or "has no calibration"
            verb = "recalibrate" if why else "calibrate"
            say((*here, "risk"), f"'{rung.name}' {what}: run `weir {verb} {name}`", "warning")
        return Promise(rung, False)
    threshold = found.threshold(risk)
    if threshold is None:
        best = min(point.bound for point in found.curve)
        say((*here, "risk"), f"'{rung.name}' cannot keep a risk of {risk:g}: its best is {best:.4f}", "warning")
    if found.rule != RULE or found.version == 2:
        _unmeasured(say, here, route, rung)
    sure = structs.replace(
        rung,
        threshold=threshold,
        scorer=found.scorer,
        outlook=found.outlook,
        start=_start(say, (*where, "speculate"), name, route, rung, found),
        collapsed=found.collapsed,
        calibrated=found.digest,
    )
    return Promise(sure, True, found)


def _start(say: Say, where: Where, name: str, route: RouteSettings, rung: Rung, found: Calibration) -> float | None:
    """The doubt that a start may begin with while the budget is full: of twice the waste, as the budget itself keeps the route to once."""
    if route.speculate is None:
        return None
    start = found.outlook.start_at(2 * route.speculate.waste) if found.outlook is not None else None
    if start is None and found.scorer is not None:  # an encoder's answer comes whole: nothing is lost
        if found.outlook is not None:
            least = min(map(float, found.outlook.starts), default=1.0) / 2
            way = f"it knows shares from {least:g} on: raise `waste`"
        else:
            way = f"Run `weir recalibrate {name}`; where that changes nothing, its data show no doubt to start by"
        say(where, f"the calibration of '{rung.name}' does not say when: nothing starts early. {way}", "warning")
    return start


def _unmeasured(say: Say, where: Where, route: RouteSettings, rung: Rung) -> None:
    """What the route does beyond the rule that was measured."""
    beyond = [key for key in ("repair", "self_consistency") if getattr(route.accept, key)]
    for key in beyond:
        message = f"is not in the rule that the calibration of '{rung.name}' measured: its promise does not cover it"
        say((*where, key), message, "warning")


def _places(
    name: str, rung: Rung, who: Engine, folder: Path, given: Path | None, brought: Path | None
) -> Iterable[Path]:
    """Where a calibration may stand, the likeliest first."""
    if given is not None:
        yield given
    own = file_of(folder, name, rung.name, who.digest)
    yield own
    yield from (path for path in stored(folder, name, rung.name) if path != own)
    if brought is not None:
        yield brought


def stored(folder: Path, route: str, rung: str) -> Sequence[Path]:
    """The calibration files of a route's rung, the last written first."""
    written: list[tuple[int, Path]] = []
    start = f"{route}@{rung}@"
    try:
        for path in folder.iterdir():
            if path.name.startswith(start) and path.suffix == ".json":
                written.append((path.stat().st_mtime_ns, path))
    except OSError:
        return ()
    return [path for _, path in sorted(written, reverse=True)]


def _find(
    say: Say, where: Where, places: Iterable[Path], given: Path | None, who: Engine, rule: str, second: Engine | None
) -> tuple[Calibration | None, str]:
    """The first calibration that holds; else why the first one that could be read does not ("" when there is none)."""
    reason = ""
    for path in places:
        try:
            found = read(path)
        except FileNotFoundError as exc:
            if path == given:
                say((*where, "calibration"), f"{path}: {exc.strerror}", "error")
            continue
        except (OSError, CalibrationError) as exc:
            say((*where, "calibration"), f"{path}: {exc}", "error" if path == given else "warning")
            continue
        why = unfit(found, who, rule, second)
        if not why:
            return found, ""
        reason = reason or f"has no calibration that holds: {path} {why}"
    return None, reason


def tool_rules(route: RouteSettings, promises: Iterable[Promise]) -> Mapping[str, ToolRule]:
    """The route's rules for tools. A tool's own risk is held against the same curves: accepted calls of one tool are part of what is
    accepted, so their regret is no larger. Of several rungs the strictest threshold counts."""
    kept = [promise.calibration for promise in promises if promise.calibration is not None]
    rules: dict[str, ToolRule] = {}
    for tool, policy in route.tools.items():
        threshold = None
        if policy.risk is not None:
            found = [curve.threshold(policy.risk) for curve in kept]
            threshold = max((inf if at is None else at for at in found), default=inf)
        rules[tool] = ToolRule(policy.local, threshold)
    return rules
