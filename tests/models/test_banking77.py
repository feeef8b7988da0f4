"""BANKING77's parts are what the promise needs: apart from each other, even where the test is, and the same in every build."""

from collections import Counter

import numpy as np
import orjson

from embed.manifest import Folder
from embed.specialist import Specialist
from models.rebuild import banking77
from models.rebuild.calibrate import threshold
from models.rebuild.folder import MODELS
from models.rebuild.heads import joined, parted

SPLITS = ("train", "fit", "calibration")


def test_the_parts_of_train_are_all_of_it_and_share_nothing() -> None:
    """Every text of train.csv is in exactly one part; no text of test.csv is in any."""
    texts = [text for split in SPLITS for text, _ in banking77.texts(split)]
    assert len(texts) == len(set(texts)) == 10_003
    assert len(banking77.texts("test")) == 3_080


def test_calibration_is_even() -> None:
    """As the test split: the same number of every intent, so that a promise made on one is about the other."""
    assert set(Counter(intent for _, intent in banking77.texts("calibration")).values()) == {banking77.CALIBRATION}
    assert set(Counter(intent for _, intent in banking77.texts("test")).values()) == {40}


def test_the_specialist_is_of_these_labels_and_encoders() -> None:
    """Its labels are the data's, its encoders the shipped ones, its calibration its own; a risk of 2 % has a threshold."""
    specialist = Specialist.load(banking77.FOLDER)
    assert list(specialist.pointers["/intent"].labels) == banking77.labels()
    for tier, (folder, _) in specialist.encoders().items():
        specialist.check_encoder(tier, Folder(MODELS / folder).manifest.digest)
    told = orjson.loads((banking77.FOLDER / "calibration.json").read_bytes())
    assert told["model_digest"] == specialist.digest
    assert told["n"] == len(banking77.texts("calibration"))
    assert threshold(told["curve"], 0.02) == told["thresholds"]["0.02"]["threshold"]


def test_a_joined_head_comes_apart_again() -> None:
    """`parted` undoes `joined`: which committee saw what stays known."""
    chance = np.random.default_rng(1)

    def committee() -> dict[str, np.ndarray]:
        return {
            "mean": np.zeros(4),
            "w1": chance.random((4, 6)),
            "b1": chance.random(6),
            "w2": chance.random((2, 3, 5)),
            "b2": chance.random((2, 5)),
        }

    first = committee()
    second = committee() | {"mean": first["mean"]}
    for part, was in zip(parted(joined([first, second]), 2), (first, second), strict=True):
        assert all((part[name] == was[name]).all() for name in was)
