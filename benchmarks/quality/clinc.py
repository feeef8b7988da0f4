"""CLINC150 with the encoder specialist: `clinc.*` (promise.py says what the figures are; benchmarks.clinc has the shipped threshold's).

Test: all 4,500 items in scope and 1,000 out of scope, the published composition. Of an item out of scope the only right thing is to send
it to the top: accepting it is a regret, whatever the specialist says. So

    clinc.exact_match           right among the items in scope, nothing refused
    clinc.wrong_if_all_local    regret if all 5,500 were accepted; what the oracle's share is reckoned from
    clinc.auroc, clinc.ece      over all 5,500, out of scope counting as wrong

Calibration: texts that the heads were not trained on, in the composition of the test, 900 of val and the 200 out of scope. The heads
that are shipped are two committees in one; of each small out-of-scope set only the committee answers that has not seen it, as when they
were calibrated (models/rebuild/clinc150.py). The same texts gave the specialist its knots; only the threshold is new here. The LLM
counts as right.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from benchmarks.quality import promise
from benchmarks.quality._encoder import ask
from benchmarks.quality.parts import Part
from embed.head import Head
from embed.manifest import Folder
from embed.onnx import Onnx
from embed.specialist import Specialist
from embed.static import StaticTable
from models.rebuild import clinc150
from models.rebuild.heads import parted

INSIDE = 900
"""Texts of val: with the 200 out of scope the test's composition."""
SEED = "clinc-promise-1"
GOALS = promise.goals("clinc", ece="<= 0.03")
Arrays = dict[str, npt.NDArray[Any]]


def chosen() -> list[tuple[str, str]]:
    """INSIDE texts of val, by a hash."""
    return sorted(clinc150.texts("val"), key=lambda pair: sha256(f"{SEED}:{pair[0]}".encode()).digest())[:INSIDE]


def calibration() -> promise.Scored:
    """The calibration sample, scored in process: whole heads for val, and half a head for each set out of scope."""
    whole = heads()
    found = scored(chosen(), whole)
    for turn, (_, unseen) in enumerate(clinc150.TURNS):
        half = {tier: parted(arrays, len(clinc150.TURNS))[turn] for tier, arrays in whole.items()}
        found = found.joined(scored(clinc150.texts(unseen), half))
    return found


def heads() -> dict[str, Arrays]:
    """Tier > the arrays of its shipped head."""
    folder = Folder(clinc150.FOLDER)
    found: dict[str, Arrays] = {}
    for tier in Specialist.load(clinc150.FOLDER).pointers["/intent"].tiers:
        with np.load(BytesIO(folder.read(tier.head)), allow_pickle=False) as file:
            found[tier.name] = {name: file[name] for name in file.files}
    return found


def scored(pairs: Sequence[tuple[str, str]], arrays: Mapping[str, Arrays]) -> promise.Scored:
    """What these heads say of (text, intent) pairs, tier by tier as the backend asks them."""
    at = Specialist.load(clinc150.FOLDER).pointers["/intent"]
    never = frozenset(at.labels.index(label) for label in at.never)
    sure = next(tier.sure for tier in at.tiers if tier.name == "static")
    asked = {tier: Head(found, len(at.labels), never) for tier, found in arrays.items()}
    table, model = StaticTable.load(clinc150.ENCODERS["static"]), Onnx(clinc150.ENCODERS["minilm"])
    probability, right = [], []
    for text, intent in pairs:
        answer = asked["static"].answer(table.encode(text))
        if answer.probability < sure:
            answer = asked["minilm"].answer(model.layers(text).reshape(-1))
        probability.append(answer.probability)
        right.append(at.labels[answer.label] == intent)
    return promise.Scored(np.array(probability), np.array(right))


def run(quick: bool = False) -> Part:
    """All of the test split; --quick: a third of it, in scope and out, and fewer draws."""
    every = promise.QUICK_EVERY if quick else 1
    pairs = [pair for split in ("test", "oos_test") for pair in clinc150.texts(split)[::every]]
    labels = sorted({intent for _, intent in clinc150.texts("train")} | {"oos"})
    said = ask(clinc150.FOLDER, [text for text, _ in pairs], labels)
    right = np.array([one.label == intent for one, (_, intent) in zip(said, pairs, strict=True)])
    inside = np.array([intent != "oos" for _, intent in pairs])
    test = promise.Scored(np.array([one.probability for one in said]), right)
    invalid = sum(not one.valid for one in said)
    title = "CLINC150 test: 4,500 in scope, 1,000 out of scope"
    exact = float(right[inside].mean())
    part = promise.table("clinc", calibration(), test, invalid, quick=quick, title=title, exact_match=exact)
    about = {
        "specialist": Folder(clinc150.FOLDER).manifest.digest,
        "out_of_scope": "going to the top is right, accepting is a regret",
    }
    return replace(part, notes={**about, **part.notes})
