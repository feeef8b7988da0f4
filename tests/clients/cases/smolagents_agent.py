"""smolagents: an agent that must call tools (`tool_choice: required`) until it gives its final answer."""

import os

import pytest
from smolagents import ChatMessage, MessageRole, OpenAIServerModel, ToolCallingAgent, tool


@tool
def get_weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: its name
    """
    return f"rain in {city}"


def model():
    return OpenAIServerModel(os.environ["WEIR_TEST_MODEL"], api_base=os.environ["OPENAI_BASE_URL"], api_key="none")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("day", [1, 2, 3, 4])
def test_agent(day, streamed):
    """The tool first, then the final answer."""
    agent = ToolCallingAgent([get_weather], model(), max_steps=3, verbosity_level=0, stream_outputs=streamed)
    assert agent.run(f"the weather in 'Oslo' on day {day}") is not None
    calls = [call.name for step in agent.memory.steps[1:] for call in step.tool_calls or ()]
    assert calls == ["get_weather", "final_answer"]


def test_generate():
    """One message, its content as a list of parts, with a stop sequence."""
    asked = [ChatMessage(MessageRole.USER, [{"type": "text", "text": "one two three"}])]
    found = model().generate(asked, stop_sequences=["two"])
    assert found.content.strip() == "You said: one"
    assert found.token_usage.output_tokens > 0


def test_generate_stream():
    """Deltas, and usage at the end."""
    asked = [ChatMessage(MessageRole.USER, [{"type": "text", "text": "one two three"}])]
    deltas = list(model().generate_stream(asked))
    assert "".join(delta.content or "" for delta in deltas) == "You said: one two three"
    assert deltas[-1].token_usage.output_tokens > 0
