"""OpenAI's Agents SDK: run, streamed, with a type, with tools; over responses (its default) and over chat."""

import os

import pytest
from agents import (
    Agent,
    AsyncOpenAI,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from pydantic import BaseModel

set_tracing_disabled(True)


class Report(BaseModel):
    city: str
    degrees: int


@function_tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


@pytest.fixture(params=["chat", "responses"])
def model(request):
    kind = {"chat": OpenAIChatCompletionsModel, "responses": OpenAIResponsesModel}[request.param]
    return kind(os.environ["WEIR_TEST_MODEL"], AsyncOpenAI(max_retries=0))


DAYS = [f"the weather in 'Oslo' on day {day}" for day in (1, 2, 3, 4)]


@pytest.mark.parametrize("text", DAYS)
async def test_run(model, text):
    """Text in, text out."""
    found = await Runner.run(Agent("a", instructions="Be brief.", model=model), text)
    assert found.final_output == f"You said: {text}"


@pytest.mark.parametrize("text", DAYS)
async def test_streamed(model, text):
    """The deltas make up the answer."""
    found = Runner.run_streamed(Agent("a", model=model), text)
    raw = [event.data async for event in found.stream_events() if event.type == "raw_response_event"]
    assert "".join(data.delta for data in raw if data.type == "response.output_text.delta") == f"You said: {text}"
    assert found.final_output == f"You said: {text}"


@pytest.mark.parametrize("text", DAYS)
async def test_output_type(model, text):
    """A typed answer."""
    found = await Runner.run(Agent("a", model=model, output_type=Report), text)
    assert found.final_output.city == "Oslo"


@pytest.mark.parametrize("text", DAYS)
@pytest.mark.parametrize("streamed", [False, True])
async def test_tools(model, text, streamed):
    """Call, result, answer."""
    agent = Agent("a", model=model, tools=[get_weather])
    if streamed:
        found = Runner.run_streamed(agent, text)
        async for _ in found.stream_events():
            pass
    else:
        found = await Runner.run(agent, text)
    assert found.final_output == "The tool said: rain in Oslo"


async def test_forced_tool(model):
    """`tool_choice: required`, then free."""
    settings = ModelSettings(tool_choice="required", parallel_tool_calls=False)
    found = await Runner.run(Agent("a", model=model, tools=[get_weather], model_settings=settings), "hello 'Rome'")
    assert found.final_output == "The tool said: rain in Rome"
