"""models/snips: a generative specialist of our own, from data to folder.

`data` reads and splits, `words` is the tokenizer, `train` trains, `scores` scores calls.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from models.rebuild.folder import MODELS, finish
from models.rebuild.snips import data, words
from models.rebuild.snips.data import Utterance

FOLDER = MODELS / "snips"
LONGEST = 1024
"""Tokens of prompt and answer together."""


def build() -> str:
    """Train and write the folder. Returns its digest. About 35 minutes on two idle cores."""
    from models.rebuild.snips.train import train

    utterances = data.splits()["train"]
    tokenizer = make_tokenizer(utterances)
    return write(train(tokenizer, utterances), tokenizer)


def make_tokenizer(utterances: Sequence[Utterance]) -> Any:
    """Learnt from what trains, values twice: they are what has to be copied."""
    texts = [u.text for u in utterances] + [value for u in utterances for value in u.slots.values()]
    return words.tokenizer(texts, words.structure({intent: data.slots_of(intent) for intent in data.INTENTS}))


def write(net: Any, tokenizer: Any) -> str:
    """A folder that vLLM, transformers and `kind: local` can serve. Returns its digest."""
    from transformers import PreTrainedTokenizerFast

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<|user|>", "<|again|>", "<|assistant|>"],
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = words.TEMPLATE
    with tempfile.TemporaryDirectory() as place:
        net.save_pretrained(place)
        fast.save_pretrained(place)
        files = {path.name: path.read_bytes() for path in sorted(Path(place).iterdir())}
    files["tools.json"] = orjson.dumps(data.tools(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    sizes = {name: len(utterances) for name, utterances in data.splits().items()}
    return finish(FOLDER, files, {"data": "SNIPS (CC0), upstream's train", "splits": sizes})
