"""gateway/dialects/responses: what comes out. The events tell the same response as the whole answer is."""

from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.dialects import responses
from gateway.dialects.base import Caller, Stamp
from gateway.dialects.responses.output import item_id
from gateway.dialects.responses.output import response_of as response_id
from gateway.fold import Fold
from tests.dialects.answers import DEFECTS, Choice, answers, choices, cut, spoil, whole
from tests.dialects.responses_reading import events, openai_python, response_of
from wire.errors import NoAnswer, RateLimited
from wire.types import Asked, Chunk

SPECIFICATION = Path(__file__).parent.parent.parent / "data" / "openai_openapi" / "openapi_subset.json"
STAMP = Stamp("ab12", 1700000000, "gpt-5")
REQUIRED = (
    "id", "object", "created_at", "error", "incomplete_details", "instructions", "model", "tools", "output", "parallel_tool_calls",
    "metadata", "tool_choice", "temperature", "top_p", "status", "usage", "text", "reasoning", "previous_response_id", "truncation",
)  # fmt: skip


def asked(**body: Any) -> Asked:
    return responses.understand({"model": "gpt-5", "input": "hi", **body}, b"", Caller())


PLAIN = asked()
COUNTED = asked(top_logprobs=1)


def streamed(chunks: list[Chunk], request: Asked = PLAIN) -> list[dict[str, Any]]:
    writer = responses.writer(request, STAMP)
    return events(b"".join([writer.feed(chunk) for chunk in chunks] + [writer.end()]))


def told_whole(chunks: list[Chunk], request: Asked = PLAIN) -> dict[str, Any]:
    fold = Fold()
    for chunk in chunks:
        fold.add(chunk)
    response: dict[str, Any] = orjson.loads(responses.whole(request, STAMP, fold))
    return response


def says(*deltas: dict[str, Any], finish: str = "stop", **more: Any) -> list[Chunk]:
    return [*(Chunk(delta=delta) for delta in deltas), Chunk(finish=finish, **more)]


def _plain_logprobs(choice: Choice) -> Choice:
    """Log-probabilities only where an answer is nothing but text: elsewhere it cannot be told whose they are."""
    message = choice.message
    text_only = message["content"] and not message["refusal"] and not message.get("tool_calls")
    return choice if text_only else replace(choice, logprobs=())


one_choice = choices().map(_plain_logprobs)


@given(st.data())
def test_a_stream_tells_what_the_whole_answer_is(data: st.DataObject) -> None:
    """Any answer, cut anywhere: every event in order, and their sum is the response that `stream: false` gives."""
    answer = [data.draw(one_choice)]
    chunks = [*data.draw(cut(answer)), Chunk(usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})]
    told = streamed(chunks, COUNTED)
    response = response_of(told)
    assert response == told_whole(chunks, COUNTED)
    if response["status"] == "completed":
        assert [item.type for item in openai_python(told).output] == [item["type"] for item in response["output"]]


@given(st.data())
def test_one_chunk_is_a_stream_too(data: st.DataObject) -> None:
    """A held answer comes in one piece and is the same response."""
    answer = [data.draw(one_choice)]
    pieces = response_of(streamed(data.draw(cut(answer)), COUNTED))
    assert response_of(streamed(whole(answer), COUNTED)) == pieces


@given(st.data(), st.sets(st.sampled_from(DEFECTS)))
def test_an_upstreams_defects_stay_there(data: st.DataObject, defects: set[str]) -> None:
    """Whatever an upstream repeats, leaves out or counts oddly: a proper stream, and the same response as the whole."""
    answer = data.draw(answers)
    answer = [_plain_logprobs(choice) for choice in answer]
    chunks = spoil(data.draw(cut(answer)), answer, defects)
    assert response_of(streamed(chunks, COUNTED)) == told_whole(chunks, COUNTED)


@given(st.data())
def test_whatever_the_order(data: st.DataObject) -> None:
    """Text, reasoning, refusals and calls in any order: nothing is lost, and no item is touched after it was told to be done."""
    call = st.builds(
        lambda index, text: {
            "tool_calls": [{"index": index, "id": f"c{index}", "function": {"name": "f", "arguments": text}}]
        },
        st.integers(0, 2),
        st.text(max_size=3),
    )
    word = st.sampled_from(["content", "refusal", "reasoning"])
    deltas = data.draw(
        st.lists(call | st.builds(lambda key, text: {key: text}, word, st.text(max_size=3)), max_size=12)
    )
    response = response_of(streamed(says(*deltas)))
    told = "".join(
        part.get("text", part.get("refusal", "")) for item in response["output"] for part in item.get("content", ())
    )
    assert sorted(told) == sorted(
        text for delta in deltas for text in delta.values() if isinstance(text, str) for text in text
    )
    for index in range(3):
        sent = "".join(
            c["function"]["arguments"] for d in deltas for c in d.get("tool_calls", ()) if c["index"] == index
        )
        found = [item["arguments"] for item in response["output"] if item.get("call_id") == f"c{index}"]
        assert found in ([], [sent or "{}"])


