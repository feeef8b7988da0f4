"""What every test may count on: hypothesis profiles, and live suites that run, are skipped with a reason, or fail in CI."""

from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests import setup

# No deadline and no "too slow": tests never assert speed, and machines are shared. No `explain` phase: it traces every line
# of a failing test and can take longer than the test's own limit. In CI and in `make test` (fixed) the same examples every time;
# other ones are tried at the desk.
_COMMON = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=(HealthCheck.too_slow,),
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink),
)
settings.register_profile("desk", _COMMON)
settings.register_profile("fixed", settings(_COMMON, derandomize=True, database=None))
settings.register_profile("ci", settings(_COMMON, max_examples=100, derandomize=True, database=None))
settings.load_profile("ci" if setup.in_ci() else "desk")


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """`@pytest.mark.live("NAME", ...)` names parts of `tests/setup.py`: a name that is not there would be skipped for ever."""
    for item in items:
        for mark in item.iter_markers("live"):
            if not mark.args or not set(mark.args) <= set(setup.PARTS):
                known = ", ".join(setup.PARTS) or "none"
                raise pytest.UsageError(
                    f"{item.nodeid}: live{mark.args} names no part of tests/setup.py (known: {known})"
                )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without one of its parts a live test is skipped, and says which; with CI=true it fails."""
    wanted = {name for mark in item.iter_markers("live") for name in mark.args}
    absent = [setup.PARTS[name] for name in setup.missing(setup.PARTS) if name in wanted] if wanted else []
    if absent:
        reason = "; ".join(f"needs {part.program} (apt-get install {part.package})" for part in absent)
        if setup.in_ci():
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
