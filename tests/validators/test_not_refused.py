"""`not_refused`: what the model or its server marked as a refusal, and no phrases."""

import pytest

from gateway.validators.base import Ask
from gateway.validators.not_refused import NotRefused
from wire.types import Draft

CHECK = NotRefused(NotRefused.Config(kind="not_refused"))


@pytest.mark.parametrize(
    ("draft", "passed"),
    [
        (Draft(text="Paris", finish="stop"), True),
        (Draft(text="I'm sorry, but I can't help with that.", finish="stop"), True),
        (Draft(finish="stop"), True),
        (Draft(), True),
        (Draft(refusal="I can't do that.", finish="stop"), False),
        (Draft(refusal="I"), False),
        (Draft(text="half", finish="content_filter"), False),
    ],
)
def test_refusals(draft: Draft, passed: bool) -> None:
    """A marked refusal fails from its first character on; an answer that only sounds like one is an answer."""
    verdict = CHECK.check(draft, Ask())
    assert verdict.passed is passed
    assert verdict.reason == (None if passed else "refused")
    assert "can't" not in verdict.detail
