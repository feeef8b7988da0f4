"""models/banking77: the specialist for BANKING77's 77 intents, from its train.csv only.

1. Features: as models/clinc150 (the static table, MiniLM's pooled layers; both frozen and shared).
2. Three parts of train.csv, by a hash of the text: `calibration`, the same number of every intent as the test split has it, which gives
   the risk-coverage curve and nothing else; `fit`, a twelfth of the rest, for the knots, the static tier's bound and every choice
   (features, dropout, pull); `train`, all others, for the heads.
3. Heads: one committee per tier. The data has no text out of scope, so there is no label for it, and no promise about it.

`fit` has train.csv's uneven intents; it is weighted as if they were even. test.csv is not read here: `python -m benchmarks.quality
banking` reads it.
"""

import csv
import gzip
import io
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from embed.head import Head
from embed.manifest import Folder
from embed.onnx import Onnx
from embed.static import StaticTable
from models.rebuild import minilm, static
from models.rebuild.calibrate import LEVEL, curve, knots, threshold
from models.rebuild.folder import DATA, MODELS, finish
from models.rebuild.heads import Recipe, committee, pack

FOLDER = MODELS / "banking77"
TEXTS = DATA / "banking77"
SEED = "banking77-1"
CALIBRATION = 13
"""Texts of every intent: 1,001 together. The rarest intent has 35 in all of train.csv."""
FIT = 12
"""One of so many of the rest."""
STATIC_RISK = 0.005
"""The static tier decides alone where its own error is bounded by this."""
RISKS = (0.005, 0.01, 0.02, 0.05)
ENCODERS = {"static": static.FOLDER, "minilm": minilm.FOLDER}
RECIPES = {
    "static": Recipe(dropout=0.3, hidden_dropout=0.3, smoothing=0.05, pull=0.0, centroid=256),
    # Nothing is out of scope here, so a pull towards what is known only costs: AUROC .855 with it, .886 without, on `fit`.
    "minilm": Recipe(pull=0.0, members=5),
}
Array = npt.NDArray[Any]


@lru_cache(maxsize=4)
def texts(split: str) -> tuple[tuple[str, str], ...]:
    """(text, intent) of a split: train, fit, calibration (and, for the benchmark only, test)."""
    if split == "test":
        return tuple(_rows("test"))
    by_intent: dict[str, list[str]] = {}
    for text, intent in _rows("train"):
        by_intent.setdefault(intent, []).append(text)
    found = []
    for intent, members in sorted(by_intent.items()):
        members.sort(key=lambda text: sha256(f"{SEED}:{text}".encode()).digest())
        fit = (len(members) - CALIBRATION) // FIT
        parts = {
            "calibration": members[:CALIBRATION],
            "fit": members[CALIBRATION : CALIBRATION + fit],
            "train": members[CALIBRATION + fit :],
        }
        found += [(text, intent) for text in parts[split]]
    return tuple(found)


def _rows(name: str) -> list[tuple[str, str]]:
    content = gzip.decompress((TEXTS / f"{name}.csv.gz").read_bytes()).decode()
    return [(row["text"], row["category"]) for row in csv.DictReader(io.StringIO(content, newline=""))]


def labels() -> list[str]:
    """All 77 intents, in the order of the heads."""
    return sorted({intent for _, intent in texts("train")})


def build() -> str:
    """Build the folder. Returns the specialist's digest."""
    known = labels()
    features = {split: _features(split, known) for split in ("train", "fit", "calibration")}
    heads = {tier: _train(features["train"], tier, recipe, len(known)) for tier, recipe in RECIPES.items()}
    sure = _fit(heads, features["fit"], len(known))
    digest = _write(known, heads, sure)
    _write_calibration(digest, heads, sure, features["calibration"], len(known))
    return digest


def _features(split: str, known: list[str]) -> tuple[dict[str, Array], Array]:
    """(tier > features (n, in), label indices (n,))."""
    pairs = texts(split)
    table, model = StaticTable.load(static.FOLDER), Onnx(minilm.FOLDER)
    found = {
        "static": table.encode_many([text for text, _ in pairs]),
        "minilm": np.stack([model.layers(text).reshape(-1) for text, _ in pairs]),
    }
    return found, np.array([known.index(intent) for _, intent in pairs], np.int64)


