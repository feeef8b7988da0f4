"""A router that answers at once is not timed; one that waits is."""

import asyncio

import pytest

from gateway.choose import _scored
from wire.types import Scores

SCORES = Scores({"a": 1.0})


async def scoring(waits: int, seconds: float = 0.0, error: Exception | None = None) -> Scores:
    for _ in range(waits):
        await asyncio.sleep(seconds)
    if error is not None:
        raise error
    return SCORES


@pytest.mark.parametrize(("waits", "seconds"), [(0, 0.0), (1, 0.0), (3, 0.0), (2, 0.001)])
def test_what_a_router_says_comes_through(waits: int, seconds: float) -> None:
    """However often it waits, for a turn of the loop or for a time."""
    assert asyncio.run(_scored(scoring(waits, seconds), 30)) is SCORES


@pytest.mark.parametrize("waits", [0, 1, 2])
def test_what_it_raises_too(waits: int) -> None:
    """In its first step or later: the very exception."""
    error = LookupError("x")
    with pytest.raises(LookupError) as caught:
        asyncio.run(_scored(scoring(waits, error=error), 30))
    assert caught.value is error


def test_one_that_is_late_is_left() -> None:
    """TimeoutError, and the router sees that it was cancelled."""
    seen = []

    async def slow() -> Scores:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append(True)
            raise
        return SCORES

    with pytest.raises(TimeoutError):
        asyncio.run(_scored(slow(), 0.01))
    assert seen == [True]
