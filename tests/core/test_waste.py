"""The waste budget: what was thrown away, and what is likely to be."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from gateway.waste import BEFORE, FIRST, LEAST, MOST, ROUTES, Waste

Requests = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=400)


@given(Requests, st.sampled_from([0.03, 0.1, 0.5]), st.integers(0, 60))
def test_wasted_starts_stay_within_the_share(requests: list[tuple[bool, bool]], share: float, late: int) -> None:
    """Whatever is asked, however it ends and however late that is known: wasted starts are at most the share of the requests, the first
    bucket, and those that were under way."""
    waste, wasted, most = Waste(), 0, 0
    under_way: deque[bool] = deque()
    for count, (unsure, accepted) in enumerate(requests, 1):
        waste.earn("r", share)
        if unsure and waste.reserve("r"):
            under_way.append(accepted)
        most = max(most, len(under_way))
        if len(under_way) > late:
            ended = under_way.popleft()
            wasted += ended
            waste.settle("r", wasted=ended)
        assert wasted <= count * share + FIRST + most
    assert most <= MOST / LEAST


def test_what_went_over_is_paid_back_first() -> None:
    """A bucket in debt allows nothing until enough requests have come."""
    waste = Waste()
    assert waste.reserve("r")
    waste.settle("r", wasted=True)
    assert not waste.reserve("r")
    for _ in range(34):
        waste.earn("r", 0.03)
    assert waste.reserve("r")


def test_starts_that_are_of_use_do_not_wait_for_each_other() -> None:
    """Where most starts are of use many may be under way, where all are wasted one for each that the bucket holds."""
    useful, wasteful = Waste(), Waste()
    for _ in range(50):
        for bucket, lost in ((useful, False), (wasteful, True)):
            bucket.earn("r", 1.0)
            if bucket.reserve("r"):
                bucket.settle("r", wasted=lost)
    for bucket in (useful, wasteful):
        for _ in range(10):
            bucket.earn("r", 1.0)
    allowed = [sum(bucket.reserve("r") for _ in range(300)) for bucket in (useful, wasteful)]
    assert allowed == [MOST / LEAST, MOST]


def test_a_quiet_night_allows_no_wasteful_morning() -> None:
    """However many requests came, a new bucket allows no more starts at once than are likely to waste what it holds; routes do not
    share."""
    waste = Waste()
    for _ in range(10_000):
        waste.earn("r", 0.5)
    usual = BEFORE[0] / BEFORE[1]
    assert sum(waste.reserve("r") for _ in range(300)) == MOST * usual
    assert sum(waste.reserve("other") for _ in range(300)) == FIRST * usual


def test_it_does_not_grow_for_ever() -> None:
    """Names of routes come and go with configurations; the oldest bucket is forgotten."""
    waste = Waste()
    for number in range(ROUTES + 10):
        waste.earn(f"r{number}", 0.1)
    assert len(waste._buckets) == ROUTES
