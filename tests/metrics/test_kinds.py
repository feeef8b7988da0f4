"""gateway.metrics.kinds: many of one kind are counted as each would be."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.metrics.family import Quick, QuickCounter
from gateway.metrics.kinds import Children
from gateway.metrics.labels import SECONDS

AMOUNTS = st.one_of(st.floats(0, 200), st.floats(), st.integers(-3, 10**16), st.sampled_from([None, "x", ()]))
ROWS = st.lists(st.tuples(AMOUNTS, AMOUNTS, AMOUNTS), min_size=1, max_size=40)


def children() -> tuple[CollectorRegistry, Children]:
    """One that is counted by one, one that takes the first column, one that observes the second, and one that does both; nobody takes
    the third."""
    registry = CollectorRegistry()
    once, added, both = (QuickCounter(name, "Of it.", registry=registry) for name in ("once", "added", "both"))
    seen, too = (Quick(name, "Of it.", buckets=SECONDS, registry=registry) for name in ("seen", "too"))
    return registry, Children.of([once], [[added, both, too], [seen], []])


def shown(registry: CollectorRegistry) -> dict[str, float]:
    samples = [sample for family in registry.collect() for sample in family.samples]
    return {f"{s.name}{s.labels}": s.value for s in samples if not s.name.endswith("_created")}


@given(ROWS)
def test_together_they_are_counted_as_one_by_one(rows: list[tuple[Any, ...]]) -> None:
    """Also those that are negative or absurd; and a row with what is no number is left out alone, and only where somebody takes it."""
    (together, many), (apart, single) = children(), children()
    many.rows.extend(rows)
    lost = 0
    for row in rows:
        single.rows.append(row)
        lost += single.count()
    assert many.count() == lost
    assert not many.rows
    assert lost == sum(not all(isinstance(amount, int | float) for amount in row[:2]) for row in rows)
    assert shown(together) == pytest.approx(shown(apart))
