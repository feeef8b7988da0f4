"""How many word pieces a text has, without the model: for usage, and to refuse what the model would silently cut off.

44 us a short text on one core: in a thread, where tokenizers lets go of the interpreter for a whole batch.
"""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from embed.manifest import Folder


class Pieces:
    """The tokenizer of a model folder. Safe to share between threads."""

    def __init__(self, folder: Path) -> None:
        """Reads tokenizer.json. Raises EmbedError; DigestMismatch names the file."""
        files = Folder(folder)
        self.manifest = files.manifest
        self._tokenizer = Tokenizer.from_buffer(files.read("tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def count(self, texts: Sequence[str]) -> list[int]:
        """Word pieces of each text, [CLS] and [SEP] included. Blocks its caller."""
        return [len(encoding) for encoding in self._tokenizer.encode_batch_fast(list(texts))]
