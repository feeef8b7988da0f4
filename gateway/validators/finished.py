"""`finished`: the answer came to its end. A truncated one is invalid even if it happens to parse."""

from gateway.validators.base import PASS, Ask, ValidatorConfig, Verdict
from wire.errors import Reason
from wire.types import Draft


class Finished:
    quiet = True

    class Config(ValidatorConfig):
        pass

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, draft: Draft, ask: Ask) -> Verdict:
        """FAIL (truncated) for `length`, and for an answer with nothing in it (refused, when a content filter left nothing)."""
        if draft.finish == "length":
            return Verdict("fail", "truncated", "finished", "stopped by the token limit")
        if draft.finish is not None and not draft.text and not draft.tool_calls and not draft.refusal:
            reason: Reason = "refused" if draft.finish == "content_filter" else "truncated"
            return Verdict("fail", reason, "finished", "empty answer")
        return PASS
