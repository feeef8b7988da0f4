"""Labelled answers > a Scorer: logistic regression, isotonic knots, and what they are measured by."""

import json
from itertools import pairwise
from math import log
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from numpy.typing import NDArray

from gateway.confidence import Evidence, Second
from gateway.confidence.features import NAMES, SECOND
from gateway.confidence.scorer import along
from gateway.fitting import auroc, count_members, ece, fit, fit_evidence, knots, pav, regress
from tests.confidence.said import forced, token
from wire.types import Draft, ToolCall

pairs = st.lists(st.tuples(st.sampled_from([i / 16 for i in range(17)]), st.booleans()), min_size=1, max_size=60)


@given(pairs)
def test_pav(rows: list[tuple[float, bool]]) -> None:
    """Rising with the score, equal for equal scores, with the mean of the labels, and nearer to them than any other rising step."""
    x, y = np.array([r[0] for r in rows]), np.array([float(r[1]) for r in rows])
    fitted = pav(x, y)
    order = np.argsort(x, kind="stable")
    assert (np.diff(fitted[order]) >= -1e-12).all()
    assert all(len(set(fitted[x == value])) == 1 for value in set(x))
    assert fitted.mean() == pytest.approx(y.mean())
    for cut in sorted(set(x)):
        for low, high in [(0.0, 1.0), (y.mean(), y.mean()), (0.2, 0.7)]:
            assert ((fitted - y) ** 2).sum() <= ((np.where(x < cut, low, high) - y) ** 2).sum() + 1e-9


@given(pairs)
def test_knots_rise_strictly(rows: list[tuple[float, bool]]) -> None:
    """From (0, 0) to (1, 1): answers that the score told apart stay apart."""
    made = knots([r[0] for r in rows], [r[1] for r in rows])
    assert made[0] == (0.0, 0.0)
    assert made[-1] == (1.0, 1.0)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(made))


def test_knots_calibrate() -> None:
    """A score that is bent becomes a probability, with few knots."""
    chance = np.random.default_rng(1)
    true = chance.random(20_000)
    right = chance.random(20_000) < true
    made = knots(true[:10_000] ** 3, right[:10_000])
    found = [along(made, float(value)) for value in true[10_000:] ** 3]
    assert len(made) <= 52
    assert ece(true[10_000:] ** 3, right[10_000:]) > 0.2
    assert ece(found, right[10_000:]) < 0.02


