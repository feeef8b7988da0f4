"""A tagger: a small encoder that reads an utterance and says one tool call. Its folder, its worker's half and its caller's.

    tagger.json      functions, slots, tags (embed.tagging.Spec)
    model.onnx       input_ids, attention_mask (texts, pieces) > functions (texts, functions), tags (texts, pieces, tags)
    tokenizer.json   its pieces; the tags of a word are those at its first piece

Values are spans of the utterance, letter by letter. Measured in models/snips-tagger/README.md.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from embed.client import View
from embed.errors import EmbedError, TooLong, Wordless
from embed.manifest import Folder
from embed.onnx import MAX_CHARS, MAX_PIECES, session, tokenizer
from embed.tagging import Decoder, Spec

TAGGER = "tagger.json"
"""The file that makes a model folder a tagger's."""


class Found(Struct, frozen=True):
    """What a tagger says of a text."""

    function: str
    """"" where nothing is said: the text has too many pieces, or no words."""
    spans: dict[str, tuple[int, int]]
    """Slot > characters of the text, from and to (not included)."""
    probability: float
    """That function and slots are all right, in [0, 1]."""
    pieces: int = 0
    """Not 0: the text has so many word pieces, which are too many; nothing else is said."""


class Call(Struct, frozen=True):
    """The call that an utterance makes."""

    function: str
    values: Mapping[str, str]
    """Slot > the words of the utterance that are its value."""
    probability: float


_FOUND = msgspec.json.Decoder(Found)


def spec_of(files: Folder) -> Spec:
    """Raises EmbedError."""
    try:
        spec = msgspec.json.decode(files.read(TAGGER), type=Spec)
        Decoder(spec)
    except (msgspec.MsgspecError, ValueError) as exc:
        raise EmbedError(f"{files.path / TAGGER}: {exc}") from exc
    return spec


class Loaded:
    """A tagger in this process. It blocks its caller for some milliseconds; not safe to share between threads."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        """Raises EmbedError (DigestMismatch names the file). Imports ONNX Runtime here, so that importing us is free."""
        files = Folder(folder)
        self._decoder = Decoder(spec_of(files))
        self._session = session(files, threads)
        self._tokenizer = tokenizer(files)
        self.digest = files.manifest.digest

    def find(self, text: str, function: str = "") -> Found:
        """function: the one that must be called, "" for any. Raises ValueError for one that it does not know."""
        encoded = self._tokenizer.encode(text)
        ids = np.array([encoded.ids], np.int64)
        if ids.shape[1] > MAX_PIECES:
            return Found("", {}, 0.0, pieces=ids.shape[1])
        words = words_of(encoded.word_ids, encoded.offsets)
        if not words:
            return Found("", {}, 0.0)
        functions, tags = self._session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        firsts: npt.NDArray[np.intp] = np.array([piece for piece, _, _ in words], np.intp)
        tagged = self._decoder.decode(functions[0], tags[0][firsts], function)
        spans = {slot: (words[first][1], words[last][2]) for slot, (first, last) in tagged.spans.items()}
        return Found(tagged.function, spans, tagged.probability)

    def answer(self, question: str) -> bytes:
        """As the worker is asked and answers (embed.worker)."""
        function, _, text = question.partition("\n")
        return msgspec.json.encode(self.find(text, function))


def words_of(numbers: list[int | None], offsets: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(first piece, first character, character behind the last) of each word. numbers: of each piece's word, None for none."""
    words: list[tuple[int, int, int]] = []
    before: int | None = None
    for piece, (number, (start, end)) in enumerate(zip(numbers, offsets, strict=True)):
        if number is None:
            continue
        if number == before:
            words[-1] = (*words[-1][:2], end)
        else:
            words.append((piece, start, end))
        before = number
    return words


class Tagger(View):
    """What a worker with a tagger says, read as calls."""

    async def call(self, text: str, function: str = "") -> Call:
        """function: the one that must be called, "" for any. Raises TooLong, Wordless, Busy, WorkerDied, EmbedError."""
        if len(text) > MAX_CHARS:
            raise TooLong(f"the text has {len(text)} characters, the tagger reads at most {MAX_CHARS}")
        found = _FOUND.decode(await self._worker.ask(f"{function}\n{text}"))
        if found.pieces:
            raise TooLong(f"the text has {found.pieces} word pieces, the tagger reads at most {MAX_PIECES}")
        if not found.function:
            raise Wordless("the text has no words")
        values = {slot: text[start:end] for slot, (start, end) in found.spans.items()}
        return Call(found.function, values, found.probability)
