"""`kind: embedding` > the class `routers.embedding:Embedding`. No registry: adding one is adding a file.

A short kind names a module of the package; its class has the same name without underscores and case. A kind with a colon
("mine.module:Class") names any importable class. The import happens only when the configuration names the kind.
"""

from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any


class UnknownKind(ValueError):
    """No such kind. The message lists those there are."""


def load_kind(package: str, kind: str) -> type[Any]:
    """The class that `kind` names within `package`. Raises UnknownKind."""
    if ":" in kind:
        module_name, _, class_name = kind.partition(":")
        try:
            found = getattr(import_module(module_name), class_name)
        except Exception as exc:  # a module of the user's: whatever it raises while it is imported
            raise UnknownKind(f"{kind!r} cannot be imported: {exc!r}") from exc
        if not isinstance(found, type):
            raise UnknownKind(f"{kind!r} is no class")
        return found
    if kind not in kinds(package):
        raise UnknownKind(f"unknown kind {kind!r}: one of {', '.join(kinds(package))}, or 'module:Class'")
    module = import_module(f"{package}.{kind}")
    wanted = kind.replace("_", "")
    for name, value in vars(module).items():
        if isinstance(value, type) and name.lower() == wanted and value.__module__ == module.__name__:
            return value
    raise UnknownKind(f"{package}/{kind}.py defines no class named like {kind!r}")


def kinds(package: str) -> list[str]:
    """The kinds that `package` ships: its modules, but for `base` and private ones."""
    spec = find_spec(package)
    places = list(spec.submodule_search_locations or []) if spec else []
    return sorted(m.name for m in iter_modules(places) if not m.ispkg and m.name != "base" and m.name[0] != "_")
