"""`weir.yaml` to Settings, or every mistake at once.

    files > table and lines > Walk (secrets, kinds, ${ENV}) > Settings > references > Loaded

A part that cannot be read is reported, left out, and the rest is read on: so a mistyped key in one route does not hide a
ladder that leads nowhere in another. What only follows from a part that was left out is not reported.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct
from pydantic import BaseModel, ValidationError

from gateway.settings.engines import addressed
from gateway.settings.explain import problems, written
from gateway.settings.mistakes import ConfigError, LineMap, Mistake, Severity, Where
from gateway.settings.model import Settings
from gateway.settings.references import check
from gateway.settings.sources import Sources, read_sources
from gateway.settings.typed import Walk
from routers.base import RouterConfig
from wire.hashing import short_hash

Say = Callable[[Where, str, Severity], None]

_MOST_ROUNDS = 100


class Loaded(Struct, frozen=True):
    """A configuration that can be used."""

    settings: Settings
    """`examples` are always texts here: files have been read. Secrets are references still."""
    digest: str
    """Of what the configuration means, defaults and example files included; comments and secrets change nothing."""
    files: tuple[Path, ...]
    """The main file first, then included ones, then example files."""
    lines: LineMap
    warnings: tuple[Mistake, ...] = ()
    folders: tuple[Path, ...] = ()
    """Folders into which an `include:` glob looked."""

    @property
    def folder(self) -> Path:
        """Relative paths of the configuration are meant from here."""
        return self.files[0].parent

    @property
    def calibrations(self) -> Path:
        """Where `weir calibrate` keeps its files."""
        return self.folder / "calibration"

    @property
    def watched(self) -> tuple[Path, ...]:
        """What to look at to notice that the configuration changed (`gateway.settings.watch`). Calibration files are written beside
        their place and moved into it, which changes their folder."""
        named = (route.accept.calibration for route in self.settings.routes.values())
        return (*self.files, *self.folders, self.calibrations, *(self.folder / path for path in named if path))


def load(path: Path, env: Mapping[str, str] | None = None) -> Loaded:
    """Read and check the configuration in `path`; `env` defaults to the environment. Raises ConfigError, nothing else.

    Secrets are not looked up in `env` but where they are used; whether one is unset is a warning.
    """
    sources = read_sources(path)
    mistakes = list(sources.mistakes)

    def say(where: Where, message: str, severity: Severity) -> None:
        mistakes.append(sources.lines.mistake(where, message, severity))

    walk = Walk(os.environ if env is None else env, path.parent, say, sources.unread)
    data = walk.table(Settings, sources.table, ())
    examples = tuple(_read_examples(data, path.parent, walk.dropped, say))
    settings = None if not sources.table and mistakes else _settings(data, walk.dropped, say)
    if settings is not None:
        mistakes += _references(settings, sources, walk.dropped, whole=not _errors(mistakes))
    ordered = tuple(sorted(mistakes, key=lambda m: (_index(sources.files, m.file), m.line)))
    if settings is None or _errors(mistakes):
        raise ConfigError(ordered)
    settings = addressed(settings)
    return Loaded(
        settings=settings,
        digest=short_hash(_plain(settings)),
        files=tuple(dict.fromkeys((*sources.files, *examples))),
        lines=sources.lines,
        warnings=ordered,
        folders=sources.folders,
    )


def _errors(mistakes: list[Mistake]) -> bool:
    return any(mistake.severity == "error" for mistake in mistakes)


def _index(files: tuple[Path, ...], name: str) -> int:
    return next((index for index, file in enumerate(files) if str(file) == name), len(files))


def _read_examples(data: dict[str, Any], folder: Path, dropped: set[Where], say: Say) -> Iterator[Path]:
    """Put the lines of `examples: FILE` in its place; the files that were read."""
    routes = data.get("routes")
    for name, route in routes.items() if isinstance(routes, dict) else ():
        if not isinstance(route, dict) or not isinstance(route.get("examples"), str):
            continue
        where: Where = ("routes", name, "examples")
        file = folder / route["examples"]
        try:
            lines = file.read_text("utf-8-sig").splitlines()
        except (OSError, ValueError) as exc:
            why = exc.strerror or "cannot be read" if isinstance(exc, OSError) else "is no UTF-8 text file"
            say(where, f"{why}: a word alone is the name of a file with one text a line; texts are a list", "error")
            dropped.add(where)
            del route["examples"]
        else:
            route["examples"] = [line.strip() for line in lines if line.strip()]
            yield file


def _settings(data: dict[str, Any], dropped: set[Where], say: Say) -> Settings | None:
    """Settings of what can be read of `data`. Leaves out what cannot, and says so."""
    for _ in range(_MOST_ROUNDS):
        try:
            return Settings.model_validate(data)
        except ValidationError as exc:
            for where, message in problems(exc, data, (), dropped):
                say(where, message, "error")
            places = [written(error, data) for error in exc.errors(include_url=False)]
        for cut in {_entry(data, place) for place in places}:
            _leave_out(data, cut, dropped)
    return None


def _entry(data: Any, place: Where) -> Where:
    """The smallest entry of tables at or around `place` that is there: a list is left out as a whole."""
    found = place[:1]
    for depth, part in enumerate(place, 1):
        if not isinstance(data, dict) or part not in data:
            break
        found, data = place[:depth], data[part]
    return found


def _leave_out(data: dict[str, Any], cut: Where, dropped: set[Where]) -> None:
    """Take `cut` out of `data`; what Settings cannot be without gets a stand-in."""
    dropped.add(cut)
    table = data
    for part in cut[:-1]:
        table = table.get(str(part), {})
    if table.pop(str(cut[-1]), None) is None and len(cut) == 1:
        data[str(cut[0])] = {"use": RouterConfig(kind=""), "default": "default"} if cut == ("router",) else {}


def _references(settings: Settings, sources: Sources, dropped: set[Where], *, whole: bool) -> Iterator[Mistake]:
    """`whole`: nothing was left out, so that warnings too mean something."""
    names = {key: table for key in ("backends", "routes") if isinstance(table := sources.table.get(key), dict)}
    missing = {name: config.missing() for name, config in settings.backends.items()} if whole else {}
    for finding in check(settings, **names, missing=missing):
        gone = any(place[: len(cut)] == cut for place in (finding.where, *finding.depends) for cut in dropped)
        if not gone and (whole or finding.severity == "error"):
            yield sources.lines.mistake(finding.where, finding.message, finding.severity)


def _plain(value: Any) -> Any:
    """JSON values, sets in order: equal configurations give equal digests in every process."""
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(by_alias=True))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
