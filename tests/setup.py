"""What the live suites need beside Python, and how to get it: `python -m tests.setup`, first of all that `make test` does.

Where it may (root, on Debian, with apt-get) it installs what is missing. Elsewhere it prints which live suites will not run. With
`CI=true` a part that is missing afterwards is a failure. A suite asks for a part by `@pytest.mark.live("NAME")`
(`tests/conftest.py`); `tests/test_house.py` keeps the table honest: what nobody asks for does not stand in it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

APT_SECONDS = 600


class Part(NamedTuple):
    """A program that is no Python package. program: what stands on PATH when it is there."""

    program: str
    package: str
    """Debian's name."""
    suites: str
    """Who needs it, for people."""


PARTS: Mapping[str, Part] = {
    "chromium": Part("chromium", "chromium", "tests/live/test_page.py: the page at /ui in a real browser"),
    "prometheus": Part(
        "prometheus", "prometheus", "tests/live/test_prometheus.py: dashboards and rules against a real Prometheus"
    ),
    "redis": Part("redis-server", "redis-server", "tests/store, tests/responses: responses that are kept in Redis"),
}
"""Name, as in the marker > part."""

Run = Callable[[Sequence[str]], bool]
"""Runs a command; False when it failed."""


def missing(parts: Mapping[str, Part] = PARTS, which: Callable[[str], str | None] = shutil.which) -> list[str]:
    """Names of the parts whose program is not there."""
    return [name for name, part in parts.items() if which(part.program) is None]


def in_ci(environ: Mapping[str, str] = os.environ) -> bool:
    return environ.get("CI", "").lower() == "true"


def may_install(which: Callable[[str], str | None] = shutil.which) -> bool:
    """Root, on Debian, with apt-get."""
    return os.geteuid() == 0 and Path("/etc/debian_version").exists() and which("apt-get") is not None


def run(command: Sequence[str]) -> bool:
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        return (
            subprocess.run(command, env=environ, timeout=APT_SECONDS, stdout=subprocess.DEVNULL, check=False).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def main(
    parts: Mapping[str, Part] = PARTS,
    *,
    which: Callable[[str], str | None] = shutil.which,
    may: bool | None = None,
    ci: bool | None = None,
    run: Run = run,
    say: Callable[[str], object] = sys.stdout.write,
) -> int:
    """Install what is missing where that is allowed, and say what stays missing. Returns the exit status."""
    wanted = missing(parts, which)
    if wanted and (may_install(which) if may is None else may):
        packages = sorted({parts[name].package for name in wanted})
        say(f"installing for the live suites: {', '.join(packages)}\n")
        if not run(["apt-get", "update", "-qq"]) or not run(
            ["apt-get", "install", "-qq", "--no-install-recommends", *packages]
        ):
            say("apt-get failed\n")
    absent = missing(parts, which)
    for name in absent:
        part = parts[name]
        say(f"not run: {part.suites} (needs {part.program}; on Debian: apt-get install {part.package})\n")
    if not absent:
        say(f"live suites: {'all parts are there' if parts else 'none needs more than Python'}\n")
    return 1 if absent and (in_ci() if ci is None else ci) else 0


if __name__ == "__main__":
    sys.exit(main())
