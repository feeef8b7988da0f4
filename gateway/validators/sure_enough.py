"""`sure_enough`: the answer's calibrated probability reaches what the promised risk demands.

The soft check, always after the hard ones. The threshold comes from the calibration file of the route's rung, never from YAML.
Nothing known is not confidence: no probability, no calibration for this model, or no answer of the second model that is weighed, is
UNDECIDED.
"""

from msgspec import structs

from gateway.confidence import Evidence, probability
from gateway.validators.base import PASS, Ask, ValidatorConfig, Verdict
from wire.types import Draft

SECOND_MISSING = "the second model's, which is weighed, is missing"
"""In a verdict's detail."""


class SureEnough:
    soft = True
    """Not asked of the top rung, whose answer is delivered however unsure it is."""

    class Config(ValidatorConfig):
        pass

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, draft: Draft, ask: Ask) -> Verdict:
        """PASS, FAIL (low_confidence) or UNDECIDED (low_confidence), each with the probability that was found."""
        if draft.finish is None:
            return PASS
        parameters = {name: tool.parameters for name, tool in ask.tools.items()}
        known = probability(Evidence(draft, ask.constraint, parameters, ask.messages, ask.second), ask.scorer)
        if known is None and ask.scorer is not None and ask.scorer.weighs and ask.second is None:
            return _undecided(f"the answer has no probability: {SECOND_MISSING}")
        if known is None:
            return _undecided(
                "the answer has no probability: none of the rung's own, no log-probabilities or no calibration"
            )
        demanded = max([ask.threshold or 0.0, *(ask.rules.get(call.name, 0.0) for call in draft.tool_calls)])
        if ask.threshold is None:
            return structs.replace(_undecided("no calibration for this model and risk"), probability=known)
        if known >= demanded:
            return structs.replace(PASS, probability=known)
        told = f"{known:.4f} is below {demanded:.4f}"
        return Verdict("fail", "low_confidence", "sure_enough", told, known)


def _undecided(why: str) -> Verdict:
    return Verdict("undecided", "low_confidence", "sure_enough", why)
