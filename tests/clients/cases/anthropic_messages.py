"""anthropic-python over /v1/messages."""

import os

import anthropic
import pytest
from anthropic import Anthropic

MODEL = "claude-sonnet-4-5"
TEXTS = [f"what is the weather in 'Oslo' on day {day}" for day in range(1, 7)]
TOOL = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture(scope="module", params=["x-api-key", "bearer"])
def client(request):
    given = {"api_key": "none"} if request.param == "x-api-key" else {"auth_token": "none", "api_key": None}
    if request.param == "bearer":
        os.environ.pop("ANTHROPIC_API_KEY", None)
    with Anthropic(max_retries=0, **given) as made:
        yield made


def ask(client, messages, **more):
    return client.messages.create(model=MODEL, max_tokens=200, messages=messages, **more)


@pytest.mark.parametrize("text", TEXTS)
def test_create(client, text):
    """A whole message: text, stop reason, usage."""
    answer = ask(client, [{"role": "user", "content": text}], system="Be brief.")
    assert [block.text for block in answer.content] == [f"You said: {text}"]
    assert (answer.role, answer.stop_reason, answer.model) == ("assistant", "end_turn", MODEL)
    assert answer.usage.output_tokens > 0


@pytest.mark.parametrize("text", TEXTS)
def test_stream(client, text):
    """The helper's text and its final message agree."""
    with client.messages.stream(model=MODEL, max_tokens=200, messages=[{"role": "user", "content": text}]) as stream:
        pieces = "".join(stream.text_stream)
        done = stream.get_final_message()
    assert pieces == f"You said: {text}" == done.content[0].text
    assert done.usage.output_tokens > 0


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("text", TEXTS)
def test_a_tool_loop(client, text, streamed):
    """Tool use, tool result, answer."""
    messages = [{"role": "user", "content": text}]
    if streamed:
        with client.messages.stream(model=MODEL, max_tokens=200, messages=messages, tools=[TOOL]) as stream:
            first = stream.get_final_message()
    else:
        first = ask(client, messages, tools=[TOOL])
    (use,) = [block for block in first.content if block.type == "tool_use"]
    assert (first.stop_reason, use.name, use.input) == ("tool_use", "get_weather", {"city": "Oslo"})
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "rain"}
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = ask(client, messages, tools=[TOOL])
    assert second.content[0].text == "The tool said: rain"


def test_forced_tools(client):
    """`any`, and a tool by its name."""
    for choice in ({"type": "any"}, {"type": "tool", "name": "get_weather"}):
        answer = ask(client, [{"role": "user", "content": "hello"}], tools=[TOOL], tool_choice=choice)
        assert answer.content[-1].type == "tool_use"


def test_count_tokens(client):
    """A positive number, larger for more text."""
    short, long = (
        client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": text}]).input_tokens
        for text in ("hello", "hello " * 200)
    )
    assert 0 < short < long


def test_max_tokens(client):
    """The limit is a stop reason."""
    answer = client.messages.create(
        model=MODEL, max_tokens=2, messages=[{"role": "user", "content": "one two three four"}]
    )
    assert answer.stop_reason == "max_tokens"


def test_errors_are_typed(client):
    """Mistakes are the SDK's own exceptions, with a request id."""
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(model="nobody", max_tokens=5, messages=[{"role": "user", "content": "hello"}])
    assert missing.value.request_id
    with pytest.raises(anthropic.BadRequestError):
        ask(client, [{"role": "nobody", "content": "hello"}])
