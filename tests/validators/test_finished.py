"""`finished`: the answer came to its end."""

import pytest

from gateway.validators.base import PASS, Ask
from gateway.validators.finished import Finished
from wire.types import Draft, ToolCall

CHECK = Finished(Finished.Config(kind="finished"))
CALL = ToolCall("c", "f", "{}")


@pytest.mark.parametrize(
    ("draft", "reason"),
    [
        (Draft(text="a", finish="stop"), None),
        (Draft(tool_calls=(CALL,), finish="tool_calls"), None),
        (Draft(refusal="no", finish="stop"), None),
        (Draft(text="a", finish="content_filter"), None),
        (Draft(text="a", finish="length"), "truncated"),
        (Draft(text='{"label": "a"}', finish="length"), "truncated"),
        (Draft(tool_calls=(CALL,), finish="length"), "truncated"),
        (Draft(finish="length"), "truncated"),
        (Draft(finish="stop"), "truncated"),
        (Draft(finish="content_filter"), "refused"),
    ],
)
def test_the_end(draft: Draft, reason: str | None) -> None:
    """`length` is truncated even if it happens to parse; so is an answer with nothing in it, unless a filter took it."""
    verdict = CHECK.check(draft, Ask())
    assert verdict.reason == reason
    assert verdict.opinion == ("fail" if reason else "pass")


@pytest.mark.parametrize("draft", [Draft(), Draft(text="a"), Draft(tool_calls=(CALL,))])
def test_a_growing_answer_is_not_empty_yet(draft: Draft) -> None:
    """While it grows nothing can be said of its end."""
    assert CHECK.check(draft, Ask()) == PASS
