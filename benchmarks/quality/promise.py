"""The table that every task gets: how good its confidence is, what share it may answer at a promised risk, and whether the promise holds.

    scored answers of a calibration split > Learn then Test > threshold > applied once to the test split      promised()
    a smooth population of the same shape > fresh calibration samples > threshold > its true risk             kept()

Regret: accepted, wrong, and the rung above would have been right; its risk is counted over all requests. The statistics are the
product's own (gateway.fitting). Whether a promise "with 95 % confidence" holds cannot be seen on one test split, and re-splits of one
pool are no independent samples: therefore the population, of which the true risk is known.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from benchmarks.quality.parts import Part
from gateway.fitting import auroc, ece, grid, learn_then_test, oracle_share, regress, upper

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

RISK, CONFIDENCE = 0.02, 0.95
DRAWS, QUICK_DRAWS = 5000, 1000
SEED = 20_240_229
MESH = 20_000
"""Requests that a population consists of."""
COMPARED = 5
"""Draws whose threshold is compared with the product's own function."""
QUICK_EVERY = 3
"""--quick asks every so-many-th test item of a task; the calibration split is asked whole, or the threshold would be another."""
_EDGE = 1e-5
"""A probability is moved so far from 0 and 1 before its logarithm is taken."""


class Scored(Struct, frozen=True):
    """Answers to one split, each array (n,)."""

    probability: Array
    """That the answer is right, as the rung says it."""
    right: Flags
    llm_right: Flags | None = None
    """Would the rung above be right? None: always."""

    @property
    def regret(self) -> Flags:
        """Accepting would be a mistake that the rung above would not have made."""
        return ~self.right if self.llm_right is None else ~self.right & self.llm_right

    def joined(self, other: "Scored") -> "Scored":
        """Both splits. Raises ValueError when only one knows what the rung above says."""
        if (self.llm_right is None) != (other.llm_right is None):
            raise ValueError("only one of the two splits says whether the LLM is right")
        above = None
        if self.llm_right is not None and other.llm_right is not None:
            above = np.concatenate([self.llm_right, other.llm_right])
        return Scored(
            np.concatenate([self.probability, other.probability]), np.concatenate([self.right, other.right]), above
        )


class Population(Struct, frozen=True):
    """Equally likely requests, ascending in probability; each array (MESH,)."""

    probability: Array
    regret: Array
    """How likely accepting it is a regret."""

    def risk(self, threshold: float | None) -> float:
        """The true risk of accepting from `threshold` on; None accepts nothing."""
        return 0.0 if threshold is None else float(self.regret[self._from(threshold) :].sum() / len(self.regret))

    def share(self, threshold: float | None) -> float:
        """Accepted, of all."""
        return 0.0 if threshold is None else 1 - self._from(threshold) / len(self.regret)

    def _from(self, threshold: float) -> int:
        return int(np.searchsorted(self.probability, threshold, side="left"))

    def draw(self, n: int, chance: np.random.Generator) -> tuple[Array, Array]:
        """A fresh sample: probabilities and regrets (0.0 or 1.0), each (n,)."""
        which = chance.integers(len(self.regret), size=n)
        return self.probability[which], (chance.random(n) < self.regret[which]).astype(float)


def population(scored: Scored, mesh: int = MESH) -> Population:
    """A smooth population of the same shape. Probabilities: the quantile function, linear between what was seen. Regret: a logistic
    curve in log p and log(1-p) (beta calibration, Kull, Silva Filho, Flach, AISTATS 2017), which never rises with p."""
    at = (np.arange(mesh) + 0.5) / mesh
    probability = np.quantile(scored.probability, at)

    def logs(p: Array) -> Array:
        inner = np.clip(p, _EDGE, 1 - _EDGE)
        return np.column_stack([np.log(inner), -np.log1p(-inner)])

    spared = ~scored.regret
    rows, wanted = logs(scored.probability), logs(probability)
    model = regress(rows, spared, l2=0.01)
    if min(model.weights) < 0:  # would fall somewhere: the log-odds alone
        rows, wanted = rows.sum(axis=1, keepdims=True), wanted.sum(axis=1, keepdims=True)
        model = regress(rows, spared, l2=0.01)
    return Population(probability, 1 / (1 + np.exp(model.logits(wanted))))


