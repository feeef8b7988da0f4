"""SNIPS as tool calls: an utterance in, one call out (intent = function name, slots = its arguments).

Splits, fixed by seed: `validate` (the upstream's 700) only calibrates and tests; of the upstream's training utterances 1,400 (200 an
intent) are withheld to fit confidence, 350 are a development set, the rest trains. An utterance that also stands in a later split,
whatever its case, does not train; neither do the 51 that name a slot twice (an argument holds one value).
"""

import gzip
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import orjson
from msgspec import Struct

from models.rebuild.folder import DATA

FOLDER = DATA / "snips"
SEED = 20260
WITHHELD = 200
"""Utterances an intent that fit confidence."""
DEVELOPMENT = 50
"""Utterances an intent to look at while building."""
DESCRIPTIONS = {
    "AddToPlaylist": "Add a track, an album or an artist to a playlist.",
    "BookRestaurant": "Book a table.",
    "GetWeather": "Tell the weather at a place and time.",
    "PlayMusic": "Play music.",
    "RateBook": "Rate a book.",
    "SearchCreativeWork": "Find a creative work by its name.",
    "SearchScreeningEvent": "Find where and when a film is shown.",
}


class Utterance(Struct, frozen=True):
    intent: str
    parts: tuple[tuple[str, str], ...]
    """(text, slot), slot "" for plain text."""

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.parts).strip()

    @property
    def slots(self) -> dict[str, str]:
        """Slot > value, as it stands in the utterance."""
        return {slot: text.strip() for text, slot in self.parts if slot}


@cache
def upstream(split: str) -> tuple[Utterance, ...]:
    """`train` or `validate`, as published."""
    lines = gzip.decompress((FOLDER / f"{split}.jsonl.gz").read_bytes()).splitlines()
    return tuple(_utterance(orjson.loads(line)) for line in lines)


def _utterance(line: Mapping[str, Any]) -> Utterance:
    parts = ((part[0], part[1] if len(part) > 1 else "") for part in line["parts"])
    return Utterance(line["intent"], tuple(parts))


@cache
def splits() -> dict[str, tuple[Utterance, ...]]:
    """train, development, withheld, validate."""
    by_intent: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in upstream("train"):
        if len(utterance.slots) == sum(1 for _, slot in utterance.parts if slot):
            by_intent[utterance.intent].append(utterance)
    chance = random.Random(SEED)
    withheld: list[Utterance] = []
    development: list[Utterance] = []
    rest: list[Utterance] = []
    for intent in sorted(by_intent):
        pool = by_intent[intent]
        chance.shuffle(pool)
        withheld += pool[:WITHHELD]
        development += pool[WITHHELD : WITHHELD + DEVELOPMENT]
        rest += pool[WITHHELD + DEVELOPMENT :]
    later = {u.text.casefold() for u in (*upstream("validate"), *withheld, *development)}
    train = [u for u in rest if u.text.casefold() not in later]
    return {
        "train": tuple(train),
        "development": tuple(development),
        "withheld": tuple(withheld),
        "validate": upstream("validate"),
    }


@cache
def slots_of(intent: str) -> tuple[str, ...]:
    """The intent's slots in the order in which they tend to be said: the schema's order, and so the answer's."""
    places: dict[str, list[float]] = defaultdict(list)
    for utterance in splits()["train"]:
        if utterance.intent == intent:
            names = [slot for _, slot in utterance.parts if slot]
            for place, name in enumerate(names):
                places[name].append((place + 1) / (len(names) + 1))
    return tuple(sorted(places, key=lambda name: (sum(places[name]) / len(places[name]), name)))


INTENTS = tuple(sorted(DESCRIPTIONS))


@cache
def tools() -> list[dict[str, Any]]:
    """The seven functions, as OpenAI's `tools`."""
    return [
        {
            "type": "function",
            "function": {
                "name": intent,
                "description": DESCRIPTIONS[intent],
                "parameters": {
                    "type": "object",
                    "properties": {slot: {"type": "string"} for slot in slots_of(intent)},
                    "additionalProperties": False,
                },
            },
        }
        for intent in INTENTS
    ]


def arguments(utterance: Utterance) -> dict[str, str]:
    """In the schema's order."""
    told = utterance.slots
    return {slot: told[slot] for slot in slots_of(utterance.intent) if slot in told}


def answer(utterance: Utterance) -> str:
    """The call in Hermes' format, spaced as a grammar without free white space spaces it."""
    values = ", ".join(f'"{slot}": {quoted(value)}' for slot, value in arguments(utterance).items())
    return f'<tool_call>\n{{"name": "{utterance.intent}", "arguments": {{{values}}}}}\n</tool_call>'


def quoted(value: str) -> str:
    return orjson.dumps(value).decode()


def lexicon(train: Sequence[Utterance]) -> dict[tuple[str, str], tuple[str, ...]]:
    """(intent, slot) > its values in `train`, each as often as it was said."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for utterance in train:
        for slot, value in utterance.slots.items():
            found[utterance.intent, slot].append(value)
    return {key: tuple(values) for key, values in found.items()}


class Swapper:
    """Utterances with other slot values: another value of the same slot, or, where a slot's values are names of any kind, words that nobody
    ever said together. What cannot be learnt by heart must be copied."""

    def __init__(self, train: Sequence[Utterance], chance: random.Random) -> None:
        self._values = lexicon(train)
        self._chance = chance
        self._open = {key for key, values in self._values.items() if len(set(values)) > 0.45 * len(values)}
        words = Counter(word for values in self._values.values() for value in values for word in value.split())
        self._words = sorted(words)

    def swap(self, utterance: Utterance, share: float) -> Utterance:
        """Each slot's value is another one with probability `share`."""
        parts = tuple(
            (self._value(utterance.intent, slot, text) if slot and self._chance.random() < share else text, slot)
            for text, slot in utterance.parts
        )
        return Utterance(utterance.intent, parts)

    def _value(self, intent: str, slot: str, text: str) -> str:
        key = (intent, slot)
        if key in self._open and self._chance.random() < 0.35:
            return " ".join(self._word() for _ in range(self._chance.choice((1, 1, 2, 2, 3, 4, 5))))
        value = self._chance.choice(self._values[key])
        lead = text[: len(text) - len(text.lstrip())]
        return lead + value + text[len(text.rstrip()) :]

    def _word(self) -> str:
        if self._chance.random() < 0.7:
            return self._chance.choice(self._words)
        letters = "".join(self._chance.choice("aeioubcdfghklmnprstvwyz") for _ in range(self._chance.randint(2, 8)))
        return letters.capitalize() if self._chance.random() < 0.6 else letters


def each(train: Sequence[Utterance], chance: random.Random, swapped: float, share: float) -> Iterator[Utterance]:
    """One epoch in random order; `swapped`: share of utterances that get other values."""
    swapper = Swapper(train, chance)
    order = list(train)
    chance.shuffle(order)
    for utterance in order:
        yield swapper.swap(utterance, share) if chance.random() < swapped else utterance


def request(utterance: Utterance) -> dict[str, Any]:
    """The utterance as a chat request that demands one of the seven calls."""
    return {
        "model": "route/snips",
        "messages": [{"role": "user", "content": utterance.text}],
        "tools": tools(),
        "tool_choice": "required",
        "temperature": 0,
    }


def labelled(utterance: Utterance) -> dict[str, Any]:
    """A line of what `weir calibrate` and `weir test` read: the request and the right answer."""
    return {"request": request(utterance), "expected": [{"name": utterance.intent, "arguments": arguments(utterance)}]}
