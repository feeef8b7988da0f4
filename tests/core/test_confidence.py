"""A promised risk > the threshold that keeps it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.confidence import Calibration, CalibrationError, Evidence, Point, calibration, probability
from wire.types import Draft


def point(threshold: float, error: float, **more: Any) -> dict[str, Any]:
    return {"threshold": threshold, "coverage": 0.5, "error": error, **more}


def table(*curve: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"version": 1, "model_digest": "m", "n": 100, "method": "exact", "curve": list(curve), **more}


CURVE = table(point(0.5, 0.2), point(0.7, 0.004), point(0.8, 0.03), point(0.9, 0.009), point(0.99, 0.0))


@pytest.mark.parametrize(
    ("risk", "threshold"),
    [
        (0.5, 0.5),
        (0.2, 0.5),
        (0.1, 0.7),
        (0.03, 0.7),
        (0.01, 0.9),  # 0.7 would keep it too, but 0.8 above it does not
        (0.009, 0.9),
        (0.005, 0.99),
        (0.0, 0.99),
    ],
)
def test_threshold(risk: float, threshold: float) -> None:
    """The smallest threshold from which on every point keeps the risk: one lucky low point does not count."""
    assert calibration(CURVE, "d").threshold(risk) == threshold


def test_a_risk_that_cannot_be_kept_has_no_threshold() -> None:
    """Then nothing is sure."""
    assert calibration(table(point(0.9, 0.02)), "d").threshold(0.01) is None


shares = st.floats(0, 1)
curves = st.lists(st.builds(point, shares, shares), min_size=1, max_size=8)


@given(curves, shares, shares)
def test_the_promise_holds_above_the_threshold(curve: list[dict[str, Any]], risk: float, other: float) -> None:
    """Over any curve, in any order, with several points at one threshold: every point from the threshold on keeps the risk, no smaller
    one has that property, and a stricter promise never has a lower threshold."""
    made = calibration(table(*curve), "d")
    found = made.threshold(risk)
    good = [p.threshold for p in made.curve if all(q.bound <= risk for q in made.curve if q.threshold >= p.threshold)]
    assert found == min(good, default=None)
    strict, lax = sorted((risk, other))
    least, most = made.threshold(lax), made.threshold(strict)
    assert most is None or (least is not None and least <= most)


def test_the_upper_bound_counts() -> None:
    """Where the file has a bound on the error, that is what is promised, not the error that was seen."""
    bounded = table(point(0.9, 0.0, error_upper=0.02))
    assert calibration(bounded, "d").threshold(0.01) is None
    assert calibration(bounded, "d").threshold(0.02) == 0.9
    only = {"threshold": 0.9, "coverage": 0.5, "error_upper": 0.02}
    assert calibration(table(only), "d").threshold(0.02) == 0.9


def test_what_is_read() -> None:
    """Digests, size and method stand in the file; the file's own digest is given by who read it."""
    made = calibration(table(point(0.5, 0.1)), "digest")
    assert made == Calibration("m", "digest", 100, "exact", (Point(0.5, 0.5, 0.1),))


def measured(threshold: float, regret_bound: float, **more: Any) -> dict[str, Any]:
    return {
        "threshold": threshold, "coverage": 0.5, "regret": 0.001, "regret_bound": regret_bound, "error": 0.1, "error_bound": 0.2, **more,
    }  # fmt: skip


SECOND = {
    **table(measured(0.5, 0.2), measured(0.9, 0.01)),
    "version": 2, "route": "r", "rung": "slm", "model": "m", "rule": "confidence", "risk": 0.02, "confidence": 0.95,
    "outlook": {"intercept": -1, "words": {"0badcafe": 0.5}, "lows": [[0, 0], [1, 3]], "starts": {"0.01": 0.9, "0.03": 0.7}},
    "collapsed": -4, "scorer": None,
}  # fmt: skip


def test_version_2_promises_the_regret() -> None:
    """The share of all requests that are wrongly accepted counts, not the error among the accepted, which stands beside it."""
    made = calibration(SECOND, "d")
    assert [made.threshold(risk) for risk in (0.005, 0.02, 0.2)] == [None, 0.9, 0.5]
    assert made.curve[0] == Point(0.5, 0.5, 0.2, 0.001, 0.1, 0.2)
    assert (made.version, made.route, made.rung, made.rule, made.risk, made.confidence) == (
        2,
        "r",
        "slm",
        "confidence",
        0.02,
        0.95,
    )
    assert made.collapsed == -4


@pytest.mark.parametrize(
    ("waste", "start"), [(None, None), (0.005, None), (0.01, 0.9), (0.02, 0.9), (0.03, 0.7), (0.5, 0.7)]
)
def test_early_starts_waste_no_more_than_asked(waste: float | None, start: float | None) -> None:
    """The doubt kept for the largest share that is small enough; a route that does not speculate has none."""
    outlook = calibration(SECOND, "d").outlook
    assert outlook is not None
    assert outlook.start_at(waste) == start


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({}, "version None"),
        (table(point(0.5, 0.1), version=3), "version 3"),
        (table(point(0.5, 0.1), version=2), "regret_bound"),
        ([], "version None"),
        ({**SECOND, "confidence": 2}, "confidence is 2"),
        ({**SECOND, "scorer": {"names": 1}}, "not a calibration file"),
        ({**SECOND, "outlook": {"words": [1]}}, "not a calibration file"),
        ({**SECOND, "curve": [measured(0.5, float("nan"))]}, "regret_bound is nan"),
        ({key: value for key, value in SECOND.items() if key != "rule"}, "'rule'"),
        (table(), "empty"),
        ({**table(point(0.5, 0.1)), "curve": None}, "not a calibration file"),
        ({**table(), "curve": ["x"]}, "not a calibration file"),
        ({**table(), "curve": [{"threshold": 0.5}]}, "not a calibration file"),
        ({"version": 1, "curve": [point(0.5, 0.1)]}, "not a calibration file"),
        (table(point(0.5, 0.1), n="many"), "not a calibration file"),
        (table(point(0.5, float("nan"))), "error is nan"),
        (table({**point(0.5, 0.1), "threshold": "NaN"}), "threshold is nan"),
        (table(point(0.5, -0.1)), "error is -0.1"),
        (table(point(1.5, 0.1)), "threshold is 1.5"),
        (table(point(0.5, 0.0, error_upper=float("inf"))), "error_upper is inf"),
    ],
)
def test_a_broken_file_says_why(content: dict[str, Any], why: str) -> None:
    """NaN among them: it compares as keeping any risk."""
    with pytest.raises(CalibrationError, match=why):
        calibration(content, "d")


@pytest.mark.parametrize(("threshold", "at"), [(0.4, None), (0.5, 0.5), (0.75, 0.7), (1.0, 0.99)])
def test_the_point_at_a_threshold(threshold: float, at: float | None) -> None:
    """The nearest point at or below it."""
    found = calibration(CURVE, "d").at(threshold)
    assert (found.threshold if found else None) == at


@pytest.mark.parametrize("known", [None, 0.0, 0.7])
def test_probability(known: float | None) -> None:
    """What the backend knows of it; text, calls and log-probabilities of a language model are no probability: unknown is not confident."""
    draft = Draft(text="a", finish="stop", logprobs=({"token": "a", "logprob": 0.0},), probability=known)
    assert probability(Evidence(draft), None) == known
