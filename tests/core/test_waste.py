"""The waste budget: what was thrown away, and what is likely to be."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from gateway.waste import AT_ONCE, FIRST, ROUTES, Waste

Requests = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=400)


@given(Requests, st.sampled_from([0.03, 0.1, 0.5]), st.integers(0, 60))
def test_wasted_starts_stay_within_the_share(requests: list[tuple[float, bool]], share: float, late: int) -> None:
    """Whatever is asked, however it ends and however late that is known: wasted starts are at most the share of the requests, the first
    bucket, and those that were under way."""
    waste, wasted, most = Waste(), 0, 0
    under_way: deque[tuple[float, bool]] = deque()
    for count, (vain, accepted) in enumerate(requests, 1):
        waste.earn("r", share)
        if waste.reserve("r", vain):
            under_way.append((vain, accepted))
        most = max(most, len(under_way))
        if len(under_way) > late:
            said, ended = under_way.popleft()
            wasted += ended
            waste.settle("r", said, wasted=ended)
        assert wasted <= count * share + FIRST + most
    assert most <= AT_ONCE


def test_what_went_over_is_paid_back_first() -> None:
    """A bucket in debt allows nothing until enough requests have come."""
    waste = Waste()
    assert waste.reserve("r", 0.4)
    waste.settle("r", 0.4, wasted=True)
    assert not waste.reserve("r", 0.0)
    for _ in range(10):
        waste.earn("r", 0.03)
    assert waste.reserve("r", 0.0)


def test_starts_are_charged_with_what_they_are_likely_to_waste() -> None:
    """Many that are likely to be of use may be under way at once, few that are not."""
    allowed = {}
    for vain in (0.0, 0.4, 0.5):
        waste = Waste()
        for _ in range(100):
            waste.earn("r", 1.0)
        allowed[vain] = sum(waste.reserve("r", vain) for _ in range(300))
    assert allowed[0.0] == AT_ONCE
    assert allowed[0.0] > allowed[0.4] > allowed[0.5] > 0


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 300))
def test_the_less_is_left_the_surer_a_start_must_be(vain: float, most: float, requests: int) -> None:
    """What a bucket allows a fuller one allows too; what it allows it allows a surer start as well; none is allowed beyond `most`."""
    poor, rich, sure = Waste(), Waste(), Waste()
    for bucket, count in ((poor, requests), (rich, requests + 30), (sure, requests)):
        for _ in range(count):
            bucket.earn("r", 0.03)
    if poor.reserve("r", vain, most):
        assert vain <= most
        assert rich.reserve("r", vain, most)
        assert sure.reserve("r", vain / 2, most)


def test_use_settles_near_the_share() -> None:
    """Starts that are thrown away as often as was said, and more of them than the budget has: nearly all of it is used, and no more."""
    waste, wasted = Waste(), 0
    for number in range(10_000):
        waste.earn("r", 0.03)
        vain = (number % 10) / 10
        if waste.reserve("r", vain):
            lost = (number // 10) % 10 < number % 10
            wasted += lost
            waste.settle("r", vain, wasted=lost)
    assert 0.8 * 300 < wasted <= 300 + FIRST


def test_a_quiet_night_allows_no_wasteful_morning() -> None:
    """However many requests came, a bucket holds no more; routes do not share."""
    waste = Waste()
    for _ in range(10_000):
        waste.earn("r", 0.5)
    assert sum(waste.reserve("r", 0.25) for _ in range(300)) <= AT_ONCE
    assert sum(waste.reserve("other", 0.25) for _ in range(300)) <= FIRST / 0.25


def test_it_does_not_grow_for_ever() -> None:
    """Names of routes come and go with configurations; the oldest bucket is forgotten."""
    waste = Waste()
    for number in range(ROUTES + 10):
        waste.earn(f"r{number}", 0.1)
    assert len(waste._buckets) == ROUTES
