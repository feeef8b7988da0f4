"""tests.setup and tests.conftest: live suites run, are skipped with a reason, or fail in CI."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.setup import Part, in_ci, main, missing
from tests.setup import run as run_command

PARTS = {"redis": Part("redis-server", "redis", "tests/live/redis"), "sh": Part("sh", "dash", "tests/live/sh")}
ROOT = Path(__file__).parent.parent


class Machine:
    """A machine on which apt-get works, or does not."""

    def __init__(self, *programs: str, apt: bool = True) -> None:
        self.programs, self.apt, self.said = set(programs), apt, ""
        self.commands: list[list[str]] = []

    def which(self, program: str) -> str | None:
        return f"/bin/{program}" if program in self.programs else None

    def run(self, command: Sequence[str]) -> bool:
        self.commands.append(list(command))
        if self.apt and "install" in command:
            self.programs |= {part.program for part in PARTS.values() if part.package in command}
        return self.apt

    def say(self, text: str) -> None:
        self.said += text

    def main(self, *, may: bool, ci: bool) -> int:
        return main(PARTS, which=self.which, may=may, ci=ci, run=self.run, say=self.say)


def test_what_is_missing_is_installed_where_it_may_be() -> None:
    """Root on Debian: the missing packages, and only those, are installed."""
    machine = Machine("sh")
    assert machine.main(may=True, ci=True) == 0
    assert machine.commands[-1][-1] == "redis"
    assert "dash" not in machine.commands[-1]
    assert "not run" not in machine.said


def test_nothing_is_touched_when_all_is_there() -> None:
    """No apt-get at all on a machine that has everything."""
    machine = Machine("sh", "redis-server")
    assert machine.main(may=True, ci=True) == 0
    assert machine.commands == []


def test_elsewhere_the_suites_that_will_not_run_are_listed() -> None:
    """Not root: nothing is installed, each suite that will not run is named with what it needs, and that is no failure."""
    machine = Machine("sh")
    assert machine.main(may=False, ci=False) == 0
    assert machine.commands == []
    assert "not run: tests/live/redis (needs redis-server" in machine.said
    assert "tests/live/sh" not in machine.said


@pytest.mark.parametrize("may", [True, False])
def test_in_ci_a_missing_part_fails(may: bool) -> None:
    """CI=true: exit 1, whether installing was not allowed or did not work."""
    machine = Machine(apt=False)
    assert machine.main(may=may, ci=True) == 1
    assert "not run: tests/live/redis" in machine.said


def test_ci_is_said_by_the_environment() -> None:
    """CI=true, in any case; anything else is a desk."""
    assert in_ci({"CI": "true"})
    assert in_ci({"CI": "True"})
    assert not in_ci({"CI": "0"})
    assert not in_ci({})


def test_programs_are_looked_for_on_the_path() -> None:
    """A part is there when its program is."""
    parts = {"python": Part(sys.executable, "-", "-"), "none": Part("no-such-program-at-all", "-", "-")}
    assert missing(parts) == ["none"]
    assert run_command([sys.executable, "-c", "pass"])
    assert not run_command([sys.executable, "-c", "raise SystemExit(3)"])
    assert not run_command(["no-such-program-at-all"])


LIVE = """
from tests import setup
setup.PARTS = {"there": setup.Part("sh", "dash", "-"), "absent": setup.Part("no-such-program", "nsp", "-")}
from tests.conftest import pytest_collection_modifyitems, pytest_runtest_setup
"""
SUITE = """
import pytest
@pytest.mark.live("there")
def test_there(): pass
@pytest.mark.live("there", "absent")
def test_absent(): pass
"""


def pytest_in(folder: Path, suite: str, **environ: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(LIVE)
    (folder / "test_it.py").write_text(suite)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = live: x\naddopts = -ra -p no:cacheprovider\n")
    clean = {key: value for key, value in os.environ.items() if key != "CI" and not key.startswith("PYTEST")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", str(folder)],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_live_test_without_its_part_is_skipped_with_the_reason(tmp_path: Path) -> None:
    """At a desk: what can run runs, the rest is listed with what it needs."""
    done = pytest_in(tmp_path, SUITE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
    assert "needs no-such-program (apt-get install nsp)" in done.stdout


def test_in_ci_a_live_test_without_its_part_fails(tmp_path: Path) -> None:
    """CI=true: no silent skips."""
    done = pytest_in(tmp_path, SUITE, CI="true")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 passed, 1 error" in done.stdout
    assert "needs no-such-program" in done.stdout


def test_a_live_test_names_parts_of_the_table(tmp_path: Path) -> None:
    """A marker without a name, or with one that the table does not know, is a mistake and not a skip."""
    for mark in ("live", 'live("typo")'):
        done = pytest_in(tmp_path, f"import pytest\n@pytest.mark.{mark}\ndef test_it(): pass\n")
        assert done.returncode != 0
        assert "names no part of tests/setup.py" in done.stdout + done.stderr
