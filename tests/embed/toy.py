"""A specialist small enough to reason about: four labels, each a direction in space."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from embed.manifest import Folder
from models.rebuild.folder import finish

LABELS = ("balance", "oos", "translate", "weather")
TEXTS = ("what is my bank balance", "qwxyz", "how do you say hello in french", "will it rain tomorrow")
"""A typical text of each label."""
SHIPPED = Path(__file__).resolve().parents[2] / "models"
STATIC = SHIPPED / "static-minilm-256"


def arrays(anchors: npt.NDArray[np.float32], certain: float = 1.0) -> dict[str, npt.NDArray[Any]]:
    """A head that gives the label whose anchor (labels, in) is nearest; its probability is its score times `certain`."""
    labels, width = anchors.shape
    return {
        "mean": np.zeros(width, np.float32),
        "w1": anchors.T,
        "b1": np.zeros(labels, np.float32),
        "w2": 20 * np.eye(labels, dtype=np.float32)[None],
        "b2": np.zeros((1, labels), np.float32),
        "centroids": anchors,
        "pull": np.array([2.0], np.float32),
        "knots_score": np.array([0.0, 1.0]),
        "knots_probability": np.array([0.0, certain]),
    }


def specialist(
    parent: Path,
    anchors: npt.NDArray[np.float32] | None = None,
    sure: float = 0.7,
    pointers: tuple[str, ...] = ("/intent",),
) -> Path:
    """Write the specialist beside links to the shipped static table. The MiniLM tier reads 2 x 4 features. Returns its folder."""
    parent.mkdir(exist_ok=True)
    (parent / "static-minilm-256").symlink_to(STATIC)
    digest = Folder(STATIC).manifest.digest
    static = np.zeros((4, 256), np.float32) if anchors is None else anchors
    tiers = [
        {
            "name": "static",
            "encoder": "static-minilm-256",
            "encoder_digest": digest,
            "head": "static.npz",
            "sure": sure,
        },
        {"name": "minilm", "encoder": "minilm-int8", "encoder_digest": "fake", "head": "minilm.npz"},
    ]
    eye = np.eye(4, dtype=np.float32)
    files = {
        "specialist.json": orjson.dumps(
            {"pointers": {p: {"labels": LABELS, "never": ["oos"], "tiers": tiers} for p in pointers}}
        ),
        "static.npz": _npz(arrays(static)),
        "minilm.npz": _npz({**arrays(np.hstack([0 * eye, eye])), "centroids": eye}),
    }
    finish(parent / "toy", files, {})
    return parent / "toy"


def _npz(content: dict[str, npt.NDArray[Any]]) -> bytes:
    buffer = BytesIO()
    np.savez(buffer, allow_pickle=False, **content)
    return buffer.getvalue()
