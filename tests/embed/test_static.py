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


@given(st.text(st.characters(codec="ascii"), max_size=CAP) | st.text(max_size=CAP))
def test_same_ids_as_the_tokenizer(text: str) -> None:
    """The fast way through for plain ASCII text is an optimisation, never another embedding."""
    slow = [i for i in TABLE._tokenizer.encode(text, add_special_tokens=False).ids if i != TABLE._unknown]
    assert TABLE.ids(text) == slow


@pytest.mark.parametrize(
    "text", ["don't [UNK] [PAD] [CLS] ##ing a_b", "x" * 101, "x" * 100, "antidisestablishmentarianism", "\x0b\x7f a"]
)
def test_same_ids_in_corners(text: str) -> None:
    """The fast path gives the tokenizer's own ids where they are easiest to get wrong."""
    slow = [i for i in TABLE._tokenizer.encode(text, add_special_tokens=False).ids if i != TABLE._unknown]
    assert TABLE.ids(text) == slow


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
    """The memo of words has a bound, and vectors are the same with it and without."""
    monkeypatch.setattr("embed.static._MEMO", 3)
    table = StaticTable.load(FOLDER)
    for i in range(10):
        word = f"qwxz{'abcdefghij'[i]}"
        assert table.ids(word) == table.ids(word) == TABLE.ids(word)
        assert len(table._memo) <= 3


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
    words = [word for word in TABLE._words if word.isalpha() and len(word) > 3]
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