def affordable(n: int, risk: float = RISK, confidence: float = CONFIDENCE) -> int:
    """The most regrets among n requests under which `risk` is still certified; -1 when none at all would be too many."""
    count = -1
    while count + 1 <= n and upper(count + 1, n, confidence) <= risk:
        count += 1
    return count


def threshold(probability: Array, regret: Array, thresholds: Array, spare: int) -> float | None:
    """What `learn_then_test` finds, without its curve: the last of the descending `thresholds` before more than `spare` are regrets."""
    order = np.argsort(-probability, kind="stable")
    counted = np.concatenate([[0.0], np.cumsum(regret[order])])
    accepted = np.searchsorted(-probability[order], -thresholds, side="right")
    kept = counted[accepted] <= spare
    steps = len(kept) if kept.all() else int(kept.argmin())
    return float(thresholds[steps - 1]) if steps else None


class Kept(Struct, frozen=True):
    """What became of the draws."""

    draws: int
    kept_share: float
    """Of the draws, true risk at or below the promised one."""
    share_mean: float
    """Accepted, on average."""
    none_share: float
    """Of the draws, no threshold could be certified, so nothing was accepted."""
    risk_mean: float


def kept(among: Population, n: int, draws: int, seed: int = SEED) -> Kept:
    """Calibrate on `draws` fresh samples of n and look at the true risk of each threshold. Raises RuntimeError when the quick walk and
    the product's own disagree."""
    chance = np.random.default_rng(seed)
    thresholds, spare = grid(n), affordable(n)
    found: list[float | None] = []
    for i in range(draws):
        probability, regret = among.draw(n, chance)
        found.append(threshold(probability, regret, thresholds, spare))
        if i < COMPARED:
            tested = learn_then_test(probability, regret, RISK, CONFIDENCE).threshold
            if among.share(tested) != among.share(found[-1]):
                raise RuntimeError(f"draw {i}: learn_then_test says {tested}, the walk {found[-1]}")
    risks = np.array([among.risk(at) for at in found])
    return Kept(
        draws,
        float((risks <= RISK).mean()),
        float(np.mean([among.share(at) for at in found])),
        sum(at is None for at in found) / draws,
        float(risks.mean()),
    )


def table(
    name: str,
    calibration: Scored,
    test: Scored,
    invalid: int,
    *,
    quick: bool,
    title: str,
    exact_match: float | None = None,
) -> Part:
    """The part of task `name`: figures `name.*`, the table, the curve's plot. invalid: answers that were no valid JSON under the schema;
    exact_match: where not all requests of `test` are to be counted, else the share that is right.

    Of `test` nothing is used to choose anything; it and `calibration` together give the synthetic population its shape.
    """
    tested = learn_then_test(calibration.probability, calibration.regret, RISK, CONFIDENCE)
    at = tested.threshold
    taken = test.probability >= at if at is not None else np.zeros(len(test.right), np.bool_)
    count = int(taken.sum())
    regrets = int((taken & test.regret).sum())
    oracle = oracle_share(float(test.regret.mean()), RISK)  # as if one knew which answers are wrong
    draws = kept(population(calibration.joined(test)), len(calibration.right), QUICK_DRAWS if quick else DRAWS)
    local = count / len(test.right)
    figures = {
        "exact_match": float(test.right.mean()) if exact_match is None else exact_match,
        "wrong_if_all_local": float(test.regret.mean()),
        "auroc": auroc(test.probability, test.right),
        "ece": ece(test.probability, test.right),
        "risk_kept_share": draws.kept_share,
        "local_share_at_2pct": local,
        "oracle_share_at_2pct": oracle,
        "share_gap_points": 100 * (oracle - local),
        "accepted_error": float((taken & ~test.right).sum()) / count if count else 0.0,
        "regret": regrets / len(test.right),
        "invalid_json": invalid,
        "calibrated_on": len(calibration.right),
        "tested_on": len(test.right),
        "threshold": 1.0 if at is None else at,
    }
    notes: dict[str, Any] = {
        "promise": f"regret over all requests <= {RISK:g} with {CONFIDENCE:g} confidence (Learn then Test, Clopper-Pearson)",
        "certified": at is not None,
        "regrets_on_test": regrets,
        "held_on_test": regrets <= RISK * len(test.right),
        "synthetic": {
            "draws": draws.draws,
            "local_share_mean": round(draws.share_mean, 4),
            "risk_mean": round(draws.risk_mean, 5),
            "nothing_certified_share": draws.none_share,
        },
        "curve": curve(test),
    }
    named = {f"{name}.{key}": value for key, value in figures.items()}
    return Part(named, _rows(figures), notes, _plots(name, title, notes["curve"], figures))


