"""Plans and pasts for the tests of `escalate`."""

from hypothesis import strategies as st

from gateway.decide import Rung
from gateway.plan import Attempt, Plan
from gateway.validators.base import PASS, Verdict
from wire.errors import Reason

REASONS: tuple[Reason, ...] = (
    "schema", "truncated", "refused", "tool_arguments", "low_confidence", "disagreement", "unsupported",
)  # fmt: skip
"""Why a check may reject an answer."""
ERRORS: tuple[Reason, ...] = ("timeout", "overload", "backend_error", "context_overflow", "unsupported")
"""Why there may be no answer."""

seconds = st.floats(0.01, 120, allow_nan=False)
money = st.sampled_from([0.0, 0.001, 0.01, 1.0])
rungs = st.builds(
    Rung,
    name=st.sampled_from(["small", "middle", "large"]),
    cloud=st.booleans(),
    missing=st.sampled_from(["", "", "", "SOME_KEY"]),
    timeout=seconds,
    paid=st.booleans(),
    modality=st.sampled_from([frozenset({"text", "image"}), frozenset({"text", "audio"}), frozenset({"text"})]),
)
plans = st.builds(
    Plan,
    rungs=st.lists(rungs, max_size=5).map(tuple),
    strict=st.booleans(),
    deliver_unproven=st.booleans(),
    egress=st.sampled_from(["any", "any", "local"]),
    max_usd=st.none() | money,
    max_attempts=st.integers(1, 6),
    modality=st.sampled_from([frozenset({"text"}), frozenset({"text", "image"})]),
    reserve=st.floats(0, 0.9),
)
rejections = st.builds(
    Verdict, st.sampled_from(["fail", "undecided"]), st.sampled_from(REASONS), st.just("fits_schema")
)
verdicts = st.just(PASS) | rejections


@st.composite
def pasts(draw: st.DrawFn, plan: Plan) -> list[Attempt]:
    """Any attempts on rungs of `plan`, several running at once among them: more than today's `escalate` would ever start."""
    if not plan.rungs:
        return []
    asked = draw(st.lists(st.integers(0, len(plan.rungs) - 1), max_size=6))
    if draw(st.booleans()):  # all over and nothing taken: what is next?
        return [
            Attempt(number, rung, False, True, draw(rejections), cost=draw(money)) for number, rung in enumerate(asked)
        ]
    return [draw(_attempt(number, rung)) for number, rung in enumerate(asked)]


@st.composite
def _attempt(draw: st.DrawFn, number: int, rung: int) -> Attempt:
    running = draw(st.booleans())
    error = None if running else draw(st.none() | st.sampled_from(ERRORS))
    # An attempt that ended without an error was judged.
    verdict = draw(verdicts | st.none()) if running or error else draw(verdicts)
    return Attempt(number, rung, running, draw(st.booleans()), verdict, error, draw(money))
