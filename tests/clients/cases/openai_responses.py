"""openai-python over the Responses API."""

import json
import os

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

MODEL = os.environ["WEIR_TEST_MODEL"]
TEXTS = [f"what is the weather in 'Oslo' on day {day}" for day in range(1, 7)]
TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class Weather(BaseModel):
    city: str
    degrees: int


@pytest.fixture(scope="module")
def client():
    with OpenAI(max_retries=0) as made:
        yield made


@pytest.mark.parametrize("text", TEXTS)
def test_create(client, text):
    """A whole response: text, status, usage."""
    answer = client.responses.create(model=MODEL, input=text, instructions="Be brief.")
    assert answer.output_text == f"You said: {text}"
    assert answer.status == "completed"
    assert answer.model == MODEL
    assert answer.usage.total_tokens > 0


@pytest.mark.parametrize("text", TEXTS)
def test_stream(client, text):
    """The events in their order, numbered, and no text lost."""
    events = list(client.responses.create(model=MODEL, input=text, stream=True))
    assert [event.sequence_number for event in events] == sorted({event.sequence_number for event in events})
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(pieces) == f"You said: {text}"
    assert events[0].response.id == events[-1].response.id


@pytest.mark.parametrize("text", TEXTS)
def test_stream_helper_with_a_tool(client, text):
    """The accumulating helper ends with one call that it could parse."""
    with client.responses.stream(model=MODEL, input=text, tools=[TOOL]) as stream:
        for _ in stream:
            pass
        done = stream.get_final_response()
    (call,) = [item for item in done.output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Oslo"})


@pytest.mark.parametrize("text", TEXTS)
def test_parse(client, text):
    """`text.format`, whole and streamed."""
    assert client.responses.parse(model=MODEL, input=text, text_format=Weather).output_parsed.city == "Oslo"
    with client.responses.stream(model=MODEL, input=text, text_format=Weather) as stream:
        assert stream.get_final_response().output_parsed.city == "Oslo"


def test_a_tool_loop_by_items(client):
    """Call, result, answer, the conversation sent again each time."""
    items = [{"role": "user", "content": TEXTS[0]}]
    first = client.responses.create(model=MODEL, input=items, tools=[TOOL], store=False)
    (call,) = [item for item in first.output if item.type == "function_call"]
    items += [*first.output, {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    second = client.responses.create(model=MODEL, input=items, tools=[TOOL], store=False)
    assert second.output_text == "The tool said: rain"


def test_a_tool_loop_by_id(client):
    """The same with `previous_response_id`: the server remembers."""
    first = client.responses.create(model=MODEL, input=TEXTS[0], tools=[TOOL])
    (call,) = [item for item in first.output if item.type == "function_call"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    second = client.responses.create(model=MODEL, input=[result], tools=[TOOL], previous_response_id=first.id)
    assert second.output_text == "The tool said: rain"
    assert second.previous_response_id == first.id


def test_the_store(client):
    """Retrieve and delete; what is gone, or was never stored, is not found."""
    kept = client.responses.create(model=MODEL, input="hello")
    assert client.responses.retrieve(kept.id).output_text == "You said: hello"
    client.responses.delete(kept.id)
    unstored = client.responses.create(model=MODEL, input="hello", store=False)
    for gone in (kept.id, unstored.id):
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(gone)


def test_errors_are_typed(client):
    """Mistakes are the SDK's own exceptions."""
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="nobody", input="hello")
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model=MODEL, input="hello", previous_response_id="resp_nobody", temperature="hot")