def _train(split: tuple[dict[str, Array], Array], tier: str, recipe: Recipe, count: int) -> dict[str, Array]:
    features, truth = split
    head = committee(features[tier], truth, count, None, recipe, 0, features[tier])
    # Until they are fitted, the score stands for the probability.
    return head | {"knots_score": np.array([0.0, 1.0]), "knots_probability": np.array([0.0, 1.0])}


def _told(arrays: dict[str, Array], rows: Array, truth: Array, count: int) -> tuple[Array, Array, Array]:
    """(score, probability, right 1.0 or 0.0) of a head, each (n,)."""
    head = Head(arrays, count, frozenset())
    answers = [head.answer(row) for row in rows]
    right = np.array([answer.label for answer in answers]) == truth
    return (
        np.array([answer.score for answer in answers]),
        np.array([answer.probability for answer in answers]),
        right.astype(np.float64),
    )


def _fit(heads: dict[str, dict[str, Array]], split: tuple[dict[str, Array], Array], count: int) -> float:
    """Give both heads their knots. Returns the probability from which on the static tier answers alone (1.0: never)."""
    features, truth = split
    weight = (1 / np.bincount(truth, minlength=count))[truth]
    weight /= weight.sum()
    score, _, right = _told(heads["static"], features["static"], truth, count)
    found = knots(score, right, weight, bins=20)
    heads["static"] |= {"knots_score": found[0], "knots_probability": found[1]}
    probability = np.interp(score, *found)
    surest = threshold(curve(probability, 1 - right, weight, np.ones(len(truth), np.bool_)), STATIC_RISK)
    sure = 1.0 if surest is None else surest
    asked = probability < sure  # MiniLM is calibrated on what it will be asked
    score, _, right = _told(heads["minilm"], features["minilm"][asked], truth[asked], count)
    found = knots(score, right, weight[asked], bins=20)
    heads["minilm"] |= {"knots_score": found[0], "knots_probability": found[1]}
    return sure


def _write(known: list[str], heads: dict[str, dict[str, Array]], sure: float) -> str:
    files = {f"{tier}.npz": pack(arrays) for tier, arrays in heads.items()}
    tiers = [
        {
            "name": tier,
            "encoder": ENCODERS[tier].name,
            "encoder_digest": Folder(ENCODERS[tier]).manifest.digest,
            "head": f"{tier}.npz",
            "sure": sure if tier == "static" else 0.0,
        }
        for tier in heads
    ]
    table = {"pointers": {"/intent": {"labels": known, "tiers": tiers}}}
    files["specialist.json"] = orjson.dumps(table, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    # What calibrated another model must not speak for this one, not even between two writes.
    (FOLDER / "calibration.json").unlink(missing_ok=True)
    return finish(FOLDER, files, {"data": "BANKING77 train.csv"})


def _write_calibration(
    digest: str, heads: dict[str, dict[str, Array]], sure: float, split: tuple[dict[str, Array], Array], count: int
) -> None:
    features, truth = split
    _, table_p, table_right = _told(heads["static"], features["static"], truth, count)
    _, model_p, model_right = _told(heads["minilm"], features["minilm"], truth, count)
    alone = table_p >= sure
    everything = np.ones(len(truth), np.bool_)
    weight = np.full(len(truth), 1 / len(truth))
    found = curve(np.where(alone, table_p, model_p), 1 - np.where(alone, table_right, model_right), weight, everything)
    found = [{key: value for key, value in point.items() if key != "outside_accepted"} for point in found]
    by_risk = {}
    for risk in RISKS:
        at = threshold(found, risk)
        by_risk[str(risk)] = next((point for point in found if point["threshold"] == at), None)
    table = {
        "version": 1,
        "model_digest": digest,
        "n": len(truth),
        "method": f"one-sided Clopper-Pearson bound ({LEVEL:.0%}) on the error among accepted, on texts that heads and knots never saw; "
        "the smallest threshold from which on every point keeps the risk",
        "static_share": round(float(alone.mean()), 4),
        "thresholds": by_risk,
        "curve": found,
    }
    option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    (FOLDER / "calibration.json").write_bytes(orjson.dumps(table, option=option))
