"""What a validator is.

A validator is a class in a file of its own with a frozen `Config` and one method. A bad answer is a value: `check` returns a
Verdict and never raises for what a model said. It may judge a growing draft (`draft.whole` is False): PASS means nothing then,
FAIL ends the attempt early. `tests/contract/test_validators.py` finds it by walking this package.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct
from pydantic import BaseModel, ConfigDict

from gateway.confidence import Scorer, Second
from wire.errors import Reason
from wire.types import Constraint, Draft, Json

Opinion = Literal["pass", "fail", "undecided"]


class Verdict(Struct, frozen=True, cache_hash=True):
    opinion: Opinion
    reason: Reason | None = None
    """Set unless it passed."""
    validator: str = ""
    detail: str = ""
    """For people: names fields and limits, never a value out of the answer."""
    probability: float | None = None
    """How likely the answer is right, where this check found out."""

    @property
    def passed(self) -> bool:
        return self.opinion == "pass"


PASS = Verdict("pass")


class Tool(Struct, frozen=True):
    parameters: Mapping[str, Any] | None
    strict: bool = False


class Ask(Struct, frozen=True):
    """What an answer is judged against."""

    constraint: Constraint | None = None
    tools: Mapping[str, Tool] = {}
    tool_choice: Any = None
    """As in the request: None, "none", "auto", "required" or an object."""
    one_call: bool = False
    """`parallel_tool_calls: false`."""
    threshold: float | None = None
    """The probability that the promised risk demands of this rung; None when nothing was calibrated for it."""
    calibrated: str = ""
    """Digest of the calibration that gave the threshold."""
    scorer: Scorer | None = None
    """The rung's."""
    messages: Sequence[Json] = ()
    """The request's, for checks that look an answer up in its source."""
    rules: Mapping[str, float] = {}
    """Tool > its own, stricter threshold."""
    second: Second | None = None
    """What a second model said, where that is weighed; None: nothing is known of it."""


class ValidatorConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str


class Validator(Protocol):
    """A validator with an attribute `soft = True` judges how sure an answer is, not whether it is well formed: it is not asked of the top
    rung. One of ours with an attribute `quiet = True` passes every plain answer, and is not even asked then (0.5 us): one text that ended
    with `stop`, without calls or a refusal, where no tools were offered."""

    def check(self, draft: Draft, ask: Ask) -> Verdict:
        """Judge `draft`. PASS when this check has nothing to say about such a draft."""
