"""What dialect and backend share of Anthropic's wire: usage, stop reasons, whose thinking it is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.messages.claude import THOUGHT, USAGE
from wire import anthropic

COUNTS = st.integers(0, 10**6)

# --- usage, stop reasons ----------------------------------------------------------------------------------------------------------


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_usage_round_trip(fresh: int, written: int, read: int, output: int) -> None:
    """Anthropic's counts survive the way to OpenAI's and back; prompt_tokens hold all that was read."""
    usage = {
        "input_tokens": fresh,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": output,
    }
    converted = anthropic.to_openai_usage(usage)
    assert converted["prompt_tokens"] == fresh + written + read
    assert converted["total_tokens"] == fresh + written + read + output
    assert anthropic.from_openai_usage(converted) == usage


@pytest.mark.parametrize("usage", [None, {}, [], {"input_tokens": None}, {"input_tokens": "x"}, {"output_tokens": -1}])
def test_usage_of_no_sense(usage: Any) -> None:
    """What is missing or nonsense counts as zero."""
    assert anthropic.to_openai_usage(usage)["total_tokens"] == 0


def test_more_cached_than_read() -> None:
    """Counts that contradict each other are clipped, never negative."""
    told = anthropic.from_openai_usage(
        {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 9, "cache_write_tokens": 9}}
    )
    assert told == {
        "input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 3,
        "output_tokens": 0,
    }


def test_thinking_tokens() -> None:
    """Thinking is counted as reasoning."""
    told = anthropic.to_openai_usage({**USAGE, "output_tokens_details": {"thinking_tokens": 2}})
    assert told["completion_tokens_details"] == {"reasoning_tokens": 2}


@pytest.mark.parametrize(
    ("finish", "called", "refused", "reason"),
    [
        ("stop", False, False, "end_turn"), ("stop", True, False, "tool_use"), ("tool_calls", True, False, "tool_use"),
        ("length", True, False, "max_tokens"), ("content_filter", False, False, "refusal"), ("stop", False, True, "refusal"),
        (None, False, False, "end_turn"),
    ],
)  # fmt: skip
def test_stop_reason(finish: str | None, called: bool, refused: bool, reason: str) -> None:
    """`length` wins over calls; a forced tool that ended with `stop` is still a tool use."""
    assert anthropic.stop_reason(finish, called=called, refused=refused) == reason


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (405, "invalid_request_error"), (401, "authentication_error"), (413, "request_too_large"),
     (429, "rate_limit_error"), (500, "api_error"), (502, "api_error"), (503, "api_error"), (529, "overloaded_error")],
)  # fmt: skip
def test_error_type(status: int, kind: str) -> None:
    """Every status has one of Anthropic's types."""
    assert anthropic.error_type(status) == kind


# --- whose thinking it is ---------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["weir", "claude-a", "claude-b"])
BLOCKS = st.sampled_from([THOUGHT, {"type": "redacted_thinking", "data": "xyz"}])


@given(BLOCKS, NAMES, NAMES, NAMES)
def test_signatures_go_home(block: dict[str, Any], model: str, asked: str, other: str) -> None:
    """What a model signed comes back to it as it was, and to no other model, whatever name the caller used."""
    out = anthropic.claim(block, model, asked)
    assert anthropic.release(out, model, asked) == block
    if other != model:
        assert anthropic.release(out, other, asked) is None
    assert anthropic.is_ours(out) == (model != asked)


def test_unsigned_thinking_goes_nowhere() -> None:
    """Thinking without a signature is a rung's of ours: no model of Anthropic's gets it."""
    for block in ({"type": "thinking", "thinking": "x"}, {"type": "thinking", "thinking": "x", "signature": ""}):
        assert anthropic.release(block, "m", "m") is None
        assert anthropic.is_ours(block)
    assert not anthropic.is_ours({"type": "text", "text": "x"})
