"""BANKING77 with the encoder specialist: `banking.*` (promise.py says what the figures are).

The threshold comes from the split of train.csv that models/rebuild/banking77.py held out for calibration, and is applied once to all
3,080 items of test.csv. The LLM counts as right.
"""

import numpy as np
from msgspec.structs import replace

from benchmarks.quality import promise
from benchmarks.quality._encoder import ask
from benchmarks.quality.parts import Part
from embed.manifest import Folder
from models.rebuild import banking77

GOALS = promise.goals("banking", exact_match=">= 0.925 (aim 0.95)", ece="<= 0.03")


def scored(split: str, every: int = 1) -> tuple[promise.Scored, int]:
    """(answers to a split, or to every so-many-th text of it, how many of them were invalid)."""
    pairs = banking77.texts(split)[::every]
    said = ask(banking77.FOLDER, [text for text, _ in pairs], banking77.labels())
    right = np.array([one.label == intent for one, (_, intent) in zip(said, pairs, strict=True)])
    return promise.Scored(np.array([one.probability for one in said]), right), sum(not one.valid for one in said)


def run(quick: bool = False) -> Part:
    """All of both splits; --quick: a third of the test split, and fewer draws."""
    calibration, _ = scored("calibration")
    test, invalid = scored("test", promise.QUICK_EVERY if quick else 1)
    part = promise.table("banking", calibration, test, invalid, quick=quick, title="BANKING77 test: 3,080 questions")
    return replace(part, notes={"specialist": Folder(banking77.FOLDER).manifest.digest, **part.notes})
