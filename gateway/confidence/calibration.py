"""A promised risk > the threshold that keeps it, from a calibration file. Pure.

The file of a route's rung holds a curve measured on held-out requests: for every threshold the share of requests that would be accepted,
and a bound on what may be wrong with them. `accept: {risk: 0.01}` picks the smallest threshold whose bound stays at or below that risk; a
stricter promise than the curve can keep has no threshold at all, and then nothing is sure.

What the bound is of depends on the file's version.

    2   `regret_bound`: the share of *all* requests that are accepted, wrong, and would have been right from the rung above; holds with the
        file's `confidence` (Learn then Test). `weir calibrate` writes it. Beside it `error_bound`, of the error among the accepted.
    1   `error_upper`: the share of wrong answers among the *accepted* ones, as a specialist that is shipped brings it along; at the
        confidence that its `method` names.

At one threshold the first is never larger than the second (its denominator is, and less counts as wrong): a risk of 1 % is a stricter
promise for a file of version 1.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from msgspec import Struct, ValidationError, convert

from gateway.confidence.outlook import Outlook
from gateway.confidence.scorer import Scorer

VERSIONS = (1, 2)
RULE = "confidence"
"""The rule that accepts an answer for its own probability alone."""


class CalibrationError(ValueError):
    """The calibration file cannot be used. The message says why."""


class Point(Struct, frozen=True):
    """One point of the curve: what accepting from `threshold` on comes to. All are shares."""

    threshold: float
    coverage: float
    """Requests that are accepted."""
    bound: float
    """Held against a promised risk; of what, the file's version says."""
    regret: float | None = None
    """As counted: accepted, wrong, and the rung above would have been right, of all requests. Version 2."""
    error: float | None = None
    """As counted: wrong among the accepted. Version 2."""
    error_bound: float | None = None


class Calibration(Struct, frozen=True):
    model_digest: str
    digest: str
    """Of the file."""
    size: int
    """Number of labelled requests behind the curve."""
    method: str
    curve: Sequence[Point]
    """Ascending thresholds."""
    version: int = 1
    route: str = ""
    rung: str = ""
    model: str = ""
    """The model's name in the configuration, when the curve was measured."""
    adapter: str = ""
    rule: str = RULE
    """What accepts: `confidence`, or `confidence+agrees:NAME@WHEN` with always, grey or weighed."""
    risk: float | None = None
    """For which it was made; its curve serves any other."""
    confidence: float | None = None
    """With which the bounds hold."""
    companion: tuple[str, str, str] | None = None
    """(digest, model, adapter) of the second model of the rule."""
    scorer: Scorer | None = None
    """Makes the probability that thresholds are compared with; None for a rung that says one itself."""
    outlook: Outlook | None = None
    """Says when the next rung is started early; None: never."""
    collapsed: float | None = None
    """Log-probability of a token below which no answer was ever accepted."""
    created: str = ""

    def threshold(self, risk: float) -> float | None:
        """The smallest threshold from which on every point of the curve keeps `risk`; None when none does.

        From which on: the curve is walked from the surest end, so that one lucky low threshold does not count
        (fixed-sequence testing, Angelopoulos et al., Learn then Test, arXiv 2110.01052).
        """
        found: float | None = None
        for point in reversed(self.curve):
            if point.bound > risk:
                break
            found = point.threshold
        return found

    def at(self, threshold: float) -> Point | None:
        """The curve's point at `threshold` (the nearest one below or at it); None outside of the curve."""
        below = [point for point in self.curve if point.threshold <= threshold]
        return below[-1] if below else None


def calibration(table: Mapping[str, Any], digest: str) -> Calibration:
    """Read a calibration file's content. Raises CalibrationError."""
    if not isinstance(table, Mapping) or table.get("version") not in VERSIONS:
        version = table.get("version") if isinstance(table, Mapping) else None
        raise CalibrationError(f"calibration version {version!r}; this Weir reads versions 1 and 2")
    try:
        version = int(table["version"])
        curve = [_measured(p) if version == 2 else _brought(p) for p in table["curve"]]
        found = Calibration(
            model_digest=str(table["model_digest"]),
            digest=digest,
            size=int(table["n"]),
            method=str(table.get("method", "")),
            # Of two points at one threshold the worse comes last: it is met first from the surest end, so it decides.
            curve=tuple(sorted(curve, key=lambda p: (p.threshold, p.bound))),
            version=version,
            **(_second(table) if version == 2 else {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ValidationError) as exc:
        raise CalibrationError(f"not a calibration file: {exc!r}") from exc
    if not found.curve:
        raise CalibrationError("the curve is empty")
    return found


def _brought(p: Mapping[str, Any]) -> Point:
    bound = _share(p, "error_upper" if "error_upper" in p else "error")
    return Point(_share(p, "threshold"), _share(p, "coverage"), bound)


def _measured(p: Mapping[str, Any]) -> Point:
    return Point(
        *(_share(p, name) for name in ("threshold", "coverage", "regret_bound", "regret", "error", "error_bound"))
    )


def _second(table: Mapping[str, Any]) -> dict[str, Any]:
    """What only version 2 says."""
    outlook = table.get("outlook")
    collapsed = table.get("collapsed")
    second = table.get("companion")
    scorer = table.get("scorer")
    return {
        "route": str(table["route"]),
        "rung": str(table["rung"]),
        "model": str(table.get("model") or ""),
        "adapter": str(table.get("adapter") or ""),
        "rule": str(table["rule"]),
        "risk": _share(table, "risk"),
        "confidence": _share(table, "confidence"),
        "companion": (str(second["digest"]), str(second["model"]), str(second["adapter"])) if second else None,
        "scorer": convert(scorer, Scorer) if scorer is not None else None,
        "outlook": convert(outlook, Outlook) if outlook is not None else None,
        "collapsed": float(collapsed) if collapsed is not None else None,
        "created": str(table.get("created") or ""),
    }


def _share(point: Mapping[str, Any], name: str) -> float:
    value = float(point[name])
    if not isfinite(value) or not 0 <= value <= 1:  # NaN would compare as keeping any risk
        raise ValueError(f"{name} is {value}, not a number in [0, 1]")
    return value
