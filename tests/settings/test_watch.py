"""gateway/settings/watch.py"""

import os
from pathlib import Path

from gateway.settings.watch import Fingerprint


def test_the_same_files_have_the_same_fingerprint(tmp_path: Path) -> None:
    """Looking changes nothing, and a file that is not there is no error."""
    file = tmp_path / "a"
    file.write_text("1")
    assert Fingerprint.of([file, tmp_path / "b"]) == Fingerprint.of([file, tmp_path / "b"])


def test_every_change_is_seen(tmp_path: Path) -> None:
    """Written (even within one tick, when the size changes; even with the same size later), added, taken away, replaced."""
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_text("1")
    os.utime(file, ns=(10**18, 10**18))
    seen = [Fingerprint.of([file, other, tmp_path])]

    def note() -> None:
        now = Fingerprint.of([file, other, tmp_path])
        assert now not in seen
        seen.append(now)

    file.write_text("22")
    os.utime(file, ns=(10**18, 10**18))
    note()
    os.utime(file, ns=(10**18 + 1, 10**18 + 1))
    note()
    other.write_text("x")
    note()
    other.unlink()
    file.unlink()
    note()


def test_a_swapped_link_is_a_change(tmp_path: Path) -> None:
    """How Kubernetes updates a ConfigMap: the file's path stays, the folder behind it is another."""
    for name, text in (("one", "1"), ("two", "22")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weir.yaml").write_text(text)
    link = tmp_path / "data"
    link.symlink_to(tmp_path / "one")
    before = Fingerprint.of([link / "weir.yaml"])
    link.unlink()
    link.symlink_to(tmp_path / "two")
    assert Fingerprint.of([link / "weir.yaml"]) != before


def test_a_path_that_is_no_path_does_not_raise() -> None:
    """The watcher runs in the lifespan: nothing about a file may stop it."""
    assert Fingerprint.of([Path("a\0b")]) == Fingerprint.of([Path("a\0b")])
