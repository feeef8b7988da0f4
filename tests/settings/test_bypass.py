"""gateway/settings/bypass.py"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.settings.bypass import FILE, Bypass, Reading, read, write

BYPASSES = st.builds(Bypass, st.booleans(), st.lists(st.text(max_size=8), max_size=3).map(tuple))


def test_no_file_is_no_bypass(tmp_path: Path) -> None:
    """Nor is a state directory that is not there: nothing to warn of."""
    assert read(tmp_path / "none") == Reading(Bypass())


@settings(suppress_health_check=(HealthCheck.function_scoped_fixture,))
@given(BYPASSES)
def test_what_was_written_is_read(tmp_path: Path, bypass: Bypass) -> None:
    """And nothing but the file is left behind."""
    write(tmp_path / "state", bypass)
    assert read(tmp_path / "state") == Reading(bypass)
    assert [path.name for path in (tmp_path / "state").iterdir()] == [FILE]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"all": 1}', b'{"all": true, "x": 1}', b"\xff", b"[" * 100_000])
def test_a_broken_file_is_no_bypass_and_a_warning(tmp_path: Path, data: bytes) -> None:
    """The server goes on; somebody is told."""
    (tmp_path / FILE).write_bytes(data)
    found = read(tmp_path)
    assert found.bypass == Bypass()
    assert FILE in found.warning


def test_a_file_that_cannot_be_opened_is_a_warning(tmp_path: Path) -> None:
    """A folder of that name, say."""
    (tmp_path / FILE).mkdir()
    assert read(tmp_path).warning


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """One step, or none, and no litter."""
    (tmp_path / FILE).mkdir()
    (tmp_path / FILE / "x").touch()
    with pytest.raises(OSError):
        write(tmp_path, Bypass(True))
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_switching() -> None:
    """Routes by name; without a name everything, and off without a name means off."""
    one = Bypass().switched(True, ("b",)).switched(True, ("a",))
    assert one == Bypass(False, ("a", "b"))
    assert one.switched(False, ("b",)) == Bypass(False, ("a",))
    assert one.switched(True) == Bypass(True, ("a", "b"))
    assert one.switched(True).switched(False) == Bypass()


@given(BYPASSES, st.text())
def test_what_is_covered(bypass: Bypass, route: str) -> None:
    """Everything, or the routes that are named."""
    assert bypass.switched(True).covers(route)
    assert bypass.switched(True, (route,)).covers(route)
    assert not bypass.switched(False).covers(route)
