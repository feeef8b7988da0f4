"""Either loop."""

import pytest

from tests.backends.http.local import EITHER, Loop


@pytest.fixture(params=EITHER)
def loop(request: pytest.FixtureRequest) -> Loop:
    """The local client on either loop."""
    return EITHER[request.param]
