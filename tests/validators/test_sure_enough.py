"""`sure_enough`: probability against the threshold of the promised risk."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.validators.base import PASS, Ask
from gateway.validators.sure_enough import SureEnough
from wire.types import Draft

CHECK = SureEnough(SureEnough.Config(kind="sure_enough"))


@pytest.mark.parametrize(
    ("probability", "threshold", "opinion"),
    [
        (0.95, 0.9, "pass"),
        (0.9, 0.9, "pass"),
        (0.8999, 0.9, "fail"),
        (0.0, 0.0, "pass"),
        (None, 0.9, "undecided"),
        (None, 0.0, "undecided"),
        (1.0, None, "undecided"),
        (None, None, "undecided"),
    ],
)
def test_how_sure(probability: float | None, threshold: float | None, opinion: str) -> None:
    """From the threshold on it is sure. No probability, or no calibration, is undecided, which is never sure."""
    verdict = CHECK.check(Draft(text="a", finish="stop", probability=probability), Ask(threshold=threshold))
    assert verdict.opinion == opinion
    assert verdict.reason == (None if opinion == "pass" else "low_confidence")


@given(st.none() | st.floats(), st.none() | st.floats(0, 1))
def test_it_passes_only_what_is_known_to_be_sure(probability: float | None, threshold: float | None) -> None:
    """Whatever stands for a probability, NaN included: PASS needs both numbers and the one to reach the other."""
    verdict = CHECK.check(Draft(text="a", finish="stop", probability=probability), Ask(threshold=threshold))
    sure = probability is not None and threshold is not None and probability >= threshold
    assert verdict.passed is sure
    assert not (verdict.passed and probability is not None and math.isnan(probability))


def test_a_growing_answer_is_not_judged() -> None:
    """The probability is that of the whole answer."""
    assert CHECK.check(Draft(text="a"), Ask(threshold=0.9)) == PASS


def test_it_is_a_soft_check() -> None:
    """Not asked of the top rung."""
    assert SureEnough.soft is True
