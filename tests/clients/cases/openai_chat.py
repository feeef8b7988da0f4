"""openai-python over chat completions: what an application does with it, in its own words."""

import asyncio
import os

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

MODEL = os.environ["WEIR_TEST_MODEL"]
TEXTS = [f"what is the weather in 'Oslo' on day {day}" for day in range(1, 7)]
"""The small model answers some of these tidily, some untidily, some wrongly: which one is behind an answer must not show."""


class Weather(BaseModel):
    city: str
    degrees: int
    likely: bool


class GetWeather(BaseModel):
    """The weather of a city."""

    city: str
    day: int


TOOL = openai.pydantic_function_tool(GetWeather, name="get_weather")


@pytest.fixture(scope="module")
def client():
    with OpenAI(max_retries=0) as made:
        yield made


def said(text):
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


@pytest.mark.parametrize("text", TEXTS)
def test_chat(client, text):
    """A whole answer: text, finish reason, usage, the model's name as it was asked for."""
    answer = client.chat.completions.create(model=MODEL, messages=said(text))
    assert answer.choices[0].message.content == f"You said: {text}"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == MODEL
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert answer._request_id


@pytest.mark.parametrize("text", TEXTS)
def test_stream(client, text):
    """A raw stream: one role, one id, one finish reason, usage once and last, the text in order."""
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model=MODEL, messages=said(text), stream=True, stream_options=options))
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.model for chunk in chunks} == {MODEL}
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert [choice.delta.role for choice in choices if choice.delta.role] == ["assistant"]
    assert "".join(choice.delta.content or "" for choice in choices) == f"You said: {text}"
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    assert [bool(chunk.usage) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


@pytest.mark.parametrize("text", TEXTS)
def test_stream_helper_with_a_tool(client, text):
    """The accumulating helper ends with one call, whose arguments it could parse."""
    with client.chat.completions.stream(model=MODEL, messages=said(text), tools=[TOOL]) as stream:
        kinds = [event.type for event in stream]
        done = stream.get_final_completion()
    (call,) = done.choices[0].message.tool_calls
    assert (call.function.name, call.type) == ("get_weather", "function")
    assert call.function.parsed_arguments.city == "Oslo"
    assert done.choices[0].finish_reason == "tool_calls"
    assert done.choices[0].message.role == "assistant"
    assert "tool_calls.function.arguments.done" in kinds


@pytest.mark.parametrize("text", TEXTS)
def test_parse(client, text):
    """Structured output, whole: the parsed object."""
    answer = client.chat.completions.parse(model=MODEL, messages=said(text), response_format=Weather)
    assert answer.choices[0].message.parsed.city == "Oslo"


@pytest.mark.parametrize("text", TEXTS)
def test_parse_stream(client, text):
    """Structured output, streamed."""
    with client.chat.completions.stream(model=MODEL, messages=said(text), response_format=Weather) as stream:
        done = stream.get_final_completion()
    assert done.choices[0].message.parsed.city == "Oslo"


def test_a_tool_loop(client):
    """Call, result, answer."""
    messages = said(TEXTS[0])
    first = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL]).choices[0].message
    (call,) = first.tool_calls
    messages += [first, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    second = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL]).choices[0]
    assert second.message.content == "The tool said: rain"
    assert not second.message.tool_calls


@pytest.mark.parametrize("stream", [False, True])
def test_two_calls_at_once(client, stream):
    """Parallel calls keep their order, ids and arguments."""
    text = "the weather in both 'Oslo' and 'Rome'"
    if stream:
        with client.chat.completions.stream(model=MODEL, messages=said(text), tools=[TOOL]) as events:
            message = events.get_final_completion().choices[0].message
    else:
        message = client.chat.completions.create(model=MODEL, messages=said(text), tools=[TOOL]).choices[0].message
    assert [call.function.name for call in message.tool_calls] == ["get_weather"] * 2
    assert len({call.id for call in message.tool_calls}) >= 1
    assert all(call.function.arguments.startswith("{") for call in message.tool_calls)


def test_required_and_named(client):
    """A forced tool is called even when the words do not ask for it."""
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("required", named):
        answer = client.chat.completions.create(model=MODEL, messages=said("hello"), tools=[TOOL], tool_choice=choice)
        assert answer.choices[0].message.tool_calls[0].function.name == "get_weather"


def test_no_tool(client):
    """`tool_choice: none` and an empty list of tools: text."""
    for more in ({"tools": [TOOL], "tool_choice": "none"}, {"tools": []}):
        answer = client.chat.completions.create(model=MODEL, messages=said(TEXTS[0]), **more)
        assert answer.choices[0].message.content.startswith("You said")


def test_several_choices(client):
    """n = 2: two choices, whole and streamed, with their own index."""
    answer = client.chat.completions.create(model=MODEL, messages=said("hello"), n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    with client.chat.completions.stream(model=MODEL, messages=said("hello"), n=2) as stream:
        done = stream.get_final_completion()
    assert [choice.message.content for choice in done.choices] == ["You said: hello"] * 2


def test_logprobs(client):
    """Log-probabilities when asked for, with as many alternatives, and none when not."""
    asked = {"logprobs": True, "top_logprobs": 3}
    answer = client.chat.completions.create(model=MODEL, messages=said("hello"), **asked)
    tokens = answer.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == "You said: hello"
    assert {len(token.top_logprobs) for token in tokens} == {3}
    assert client.chat.completions.create(model=MODEL, messages=said("hello")).choices[0].logprobs is None


def test_stop_and_limit(client):
    """`stop` cuts, a limit says `length`."""
    answer = client.chat.completions.create(model=MODEL, messages=said("one two three"), stop=["two"])
    assert answer.choices[0].message.content.strip() == "You said: one"
    answer = client.chat.completions.create(model=MODEL, messages=said("one two three"), max_completion_tokens=2)
    assert answer.choices[0].finish_reason == "length"
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(
            model=MODEL, messages=said(TEXTS[0]), response_format=Weather, max_completion_tokens=1
        )


def test_errors_are_typed(client):
    """Mistakes are the SDK's own exceptions, with code and parameter."""
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="nobody", messages=said("hello"))
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=MODEL, messages=[])
    assert wrong.value.param == "messages"
    assert wrong.value.type == "invalid_request_error"


def test_models(client):
    """The list, and one of it."""
    names = [model.id for model in client.models.list()]
    assert "weir" in names
    assert client.models.retrieve("weir").id == "weir"


def test_many_at_once():
    """The asynchronous client, 20 streams at a time: everybody gets their own words."""

    async def one(client, number):
        text = f"number {number}"
        async with client.chat.completions.stream(model=MODEL, messages=said(text)) as stream:
            return (await stream.get_final_completion()).choices[0].message.content == f"You said: {text}"

    async def all_of_them():
        async with AsyncOpenAI(max_retries=0) as client:
            return await asyncio.gather(*(one(client, number) for number in range(20)))

    assert all(asyncio.run(all_of_them()))
