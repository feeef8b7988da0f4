"""An utterance > what a tagger has to learn from it."""

from typing import Any

from embed.tagger import words_of
from embed.tagging import OUTSIDE, Spec
from models.rebuild.snips.data import Utterance

NOTHING = -100
"""The label of a piece of which nothing is to be learnt."""

Row = tuple[list[int], list[int], int]
"""Pieces, the label of each, the function."""


def row_of(utterance: Utterance, tokenizer: Any, spec: Spec) -> Row:
    """What is to be learnt from an utterance."""
    encoded = tokenizer.encode(utterance.text)
    labels = [NOTHING] * len(encoded.ids)
    for piece, start, _ in words_of(encoded.word_ids, encoded.offsets):
        inside = [(slot, first) for slot, first, end in spans(utterance) if first <= start < end]
        tag = f"{'B' if inside[0][1] == start else 'I'}-{inside[0][0]}" if inside else OUTSIDE
        labels[piece] = spec.tags.index(tag)
    return encoded.ids, labels, list(spec.functions).index(utterance.intent)


def spans(utterance: Utterance) -> list[tuple[str, int, int]]:
    """(slot, first character, character behind the last) of each value in `utterance.text`."""
    whole = "".join(text for text, _ in utterance.parts)
    at, found = len(whole.lstrip()) - len(whole), []
    for text, slot in utterance.parts:
        if slot:
            found.append((slot, at + len(text) - len(text.lstrip()), at + len(text.rstrip())))
        at += len(text)
    return found
