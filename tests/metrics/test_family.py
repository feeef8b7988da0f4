"""gateway.metrics.family: quicker than the library, and the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from gateway.metrics.family import Family, Quick, QuickCounter, add_each, observe_each
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


@given(st.lists(st.one_of(st.floats(0, 200), st.floats()), min_size=1, max_size=20))
def test_several_at_once_are_what_they_are_one_by_one(seen: list[float]) -> None:
    """Also where some of them are negative, absurd or no numbers."""
    registry = CollectorRegistry()
    apart, together = (Quick(name, "Of it.", buckets=SECONDS, registry=registry) for name in ("apart", "together"))
    counted, added = (QuickCounter(name, "Of it.", registry=registry) for name in ("counted", "added"))
    for amount in seen:
        apart.observe(amount)
        counted.inc(amount)
    observe_each([(1, together)], [[1.0], seen], {1: sum(seen)})
    add_each([(1, added)], [[1.0], seen], {1: sum(seen)})
    *buckets, total = apart._child_samples()
    *others, sum_of = together._child_samples()
    assert buckets == others
    assert total.value == pytest.approx(sum_of.value)
    assert counted._value.get() == pytest.approx(added._value.get())


def test_a_family_keeps_the_children_of_closed_lists_only() -> None:
    """Asked either way it is the same child; what is junk, or nothing, has one too, and junk is not remembered."""
    family = Family(QuickCounter("n", "Of it.", ["by"], registry=CollectorRegistry()), [{"me"}])
    assert family("me") is family["me",]
    assert family("junk") is family["more junk",]
    assert family("junk") is not family("")
    assert set(family) == {("me",), ("",)}
    family.clear()
    assert not family
    assert [told.samples for told in family._metric.collect()] == [[]]
