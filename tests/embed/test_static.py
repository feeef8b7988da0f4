"""The static table: the same ids on both ways through, vectors of length 1, digests checked."""

from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed.errors import DigestMismatch, EmbedError
from embed.static import CAP, StaticTable

FOLDER = Path(__file__).resolve().parents[2] / "models" / "static-minilm-256"
TABLE = StaticTable.load(FOLDER)


PLAIN = st.text(st.characters(codec="ascii"), max_size=CAP)
NATURAL = st.lists(
    st.sampled_from(
        [
            "where",
            "is",
            "my",
            "parcel,",
            "Order:",
            "don\u2019t",
            "caf\u00e9",
            "e\u0301t\u00e9",
            "\u5317\u4eac",
            "x" * 40,
        ]
    )
    | st.text(max_size=8),
    max_size=90,
).flatmap(
    lambda words: st.sampled_from([" ", "\n", "\t \r\n", "\x0b", "\u2028", "\u00a0"]).map(
        lambda by: by.join(words)[:CAP]
    )
)
"""Words, of which some come again and some do not, with all kinds of spaces between them."""


def by_tokenizer(text: str) -> list[int]:
    """The plain way: the whole text through the tokenizer."""
    return [i for i in TABLE._tokenizer.encode(text, add_special_tokens=False).ids if i != TABLE._unknown]


@given(PLAIN | st.text(max_size=CAP) | NATURAL)
def test_same_ids_as_the_tokenizer(text: str) -> None:
    """Going from space to space is an optimisation, never another embedding."""
    assert TABLE.ids(text) == by_tokenizer(text)


@given(PLAIN | st.text(max_size=CAP) | NATURAL)
def test_same_vector_as_the_mean_of_its_tokens(text: str) -> None:
    """Remembered sums, some new ones or all new ones: the vector is the normalised sum of the tokens' rows."""
    index = by_tokenizer(text)
    total = (TABLE._rows[index] * TABLE._scale[index, None].astype(np.float64)).sum(0)
    length = np.linalg.norm(total)
    plain = total / length if length else total
    new, again = TABLE.encode(text), TABLE.encode(text)
    assert np.allclose(new, plain, atol=2e-6)
    assert np.array_equal(new, again)


@pytest.mark.parametrize(
    "text", ["don't [UNK] [PAD] [CLS] ##ing a_b", "x" * 101, "x" * 100, "antidisestablishmentarianism", "\x0b\x7f a"]
)
def test_same_ids_in_corners(text: str) -> None:
    """The fast path gives the tokenizer's own ids where they are easiest to get wrong."""
    assert TABLE.ids(text) == by_tokenizer(text)


@given(st.text(max_size=2000))
def test_length_one_or_nothing(text: str) -> None:
    """A vector has length 1, or is zero where no token is known."""
    vector = TABLE.encode(text)
    assert vector.shape == (TABLE.dim,)
    assert vector.dtype == np.float32
    assert np.isclose(np.linalg.norm(vector), 1.0, atol=1e-5) or not vector.any()


def test_meaning() -> None:
    """Near in meaning is near in space, also without a common word."""
    bank, money, weather = TABLE.encode_many(
        ["pay my bill at the bank", "transfer some money", "will it rain tomorrow"]
    )
    assert bank @ money > bank @ weather


def test_head_and_tail() -> None:
    """Of a long text the beginning and the end count, the middle does not."""
    head, tail = "book a flight to rome " * 12, " what is my balance" * 14
    assert np.array_equal(TABLE.encode(head + "x " * 9000 + tail), TABLE.encode(head + "zebra " * 9000 + tail))


def test_memo_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered of words has a bound, and vectors are the same to the last bit with it and without."""
    monkeypatch.setattr("embed.static._MEMO", 5)
    table = StaticTable.load(FOLDER)
    for i in range(10):
        text = f"where is qwxz{'abcdefghij'[i]} {'x' * i * 10}"
        new = StaticTable.load(FOLDER).encode(text)
        for _ in range(3):
            assert np.array_equal(table.encode(text), new)
            assert len(table._memo[0]) <= 5


def test_changed_table_is_refused(tmp_path: Path) -> None:
    """A file that is not the one the manifest names is refused by name."""
    for file in FOLDER.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with open(tmp_path / "table.npy", "r+b") as file_:
        file_.seek(5000)
        file_.write(b"\x55\xaa")
    with pytest.raises(DigestMismatch, match=r"table\.npy: SHA-256"):
        StaticTable.load(tmp_path)
    (tmp_path / "table.npy").unlink()
    with pytest.raises(EmbedError, match=r"table\.npy: cannot be read"):
        StaticTable.load(tmp_path)


def test_speed_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """64 tokens, text unseen: reported, not asserted."""
    words = [word for word in TABLE._vocabulary if word.isalpha() and len(word) > 3]
    rng = np.random.default_rng(0)
    seconds = []
    for _ in range(300):
        text = " ".join(rng.choice(words, 64))
        begun = perf_counter()
        TABLE.encode(text)
        seconds.append(perf_counter() - begun)
    p50, p99 = 1e6 * np.quantile(seconds, [0.5, 0.99])
    with capsys.disabled():
        print(f" [static encode, 64 tokens: p50 {p50:.0f} us, p99 {p99:.0f} us]")  # noqa: T201
