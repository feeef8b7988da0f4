"""Labelled answers > a scorer, a curve and what it promises. Pure.

    fitting part: Evidence, right > Scorer        testing part: score by the route's rule, regret > Learn then Test > curve

The score of an answer is its probability as far as the rule lets it count; what can never be accepted has none. So the one threshold that
is tested is the one that the line compares with.
"""

from collections.abc import Mapping, Sequence
from math import isfinite

from msgspec import Struct

from gateway.confidence import Evidence, Outlook, Scorer, probability
from gateway.confidence.features import VERSION, second_odds
from gateway.escalate import GREY
from gateway.fitting import (
    Seen,
    auroc,
    collapsed,
    conformal,
    ece,
    fit_evidence,
    fit_outlook,
    learn_then_test,
    needed,
    oracle_share,
)
from gateway.fitting.promise import Step, Tested
from gateway.plan import Local

WASTES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5)
"""Shares of thrown away early starts, for each of which it is kept where they begin (`speculate: {waste: ...}`)."""
NEVER = -1.0
"""Below every threshold."""


class Infeasible(ValueError):
    """No threshold can be certified with so few requests. The message names the number that would do."""


class Sample(Struct, frozen=True):
    """What came of one labelled request."""

    evidence: Sequence[Evidence] = ()
    """One per choice; none when it was not answered."""
    valid: bool = False
    """Passed the hard checks."""
    right: bool = False
    llm: bool | None = None
    """The rung above would have been right; None: unknown, counted as right."""
    agrees: bool | None = None
    """A second small model said the same; None: there is none."""
    effect: Local = "always"
    """What the route's rules for tools say to the calls in it."""
    text: str = ""
    """What the user asked last."""
    falls: Sequence[float] = ()
    """The least likely token so far, after each token of the first choice (`Watch`, nats)."""
    parted: Sequence[bool] = ()
    """And whether it had parted from the second answer, where that is weighed (`Parting`)."""
    spoken: Sequence[str] = ()
    """What the second answer talks of, where it is weighed."""

    @property
    def regret(self) -> bool:
        """If accepted."""
        return not self.right and self.llm is not False


class Measured(Struct, frozen=True):
    """All that `weir calibrate` found out of one rung."""

    risk: float
    confidence: float
    n: int
    n_fit: int
    curve: Sequence[Step]
    threshold: float | None
    step: Step | None
    """The curve at the threshold."""
    accuracy: float
    """Right, of all."""
    unusable: float
    """Not answered, or failed a hard check, of all."""
    unknown: float
    """Usable, and nobody knows how sure: no log-probabilities, or no second answer where that is weighed. Of all."""
    auroc: float | None
    ece: float | None
    scorer: Scorer | None
    outlook: Outlook | None
    collapsed: float | None
    crc: Mapping[str, float | None]
    """Risk > the threshold of conformal risk control, for comparison."""
    oracle: Mapping[str, float]
    """Risk > the largest share that could be accepted if one knew which answers are wrong."""
    llm_known: int
    llm_right: float | None
    """Of those known."""
    features: int = VERSION


def feasible(n: int, risk: float, confidence: float, *, fit_share: float) -> None:
    """n: requests to test on. Raises Infeasible."""
    least = needed(risk, confidence)
    if n >= least:
        return
    whole = -int(-least // (1 - fit_share)) if fit_share else least
    more = f": {whole} labelled ones, of which {fit_share:.0%} are fitted on" if fit_share else ""
    raise Infeasible(
        f"{n} requests to test on cannot certify a risk of {risk:g} with confidence {confidence:g}, were all of them answered rightly: "
        f"at least {least} are needed{more}"
    )


def score(sample: Sample, scorer: Scorer | None, agreement: str) -> float:
    """What the rule compares with its threshold. agreement: "" or as in `accept: {agrees_with: {when: ...}}`; of what is weighed the
    evidence tells, so there the probability alone counts."""
    if not sample.valid or sample.effect == "never" or (sample.effect == "agree" and not sample.agrees):
        return NEVER
    known = sure(sample, scorer)
    if known is None or (agreement == "always" and not sample.agrees):
        return NEVER
    if agreement == "grey" and sample.agrees and known >= GREY:
        return 1.0
    return known


def sure(sample: Sample, scorer: Scorer | None) -> float | None:
    """Of several choices the least sure one."""
    found = [probability(evidence, scorer) for evidence in sample.evidence]
    known = [one for one in found if one is not None]
    return min(known) if known and len(known) == len(found) else None


def measure(
    fitting: Sequence[Sample],
    testing: Sequence[Sample],
    *,
    risk: float,
    confidence: float,
    agreement: str = "",
    risks: Sequence[float] = (),
) -> Measured:
    """fitting: empty for a rung that says its own probability. risks: further ones to report on. Raises ValueError when nothing can be
    fitted."""
    scorer = None
    if fitting:
        usable = [sample for sample in fitting if sample.valid]
        if agreement == "weighed" and not any(s.evidence[0].second for s in usable):
            raise ValueError(
                "no answer can be weighed with a second one: the second model answered none of these requests in a valid form"
            )
        scorer = fit_evidence([s.evidence[0] for s in usable], [s.right for s in usable])
    tested = learn_then_test(
        [score(sample, scorer, agreement) for sample in testing],
        [sample.regret for sample in testing],
        risk,
        confidence,
        wrong=[not sample.right for sample in testing],
    )
    judged = [(known, s.right) for s in testing if s.valid and (known := sure(s, scorer)) is not None]
    sureness, right = [known for known, _ in judged], [ok for _, ok in judged]
    opinions = [sample.llm for sample in testing if sample.llm is not None]
    n, all_risks = len(testing), sorted({risk, *risks})
    mu = sum(sample.regret for sample in testing) / n
    outlook, stops = _early(fitting, scorer, agreement, tested)
    return Measured(
        risk=risk,
        confidence=confidence,
        n=n,
        n_fit=len(fitting),
        curve=tested.curve,
        threshold=tested.threshold,
        step=tested.step,
        accuracy=sum(sample.right for sample in testing) / n,
        unusable=sum(not sample.valid for sample in testing) / n,
        unknown=sum(sample.valid for sample in testing) / n - len(judged) / n,
        auroc=_finite(auroc(sureness, right)),
        ece=_finite(ece(sureness, right)),
        scorer=scorer,
        outlook=outlook,
        collapsed=stops,
        crc={f"{one:g}": conformal(tested, one) for one in all_risks},
        oracle={f"{one:g}": oracle_share(mu, one) for one in all_risks},
        llm_known=len(opinions),
        llm_right=sum(opinions) / len(opinions) if opinions else None,
    )


def _early(
    fitting: Sequence[Sample], scorer: Scorer | None, agreement: str, tested: Tested
) -> tuple[Outlook | None, float | None]:
    """When the next rung starts early, and where an answer is stopped: from what the threshold accepts of the fitting part."""
    if tested.threshold is None or not fitting:
        return None, None
    accepted = [score(sample, scorer, agreement) >= tested.threshold for sample in fitting]
    seen = [_seen(sample, kept) for sample, kept in zip(fitting, accepted, strict=True)]
    return fit_outlook(seen, WASTES), collapsed([min(one.falls, default=None) for one in seen], accepted)


def _seen(sample: Sample, accepted: bool) -> Seen:
    second = sample.evidence[0].second if sample.evidence else None
    if second is None:
        return Seen(sample.text, sample.falls, accepted)
    odds = second_odds(second.probability)
    return Seen(sample.text, sample.falls, accepted, odds, sample.spoken, sample.parted)


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
