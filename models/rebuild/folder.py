"""Write a model folder: files first, manifest.json last, so that a manifest means "finished"."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from embed.manifest import NAME, digest_of, sha256

MODELS = Path(__file__).resolve().parent.parent
DATA = MODELS.parent / "data"
LARGEST = 24 * 1024 * 1024
"""Bytes of the largest file that goes into the repository."""


def finish(folder: Path, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> str:
    """Write `files` and then the manifest. Returns the folder's digest. Writing the same again changes no byte."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).unlink(missing_ok=True)
    for name, data in files.items():
        if len(data) > LARGEST:
            raise ValueError(f"{folder / name}: {len(data)} bytes are too many for the repository")
        (folder / name).write_bytes(data)
    digests = {name: sha256(data) for name, data in sorted(files.items())}
    digest = digest_of(digests)
    manifest = {"name": folder.name, "version": 1, "digest": digest, "files": digests, "facts": facts}
    (folder / NAME).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return digest
