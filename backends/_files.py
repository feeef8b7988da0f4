"""What a folder with a model or an adapter holds: whether it changed, and which version it is."""

import hashlib
import json
from pathlib import Path

Stamp = tuple[tuple[str, int, int], ...]
"""Name, size and time of each file."""
WHOLE = 64 * 2**20
"""Bytes up to which a file is hashed whole; of a larger one 64 pieces are."""
_PIECES, _PIECE = 64, 64 * 1024
_NAMES = ("*.safetensors", "*.bin", "*.gguf", "*.json", "*.model", "*.jinja")


def files(folder: Path) -> list[Path]:
    """What makes a model or an adapter what it is. [] when there is no such folder here."""
    try:
        return sorted({path for pattern in _NAMES for path in folder.glob(pattern) if path.is_file()})
    except OSError:
        return []


def stamp(folder: Path) -> Stamp:
    """Changes when the files do: cheap enough to look at each second."""
    found = []
    for path in files(folder):
        try:
            told = path.stat()
        except OSError:
            continue
        found.append((path.name, told.st_size, told.st_mtime_ns))
    return tuple(found)


def digest(folder: Path) -> str:
    """16 hex digits of the files' names and bytes, wherever the folder is; "" when it cannot be read from here. Blocks.

    Of files over 64 MiB 64 pieces are read: another training changes all weights, so it changes those. Training leaves configuration
    that names no weights (`base_model_name_or_path`, a path) out of it.
    """
    found = files(folder)
    whole = hashlib.sha256()
    try:
        for path in found:
            size = path.stat().st_size
            whole.update(f"{path.name}\n".encode())
            with path.open("rb") as file:
                if path.name == "adapter_config.json":
                    whole.update(_settled(file.read()))
                elif size <= WHOLE:
                    whole.update(file.read())
                else:
                    whole.update(str(size).encode())
                    for piece in range(_PIECES):
                        file.seek(piece * (size - _PIECE) // (_PIECES - 1))
                        whole.update(file.read(_PIECE))
    except OSError:
        return ""
    return whole.hexdigest()[:16] if found else ""


def _settled(config: bytes) -> bytes:
    try:
        told = json.loads(config)
        told.pop("base_model_name_or_path", None)
        return json.dumps(told, sort_keys=True).encode()
    except (ValueError, AttributeError):
        return config
