"""How good calls are: exact match, and per slot precision, recall and F1 (a slot is right when its value is, character by character)."""

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct

Call = tuple[str, Mapping[str, str]]
"""Function and arguments. ("", {}) for an answer that is no call."""


class SlotScore(Struct, frozen=True):
    precision: float
    recall: float
    f1: float
    n: int
    """How often the slot was said."""


def exact(found: Sequence[Call], wanted: Sequence[Call]) -> float:
    """Share of calls whose function and arguments are all right."""
    return sum(a == b for a, b in zip(found, wanted, strict=True)) / len(wanted)


def slots(found: Sequence[Call], wanted: Sequence[Call]) -> dict[str, SlotScore]:
    """Slot > score, over all functions; "all" is the micro average. A right slot of a wrong function is wrong."""
    told, said, right = Counter[str](), Counter[str](), Counter[str]()
    for (function, arguments), (name, expected) in zip(found, wanted, strict=True):
        for slot, value in arguments.items():
            told.update((slot, "all"))
            if function == name and expected.get(slot) == value:
                right.update((slot, "all"))
        for slot in expected:
            said.update((slot, "all"))
    return {slot: _score(told[slot], said[slot], right[slot]) for slot in sorted(said | told)}


def _score(told: int, said: int, right: int) -> SlotScore:
    precision, recall = right / told if told else 0.0, right / said if said else 0.0
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return SlotScore(precision, recall, f1, said)
