"""PydanticAI: text, typed output (by tool and native), tools, streams; `openai-chat:` and `openai:` (responses)."""

import os

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput

DAYS = [f"the weather in 'Oslo' on day {day}" for day in (1, 2, 3, 4)]


class Report(BaseModel):
    city: str
    degrees: int


@pytest.fixture(params=["chat", "responses"])
def model(request):
    return {"chat": "openai-chat:", "responses": "openai:"}[request.param] + os.environ["WEIR_TEST_MODEL"]


@pytest.mark.parametrize("text", DAYS)
async def test_run(model, text):
    """Text in, text out, usage counted."""
    found = await Agent(model, instructions="Be brief.").run(text)
    assert found.output == f"You said: {text}"


@pytest.mark.parametrize("text", DAYS)
async def test_streamed(model, text):
    """The deltas make up the answer."""
    async with Agent(model).run_stream(text) as found:
        pieces = [piece async for piece in found.stream_text(delta=True, debounce_by=None)]
    assert "".join(pieces) == f"You said: {text}"


@pytest.mark.parametrize("text", DAYS)
@pytest.mark.parametrize("wanted", [Report, NativeOutput(Report)], ids=["tool", "native"])
async def test_output_type(model, text, wanted):
    """A typed answer, by an output tool and by the response format."""
    found = await Agent(model, output_type=wanted).run(text)
    assert found.output.city == "Oslo"


@pytest.mark.parametrize("text", DAYS)
async def test_tools(model, text):
    """Call, result, answer."""
    agent = Agent(model)

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather of a city."""
        return f"rain in {city}"

    assert (await agent.run(text)).output == "The tool said: rain in Oslo"


async def test_tools_and_output_type(model):
    """A tool's result first, then the typed answer."""
    agent = Agent(model, output_type=Report)
    asked = []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return f"rain in {city}"

    found = await agent.run("the weather in 'Oslo'")
    assert (found.output.city, asked) == ("Oslo", ["Oslo"])
