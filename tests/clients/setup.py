"""Makes the clients' environments: `python -m tests.clients.setup`, part of `make test`. A second's work when they are there.

Where the registries cannot be reached the suites that need them are listed as not run; with `CI=true` that is a failure.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from tests import setup
from tests.clients.environments import ENVIRONMENTS, Environment, Run, make, run


def main(
    environments: Mapping[str, Environment] = ENVIRONMENTS,
    *,
    run: Run = run,
    ci: bool | None = None,
    say: Callable[[str], object] = sys.stdout.write,
) -> int:
    """Returns the exit status."""
    absent: list[str] = []
    for one in environments.values():
        if one.ready():
            continue
        started = time.monotonic()
        try:
            make(one, run)
            say(f"client environment {one.name}: made in {time.monotonic() - started:.0f} s\n")
        except (OSError, subprocess.SubprocessError) as exc:
            absent.append(one.name)
            told = getattr(exc, "stderr", None) or b""
            say(f"client environment {one.name}: {type(exc).__name__}\n{told.decode(errors='replace')[-1500:]}")
    if absent:
        say(f"not run: client suites that need {', '.join(absent)}\n")
    else:
        say(f"client suites: all {len(environments)} environments are there\n")
    return 1 if absent and (setup.in_ci() if ci is None else ci) else 0


if __name__ == "__main__":
    sys.exit(main())
