"""The arithmetic between what a generator prints and a figure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.speed.numbers import (
    HOURS_A_MONTH,
    USD_A_CORE_HOUR,
    added_ms,
    cores,
    cpu_us,
    failures,
    middle,
    per_core,
    percentile,
    read,
    refused_share,
    usd_a_month,
)

WRK = """Running 1s test @ http://127.0.0.1:9100
  1 threads and 64 connections
JSON {"requests":4021,"seconds":1.0012,"rps":4016.18,"broken":0,"other":2,"unanswered":0,"p50":812,"p99":2040}
"""


def test_the_generators_line_is_found_among_what_wrk_says() -> None:
    """Only the line that begins with JSON counts, whatever stands around it."""
    assert read(WRK) == {
        "requests": 4021, "seconds": 1.0012, "rps": 4016.18, "broken": 0, "other": 2, "unanswered": 0,
        "p50": 812, "p99": 2040,
    }  # fmt: skip


def test_of_several_lines_the_last_counts() -> None:
    """A generator may print what it found so far."""
    assert read('JSON {"rps": 1}\nJSON {"rps": 2}\n') == {"rps": 2}


@pytest.mark.parametrize("printed", ["", "unable to connect to 127.0.0.1:9100 Connection refused\n"])
def test_no_line_is_a_failure_that_says_what_was_printed(printed: str) -> None:
    """A generator that could not connect is never taken for a rate of nothing."""
    with pytest.raises(ValueError, match="Connection refused" if printed else "printed nothing"):
        read(printed)


def test_percentiles_are_values_that_occurred() -> None:
    """Nearest rank: of 1..100 the 99th percentile is 99, of one value every percentile is that value."""
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([7.0], 0.001) == 7.0
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([4, 1, 2, 3], 0.5) == 2


@given(st.lists(st.floats(0, 1e9), min_size=1), st.floats(0.001, 1))
def test_so_many_values_do_not_exceed_a_percentile(values: list[float], share: float) -> None:
    """At least the share, and with any smaller value of the list less than it."""
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) <= share * len(values) + 1e-6


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1], 0), ([1], 1.1)])
def test_percentiles_of_nothing_are_refused(values: list[float], share: float) -> None:
    """No values, or a share outside of ]0, 1]."""
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, share)


def test_added_latency_is_the_median_of_the_rounds_own_differences() -> None:
    """Each round against `direct` of the same round: a slow phase of the machine meets both. us become ms."""
    gateway = [{"p99": 1500.0}, {"p99": 9700.0}, {"p99": 1600.0}]
    direct = [{"p99": 500.0}, {"p99": 8600.0}, {"p99": 400.0}]
    assert added_ms(gateway, direct, "p99") == pytest.approx(1.1)


def test_rounds_must_pair() -> None:
    """A missing round is not silently cut off."""
    with pytest.raises(ValueError, match="shorter"):
        added_ms([{"p50": 1.0}], [], "p50")


def test_cpu_for_each_request_and_what_a_core_would_serve() -> None:
    """1.2 s of CPU for 10,000 requests are 120 us each, and 8,333 requests per second and core, whatever the rate was."""
    row = {"requests": 10_000.0, "cpu_s": 1.2, "rps": 500.0, "chunks": 60_000.0}
    assert cpu_us(row) == pytest.approx(120)
    assert cpu_us(row, "chunks") == pytest.approx(20)
    assert per_core([row]) == pytest.approx(8333.33, abs=0.01)


def test_a_round_without_answers_has_no_cost() -> None:
    """It is a failure, not infinity."""
    with pytest.raises(ValueError, match="no requests"):
        cpu_us({"requests": 0, "cpu_s": 1.0})


def test_the_median_needs_a_round() -> None:
    """And is the median, not the mean."""
    assert middle([{"rps": 1}, {"rps": 100}, {"rps": 3}], "rps") == 3
    with pytest.raises(ValueError, match="rps"):
        middle([], "rps")


def test_whatever_is_no_200_counts_as_failed() -> None:
    """Shed, other statuses, broken connections, unanswered, and what the generator could not even send."""
    assert failures({"requests": 9, "shed": 1, "other": 2, "broken": 3, "unanswered": 4, "unsent": 5}) == 15
    assert failures({"requests": 9}) == 0
    assert refused_share({"requests": 9, "shed": 1, "unsent": 2}) == 0.25


def test_money_is_busy_cores_times_their_price() -> None:
    """50 requests per second at 13 ms keep 0.65 of a core busy."""
    assert cores(50, 13_000) == pytest.approx(0.65)
    assert usd_a_month(0.65) == pytest.approx(0.65 * USD_A_CORE_HOUR * HOURS_A_MONTH)
