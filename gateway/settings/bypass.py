"""`weir bypass on|off`: a small file in `server.state_dir` that the server watches. Everything, or some routes, straight through."""

import os
import tempfile
from pathlib import Path

import msgspec
from msgspec import Struct

FILE = "bypass.json"


class Bypass(Struct, frozen=True, forbid_unknown_fields=True):
    """Which requests go straight to the model that they ask for."""

    all: bool = False
    routes: tuple[str, ...] = ()

    def covers(self, route: str) -> bool:
        return self.all or route in self.routes

    def switched(self, on: bool, routes: tuple[str, ...] = ()) -> "Bypass":
        """On or off for `routes`; without any, for everything, and then off clears the routes too."""
        if not routes:
            return Bypass(on, self.routes if on else ())
        kept = [name for name in self.routes if name not in routes]
        return Bypass(self.all, tuple(sorted({*kept, *(routes if on else ())})))


class Reading(Struct, frozen=True):
    """What `read` found."""

    bypass: Bypass
    warning: str = ""
    """Why the file could not be used; then nothing is bypassed."""


def read(state_dir: Path) -> Reading:
    """The bypass as last written. Never raises: no file is no bypass, a broken one is no bypass and a warning."""
    file = state_dir / FILE
    try:
        return Reading(msgspec.json.decode(file.read_bytes(), type=Bypass))
    except FileNotFoundError:
        return Reading(Bypass())
    except OSError as exc:
        return Reading(Bypass(), f"{file}: {exc.strerror or 'cannot be read'}; nothing is bypassed")
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Reading(Bypass(), f"{file}: is no bypass file; nothing is bypassed")


def write(state_dir: Path, bypass: Bypass) -> None:
    """Replace the file in one step: a reader sees the old or the new one. Raises OSError."""
    state_dir.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=state_dir, prefix=f".{FILE}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(msgspec.json.encode(bypass))
            out.flush()
            os.fsync(out.fileno())
        Path(name).replace(state_dir / FILE)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
