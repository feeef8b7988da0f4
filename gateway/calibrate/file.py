"""The folder `calibration/` beside the configuration.

<route>@<rung>@<digest>.json            the curve and the scorer; the outlook knows words that several labelled requests
                                        share by unkeyed hashes, which can be guessed (0600)
<route>@<rung>@<digest>.answers.jsonl   what was said, with log-probabilities (0600)
<route>.labelled.jsonl                  the labelled requests, for `weir recalibrate` (0600)
"""

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from msgspec import Struct, to_builtins

from gateway.calibrate.labelled import Case
from gateway.calibrate.measure import Measured
from gateway.confidence.calibration import calibration
from gateway.promise import Engine, file_of, short
from wire.hashing import short_hash

VERSION = 2
COMMON = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Risks whose thresholds are written out, beside the one asked for."""


class About(Struct, frozen=True):
    """What a calibration is of."""

    route: str
    rung: str
    engine: Engine
    rule: str
    weir: str
    data: str
    """Digest of the labelled requests."""
    second: Engine | None = None
    """Who had to agree."""


def answers_of(folder: Path, route: str, rung: str, digest: str) -> Path:
    return folder / f"{route}@{rung}@{short(digest)}.answers.jsonl"


def labelled_of(folder: Path, route: str) -> Path:
    return folder / f"{route}.labelled.jsonl"


def data_digest(cases: Iterable[Case]) -> str:
    return short_hash([case.source for case in cases])


def table(about: About, measured: Measured, now: float) -> dict[str, Any]:
    """The file's content. now: Unix seconds."""
    curve = [to_builtins(point) for point in measured.curve]
    content: dict[str, Any] = {
        "version": VERSION,
        "route": about.route,
        "rung": about.rung,
        "model": about.engine.model,
        "adapter": about.engine.adapter,
        "model_digest": about.engine.digest,
        "rule": about.rule,
        "companion": to_builtins(about.second) if about.second is not None else None,
        "n": measured.n,
        "n_fit": measured.n_fit,
        "risk": measured.risk,
        "confidence": measured.confidence,
        "method": "Learn then Test: fixed-sequence testing from the surest threshold down, one-sided Clopper-Pearson bound of the regret "
        "over all requests",
        "accuracy": measured.accuracy,
        "auroc": measured.auroc,
        "ece": measured.ece,
        "llm": {"known": measured.llm_known, "right": measured.llm_right},
        "features": measured.features,
        "scorer": to_builtins(measured.scorer) if measured.scorer is not None else None,
        "outlook": to_builtins(measured.outlook) if measured.outlook is not None else None,
        "collapsed": measured.collapsed,
        "crc": measured.crc,
        "oracle": measured.oracle,
        "created": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        "weir": about.weir,
        "data": about.data,
        "curve": curve,
    }
    found = calibration(content, "")
    at = {risk: found.threshold(risk) for risk in sorted({*COMMON, measured.risk})}
    points = {point["threshold"]: point for point in curve}
    content["thresholds"] = {f"{risk:g}": points[it] if it is not None else None for risk, it in at.items()}
    return content


def write(folder: Path, about: About, content: Mapping[str, Any]) -> Path:
    """The file's path. A reader sees the old file or the new one. Raises OSError."""
    path = file_of(folder, about.route, about.rung, about.engine.digest)
    replace(path, orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE), mode=0o600)
    return path


def keep_labelled(folder: Path, route: str, cases: Sequence[Case]) -> Path:
    """What `weir recalibrate` will ask again: the lines, with the part that each was used in. Raises OSError."""
    path = labelled_of(folder, route)
    lines = [{**case.source, **({"part": case.part} if case.part else {})} for case in cases]
    data = b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)
    if not path.exists() or path.read_bytes() != data:
        replace(path, data, mode=0o600)
    return path


def replace(path: Path, data: bytes, *, mode: int) -> None:
    """Replace `path` in one step. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            os.fchmod(out.fileno(), mode)
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
