"""Heads and specialists: shapes are checked, what is never delivered is not, digests hold."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embed.errors import DigestMismatch, EmbedError
from embed.head import Head
from embed.manifest import Folder
from embed.specialist import Specialist
from tests.embed.toy import LABELS, arrays, specialist

NEVER = frozenset({LABELS.index("oos")})


def packed(**changes: Any) -> bytes:
    buffer = BytesIO()
    np.savez(buffer, allow_pickle=False, **{**arrays(np.eye(4, dtype=np.float32)), **changes})
    return buffer.getvalue()


def test_answer() -> None:
    """The best deliverable label, with a score that grows with the nearness to its centroid."""
    head = Head.load(packed(), 4, NEVER)
    at, off = np.eye(4, dtype=np.float32)[2], np.array([0.0, 0.0, 0.8, 0.6], np.float32)
    assert LABELS[head.answer(at).label] == "translate"
    assert head.answer(at).score > head.answer(off).score
    assert head.answer(at).probability == pytest.approx(head.answer(at).score)
    assert head.distribution(at).sum() == pytest.approx(1.0)


def test_never_delivered() -> None:
    """A text that belongs to a label which is never delivered gets another one, with a low score."""
    head = Head.load(packed(), 4, NEVER)
    answer = head.answer(np.eye(4, dtype=np.float32)[LABELS.index("oos")])
    assert answer.label not in NEVER
    assert answer.score < 0.1


@pytest.mark.parametrize(
    "data",
    [b"", b"PK no zip", packed(mean=np.zeros(3)), packed(b2=np.zeros((1, 5)))],
    ids=["empty", "rubbish", "in", "out"],
)
def test_not_a_head(data: bytes) -> None:
    """Files that are no head are refused."""
    with pytest.raises(EmbedError):
        Head.load(data, 4, NEVER)


def test_no_pickle() -> None:
    """A head that would run code is refused unread."""
    buffer = BytesIO()
    np.savez(buffer, mean=np.array([object()], dtype=object))
    with pytest.raises(EmbedError, match="not a head"):
        Head.load(buffer.getvalue(), 4, NEVER)


def test_specialist(tmp_path: Path) -> None:
    """A specialist is read whole: labels, tiers, heads, digest."""
    folder = specialist(tmp_path)
    found = Specialist.load(folder)
    assert found.pointers["/intent"].labels == LABELS
    assert set(found.heads) == {("/intent", "static"), ("/intent", "minilm")}
    with pytest.raises(DigestMismatch, match="trained on minilm-int8"):
        found.check_encoder("minilm", "another")


def test_changed_files_are_refused(tmp_path: Path) -> None:
    """Every file is checked, the manifest against itself too; the message names the file."""
    folder = specialist(tmp_path)
    whole = (folder / "static.npz").read_bytes()
    (folder / "static.npz").write_bytes(whole + b"x")
    with pytest.raises(DigestMismatch, match=r"static\.npz"):
        Specialist.load(folder)
    (folder / "static.npz").write_bytes(whole)
    manifest = (folder / "manifest.json").read_bytes()
    digest = Folder(folder).manifest.files["static.npz"].encode()
    (folder / "manifest.json").write_bytes(manifest.replace(digest, b"0" * 64))
    with pytest.raises(DigestMismatch, match=r"manifest\.json"):
        Specialist.load(folder)
    (folder / "manifest.json").write_bytes(b"{")
    with pytest.raises(EmbedError, match=r"manifest\.json: is no manifest"):
        Specialist.load(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(EmbedError, match="cannot be read"):
        Specialist.load(folder)
    with pytest.raises(EmbedError, match="lists no file"):
        Folder(specialist(tmp_path / "again")).read("../secret")
