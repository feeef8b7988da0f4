"""A promised risk > the threshold that keeps it, from a calibration file. Pure.

The file of a route's rung holds a curve measured on held-out data: for every threshold on the calibrated probability, the share of requests
that would be accepted and a bound on the share of those that would be wrong. `accept: {risk: 0.01}` picks the smallest threshold whose
bound stays at or below that risk; a stricter promise than the curve can keep has no threshold at all, and then nothing is sure.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from msgspec import Struct


class CalibrationError(ValueError):
    """The calibration file cannot be used. The message says why."""


class Point(Struct, frozen=True):
    """One point of the risk-coverage curve."""

    threshold: float
    coverage: float
    """Share of requests whose probability reaches the threshold."""
    error: float
    """Share of wrong answers among those, as bounded by the method that the file names."""


class Calibration(Struct, frozen=True):
    model_digest: str
    digest: str
    size: int
    """Number of labelled requests behind the curve."""
    method: str
    curve: Sequence[Point]
    """Ascending thresholds."""

    def threshold(self, risk: float) -> float | None:
        """The smallest threshold from which on every point of the curve keeps `risk`; None when none does.

        From which on: the curve is walked from the surest end, so that one lucky low threshold does not count
        (fixed-sequence testing, Angelopoulos et al., Learn then Test, arXiv 2110.01052).
        """
        found: float | None = None
        for point in reversed(self.curve):
            if point.error > risk:
                break
            found = point.threshold
        return found

    def at(self, threshold: float) -> Point | None:
        """The curve's point at `threshold` (the nearest one below or at it); None outside of the curve."""
        below = [point for point in self.curve if point.threshold <= threshold]
        return below[-1] if below else None


def calibration(table: Mapping[str, Any], digest: str) -> Calibration:
    """Read a calibration file's content. Raises CalibrationError."""
    if table.get("version") != 1:
        raise CalibrationError(f"calibration version {table.get('version')!r}; this Weir reads version 1")
    try:
        curve = [
            Point(
                _share(p, "threshold"),
                _share(p, "coverage"),
                _share(p, "error_upper" if "error_upper" in p else "error"),
            )
            for p in table["curve"]
        ]
        found = Calibration(
            model_digest=str(table["model_digest"]),
            digest=digest,
            size=int(table["n"]),
            method=str(table.get("method", "")),
            # Of two points at one threshold the worse comes last: it is met first from the surest end, so it decides.
            curve=tuple(sorted(curve, key=lambda p: (p.threshold, p.error))),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise CalibrationError(f"not a calibration file: {exc!r}") from exc
    if not found.curve:
        raise CalibrationError("the curve is empty")
    return found


def _share(point: Mapping[str, Any], name: str) -> float:
    value = float(point[name])
    if not isfinite(value) or not 0 <= value <= 1:  # NaN would compare as keeping any risk
        raise ValueError(f"{name} is {value}, not a number in [0, 1]")
    return value
