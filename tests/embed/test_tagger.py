"""The tagger's halves: words of pieces, the model in this process, and the same through its worker."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed.client import Client
from embed.errors import EmbedError, TooLong, Wordless
from embed.onnx import MAX_PIECES
from embed.tagger import Call, Loaded, Tagger, words_of
from tests.waiting import PATIENCE

MODEL = Path(__file__).resolve().parents[2] / "models" / "snips-tagger"
TEXT = "Add Bruno Pelletier to my Café Con Leche playlist"


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return Loaded(MODEL)


def test_words_of_pieces() -> None:
    """A word begins at its first piece and ends with its last; marks that are no word belong to none."""
    numbers = [None, 0, 1, 1, 2, None]
    offsets = [(0, 0), (0, 3), (4, 7), (7, 9), (9, 10), (0, 0)]
    assert words_of(numbers, offsets) == [(1, 0, 3), (2, 4, 9), (4, 9, 10)]
    assert words_of([None, None], [(0, 0), (0, 0)]) == []


def test_values_are_words_of_the_text(loaded: Loaded) -> None:
    """Values are what the utterance says, letter by letter: case, accents, and the words in between."""
    found = loaded.find(TEXT)
    values = {slot: TEXT[start:end] for slot, (start, end) in found.spans.items()}
    assert found.function == "AddToPlaylist"
    assert values == {"artist": "Bruno Pelletier", "playlist_owner": "my", "playlist": "Café Con Leche"}


@given(st.text(max_size=60))
def test_any_text(loaded: Loaded, text: str) -> None:
    """Whatever the text, the answer is a call with spans inside it that hold something; a text without words makes none."""
    found = loaded.find(text)
    if not found.function:
        assert (found.spans, found.probability, found.pieces) == ({}, 0.0, 0)
        return
    assert all(0 <= start < end <= len(text) for start, end in found.spans.values())
    assert 0.0 < found.probability < 1.0


def test_a_long_text_is_not_cut(loaded: Loaded) -> None:
    """A text of more pieces than the model reads gets no call, only their number."""
    found = loaded.find("long " * MAX_PIECES)
    assert (found.function, found.pieces) == ("", MAX_PIECES + 2)


def test_through_the_worker(loaded: Loaded) -> None:
    """The worker says what the model says in this process, for every function that may be demanded; what it cannot do is an error,
    and it goes on."""

    async def test() -> None:
        worker = Client(MODEL)
        tagger = Tagger(worker)
        await worker.start()
        try:
            for text in (TEXT, "ünïcode \ud800 in \U0001f600 Paris", "two\nlines in Rome\x00"):
                for function in ("", "GetWeather"):
                    here = loaded.find(text.replace("\ud800", "?"), function)
                    values = {slot: text[start:end] for slot, (start, end) in here.spans.items()}
                    assert await tagger.call(text, function) == Call(here.function, values, here.probability)
            with pytest.raises(EmbedError, match="unknown function"):
                await tagger.call(TEXT, "Fly")
            for nothing in ("", " ", "\u200b", "\x00"):
                assert not loaded.find(nothing).function
                with pytest.raises(Wordless):
                    await tagger.call(nothing, "GetWeather")
            with pytest.raises(TooLong, match="word pieces"):
                await tagger.call("long " * MAX_PIECES)
            assert (await tagger.call(TEXT)).function == "AddToPlaylist"
            assert tagger.digest == loaded.digest
        finally:
            await worker.close()

    async def main() -> None:
        async with asyncio.timeout(2 * PATIENCE):
            await test()

    asyncio.run(main())
