"""A Hugging Face model folder: is it one, and which."""

import hashlib
from functools import lru_cache
from pathlib import Path

from backends import _files
from embed import manifest
from embed.errors import EmbedError

_PARTS = {
    "config.json": ("config.json",),
    "weights (*.safetensors)": ("*.safetensors",),
    "tokenizer (tokenizer.json)": ("tokenizer.json", "tokenizer.model"),
}
"""What such a folder holds, in words > how it may be called."""


def digest(folder: Path) -> str:
    """One name for the model: the digest of its manifest where it has one (its files are then checked), else one of its files.

    Raises ValueError that names the field `model` for a folder that holds no model, or another one than its manifest says.
    """
    if not folder.is_dir():
        raise ValueError(f"model: there is no folder {folder}; name a Hugging Face folder")
    lacking = [what for what, names in _PARTS.items() if not any(any(folder.glob(name)) for name in names)]
    if lacking:
        raise ValueError(f"model: {folder} has no {' and no '.join(lacking)}; name a Hugging Face folder")
    if not (folder / manifest.NAME).exists():
        return _files.digest(folder)
    try:
        told = manifest.Folder(folder).manifest
    except EmbedError as exc:
        raise ValueError(f"model: {exc}") from exc
    for name, expected in told.files.items():
        path = folder / name
        if not path.is_file() or _sha256(path) != expected:
            raise ValueError(f"model: {path} is not the file that {manifest.NAME} lists; restore or rebuild the folder")
    return told.digest


def _sha256(path: Path) -> str:
    told = path.stat()
    return _hashed(path, told.st_size, told.st_mtime_ns)


@lru_cache(maxsize=256)
def _hashed(path: Path, size: int, changed: int) -> str:
    """Weights may be gigabytes: a file that has not changed is read once, however often the configuration is read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
