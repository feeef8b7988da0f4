"""LlamaIndex's OpenAILike: chat, stream, structured prediction, an agent's tools."""

import os

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

DAYS = [f"the weather in 'Oslo' on day {day}" for day in (1, 2, 3, 4)]


class Report(BaseModel):
    """What the weather is."""

    city: str


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


@pytest.fixture
def llm():
    return OpenAILike(
        model=os.environ["WEIR_TEST_MODEL"],
        api_base=os.environ["OPENAI_BASE_URL"],
        api_key="none",
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
    )


@pytest.mark.parametrize("text", DAYS)
def test_chat(llm, text):
    """Text in, text out."""
    assert llm.chat([ChatMessage(role="user", content=text)]).message.content == f"You said: {text}"


@pytest.mark.parametrize("text", DAYS)
def test_stream(llm, text):
    """The deltas make up the answer."""
    parts = list(llm.stream_chat([ChatMessage(role="user", content=text)]))
    assert "".join(part.delta or "" for part in parts) == f"You said: {text}"


@pytest.mark.parametrize("text", DAYS)
def test_structured(llm, text):
    """A typed answer, by a forced tool."""
    assert llm.structured_predict(Report, PromptTemplate("{text}"), text=text).city == "Oslo"


@pytest.mark.parametrize("text", DAYS)
def test_agent(llm, text):
    """Call, result, answer: streamed, as the agent does it."""
    import asyncio

    async def go():
        return await FunctionAgent(tools=[get_weather], llm=llm).run(text)

    assert str(asyncio.run(go())) == "The tool said: rain in Oslo"
