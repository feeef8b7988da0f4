"""Which calibrations are in force, read again from their files. Blocks: call it off the loop."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.confidence import CalibrationError
from gateway.dashboard.view import curve
from gateway.decide import Route, Rung
from gateway.promise import read, stored
from gateway.setup import Setup

Resolve = Callable[[Path], Path]
"""A path as written in the configuration > where it is meant."""


def curves(setup: Setup, calibrations: Path, resolve: Resolve) -> list[dict[str, Any]]:
    """Per route and small rung with a calibration: its curve, in the order of the configuration. calibrations: the folder that `weir
    calibrate` writes to. A file that is gone, or says something else by now, has no curve. Raises nothing."""
    found: list[dict[str, Any]] = []
    for route in setup.routes.values():
        for rung in route.ladder:
            if rung.calibrated:
                found += _one(setup, route, rung, calibrations, resolve)
    return found


def _one(setup: Setup, route: Route, rung: Rung, calibrations: Path, resolve: Resolve) -> list[dict[str, Any]]:
    for path in _places(setup, route, rung, calibrations, resolve):
        with suppress(OSError, CalibrationError):
            told = read(path)
            if told.digest == rung.calibrated:
                return [curve(told, rung, route)]
    return []


def _places(setup: Setup, route: Route, rung: Rung, calibrations: Path, resolve: Resolve) -> Iterator[Path]:
    given = setup.settings.routes[route.name].accept.calibration
    brought = getattr(setup.backends[rung.name], "calibration", None)
    yield from (resolve(Path(path)) for path in (given,) if path)
    yield from stored(calibrations, route.name, rung.name)
    yield from (resolve(Path(path)) for path in (brought,) if path)
