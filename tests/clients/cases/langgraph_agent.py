"""LangGraph's prebuilt agent, and LangChain's, with tools."""

import os

import pytest
from langchain.agents import create_agent
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.prebuilt import create_react_agent
from pydantic import BaseModel


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


class Report(BaseModel):
    city: str


def model():
    return ChatOpenAI(
        model=os.environ["WEIR_TEST_MODEL"],
        base_url=os.environ["OPENAI_BASE_URL"],
        api_key="none",
        max_retries=0,
        stream_usage=True,
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [create_react_agent, create_agent])
@pytest.mark.parametrize("day", [1, 2, 3, 4])
def test_agent(make, day):
    """The tool is called once with the right argument, then the model answers."""
    asked = {"messages": [("user", f"the weather in 'Oslo' on day {day}")]}
    messages = make(model(), [get_weather]).invoke(asked)["messages"]
    assert [message.content for message in messages if isinstance(message, ToolMessage)] == ["rain in Oslo"]
    assert messages[-1].content == "The tool said: rain in Oslo"


def test_streamed_agent():
    """Tokens of the last answer arrive one by one."""
    agent = create_agent(model(), [get_weather])
    asked = {"messages": [("user", "the weather in 'Oslo'")]}
    tokens = [chunk for chunk, _ in agent.stream(asked, stream_mode="messages") if chunk.type == "AIMessageChunk"]
    assert "".join(chunk.text for chunk in tokens) == "The tool said: rain in Oslo"


async def test_structured_agent():
    """A structured answer after the tool's result."""
    agent = create_agent(model(), [get_weather], response_format=Report)
    found = await agent.ainvoke({"messages": [("user", "the weather in 'Oslo'")]})
    assert found["structured_response"].city == "Oslo"
