"""What the demo sends: test utterances of CLINC150 that want an intent, and GSM8K prompts as free-form chat. Pure, but for `load`.

The labels of these texts go to two places only: the stand-in's script (it plays the LLM) and the account at the end. The
specialist, its threshold and its calibration were made from train and val.
"""

import gzip
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import orjson
from msgspec import Struct

from wire.types import Json

OUT_OF_SCOPE = "oos"
MODEL = "gpt-5"
"""What the agent asks for: it changes its base_url and nothing else."""
SCHEMA_NAME = "intent"
CHAT_SHARE = 0.1
"""Chat prompts per utterance."""
SYSTEM = (
    "You route what users of a voice assistant say. Answer with the one intent that the utterance has, "
    f"or with {OUT_OF_SCOPE} if it has none of them."
)
CHAT_SYSTEM = "You are a patient tutor. Solve the problem step by step and end with the answer."


class DataMissing(Exception):
    """The texts are not there. The message names the file."""


class Item(Struct, frozen=True):
    """One request of the demo and what is known about it."""

    kind: Literal["intent", "chat"]
    text: str
    gold: str
    """intent: the label, `oos` for none; chat: the answer in the data set."""

    @property
    def in_scope(self) -> bool:
        return self.kind == "intent" and self.gold != OUT_OF_SCOPE


class Data(Struct, frozen=True):
    labels: Sequence[str]
    """The intents in alphabetical order, without `oos`."""
    test: Sequence[tuple[str, str]]
    """(text, label), in scope."""
    oos_test: Sequence[tuple[str, str]]
    prompts: Sequence[tuple[str, str]]
    """(prompt, answer) of GSM8K."""


def load(folder: Path) -> Data:
    """Read `clinc150/data_full.json.gz` and `gsm8k/prompts.json.gz` under `folder`. Raises DataMissing."""
    clinc = _read(folder / "clinc150" / "data_full.json.gz")
    prompts = _read(folder / "gsm8k" / "prompts.json.gz")
    try:
        return Data(
            labels=sorted({label for _, label in clinc["test"]}),
            test=[(text, label) for text, label in clinc["test"]],
            oos_test=[(text, label) for text, label in clinc["oos_test"]],
            prompts=[(entry["prompt"], entry["answer"]) for entry in prompts],
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise DataMissing(f"{folder}: not the data sets that were expected ({exc!r})") from exc


def _read(path: Path) -> Any:
    try:
        return orjson.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError) as exc:
        raise DataMissing(
            f"{path} cannot be read ({type(exc).__name__}): the demo needs a checkout with its data"
        ) from exc


def sample(data: Data, utterances: int, seed: int) -> list[Item]:
    """`utterances` of CLINC150's test set and CHAT_SHARE as many chat prompts, shuffled; the same ones for the same seed.

    Stratified: in and out of scope in their true proportion, in-scope ones evenly over the intents. No utterance twice; chat
    prompts are reused in turn when there are not enough. Raises ValueError for more utterances than there are.
    """
    there = len(data.test) + len(data.oos_test)
    if not 0 < utterances <= there:
        raise ValueError(f"between 1 and {there} utterances, not {utterances}")
    chance = random.Random(seed)
    outside = round(utterances * len(data.oos_test) / there)
    chosen = _evenly(data.test, utterances - outside, chance) + chance.sample(list(data.oos_test), outside)
    items = [Item("intent", text, label) for text, label in chosen]
    prompts = chance.sample(list(data.prompts), len(data.prompts))
    items += [Item("chat", *prompts[at % len(prompts)]) for at in range(chats(utterances))]
    chance.shuffle(items)
    return items


def chats(utterances: int) -> int:
    """How many chat prompts go with so many utterances."""
    return round(utterances * CHAT_SHARE)


def _evenly(pairs: Sequence[tuple[str, str]], count: int, chance: random.Random) -> list[tuple[str, str]]:
    """`count` of `pairs`, each label as often as any other, give or take one, as far as there are enough."""
    by_label: dict[str, list[tuple[str, str]]] = {}
    for pair in pairs:
        by_label.setdefault(pair[1], []).append(pair)
    for members in by_label.values():
        chance.shuffle(members)
    chosen: list[tuple[str, str]] = []
    while len(chosen) < count:
        # One of each label a round; the last round takes labels by chance.
        left = [members for members in by_label.values() if members]
        chance.shuffle(left)
        chosen += [members.pop() for members in left[: count - len(chosen)]]
    return chosen


def schema(labels: Sequence[str]) -> dict[str, Any]:
    """What an answer must look like: one of the intents or `oos`, 151 values for CLINC150."""
    return {
        "type": "object",
        "properties": {SCHEMA_NAME: {"type": "string", "enum": [*labels, OUT_OF_SCOPE]}},
        "required": [SCHEMA_NAME],
        "additionalProperties": False,
    }


def body(item: Item, labels: Sequence[str]) -> Json:
    """The chat completion that an agent asks for."""
    system = SYSTEM if item.kind == "intent" else CHAT_SYSTEM
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": item.text}],
    }
    if item.kind == "intent":
        form = {"name": SCHEMA_NAME, "strict": True, "schema": schema(labels)}
        asked["response_format"] = {"type": "json_schema", "json_schema": form}
    return asked


def answer(label: str) -> str:
    """The text of an answer that fits `schema`."""
    return orjson.dumps({SCHEMA_NAME: label}).decode()


def noisy(items: Sequence[Item], labels: Sequence[str], share: float, seed: int) -> Mapping[str, str]:
    """What the stand-in answers, by text: the gold label, or for `share` of the utterances (rounded) another one by chance.

    Chat prompts get the answer of their data set.
    """
    chance = random.Random(f"noise:{seed}")
    said = {item.text: item.gold for item in items if item.kind == "chat"}
    intents = [item for item in items if item.kind == "intent"]
    wrong = {item.text for item in chance.sample(intents, round(len(intents) * share))}
    every = [*labels, OUT_OF_SCOPE]
    for item in intents:
        label = chance.choice([other for other in every if other != item.gold]) if item.text in wrong else item.gold
        said[item.text] = answer(label)
    return said
