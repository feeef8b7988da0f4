"""How the encoder specialists are scored: as the gateway asks them, and on splits that belong together."""

import numpy as np
import pytest

from benchmarks.quality import banking, clinc
from benchmarks.quality._encoder import ask
from models.rebuild import banking77, clinc150


def test_the_sample_has_the_composition_of_the_test() -> None:
    """18.2 % out of scope in both, else a promise made on one says nothing about the other; no text twice, none of the test."""
    outside = [text for _, unseen in clinc150.TURNS for text, _ in clinc150.texts(unseen)]
    inside = [text for text, _ in clinc.chosen()]
    assert len(outside) / (len(outside) + len(inside)) == pytest.approx(1000 / 5500)
    assert len(set(inside)) == clinc.INSIDE


def test_in_process_is_as_the_backend() -> None:
    """Calibrating in process gives what the backend says: the same probability of the same label, in both tiers."""
    pairs = clinc.chosen()[:40]
    said = ask(
        clinc150.FOLDER, [text for text, _ in pairs], sorted({label for _, label in clinc150.texts("train")} | {"oos"})
    )
    found = clinc.scored(pairs, clinc.heads())
    assert np.allclose([one.probability for one in said], found.probability, atol=1e-6)
    assert [one.label == intent for one, (_, intent) in zip(said, pairs, strict=True)] == found.right.tolist()
    assert all(one.valid for one in said)


def test_banking_answers_its_own_data() -> None:
    """Most texts that trained it get their own intent, as valid JSON: about wiring, not about quality."""
    pairs = banking77.texts("train")[::200]
    said = ask(banking77.FOLDER, [text for text, _ in pairs], banking77.labels())
    assert all(one.valid and 0 <= one.probability <= 1 for one in said)
    assert np.mean([one.label == intent for one, (_, intent) in zip(said, pairs, strict=True)]) > 0.9
    assert set(banking.GOALS) >= {"banking.exact_match", "banking.risk_kept_share", "banking.share_gap_points"}
