"""Static token embeddings: a text is the mean of its tokens' rows. numpy and tokenizers only, no torch.

Measured on one core (figures in models/static-minilm-256/README.md):

- The tokenizer is the cost, not the arithmetic: tokenizers.encode of 64 tokens takes about 100 us, table and mean about 15 us.
  So plain ASCII text, nearly all agent traffic, is split here: one regex, one dictionary of whole words, and WordPiece's
  own greedy rule for words that are not in it. It gives the same ids as the tokenizer (property-tested) in about 20 us.
  Anything else (other scripts, control characters) goes through the tokenizer.
- int8 rows with one scale per row keep the vectors (cosine to float32 > 0.9999) and a quarter of the memory.
"""

import re
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from embed.errors import EmbedError
from embed.manifest import Folder

Vector = npt.NDArray[np.float32]

CAP = 512
"""Characters of a text that are read: the first and the last CAP / 2. Of a longer one the middle is skipped, because in
prompts the task stands at the head and the question at the tail, and a decision must not take longer for a long prompt."""

_PLAIN = re.compile(r"[\t\n\r -~]*")
_WORD = re.compile(r"[0-9a-z]+|[!-/:-@\[-`{-~]")
_MEMO = 32_768
_LONGEST_WORD = 100


class StaticTable:
    """A table of token embeddings and its tokenizer. Immutable but for a bounded memo; safe to share between threads."""

    def __init__(self, rows: npt.NDArray[np.int8], scale: Vector, tokenizer: Tokenizer, digest: str) -> None:
        """rows: (tokens, dim) int8. scale: (tokens,) float32, a row's value is rows[i] * scale[i]."""
        self._rows = rows
        self._scale = scale
        self._tokenizer = tokenizer
        self.digest = digest
        """Names table, scale and tokenizer together (embed.manifest.digest_of)."""
        self.dim = int(rows.shape[1])
        vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
        self._unknown = vocabulary.get("[UNK]", -1)
        self._vocabulary = vocabulary
        self._words = {word: (i,) for word, i in vocabulary.items() if _WORD.fullmatch(word)}
        self._memo: dict[str, tuple[int, ...]] = {}

    @classmethod
    def load(cls, folder: Path) -> "StaticTable":
        """Read table.npy, scale.npy and tokenizer.json. Raises EmbedError; DigestMismatch names the file."""
        files = Folder(folder)
        rows = np.load(BytesIO(files.read("table.npy")), allow_pickle=False)
        scale = np.load(BytesIO(files.read("scale.npy")), allow_pickle=False)
        tokenizer = Tokenizer.from_buffer(files.read("tokenizer.json"))
        if rows.ndim != 2 or rows.dtype != np.int8 or scale.shape != rows.shape[:1]:
            raise EmbedError(f"{folder}: table.npy must be int8 (tokens, dim) and scale.npy (tokens,)")
        if tokenizer.get_vocab_size(with_added_tokens=True) > len(rows):
            raise EmbedError(f"{folder}: the tokenizer knows more tokens than the table has rows")
        return cls(rows, scale.astype(np.float32), tokenizer, files.manifest.digest)

    def encode(self, text: str) -> Vector:
        """The embedding of `text`: (dim,) float32 of length 1, or all zeros when it holds no known token."""
        ids = self.ids(text)
        if not ids:
            return np.zeros(self.dim, np.float32)
        index = np.array(ids, np.intp)
        # The mean's divisor falls out of the normalisation.
        total: Vector = self._scale.take(index) @ self._rows.take(index, axis=0).astype(np.float32)
        length = float(np.sqrt(total @ total))
        return total / np.float32(length) if length > 0 else total

    def encode_many(self, texts: list[str]) -> Vector:
        """One row per text: (n, dim) float32."""
        out = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(out, texts, strict=True):
            row[:] = self.encode(text)
        return out

    def ids(self, text: str) -> list[int]:
        """Token ids of the capped text, unknown tokens left out. The same on either way through."""
        if len(text) > CAP:
            text = f"{text[: CAP // 2]} {text[-CAP // 2 :]}"
        if not _PLAIN.fullmatch(text):
            return [i for i in self._tokenizer.encode(text, add_special_tokens=False).ids if i != self._unknown]
        found: list[int] = []
        words = self._words
        for word in _WORD.findall(text.lower()):
            found += words.get(word) or self._pieces(word)
        return found

    def _pieces(self, word: str) -> tuple[int, ...]:
        """WordPiece: the longest known beginning, again and again; a word that does not come out even is unknown."""
        known = self._memo.get(word)
        if known is not None:
            return known
        pieces = self._split(word)
        if len(self._memo) >= _MEMO:
            self._memo.clear()
        self._memo[word] = pieces
        return pieces

    def _split(self, word: str) -> tuple[int, ...]:
        if len(word) > _LONGEST_WORD:
            return ()
        pieces = []
        start, prefix = 0, ""
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = self._vocabulary.get(prefix + word[start:end])
                if piece is not None:
                    break
            else:
                return ()
            pieces.append(piece)
            start, prefix = end, "##"
        return tuple(pieces)
