"""The generative specialist: its data, its tokenizer, and that what is shipped belongs together."""

import random

import orjson
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from embed.manifest import Folder
from gateway.validators.fits_schema import validator
from models.rebuild.snips import FOLDER, data, words
from models.rebuild.snips.scores import exact, slots
from wire.hashing import canonical

WORD = st.text("abcdefghijklmnopqrstuvwxyzABCXYZéß0123456789", min_size=1, max_size=12)


def test_splits() -> None:
    """Sizes as published and withheld; what calibrates and tests has not trained, whatever its case."""
    split = data.splits()
    assert len(split["validate"]) == 700
    assert len(split["withheld"]) == 1400
    later = {u.text.casefold() for name in ("validate", "withheld", "development") for u in split[name]}
    assert not later & {u.text.casefold() for u in split["train"]}


def test_every_answer_fits_its_tool() -> None:
    """Gold calls are valid under the tools that are sent, in the order of their properties."""
    tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in data.tools()}
    for utterance in data.splits()["validate"]:
        schema = tools[utterance.intent]
        told = data.arguments(utterance)
        assert validator(canonical(schema), True).first_break(told) is None
        order = list(schema["properties"])
        assert [order.index(slot) for slot in told] == sorted(order.index(slot) for slot in told)
        assert all(value in utterance.text for value in told.values())


def test_swapped_utterances_still_say_their_values() -> None:
    """Augmentation changes values, not slots, and the text changes with them."""
    utterances = data.splits()["train"][:400]
    for before, after in zip(utterances, data.each(utterances, random.Random(1), 0.0, 0.0), strict=True):
        assert after in utterances
        assert before.slots
    swapper = data.Swapper(utterances, random.Random(2))
    swapped = [swapper.swap(utterance, 1.0) for utterance in utterances]
    assert all(set(a.slots) == set(b.slots) for a, b in zip(utterances, swapped, strict=True))
    assert all(value in u.text for u in swapped for value in u.slots.values())
    assert sum(a.slots != b.slots for a, b in zip(utterances, swapped, strict=True)) > 200


@given(WORD, WORD)
def test_a_word_is_the_same_tokens_wherever_it_stands(word: str, other: str) -> None:
    """After a space, after a quote and at the start: so copying is copying."""
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    alone = tokenizer.encode(word, add_special_tokens=False).ids
    for text in (f'"{word}"', f" {word} ", f"{other} {word}", f'{{"city": "{word}"}}'):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert any(ids[at : at + len(alone)] == alone for at in range(len(ids)))
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_what_is_shipped() -> None:
    """The tools beside the model are the data's, the template is the tokenizer's, and it is as small as promised."""
    files = Folder(FOLDER)
    assert orjson.loads(files.read("tools.json")) == data.tools()
    assert files.read("chat_template.jinja").decode() == words.TEMPLATE
    config = orjson.loads(files.read("config.json"))
    head = files.read("model.safetensors")
    sizes = orjson.loads(head[8 : 8 + int.from_bytes(head[:8], "little")])
    parameters = sum(
        int.__mul__(*entry["shape"]) if len(entry["shape"]) == 2 else entry["shape"][0]
        for name, entry in sizes.items()
        if name != "__metadata__"
    )
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert parameters <= 3_000_000


def test_scores() -> None:
    """A right slot of a wrong function is wrong; what is missing costs recall, what is too much precision."""
    wanted = [("a", {"x": "1", "y": "2"}), ("b", {"x": "1"})]
    found = [("a", {"x": "1", "z": "3"}), ("a", {"x": "1"})]
    assert exact(found, wanted) == 0.0
    told = slots(found, wanted)
    assert (told["all"].precision, told["all"].recall) == (1 / 3, 1 / 3)
    assert told["y"].f1 == 0.0
    assert exact(wanted, wanted) == 1.0
