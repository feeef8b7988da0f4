"""Reads a Responses stream as clients do: strictly, and with what they accumulate."""

from collections.abc import Sequence
from typing import Any, get_args

import orjson
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

from wire.sse import Splitter

ENDS = ("response.completed", "response.incomplete", "response.failed")
MODELS: dict[str, type[BaseModel]] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(get_args(ResponseStreamEvent)[0])
}
"""Event type > the official client's model of it."""
TEXTS = {"output_text": "text", "refusal": "refusal", "reasoning_text": "text"}
CALLS = {
    "function_call": ("function_call_arguments", "arguments"),
    "custom_tool_call": ("custom_tool_call_input", "input"),
}


def events(stream: bytes) -> list[dict[str, Any]]:
    """The stream's events: each names its type twice, numbers rise from 0, and nothing says [DONE]."""
    splitter = Splitter()
    blocks = [event for event in (*splitter.feed(stream), *splitter.close()) if event.data]
    told: list[dict[str, Any]] = [orjson.loads(block.data) for block in blocks]
    assert [block.event for block in blocks] == [event["type"] for event in told]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    for event in told:
        MODELS[event["type"]].model_validate(event)
    return told


def response_of(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The response at the end, after every event was held against it."""
    assert [event["type"] for event in told[:2]] == ["response.created", "response.in_progress"]
    assert told[0]["response"]["status"] == "in_progress"
    assert told[-1]["type"] in ENDS
    response: dict[str, Any] = told[-1]["response"]
    for key in ("id", "created_at", "model", "object"):
        assert len({event["response"][key] for event in told if "response" in event}) == 1
    items = _Items()
    for event in told[2:-1]:
        items.take(event)
    if response["status"] != "failed":
        assert [items.done[index] for index in range(len(items.done))] == response["output"]
        assert set(items.growing) == set(items.done)
    return response


class _Items:
    def __init__(self) -> None:
        self.growing: dict[int, dict[str, Any]] = {}
        self.done: dict[int, dict[str, Any]] = {}

    def take(self, event: dict[str, Any]) -> None:
        kind, index = event["type"].removeprefix("response."), event["output_index"]
        assert index not in self.done, "an item that is done is not touched again"
        if kind == "output_item.added":
            assert index == len(self.growing)
            assert event["item"]["status"] == "in_progress"
            self.growing[index] = event["item"]
            return
        item = self.growing[index]
        if kind == "output_item.done":
            assert {**item, "status": event["item"]["status"]} == event["item"]
            self.done[index] = event["item"]
            return
        assert event["item_id"] == item["id"]
        if item["type"] in CALLS:
            self._call(item, kind, event)
        else:
            self._part(item, kind, event)

    def _call(self, item: dict[str, Any], kind: str, event: dict[str, Any]) -> None:
        name, key = CALLS[item["type"]]
        if kind == f"{name}.delta":
            item[key] += event["delta"]
        else:
            assert kind == f"{name}.done"
            assert event[key] == item[key]
            assert item["type"] == "custom_tool_call" or event["name"] == item["name"] != ""

    def _part(self, item: dict[str, Any], kind: str, event: dict[str, Any]) -> None:
        if kind == "content_part.added":
            assert event["content_index"] == len(item["content"])
            item["content"].append(event["part"])
            return
        part = item["content"][event["content_index"]]
        assert event["content_index"] == len(item["content"]) - 1
        if kind == "content_part.done":
            assert event["part"] == part
        elif kind == "output_text.annotation.added":
            assert event["annotation_index"] == len(part["annotations"])
            part["annotations"].append(event["annotation"])
        else:
            key = TEXTS[part["type"]]
            assert kind.startswith(part["type"])
            if kind.endswith(".delta"):
                part[key] += event["delta"]
                part["logprobs"] = (
                    part.get("logprobs", []) + event["logprobs"] if "logprobs" in event else part.get("logprobs")
                )
                if part["logprobs"] is None:
                    del part["logprobs"]
            else:
                assert event[key] == part[key]


def openai_python(told: Sequence[dict[str, Any]]) -> Response:
    """What the official client makes of it. It raises for whatever is out of order."""
    state: ResponseStreamState[None] = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in told:
        state.handle_event(MODELS[event["type"]].model_validate(event))  # type: ignore[arg-type]
    found = state._completed_response
    assert found is not None
    return found