def curve(scored: Scored, points: int = 100) -> list[dict[str, float]]:
    """Risk over coverage: share accepted, regret of all, error among the accepted, from the surest answer on."""
    order = np.argsort(-scored.probability, kind="stable")
    regrets, wrong = np.cumsum(scored.regret[order]), np.cumsum(~scored.right[order])
    n = len(order)
    counts = np.unique(np.linspace(n / points, n, points).round().astype(int).clip(1))
    return [
        {
            "share": round(int(count) / n, 5),
            "regret": round(int(regrets[count - 1]) / n, 6),
            "error": round(int(wrong[count - 1]) / int(count), 6),
        }
        for count in counts
    ]


def goals(name: str, **others: str) -> dict[str, str]:
    """The goals of the table's figures; others: key without the task's name > goal."""
    common = {
        "risk_kept_share": ">= 0.95",
        "share_gap_points": "<= 20 (aim 10)",
        "regret": "<= 0.02",
        "invalid_json": "0",
    }
    return {f"{name}.{key}": goal for key, goal in {**common, **others}.items()}


def _rows(figures: Mapping[str, float]) -> list[Sequence[str]]:
    shares = (
        "exact_match",
        "risk_kept_share",
        "local_share_at_2pct",
        "oracle_share_at_2pct",
        "accepted_error",
        "regret",
    )
    return [
        ("promise at 2 %", "test split"),
        *((key.replace("_", " "), f"{figures[key]:.2%}") for key in shares),
        ("gap to the oracle, points", f"{figures['share_gap_points']:.1f}"),
        ("AUROC, ECE", f"{figures['auroc']:.3f}, {figures['ece']:.3f}"),
    ]


def _plots(
    name: str, title: str, points: Sequence[Mapping[str, float]], figures: Mapping[str, float]
) -> dict[str, bytes]:
    """Risk over coverage; {} without matplotlib."""
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        return {}
    with rc_context({"svg.hashsalt": name}):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        share = [point["share"] for point in points]
        axes.plot(share, [point["regret"] for point in points], label="regret, of all requests")
        axes.plot(share, [point["error"] for point in points], label="error among the accepted")
        axes.axhline(RISK, color="grey", linewidth=0.8, linestyle="--", label="promised risk")
        axes.axvline(
            figures["local_share_at_2pct"], color="tab:green", linewidth=0.8, label="threshold from calibration"
        )
        axes.axvline(figures["oracle_share_at_2pct"], color="tab:red", linewidth=0.8, label="oracle")
        most = max(4 * RISK, 1.05 * points[-1]["error"])
        axes.set(xlabel="share of requests answered locally", ylabel="share", xlim=(0, 1), ylim=(0, most))
        axes.set_title(title, loc="left", fontsize=10)
        axes.legend(loc="upper left", frameon=False)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return {f"quality-{name}.svg": drawn.getvalue()}
