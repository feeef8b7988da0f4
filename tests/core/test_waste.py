"""The waste budget: a token bucket for each route."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.waste import FIRST, MOST, ROUTES, Waste


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=400), st.sampled_from([0.03, 0.1, 0.5]))
def test_wasted_starts_stay_within_the_share(requests: list[tuple[bool, bool]], share: float) -> None:
    """Whatever is asked and however it ends: the wasted starts are at most the share of the requests, and the first bucket."""
    waste, wasted = Waste(), 0
    for count, (unsure, accepted) in enumerate(requests, 1):
        waste.earn("r", share)
        if unsure and waste.reserve("r"):
            if accepted:
                wasted += 1
            else:
                waste.refund("r")
        assert wasted <= count * share + FIRST + 1e-9


def test_a_quiet_night_allows_no_wasteful_morning() -> None:
    """However many requests came, no more starts than a bucket holds are allowed at once; and routes do not share."""
    waste = Waste()
    for _ in range(10_000):
        waste.earn("r", 0.5)
    allowed = 0
    while waste.reserve("r"):
        allowed += 1
    assert allowed == MOST
    assert waste.reserve("other")
    assert not waste.reserve("other")


def test_it_does_not_grow_for_ever() -> None:
    """Names of routes come and go with configurations; the oldest bucket is forgotten."""
    waste = Waste()
    for number in range(ROUTES + 10):
        waste.earn(f"r{number}", 0.1)
    assert len(waste._left) == ROUTES
