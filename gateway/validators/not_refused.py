"""`not_refused`: the model answered at all.

Only what the model or its server marked counts (`message.refusal`, `finish_reason: content_filter`). Guessing from phrases such
as "I'm sorry" would reject honest answers that contain them.
"""

from gateway.validators.base import PASS, Ask, ValidatorConfig, Verdict
from wire.types import Draft


class NotRefused:
    quiet = True

    class Config(ValidatorConfig):
        pass

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, draft: Draft, ask: Ask) -> Verdict:
        """FAIL (refused)."""
        if draft.refusal:
            return Verdict("fail", "refused", "not_refused", "the model refused")
        if draft.finish == "content_filter":
            return Verdict("fail", "refused", "not_refused", "stopped by a content filter")
        return PASS