def test_the_sequence_of_text() -> None:
    """The sequence that Agents SDK, PydanticAI and openai-python were seen to need."""
    told = streamed(says({"role": "assistant", "content": ""}, {"content": "he"}, {"content": "llo"}))
    assert [event["type"] for event in told] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.delta", "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert told[-1]["response"]["output"][0]["content"] == [
        {"type": "output_text", "text": "hello", "annotations": [], "logprobs": []}
    ]


def test_the_sequence_of_a_call() -> None:
    """Its arguments in pieces, then whole with its name."""
    first = {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]}
    rest = {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]}
    told = streamed(says(first, rest, finish="tool_calls"))
    assert [event["type"] for event in told[2:]] == [
        "response.output_item.added", "response.function_call_arguments.delta", "response.function_call_arguments.done",
        "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert (told[4]["name"], told[4]["arguments"]) == ("f", '{"a":1}')
    assert told[-1]["response"]["output"] == [
        {"id": told[2]["item"]["id"], "type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}',
         "status": "completed"}
    ]  # fmt: skip


def test_reasoning_text_and_calls_are_items_in_order() -> None:
    """Reasoning is told to be done before the text begins; parallel calls have ids and places of their own."""
    calls = [{"index": i, "id": f"c{i}", "function": {"name": "f", "arguments": "{}"}} for i in (0, 1)]
    told = streamed(says({"reasoning": "hm"}, {"content": "ok"}, {"tool_calls": calls}))
    response = response_of(told)
    order = [(e["type"].rpartition(".")[2], e["output_index"]) for e in told if "output_item" in e["type"]]
    assert order[:5] == [("added", 0), ("done", 0), ("added", 1), ("done", 1), ("added", 2)]
    assert [item["type"] for item in response["output"]] == ["reasoning", "message", "function_call", "function_call"]
    assert response["output"][0]["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert len({item["id"] for item in response["output"]}) == 4


def test_both_names_of_reasoning_in_one_delta_are_one_text() -> None:
    """Some servers send the same words under both."""
    response = response_of(streamed(says({"reasoning": "hm", "reasoning_content": "hm"}, {"content": "ok"})))
    assert response["output"][0]["content"][0]["text"] == "hm"


def test_custom_calls() -> None:
    """Free-form input, in pieces; the same from a whole answer."""
    first = {"tool_calls": [{"index": 0, "id": "c", "type": "custom", "custom": {"name": "patch", "input": "*** "}}]}
    chunks = says(first, {"tool_calls": [{"index": 0, "custom": {"input": "Begin"}}]}, finish="tool_calls")
    response = response_of(streamed(chunks))
    assert response == told_whole(chunks)
    assert response["output"][0]["type"] == "custom_tool_call"
    assert response["output"][0]["input"] == "*** Begin"


def test_calls_without_a_name_of_their_own() -> None:
    """Two calls with one id, or none, get ids: results are paired by them. Without arguments it is `{}`."""
    calls = [{"index": i, "id": id, "function": {"name": "f"}} for i, id in enumerate(["c", "c", "", None])]
    response = response_of(streamed(says({"tool_calls": calls})))
    assert len({item["call_id"] for item in response["output"]}) == 4
    assert all(item["call_id"] and item["arguments"] == "{}" for item in response["output"])


def test_a_name_that_comes_late() -> None:
    """An item is told of when its name is known; nothing that came before is lost."""
    deltas = [{"tool_calls": [{"index": 0, "id": "c", "function": function}]} for function in (
        {"arguments": '{"a"'}, {"name": "f", "arguments": ":1}"},
    )]  # fmt: skip
    assert response_of(streamed(says(*deltas)))["output"][0]["arguments"] == '{"a":1}'


def test_citations() -> None:
    """Chat's web citations in this API's flat form."""
    citation = {"start_index": 0, "end_index": 2, "url": "u", "title": "t"}
    chunks = says({"content": "ok"}, {"annotations": [{"type": "url_citation", "url_citation": citation}]})
    assert response_of(streamed(chunks)) == told_whole(chunks)
    assert told_whole(chunks)["output"][0]["content"][0]["annotations"] == [{"type": "url_citation", **citation}]


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_how_it_ended(finish: str, status: str, reason: str | None) -> None:
    """A cut answer is incomplete, and so is its last item; nothing is mended."""
    told = streamed(says({"content": '{"a'}, finish=finish))
    response = response_of(told)
    assert told[-1]["type"] == f"response.{status}"
    assert (response["status"], response["output"][-1]["status"]) == (status, status)
    assert response["incomplete_details"] == ({"reason": reason} if reason else None)
    assert response == told_whole(says({"content": '{"a'}, finish=finish))


def test_an_answer_of_nothing() -> None:
    """Still a message, so that clients find one."""
    response = response_of(streamed([]))
    assert response["output"][0]["content"][0]["text"] == ""


def test_every_required_field() -> None:
    """What the request left out has the value that it means; what it said is repeated in its own words."""
    response = told_whole(says({"content": "x"}))
    assert not set(REQUIRED) - set(response)
    assert (response["temperature"], response["top_p"], response["tool_choice"], response["metadata"]) == (
        1.0,
        1.0,
        "auto",
        {},
    )
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
    request = asked(
        instructions="be brief", tools=[tool], tool_choice="required", temperature=0, text={"format": form},
        metadata={"a": "b"}, previous_response_id="resp_1", reasoning={"effort": "low"}, store=False,
    )  # fmt: skip
    response = told_whole(says({"content": "x"}), request)
    assert response["model"] == "gpt-5", "the name that was asked for"
    assert response["tools"] == [{**tool, "description": None}]
    assert response["reasoning"] == {"effort": "low", "summary": None}
    assert response["text"] == {"format": form}
    assert [response[key] for key in ("instructions", "tool_choice", "temperature", "metadata", "previous_response_id", "store")] == [
        "be brief", "required", 0, {"a": "b"}, "resp_1", False,
    ]  # fmt: skip


def test_it_is_what_the_specification_says() -> None:
    """Every event and the response fit OpenAI's own schemas."""
    components = orjson.loads(SPECIFICATION.read_bytes())["components"]
    fits = {
        name: jsonschema_rs.validator_for(
            {"$ref": f"#/components/schemas/{name}", "components": components}, offline=True
        )
        for name in ("Response", "ResponseStreamEvent")
    }
    entry = {"token": "ok", "logprob": -0.5, "bytes": [111, 107], "top_logprobs": []}
    calls = [
        {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}},
        {"index": 1, "id": "d", "type": "custom", "custom": {"name": "p", "input": "x"}},
    ]
    chunks = [
        Chunk(delta={"reasoning": "hm"}),
        Chunk(delta={"content": "ok"}, logprobs={"content": [entry]}),
        Chunk(delta={"refusal": "no"}),
        Chunk(delta={"tool_calls": calls}),
        Chunk(finish="stop", usage={"prompt_tokens": 1, "completion_tokens": 2}),
    ]
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    for request in (
        PLAIN,
        COUNTED,
        asked(tools=[tool], text={"format": form}, metadata={"a": "b"}, user="u", store=False),
    ):
        for event in streamed(chunks, request):
            if "response" in event:
                fits["Response"].validate(event["response"])
            else:
                fits["ResponseStreamEvent"].validate(event)
        fits["Response"].validate(told_whole(chunks, request))


def test_usage_with_its_details() -> None:
    """In this API's names; zeros when nobody counted, as in chat: some clients cannot read an end without usage."""
    usage = {
        "prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14, "prompt_tokens_details": {"cached_tokens": 6},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }  # fmt: skip
    assert told_whole([*says({"content": "x"}), Chunk(usage=usage)])["usage"] == {
        "input_tokens": 10, "input_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 0}, "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 14,
    }  # fmt: skip
    assert told_whole(says({"content": "x"}))["usage"]["total_tokens"] == 0


def test_log_probabilities_only_when_asked() -> None:
    """With all their keys, on the text that they belong to; not those of the calls behind it."""
    entry = {"token": "ok", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "no", "logprob": -1.0}]}
    other = {"token": "{}", "logprob": -9.0, "bytes": [123, 125], "top_logprobs": []}
    call = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]}
    chunks = [
        Chunk(delta={"content": "ok"}, logprobs={"content": [entry]}),
        Chunk(delta=call, logprobs={"content": [other]}),
        Chunk(finish="tool_calls"),
    ]
    response = response_of(streamed(chunks, COUNTED))
    assert response == told_whole(chunks, COUNTED)
    assert response["output"][0]["content"][0]["logprobs"] == [
        {"token": "ok", "bytes": [], "logprob": -0.5, "top_logprobs": [{"token": "no", "bytes": [], "logprob": -1.0}]}
    ]
    assert response_of(streamed(chunks))["output"][0]["content"][0]["logprobs"] == []


def test_an_error_after_the_first_byte() -> None:
    """`response.failed` with the same id, what had come by then, and no end that looks like one."""
    writer = responses.writer(PLAIN, STAMP)
    told = events(writer.feed(Chunk(delta={"content": "half"})) + writer.error(NoAnswer("gone", status=502)))
    assert told[-1]["type"] == "response.failed"
    response = response_of(told)
    assert response["error"] == {"code": "server_error", "message": "gone"}
    assert response["output"][0]["status"] == "incomplete"
    assert "completed" not in str([event["type"] for event in told])


def test_an_error_before_anything() -> None:
    """After a keep-alive the 200 is out: the stream begins, and fails."""
    told = events(responses.writer(PLAIN, STAMP).error(RateLimited("slow down")))
    assert [event["type"] for event in told] == ["response.created", "response.in_progress", "response.failed"]
    assert told[-1]["response"]["error"]["code"] == "rate_limit_exceeded"


def test_an_item_names_its_response() -> None:
    """So a reference finds it; ids that are not ours lead nowhere."""
    assert item_id("ab12", "message", 3) == "msg_ab120003"
    assert response_id("msg_ab120003") == "resp_ab12"
    assert response_id("msg") == "resp_"
