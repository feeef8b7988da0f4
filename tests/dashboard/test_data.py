"""What the page counts, against a plain recount."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dashboard import data
from gateway.dashboard.data import BUCKETS, EDGES, LAST, NAMES, STEP, Window, latencies, quantile, rates, total
from gateway.record import AttemptRecord
from tests.dashboard.records import record

OUTCOMES = ("accepted", "escalated", "direct", "refused")
comings = st.lists(st.tuples(st.integers(0, 4000), st.sampled_from(OUTCOMES)), max_size=60)


@given(comings)
def test_a_window_holds_what_a_recount_of_its_time_finds(comings: list[tuple[int, str]]) -> None:
    """Every Record of the last fifteen minutes is counted once, and no older one; `ever` counts all of them."""
    window = Window(0.0)
    for at, outcome in sorted(comings):
        window.fold([record(outcome)], float(at))
    now = 4000.0
    within = [what for at, what in comings if at // STEP > now // STEP - BUCKETS]
    found = rates(total(bucket.all for bucket in window.buckets(now) if bucket))
    assert found.requests == len(within)
    assert found.accepted == within.count("accepted")
    assert found.unanswered == within.count("refused")
    assert found.reasons == ({"schema": within.count("escalated")} if "escalated" in within else {})
    assert sum(window.ever.outcomes.values()) == len(comings)
    large = within.count("escalated") + within.count("direct")
    answered = large + within.count("accepted")
    assert found.llm_calls == (pytest.approx(large / answered) if answered else None)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6), st.sampled_from(OUTCOMES)), max_size=40),
    st.sets(st.integers(0, 40)),
)
def test_whoever_reads_in_between_changes_nothing(comings: list[tuple[int, int, str]], reads: set[int]) -> None:
    """By route, in all and since the start the sums are what they are when somebody reads all the time. With room for three names."""
    seldom, always = Window(0.0), Window(0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "NAMES", 3)
        for count, (at, route, outcome) in enumerate(comings):
            for window in (seldom, always):
                window.fold([record(outcome, route=f"route{route}", cost=0.5)], float(at))
            assert sum(always.ever.outcomes.values()) == count + 1
            if count in reads:
                seldom.kept()
        assert msgspec.to_builtins(seldom.kept()) == msgspec.to_builtins(always.kept())
        assert msgspec.to_builtins(seldom.ever) == msgspec.to_builtins(always.ever)


def test_the_large_models_share_of_spend_leaves_out_what_small_ones_cost() -> None:
    """USD of the top rung over all USD: 0.1 + (0.1 + 1) + 1 spent, 2 of it on the top rung."""
    window = Window(0.0)
    for outcome in ("accepted", "escalated", "direct"):
        window.fold([record(outcome)], 1.0)
    found = rates(window.ever)
    assert found.llm_spend == pytest.approx(2 / 2.2)
    assert found.escalation == 0.5
    assert found.counterfactual - found.cost == pytest.approx(3 - 2.2)


def test_a_ladder_of_one_in_the_house_is_no_large_model() -> None:
    """Its only rung is the top one and proved its answer: neither call nor spend is an LLM's."""
    window = Window(0.0)
    window.fold([record("accepted", top="small")], 1.0)
    assert rates(window.ever).llm_calls == 0
    assert rates(window.ever).llm_spend == 0


def test_what_is_kept_is_bounded() -> None:
    """Whatever comes: so many buckets, so many names in each, so many Records."""
    window = Window(0.0)
    for at in range(3 * BUCKETS):
        window.fold([record(id=f"req_{at}")], float(at * STEP))
    for at in range(3 * NAMES):
        attempt = AttemptRecord(0, f"rung{at}", "delivered", seconds=0.01)
        window.fold([record(route=f"route{at}", attempts=[attempt])], 1e6)
    kept = [bucket for bucket in window.buckets(1e6) if bucket]
    assert len(kept) == 1
    assert len(kept[0].routes) <= NAMES + 1
    assert len(kept[0].latency) <= NAMES + 1
    assert sum(sums.outcomes["accepted"] for sums in kept[0].routes.values()) == 3 * NAMES
    assert len(window.last) == LAST
    assert len(window._buckets) <= BUCKETS


def test_a_clock_that_is_set_back_loses_nothing() -> None:
    """Records of a time before the newest bucket count in the newest."""
    window = Window(0.0)
    window.fold([record()], 1000.0)
    window.fold([record()], 10.0)
    assert rates(total(b.all for b in window.buckets(1000.0) if b)).requests == 2


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=80), st.sampled_from([0.5, 0.95]))
def test_a_quantile_lies_in_the_bin_of_the_true_one(values: list[float], share: float) -> None:
    """Two bins to an octave: the told quantile is within a factor of the square root of 2 of the true one."""
    window = Window(0.0)
    for value in values:
        window.fold([record(attempts=[AttemptRecord(0, "small", "delivered", seconds=value)])], 1.0)
    (found,) = latencies(window.buckets(1.0))
    true = sorted(values)[max(0, -(-int(share * 1000) * len(values) // 1000) - 1)]
    told = found.p50 if share == 0.5 else found.p95
    assert true / 2**0.5 - 1e-9 <= told <= true * 2**0.5 + 1e-9
    assert found.count == len(values)


def test_quantiles_of_nothing_and_of_the_endless() -> None:
    """No attempts: 0. Longer than the last edge: the last edge."""
    assert quantile({}, 0.5) == 0.0
    assert quantile({len(EDGES): 3}, 0.95) == EDGES[-1]


def test_attempts_that_were_stopped_tell_no_latency() -> None:
    """An attempt that we ended ourselves says nothing of how fast the rung is."""
    window = Window(0.0)
    window.fold([record(attempts=[AttemptRecord(0, "small", "stopped", seconds=9.0)])], 1.0)
    assert latencies(window.buckets(1.0)) == []


def test_requests_per_second_are_of_the_last_seconds() -> None:
    """Twenty requests within the last ten seconds are two a second; a quarter of an hour later there are none."""
    window = Window(-1000.0)
    for at in range(20):
        window.fold([record()], 100.0 + at / 2)
    assert window.per_second(110.0 - 1e-3) == pytest.approx(2.0, rel=0.01)
    assert window.per_second(1000.0) == 0.0
