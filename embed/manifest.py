"""manifest.json: what a model folder holds, and that it is what was built.

A rebuild writes it last, so that a manifest means "finished". Its `digest` is one name for the whole folder: SHA-256 over
the sorted lines "<sha256>  <file>". Files are read once: the bytes that were checked are the bytes that are used.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from embed.errors import DigestMismatch, EmbedError

NAME = "manifest.json"


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The manifest of one folder under `models/`."""

    name: str
    files: dict[str, str]
    """File name (no folders) > SHA-256 in hex."""
    digest: str
    """SHA-256 over `files`, see `digest_of`."""
    version: int = 1
    facts: dict[str, Any] = {}
    """What the reader of this kind of folder needs besides (dimensions, layers, tiers ...)."""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_of(files: Mapping[str, str]) -> str:
    """One digest for a set of files: SHA-256 over the sorted lines "<sha256>  <file>"."""
    return sha256("".join(f"{digest}  {name}\n" for name, digest in sorted(files.items())).encode())


class Folder:
    """A model folder whose files are handed out only if they are the ones that the manifest names.

    Raises EmbedError for a missing or unreadable manifest, DigestMismatch for a manifest that contradicts itself.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        place = path / NAME
        try:
            self.manifest = msgspec.json.decode(place.read_bytes(), type=Manifest)
        except OSError as exc:
            raise EmbedError(
                f"{place}: cannot be read ({exc.strerror}); rebuild it with python -m models.rebuild"
            ) from exc
        except msgspec.MsgspecError as exc:
            raise EmbedError(f"{place}: is no manifest: {exc}") from exc
        if self.manifest.version != 1:
            raise EmbedError(f"{place}: version {self.manifest.version}, this Weir reads version 1")
        if digest_of(self.manifest.files) != self.manifest.digest:
            raise DigestMismatch(f"{place}: its digest is not that of the files it lists")

    def read(self, name: str) -> bytes:
        """The checked bytes of one file. Raises DigestMismatch, naming the file; EmbedError when it is missing."""
        expected = self.manifest.files.get(name)
        if expected is None:
            raise EmbedError(f"{self.path / NAME}: lists no file {name!r}")
        try:
            data = (self.path / name).read_bytes()
        except OSError as exc:
            raise EmbedError(f"{self.path / name}: cannot be read ({exc.strerror})") from exc
        if (found := sha256(data)) != expected:
            raise DigestMismatch(
                f"{self.path / name}: SHA-256 is {found[:16]}..., manifest.json says {expected[:16]}...; "
                "restore the file or rebuild it with python -m models.rebuild"
            )
        return data
