"""Reads a chat stream as clients do: strictly, and with what they accumulate."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from wire.sse import Splitter

DONE = b"[DONE]"


def events(stream: bytes) -> list[dict[str, Any]]:
    """The stream's events. It ends with [DONE], and nothing comes after."""
    splitter = Splitter()
    blocks = [event.data for event in (*splitter.feed(stream), *splitter.close())]
    assert blocks[-1] == DONE
    assert blocks.count(DONE) == 1
    told: list[dict[str, Any]] = [orjson.loads(block) for block in blocks[:-1]]
    return told


def obeys(told: Sequence[Mapping[str, Any]], *, usage: bool) -> None:
    """The rules that all clients agree on."""
    assert len({(event["id"], event["created"], event["model"], event["object"]) for event in told}) == 1
    assert told[0]["object"] == "chat.completion.chunk"
    answer = told
    if usage:
        *answer, last = told
        assert last["choices"] == []
        assert last["usage"]["total_tokens"] >= 0
        assert all(event["usage"] is None for event in answer)
    else:
        assert all("usage" not in event for event in told)
    assert all(len(event["choices"]) == 1 for event in answer)
    entries = [event["choices"][0] for event in answer]
    indices = list(dict.fromkeys(entry["index"] for entry in entries))
    assert indices == list(range(len(indices))), "clients index into a list: choice k comes after choice k - 1"
    for index in indices:
        _choice_obeys([entry for entry in entries if entry["index"] == index])


def _choice_obeys(entries: Sequence[Mapping[str, Any]]) -> None:
    deltas = [entry["delta"] for entry in entries]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    assert not any("role" in delta for delta in deltas[1:])
    assert [entry["finish_reason"] is not None for entry in entries] == [False] * (len(entries) - 1) + [True]
    assert deltas[-1] == {}
    assert not any(value is None or value == "" for delta in deltas[1:] for value in delta.values())
    known = 0
    for call in (call for delta in deltas for call in delta.get("tool_calls", ())):
        assert call["index"] <= known
        function = call["function"]
        assert isinstance(function["arguments"], str)
        if call["index"] == known:
            known += 1
            assert {"index", "id", "type", "function"} <= set(call)
            assert call["id"]
            assert function["name"]
        else:
            assert set(call) == {"index", "function"}
            assert set(function) == {"arguments"}
    assert not any("tool_calls" in delta and "content" in delta for delta in deltas)


def accumulated(told: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per choice: message, finish_reason and log-probabilities, by concatenating whatever comes, as strict clients do."""
    found: dict[int, dict[str, Any]] = {}
    for entry in (entry for event in told for entry in event["choices"]):
        kept = found.setdefault(entry["index"], {"message": {}, "finish": "", "logprobs": []})
        for key, value in entry["delta"].items():
            if key == "tool_calls":
                _add_calls(kept["message"].setdefault(key, []), value)
            else:
                kept["message"][key] = (kept["message"].get(key) or "") + value if value is not None else None
        kept["finish"] += entry["finish_reason"] or ""
        kept["logprobs"] += (entry["logprobs"] or {}).get("content") or []
    return [found[index] for index in sorted(found)]


def _add_calls(calls: list[dict[str, Any]], deltas: Sequence[Mapping[str, Any]]) -> None:
    for delta in deltas:
        if delta["index"] == len(calls):
            calls.append({"id": "", "type": "", "function": {"name": "", "arguments": ""}})
        call = calls[delta["index"]]
        call["id"] += delta.get("id", "")
        call["type"] += delta.get("type", "")
        for key, value in delta["function"].items():
            call["function"][key] += value


def openai_python(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the official client makes of it."""
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    for event in told:
        state.handle_chunk(ChatCompletionChunk.model_validate(event, strict=True))
    # Not `get_final_completion`: it refuses answers that the token limit cut.
    return state.current_completion_snapshot.model_dump(exclude_unset=True)
