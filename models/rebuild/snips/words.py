"""The specialist's tokenizer: byte-level BPE in which a word is the same tokens wherever it stands.

Usual byte-level BPE glues the space to the word behind it, so the first word of a value is written with other tokens inside quotes
than in the utterance, and copying has to be learnt for every word anew (measured: exact match 51 %). Here a space is a token, a digit
is a token, punctuation is a token, and words are split the same way everywhere. What every answer has in common (`"timeRange": "`) is
one token each.
"""

from collections.abc import Iterable
from typing import Any

VOCABULARY = 1_280
SPECIAL = ("<s>", "</s>", "<pad>", "<|user|>", "<|again|>", "<|assistant|>")
PIECES = r"[\p{L}\p{M}]+|\p{N}|\s|[^\s\p{L}\p{M}\p{N}]"

TEMPLATE = (
    "{%- set last = messages | selectattr('role', 'equalto', 'user') | list | last -%}"
    "{%- set said -%}{%- if last.content is string -%}{{ last.content }}{%- else -%}"
    "{%- for part in last.content -%}{{ part.text }}{%- endfor -%}{%- endif -%}{%- endset -%}"
    "<s><|user|>{{ said | trim }}<|again|>{{ said | trim }}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""The last user message, twice: on its second reading every word has seen the whole utterance, which a causal model otherwise never has
(arXiv 2402.15449). Tools are not rendered: their grammar stands in the weights, and the server's constraint holds it."""


def prompt(text: str) -> str:
    """As the template renders one user message."""
    return f"<s><|user|>{text}<|again|>{text}<|assistant|>"


def tokenizer(texts: Iterable[str], structure: list[str]) -> Any:
    """A tokenizers.Tokenizer trained on `texts`; each of `structure` is one token."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(structure),
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.add_tokens([AddedToken(piece, normalized=False, special=False) for piece in structure])
    return bpe


def structure(intents: dict[str, tuple[str, ...]]) -> list[str]:
    """What answers have in common, longest first. intents: function > its slots."""
    slots = sorted({slot for names in intents.values() for slot in names})
    frame = ['<tool_call>\n{"name": "', '", "arguments": {', "}}\n</tool_call>"]
    pieces = [*frame, *intents, *(f'"{slot}": "' for slot in slots)]
    return sorted(pieces, key=len, reverse=True)
