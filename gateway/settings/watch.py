"""Has the configuration changed on disk? One `stat` per file and look."""

from collections.abc import Iterable
from pathlib import Path
from typing import Self

from msgspec import Struct


class Fingerprint(Struct, frozen=True):
    """What files looked like at one moment; unequal fingerprints mean that something was written, added or taken away."""

    seen: tuple[tuple[str, int, int], ...]
    """(path, mtime in ns, size in bytes); -1, -1 for what is not there or cannot be looked at."""

    @classmethod
    def of(cls, files: Iterable[Path]) -> Self:
        """Follows links, so that a swapped link counts (how Kubernetes updates a ConfigMap). Never raises for a file."""
        return cls(tuple(_look(file) for file in files))


def _look(file: Path) -> tuple[str, int, int]:
    try:
        found = file.stat()
    except (OSError, ValueError):
        return (str(file), -1, -1)
    return (str(file), found.st_mtime_ns, found.st_size)