def population(n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    chance = np.random.default_rng(seed)
    rows = chance.normal(size=(n, 3)) * [1.0, 10.0, 0.0] + [0.0, 50.0, 7.0]
    true = 1 / (1 + np.exp(-(0.5 + 2 * rows[:, 0] - 0.1 * (rows[:, 1] - 50))))
    return rows, chance.random(n) < true, true


def test_regression() -> None:
    """Finds the weights that made the labels, whatever the features' scales; a constant one gets none; the gradient at the end is 0."""
    rows, right, _ = population(20_000, 2)
    model = regress(rows, right, 1.0)
    slopes = np.array(model.weights) / np.array(model.scale)
    assert slopes == pytest.approx([2.0, -0.1, 0.0], rel=0.06, abs=1e-12)
    residual = 1 / (1 + np.exp(-model.logits(rows))) - right
    standard = (rows - model.mean) / model.scale
    assert standard.T @ residual + np.array(model.weights) == pytest.approx([0, 0, 0], abs=1e-3)


def test_regression_of_what_can_be_parted() -> None:
    """Or of one class only: finite weights all the same."""
    assert np.isfinite(regress([[1.0], [2.0], [3.0]], [0, 1, 1], 0.1).weights).all()
    assert regress([[1.0], [2.0]], [1, 1]).logits([[1.5]])[0] > 3
    twice = regress([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], [0, 1, 1], 0.1)
    assert twice.weights[0] == pytest.approx(twice.weights[1])


@pytest.mark.parametrize(
    ("rows", "right"),
    [([[1.0]], [1, 0]), ([1.0], [1]), ([[float("nan")]], [1]), ([[1.0]], [0.5]), (np.empty((0, 2)), [])],
)
def test_regression_refuses(rows: Any, right: Any) -> None:
    """Shapes that differ, no rows, numbers that are none, labels between."""
    with pytest.raises(ValueError):
        regress(rows, right)


@given(pairs)
def test_auroc(rows: list[tuple[float, bool]]) -> None:
    """The share of (right, wrong) pairs in the right order, ties half."""
    right, wrong = [x for x, y in rows if y], [x for x, y in rows if not y]
    found = auroc([r[0] for r in rows], [r[1] for r in rows])
    if not right or not wrong:
        assert np.isnan(found)
        return
    assert found == pytest.approx(np.mean([(a > b) + (a == b) / 2 for a in right for b in wrong]))


def test_ece() -> None:
    """Weighted by rows: two bins, one off by 0.1, the other by 0.3."""
    assert ece([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 0], bins=2) == pytest.approx((0.1 + 0.4) / 2)
    assert ece([0.5] * 10, [1, 0] * 5, bins=1) == pytest.approx(0.0)


@pytest.mark.parametrize(("n", "knotted"), [(150, False), (3000, True)])
def test_fit(n: int, knotted: bool) -> None:
    """Calibrated on fresh answers; knots only from 200 labels on; the same data give the same scorer."""
    rows, right, _ = population(n, 3)
    names = ("a", "b", "c")
    scorer = fit(rows, right, names=names)
    assert scorer == fit(rows, right, names=names)
    assert bool(scorer.knots) == knotted
    fresh, labels, true = population(4000, 4)
    found = [scorer.score(row) for row in fresh.tolist()]
    assert auroc(found, labels) > auroc(true, labels) - 0.01
    assert ece(found, labels) < 0.06
    with pytest.raises(ValueError, match="at least 10 rows of 2"):
        fit(rows, right, names=("a", "b"))


def said(p: float, city: str) -> Evidence:
    tokens = [forced('{"city": "'), token(city, log(p)), forced('"}')]
    call = ToolCall("1", "f", json.dumps({"city": city}))
    return Evidence(
        Draft(tool_calls=(call,), finish="stop", logprobs=tokens), messages=[{"role": "user", "content": "to Paris"}]
    )


def test_fit_from_answers() -> None:
    """Answers in, a scorer out that says of fresh ones how likely they are right; those without log-probabilities are left out."""
    chance = np.random.default_rng(5)

    def draw(n: int) -> tuple[list[Evidence], list[bool]]:
        believed, grounded = chance.uniform(0.05, 0.999, n), chance.random(n) < 0.7
        right = chance.random(n) < believed * np.where(grounded, 1.0, 0.3)
        made = [said(p, "Paris" if g else "Rome") for p, g in zip(believed.tolist(), grounded.tolist(), strict=True)]
        return made, [bool(ok) for ok in right]

    evidence, right = draw(1500)
    scorer = fit_evidence([*evidence, Evidence(Draft(text="x"))], [*right, True])
    assert tuple(scorer.names) == NAMES
    assert scorer.priors == {"f": {"city": 1.0}}
    fresh, labels = draw(1000)
    found = [scorer.probability(one) for one in fresh]
    assert ece([p for p in found if p is not None], labels) < 0.05
    assert auroc([p for p in found if p is not None], labels) > 0.8
    sure, unsure = scorer.probability(said(0.9, "Paris")), scorer.probability(said(0.9, "Rome"))
    assert sure is not None
    assert unsure is not None
    assert sure > 0.8
    assert unsure < 0.45
    with pytest.raises(ValueError, match="log-probabilities"):
        fit_evidence([Evidence(Draft(text="x"))], [True])


def test_fit_with_a_second_answer() -> None:
    """Where a second model has answered, that counts too; answers that it did not answer are left out."""
    chance = np.random.default_rng(6)
    believed, agrees = chance.uniform(0.3, 0.9, 1000), chance.random(1000) < 0.6
    right = chance.random(1000) < np.where(agrees, 0.95, 0.3)
    made = [
        structs.replace(said(p, "Paris"), second=Second(bool(a), 0.8)) for p, a in zip(believed, agrees, strict=True)
    ]
    misled = [said(0.5, "Paris")] * 500
    scorer = fit_evidence([*made, *misled], [*map(bool, right), *[False] * 500])
    assert tuple(scorer.names) == NAMES + SECOND
    same, other = (scorer.probability(structs.replace(misled[0], second=Second(a, 0.8))) for a in (True, False))
    assert same == pytest.approx(0.95, abs=0.05)
    assert other == pytest.approx(0.3, abs=0.1)
    assert scorer.probability(misled[0]) is None


def test_members_are_counted_by_task() -> None:
    """The share of answers to a task that have each member."""
    told = [("f", '{"a": 1, "b": {"c": 2}}'), ("g", "{}"), ("f", '{"a": 1}'), ("f", "[")]
    calls = [ToolCall("1", name, arguments) for name, arguments in told]
    counted = count_members(
        [Evidence(Draft(tool_calls=calls)), Evidence(Draft(text='{"z": 1}')), Evidence(Draft(text="z"))]
    )
    assert counted == {"f": {"a": 1.0, "b": 0.5}, "g": {}, "": {"z": 1.0}}
