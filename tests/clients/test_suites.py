"""Every client against the gateway. What a client's own runner counts decides."""

import pytest

from tests import setup
from tests.clients import suites
from tests.clients.house import House
from tests.clients.suites import SUITES, Suite

ROWS = [(suite, mode) for suite in SUITES for mode in suite.modes]


@pytest.mark.timeout(suites.SECONDS + 60)
@pytest.mark.parametrize(("suite", "mode"), ROWS, ids=[f"{suite.name}-{mode}" for suite, mode in ROWS])
def test_client(suite: Suite, mode: str, running: House) -> None:
    """Everything that the client tries works through the gateway, whichever model answers."""
    if lacking := suite.lacks():
        reason = f"needs {', '.join(lacking)} (python -m tests.clients.setup)"
        if setup.in_ci():
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    counts = suites.run(suite, running, mode)
    assert counts.fine, f"{counts.passed} of {counts.total} passed\n{suites.lines(counts.failures)}"
    assert counts.passed >= suite.least
    assert not counts.server_errors
