"""The figures of the main benchmark. Never how good or fast they are."""

import pytest

from benchmarks import demo
from gateway.record import Facts, Record, Seconds
from tests.demo.test_show import outcome


def test_the_names_to_keep() -> None:
    """A demo gives the figures that the issue names, whatever its size: --quick has the same keys."""
    found = demo.of_demo(outcome())
    assert {"demo.overall_accuracy", "demo.llm_share", "cost.ratio_to_all_llm"} <= set(found)
    assert found["demo.overall_accuracy"] == 1.0
    assert found["demo.llm_share"] == 0.5
    assert found["demo.stand_in_p50_ms"] == 1000


def record(outcome: str, *, total: float, router: float = 0.0, upstream: float = 0.0, check: float = 0.0) -> Record:
    seconds = Seconds(total=total, router=router, upstream=upstream, check=check)
    return Record("x", 0.0, outcome, "intents", "enforce", "matched", Facts("m"), seconds=seconds)  # type: ignore[arg-type]


def test_overhead_is_what_weir_itself_takes() -> None:
    """Milliseconds of requests that the encoder answered: total is without it; what the LLM answered does not count."""
    found = demo.stages(
        [
            record("accepted", total=0.004, router=0.0005, upstream=0.003, check=0.0001),
            record("escalated", total=2.0, router=1.0, upstream=1.5, check=1.0),
        ]
    )
    assert found["overhead.total_p50_ms"] == pytest.approx(1.0)
    assert found["overhead.router_p50_ms"] == pytest.approx(0.5)
    assert found["overhead.check_p99_ms"] == pytest.approx(0.1)
    assert found["overhead.encoder_p50_ms"] == pytest.approx(3.0)
