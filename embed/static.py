"""Static token embeddings: a text is the mean of its tokens' rows. numpy and tokenizers only, no torch.

Measured on one core (figures in models/static-minilm-256/README.md):

- The tokenizer is the cost, not the arithmetic: tokenizers.encode of 95 words takes about 150 us. But it never looks across
  a space, so what stands between two spaces (a chunk: a word and its punctuation) has the same tokens in every text, and
  their sum is remembered as a row of a matrix. A text whose chunks are all remembered is a split, a look-up, a `take` and a
  sum: 14 us for 512 characters, 24 us where other work has emptied the caches (a bytes object for each sum: 31 us).
- What a new ASCII chunk is made of is found here by WordPiece's own greedy rule, anything else by the tokenizer. Both give
  the tokenizer's ids for the whole text (property-tested). One new word costs 20 us, 64 of them 110 us.
- int8 rows with one scale per row keep the vectors (cosine to float32 > 0.9999) and a quarter of the memory.
"""

import re
from collections.abc import Sequence
from io import BytesIO
from itertools import chain
from math import sqrt
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from embed.errors import EmbedError
from embed.manifest import Folder

Vector = npt.NDArray[np.float32]

CAP = 512
"""Characters of a text that are read: the first and the last CAP / 2. Of a longer one the middle is skipped, because in
prompts the task stands at the head and the question at the tail, and a decision must not take longer for a long prompt."""

_LOWER = bytes(range(256)).lower()
_CONTROLS = bytes([*range(9), 11, 12, *range(14, 32), 127])
"""All but tab and line ends. BERT's normaliser takes them out, so what stands on either side is one word."""
_WORD = re.compile(r"[0-9a-z]+|[!-/:-@\[-`{-~]")
_LONGEST_WORD = 100
_MEMO = 8192
"""Chunks whose sum is remembered: 4 * dim bytes each and the chunk itself, so 9 MB for words; CAP holds it under 26 MB whatever is
sent. More than one text can have."""
_ONES = np.ones(CAP, np.float32)
_Memo = tuple[dict[bytes, int], Vector]
"""Where a chunk's row is, and in that row the sum of its tokens' rows."""


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
        self._vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
        self._longest = max(map(len, self._vocabulary), default=0)
        self._unknown = self._vocabulary.get("[UNK]", -1)
        self._memo = self._forgotten()
        self._learning = Lock()

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
        """The embedding of `text`: (dim,) float32 of length 1, or all zeros when it holds no known token.

        Raises UnicodeEncodeError for half a surrogate pair.
        """
        chunks = _chunks(text)
        try:
            found = _rows(self._memo, chunks)
        except KeyError:
            found = _rows(self._learn(chunks), chunks)
        # The mean's divisor falls out of the normalisation. As methods: each 0.5 us less than `@`.
        total: Vector = _ONES[: len(chunks)].dot(found)
        length = sqrt(total.dot(total))
        return total / length if length > 0 else total

    def encode_many(self, texts: list[str]) -> Vector:
        """One row per text: (n, dim) float32."""
        out = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(out, texts, strict=True):
            row[:] = self.encode(text)
        return out

    def ids(self, text: str) -> list[int]:
        """Token ids of the capped text, unknown tokens left out: those that the tokenizer gives. Raises as `encode`."""
        return [i for chunk in _chunks(text) for i in self._ids(chunk)]

    def _forgotten(self) -> _Memo:
        return {}, np.empty((_MEMO, self.dim), np.float32)  # the system gives its memory page by page

    def _learn(self, chunks: Sequence[bytes]) -> _Memo:
        """A memo that has all `chunks`."""
        with self._learning:
            if len(self._memo[0]) + len(chunks) > _MEMO:
                self._memo = self._forgotten()  # whoever reads the old one may go on with it
            index, sums = self._memo
            new, start = list(set(chunks).difference(index)), len(index)
            self._sum(new, sums[start : start + len(new)])
            index.update(zip(new, range(start, start + len(new)), strict=True))
            return self._memo

    def _sum(self, chunks: Sequence[bytes], sums: Vector) -> None:
        """Into `sums`, (n, dim): of each chunk the sum of its tokens' rows."""
        tokens = [self._ids(chunk) for chunk in chunks]
        index = np.array(list(chain.from_iterable(tokens)), np.intp)
        rows, scale = self._rows.take(index, axis=0).astype(np.float32), self._scale.take(index)
        start = 0
        for ids, row in zip(tokens, sums, strict=True):
            end = start + len(ids)
            scale[start:end].dot(rows[start:end], row)
            start = end

    def _ids(self, chunk: bytes) -> Sequence[int]:
        text = chunk.decode()
        if chunk.isalnum():  # as bytes: ASCII letters and digits only
            return self._split(text)
        if chunk.isascii():
            return tuple(i for word in _WORD.findall(text) for i in self._split(word))
        return tuple(i for i in self._tokenizer.encode(text, add_special_tokens=False).ids if i != self._unknown)

    def _split(self, word: str) -> tuple[int, ...]:
        """WordPiece: the longest known beginning, again and again; a word that does not come out even is unknown."""
        whole = self._vocabulary.get(word)
        if whole is not None:
            return (whole,)
        if len(word) > _LONGEST_WORD:
            return ()
        pieces = []
        start, prefix = 0, ""
        while start < len(word):
            for end in range(min(len(word), start + self._longest), start, -1):
                piece = self._vocabulary.get(prefix + word[start:end])
                if piece is not None:
                    break
            else:
                return ()
            pieces.append(piece)
            start, prefix = end, "##"
        return tuple(pieces)


def _rows(memo: _Memo, chunks: Sequence[bytes]) -> Vector:
    """The chunks' sums, one a row: (n, dim). Raises KeyError when one is not remembered."""
    index, sums = memo
    return sums.take(np.fromiter(map(index.__getitem__, chunks), np.intp, len(chunks)), axis=0)


def _chunks(text: str) -> list[bytes]:
    """What stands between the spaces of the capped text, in UTF-8, ASCII letters in lower case, without ASCII controls."""
    if len(text) > CAP:
        text = f"{text[: CAP // 2]} {text[-CAP // 2 :]}"
    return text.encode().translate(_LOWER, _CONTROLS).split()
