"""The main file and what it includes, as one table.

`include: [other.yaml, conf.d/*.yaml]` is relative to the main file's folder. Tables at the top (`backends:`, `routes:` ...)
are merged key by key; a key that two files define is a mistake that names both places. Included files include nothing.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from gateway.settings.document import Document, read_document
from gateway.settings.mistakes import LineMap, Mistake, Place, Where, dotted

_GLOB = frozenset("*?[")


class Sources(Struct, frozen=True):
    """One configuration as it is written, before its strings are interpolated."""

    table: dict[str, Any]
    lines: LineMap
    files: tuple[Path, ...]
    """Those that were read, the main one first."""
    folders: tuple[Path, ...]
    """Those that a glob looked into: a new file there changes the configuration."""
    mistakes: list[Mistake]
    unread: frozenset[Where]
    """What could not be read as YAML; it stands in `table` as None."""


def read_sources(path: Path) -> Sources:
    """Never raises: what cannot be read is a mistake."""
    mistakes: list[Mistake] = []
    places: dict[Where, Place] = {}
    main = _read(path, mistakes, Mistake(str(path), 0, "", ""))
    table, unread = main.table, set(main.unread)
    places.update(main.places)
    lines = LineMap(places, Place(str(path), 1 if table else 0))
    files, folders = [path], []
    for where, pattern in _patterns(table.pop("include", []), lines, mistakes):
        found = [path.parent / pattern]
        if _GLOB & set(pattern):
            try:
                found = sorted(path.parent.glob(pattern))
            except (ValueError, NotImplementedError, OSError):
                mistakes.append(lines.mistake(where, "a glob is relative to the folder of this file: conf.d/*.yaml"))
                continue
            folders += sorted({path.parent.joinpath(pattern).parent, *(other.parent for other in found)})
        for other in found:
            if other in files:
                continue
            files.append(other)
            part = _read(other, mistakes, lines.mistake(where, ""))
            unread |= part.unread
            _merge(table, places, part, mistakes)
    known = tuple(folder for folder in folders if not _GLOB & set(str(folder)))
    return Sources(table, LineMap(places, lines.at(())), tuple(files), known, mistakes, frozenset(unread))


def _read(path: Path, mistakes: list[Mistake], named: Mistake) -> Document:
    """`named`: where this file is named, for the mistake that it cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as exc:
        why = (exc.strerror or "cannot be read") if isinstance(exc, OSError) else "is not UTF-8"
        mistakes.append(Mistake(named.file, named.line, named.where, f"{path}: {why}" if named.line else why))
        return Document({}, {}, [], frozenset())
    document = read_document(text, str(path))
    mistakes += document.mistakes
    return document


def _patterns(include: Any, lines: LineMap, mistakes: list[Mistake]) -> Iterator[tuple[Where, str]]:
    several = include if isinstance(include, list) else [include]
    for index, pattern in enumerate(several):
        where: Where = ("include", index) if isinstance(include, list) else ("include",)
        if isinstance(pattern, str) and pattern and "\0" not in pattern:
            yield where, pattern
        else:
            mistakes.append(lines.mistake(where, "must be a file name or a glob, or a list of them"))


def _merge(table: dict[str, Any], places: dict[Where, Place], part: Document, mistakes: list[Mistake]) -> None:
    """Add an included file's table. What was there first stays."""
    dropped: list[Where] = []
    there = part.places
    for name, value in part.table.items():
        if name == "include":
            dropped.append((name,))
            mistakes.append(_at(there, (name,), "only the main file may include others"))
        elif name not in table:
            table[name] = value
        elif isinstance(value, dict) and isinstance(table[name], dict):
            for key in value:
                if key in table[name]:
                    dropped.append((name, key))
                    mistakes.append(_twice(places, there, (name, key)))
                else:
                    table[name][key] = value[key]
        else:
            dropped.append((name,))
            mistakes.append(_twice(places, there, (name,)))
    for where, place in there.items():
        if not any(where[: len(gone)] == gone for gone in dropped):
            places.setdefault(where, place)


def _at(there: dict[Where, Place], where: Where, message: str) -> Mistake:
    return Mistake(there[where].file, there[where].line, dotted(where), message)


def _twice(places: dict[Where, Place], there: dict[Where, Place], where: Where) -> Mistake:
    first = places[where]
    return _at(there, where, f"is already defined at {first.file}:{first.line}")
