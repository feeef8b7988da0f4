"""One scripted upstream and one gateway in each mode, for all client suites of a run."""

from collections.abc import Iterator

import pytest

from tests.clients.house import House, house


@pytest.fixture(scope="session")
def running() -> Iterator[House]:
    with house() as made:
        yield made
