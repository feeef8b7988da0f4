"""gateway.metrics.family: quicker than the library, and the same."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from gateway.metrics.family import Quick
from gateway.metrics.labels import CONFIDENCE, PIECES, SECONDS


@given(st.sampled_from([SECONDS, CONFIDENCE, PIECES]), st.lists(st.floats(0, 200), min_size=1))
def test_a_quick_histogram_shows_what_the_librarys_own_shows(buckets: tuple[float, ...], seen: list[float]) -> None:
    """Sample for sample, in the same order, whatever was observed; but for `_created`, which is on no page."""
    shown = []
    for kind in (Quick, Histogram):
        metric = kind("seconds", "Of it.", ["by"], buckets=buckets, registry=CollectorRegistry())
        for amount in seen:
            metric.labels("me").observe(amount)
        (family,) = metric.collect()
        shown.append([(s.name, s.labels, s.value) for s in family.samples if not s.name.endswith("_created")])
    assert shown[0] == shown[1]
    assert len(shown[0]) == len(buckets) + 1 + 2
