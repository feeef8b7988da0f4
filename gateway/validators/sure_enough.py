"""`sure_enough`: the answer's calibrated probability reaches what the promised risk demands.

The soft check, always after the hard ones. The threshold comes from the calibration file of the route's rung, never from YAML.
Nothing known is not confidence: no probability, or no calibration for this model, is UNDECIDED.
"""

from gateway.confidence import probability
from gateway.validators.base import PASS, Ask, ValidatorConfig, Verdict
from wire.types import Draft


class SureEnough:
    soft = True
    """Not asked of the top rung, whose answer is delivered however unsure it is."""

    class Config(ValidatorConfig):
        pass

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, draft: Draft, ask: Ask) -> Verdict:
        """PASS, FAIL (low_confidence) or UNDECIDED (low_confidence)."""
        if not draft.whole:
            return PASS
        known = probability(draft)
        if known is None:
            return Verdict("undecided", "low_confidence", "sure_enough", "the rung gave no probability")
        if ask.threshold is None:
            return Verdict("undecided", "low_confidence", "sure_enough", "no calibration for this model and risk")
        if known >= ask.threshold:
            return PASS
        return Verdict("fail", "low_confidence", "sure_enough", f"{known:.4f} is below {ask.threshold:.4f}")
