"""A tagger's scores > one call: the pure half of `embed.tagger`.

A tagger gives logits over functions, and for each word of the text logits over tags: O (in no slot), B-SLOT (the first word of SLOT's
value), I-SLOT (a further one). The call is the likeliest function with the likeliest tags that mean anything: slots of that function
only, I-SLOT only behind B-SLOT or I-SLOT, and each slot at most once, as an argument holds one value.
"""

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from itertools import count
from math import exp, log

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Floats = npt.NDArray[np.floating]

OUTSIDE = "O"
MOST_SPLITS = 16
"""Times that the search for tags without a second value of a slot may branch; then further values are dropped."""
_LEAST = 1e-9


class Spec(Struct, frozen=True, forbid_unknown_fields=True):
    """What a tagger knows: tagger.json."""

    functions: dict[str, list[str]]
    """Function > its slots. In the order of the model's logits."""
    tags: list[str]
    """In the order of the model's logits."""
    scale: float = 1.0
    shift: float = 0.0
    """Of the log-odds of the joint probability, so that it is as often right as it says: measured on data that did not train."""


class Tagged(Struct, frozen=True):
    """The call that a text makes."""

    function: str
    spans: Mapping[str, tuple[int, int]]
    """Slot > first and last word of its value."""
    probability: float
    """That function and all slots are right, in [0, 1]."""


class _Own(Struct, frozen=True):
    """One function's share of the tags."""

    columns: npt.NDArray[np.intp]
    """Its tags among all, O first."""
    tags: Sequence[tuple[str, str]]
    """(O, B or I; slot), as `columns`."""
    steps: Floats
    """(from, to): 0 where legal, -inf where not."""
    starts: Floats
    """0 where a text may begin, -inf where not."""


class Decoder:
    """See the module."""

    def __init__(self, spec: Spec) -> None:
        """Raises ValueError for tags that do not fit the functions."""
        self.spec = spec
        self._names = list(spec.functions)
        self._own = [_own(spec.tags, slots) for slots in spec.functions.values()]
        known = {OUTSIDE, *(f"{kind}-{slot}" for slots in spec.functions.values() for slot in slots for kind in "BI")}
        if not self._names or set(spec.tags) != known or len(spec.tags) != len(known):
            raise ValueError("tags must be O and, once each, B-SLOT and I-SLOT for every slot of the functions")

    def decode(self, functions: Floats, tags: Floats, function: str = "") -> Tagged:
        """The likeliest call. functions: (functions,) logits. tags: (words, tags) logits, without words (0, tags). function: the one that
        must be called; the probability is then that of its arguments. Raises ValueError for a function it does not know."""
        if function and function not in self._names:
            raise ValueError(f"unknown function {function!r}")
        chosen = self._names.index(function) if function else int(np.argmax(functions))
        likely = 0.0 if function else float(_log_softmax(np.asarray(functions, np.float64))[chosen])
        own = self._own[chosen]
        scores = _log_softmax(np.asarray(tags, np.float64))[:, own.columns]
        path = _best(scores, own)
        likely += float(scores[np.arange(len(path)), path].sum())
        return Tagged(self._names[chosen], _spans(path, own), self._probability(likely))

    def _probability(self, likely: float) -> float:
        joint = min(max(exp(likely), _LEAST), 1 - _LEAST)
        odds = self.spec.scale * log(joint / (1 - joint)) + self.spec.shift
        return 1 / (1 + exp(-min(max(odds, -700.0), 700.0)))


def _own(tags: Sequence[str], slots: Sequence[str]) -> _Own:
    names = [OUTSIDE, *(f"{kind}-{slot}" for slot in slots for kind in "BI")]
    told = [(name[0], name[2:]) for name in names]
    legal = [[kind != "I" or (before[1] == slot) for kind, slot in told] for before in told]
    steps = np.where(np.array(legal), 0.0, -np.inf)
    starts = np.where(np.array([kind != "I" for kind, _ in told]), 0.0, -np.inf)
    try:
        columns = np.array([tags.index(name) for name in names], np.intp)
    except ValueError as exc:
        raise ValueError(f"tags lack one: {exc}") from exc
    return _Own(columns, told, steps, starts)


def _log_softmax(logits: Floats) -> Floats:
    if logits.size == 0:
        return logits
    shifted = logits - logits.max(-1, keepdims=True)
    found: Floats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found


def _viterbi(scores: Floats, own: _Own) -> tuple[float, list[int]]:
    """The likeliest legal path and its score; ([] for no words)."""
    if not len(scores):
        return 0.0, []
    total, back = scores[0] + own.starts, []
    for row in scores[1:]:
        ways = total[:, None] + own.steps
        came = ways.argmax(0)
        back.append(came)
        total = ways[came, np.arange(len(came))] + row
    path = [int(total.argmax())]
    best = float(total[path[0]])
    for came in reversed(back):
        path.append(int(came[path[-1]]))
    path.reverse()
    return best, path


def _best(scores: Floats, own: _Own) -> list[int]:
    """The likeliest legal path in which no slot begins twice. Branch and bound: where one does, its only beginning is either at the
    first of the two or before, or behind it; the likelier way is looked at first, so the first path without a second value is the best."""
    order = count()
    least, path = _viterbi(scores, own)
    ways = [(-least, next(order), path, scores)]
    for _ in range(MOST_SPLITS):
        _, _, path, scores = heappop(ways)
        twice = _twice(path, own)
        if twice is None:
            return path
        first, column = twice
        for kept in (slice(None, first + 1), slice(first + 1, None)):
            narrowed = scores.copy()
            narrowed[:, column] = -np.inf
            narrowed[kept, column] = scores[kept, column]
            least, path = _viterbi(narrowed, own)
            heappush(ways, (-least, next(order), path, narrowed))
    return _firsts(ways[0][2], own)


def _twice(path: Sequence[int], own: _Own) -> tuple[int, int] | None:
    """(word, column) of the first beginning of a slot that begins again further on."""
    begun: dict[int, int] = {}
    for word, column in enumerate(path):
        if own.tags[column][0] == "B":
            if column in begun:
                return begun[column], column
            begun[column] = word
    return None


def _firsts(path: Sequence[int], own: _Own) -> list[int]:
    """`path` with only the first value of each slot."""
    found, seen, dropped = [], set[str](), ""
    for column in path:
        kind, slot = own.tags[column]
        if kind == "B":
            dropped = slot if slot in seen else ""
            seen.add(slot)
        found.append(0 if slot and slot == dropped else column)
    return found


def _spans(path: Sequence[int], own: _Own) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for word, column in enumerate(path):
        kind, slot = own.tags[column]
        if kind != "O":
            found[slot] = (found[slot][0] if kind == "I" else word, word)
    return found
