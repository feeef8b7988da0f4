"""gateway.access.limits: how often."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.keys import Caller
from gateway.access.limits import RETRIES, Limits, TokenBucket, duration
from gateway.settings.model import KeySettings, RateSettings
from wire.errors import RateLimited

HASH = "sha256:" + "0" * 64
RETRY = {"x-stainless-retry-count": "1"}


def limits(per_minute: float = 60, burst: int = 2, previous: Limits | None = None) -> Limits:
    return Limits([KeySettings(name="a", hash=HASH, rate=RateSettings(per_minute=per_minute, burst=burst))], previous)


A = Caller(tenant="a")


@given(st.floats(0.1, 10_000), st.integers(1, 50), st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_a_bucket_never_gives_more_than_it_was_filled_with(per_minute: float, burst: int, gaps: list[float]) -> None:
    """Over any time t at most burst + rate * t requests pass."""
    bucket, now, passed = TokenBucket(per_minute, burst), 1000.0, 0
    for gap in gaps:
        now += gap
        passed += bucket.take(now) is None
    assert passed <= burst + (now - 1000.0) * per_minute / 60 + 1e-6


@given(st.floats(0.1, 10_000), st.integers(1, 20), st.integers(0, 40))
def test_who_waits_as_told_gets_through(per_minute: float, burst: int, before: int) -> None:
    """A refusal says how long to wait, and that long is enough; a little less is not."""
    bucket = TokenBucket(per_minute, burst)
    for _ in range(before):
        bucket.take(5.0)
    wait = bucket.take(5.0)
    if wait is not None:
        assert wait > 0
        assert bucket.take(5.0 + wait * 0.9 - 1e-5) is not None
        assert bucket.take(5.0 + wait) is None


def test_a_clock_that_goes_back_stands_still() -> None:
    """Time that goes back neither fills nor drains."""
    bucket = TokenBucket(60, 1)
    assert bucket.take(100.0) is None
    assert bucket.take(50.0) is not None
    assert bucket.take(100.5) is not None
    assert bucket.take(101.1) is None


def test_a_refusal_is_429_with_the_time_to_wait() -> None:
    """429 rate_limit_exceeded, retry-after in whole seconds, and OpenAI's x-ratelimit headers."""
    keep = limits(per_minute=6, burst=1)
    assert keep.admit(A, {}, 0.0) == {
        "x-ratelimit-limit-requests": "1",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "10s",
    }
    with pytest.raises(RateLimited) as caught:
        keep.admit(A, {}, 2.5)
    error = caught.value
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert error.headers["retry-after"] == "8"
    assert 7500 <= int(error.headers["retry-after-ms"]) <= 7501
    assert error.headers["x-ratelimit-remaining-requests"] == "0"
    assert "8s" in error.message


def test_a_retry_of_a_counted_request_is_not_counted_again() -> None:
    """`x-stainless-retry-count: 1` after a request that passed costs nothing."""
    keep = limits(burst=2)
    keep.admit(A, {}, 0.0)
    for _ in range(RETRIES):
        assert keep.admit(A, RETRY, 0.0)["x-ratelimit-remaining-requests"] == "1"
    assert keep.admit(A, RETRY, 0.0)["x-ratelimit-remaining-requests"] == "0"


def test_a_retry_of_a_refused_request_is_counted() -> None:
    """The retry of a request that was refused has to wait for a token like any other."""
    keep = limits(per_minute=60, burst=1)
    keep.admit(A, {}, 0.0)
    for headers in ({}, RETRY):
        with pytest.raises(RateLimited):
            keep.admit(A, headers, 0.1)
    assert keep.admit(A, RETRY, 1.2)["x-ratelimit-remaining-requests"] == "0"


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), min_size=1, max_size=80))
def test_the_retry_header_is_no_way_around_the_limit(steps: list[tuple[float, bool]]) -> None:
    """However a caller mixes the header in, at most 1 + RETRIES times the rate passes."""
    keep, now, passed = limits(per_minute=30, burst=3), 0.0, 0
    for gap, retry in steps:
        now += gap
        try:
            keep.admit(A, RETRY if retry else {}, now)
            passed += 1
        except RateLimited:
            pass
    assert passed <= (1 + RETRIES) * (3 + now * 0.5 + 1e-6)


@pytest.mark.parametrize("value", ["0", "00", "", "-1", "²", "x", "1.5"])
def test_only_a_positive_count_is_a_retry(value: str) -> None:
    """The header with 0 or with nonsense is a first try."""
    keep = limits(burst=2)
    keep.admit(A, {}, 0.0)
    assert keep.admit(A, {"x-stainless-retry-count": value}, 0.0)["x-ratelimit-remaining-requests"] == "0"


def test_callers_without_a_rate_are_not_limited_and_leave_nothing_behind() -> None:
    """Only configured keys have buckets: strangers cost no memory and get no headers."""
    keep = limits()
    for number in range(1000):
        assert keep.admit(Caller(tenant=f"t{number}"), {}, 0.0) == {}
    assert list(keep._buckets) == ["a"]


def test_a_reload_does_not_refill_an_unchanged_bucket() -> None:
    """A bucket goes on over a reload; a changed rate starts a new one."""
    keep = limits(burst=1)
    keep.admit(A, {}, 0.0)
    with pytest.raises(RateLimited):
        limits(burst=1, previous=keep).admit(A, {}, 0.1)
    assert limits(burst=2, previous=keep).admit(A, {}, 0.1)["x-ratelimit-remaining-requests"] == "1"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (-1, "0s"), (0.0195, "20ms"), (0.9999, "1s"), (1, "1s"), (359.2, "6m0s"), (3600, "1h0m0s")],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    """1s, 6m0s: rounded up."""
    assert duration(seconds) == text


@given(st.floats(0, 1e6))
def test_a_duration_is_never_shorter_than_the_truth(seconds: float) -> None:
    """Read back, it is at least the seconds that went in, and less than a second more."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    parts = re.findall(r"(\d+)(ms|h|m|s)", duration(seconds))
    back = sum(int(number) * units[unit] for number, unit in parts)
    assert seconds - 1e-9 <= back < seconds + 1
