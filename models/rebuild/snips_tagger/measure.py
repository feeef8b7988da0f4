"""How good a tagger's calls are, and how well it knows: `python -m models.rebuild.snips_tagger.measure [SPLIT]`."""

import sys
from collections.abc import Sequence
from math import log

import msgspec
import numpy as np
from msgspec import Struct

from embed.tagger import Loaded
from embed.tagging import Spec
from gateway.fitting import auroc, ece, regress
from models.rebuild.folder import MODELS
from models.rebuild.snips import data
from models.rebuild.snips.data import Utterance
from models.rebuild.snips.scores import exact, slots


class Judged(Struct, frozen=True):
    """What a tagger said of an utterance."""

    function: str
    values: dict[str, str]
    probability: float
    right: bool
    """Function and all values, letter by letter."""


def judged(model: Loaded, utterances: Sequence[Utterance]) -> list[Judged]:
    found = []
    for utterance in utterances:
        said = model.find(utterance.text)
        values = {slot: utterance.text[start:end] for slot, (start, end) in said.spans.items()}
        right = said.function == utterance.intent and values == utterance.slots
        found.append(Judged(said.function, values, said.probability, right))
    return found


def mended(spec: Spec, told: Sequence[Judged]) -> Spec:
    """`spec` with the scale and shift by which the log-odds of `told` (said without them) are right: logistic regression."""
    odds = np.array([[log(one.probability / (1 - one.probability))] for one in told])
    found = regress(odds, np.array([float(one.right) for one in told]))
    scale = found.weights[0] / found.scale[0]
    return msgspec.structs.replace(spec, scale=scale, shift=found.intercept - scale * found.mean[0])


def main(split: str) -> None:
    utterances = data.splits()[split]
    told = judged(Loaded(MODELS / "snips-tagger", threads=2), utterances)
    wanted = [(u.intent, u.slots) for u in utterances]
    calls = [(one.function, one.values) for one in told]
    probability, right = np.array([one.probability for one in told]), np.array([one.right for one in told])
    functions = np.mean([one.function == u.intent for one, u in zip(told, utterances, strict=True)])
    print(f"{split}: {len(told)}, exact {exact(calls, wanted):.4f}, function {functions:.4f}")
    print(f"slots F1 {slots(calls, wanted)['all'].f1:.4f}")
    print(f"AUROC {auroc(probability, right):.4f}, ECE {ece(probability, right):.4f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "development")
