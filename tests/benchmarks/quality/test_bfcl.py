"""BFCL's data as requests, the oracle that answers them, and the client that reads the answers."""

import asyncio
import random
from pathlib import Path

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quality import bfcl
from benchmarks.quality._bfcl_data import CATEGORIES, Spoken, converted, first, items
from benchmarks.quality._dialects import DIALECTS, Broken, events, read
from benchmarks.quality._oracle import Oracle, oracle, whole
from benchmarks.quality._oracle import events as spoken_events
from gateway.validators.fits_schema import compile_schema

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CALLS = st.lists(st.tuples(st.sampled_from(["f", "g_h"]), st.dictionaries(st.text(), JSON, max_size=3)), max_size=3)


def test_all_items_are_there() -> None:
    """Every category with its published number, and no two requests that the oracle could not tell apart."""
    found = items()
    assert len(found) == len({item.key for item in found}) == 1240
    assert all(item.answer.calls for item in found if item.category != "irrelevance")
    assert all(item.answer.text and not item.answer.calls for item in found if item.category == "irrelevance")
    assert all(len(item.answer.calls) > 1 for item in found if item.category == "parallel")


def test_tools_are_json_schema() -> None:
    """After conversion every tool's parameters compile, and every call names one of its tools."""
    for item in items():
        for tool in item.tools:
            compile_schema(tool["parameters"])
        assert {name for name, _ in item.answer.calls} <= {tool["name"] for tool in item.tools}


def test_conversion() -> None:
    """As BFCL's own handlers: types by name, all the way down, a property that is called `type` left alone."""
    function = {
        "name": "a.b",
        "description": "d",
        "parameters": {
            "type": "dict",
            "properties": {
                "type": {"type": "tuple", "items": {"type": "float"}},
                "x": {"type": "any", "description": "dict"},
            },
            "required": ["type"],
        },
    }
    assert converted(function) == {
        "name": "a_b",
        "description": "d",
        "parameters": {
            "type": "object",
            "properties": {
                "type": {"type": "array", "items": {"type": "number", "format": "float"}},
                "x": {"type": "string", "description": "dict"},
            },
            "required": ["type"],
        },
    }


def test_the_first_allowed_value() -> None:
    """What may be left out is; objects within hold allowed values again, lists of plain values do not."""
    allowed = {"a": [1, 2], "b": ["", "x"], "c": [{"d": [3], "e": [""]}], "f": [[1, 2]], "g": [[{"h": ["i"]}]]}
    assert first(allowed) == {"a": 1, "c": {"d": 3}, "f": [1, 2], "g": [{"h": "i"}]}


@given(CALLS, st.text(), st.integers(0, 99))
def test_the_client_reads_what_the_oracle_writes(calls: list[tuple[str, object]], text: str, seed: int) -> None:
    """In its own dialect, streamed and whole, without a gateway between: then what a replay loses is the gateway's."""
    answer = Spoken(tuple(calls), "" if calls else text)
    chat = DIALECTS["chat"]
    assert read(chat, False, orjson.dumps(whole(answer))).canonical() == answer.canonical()
    streamed = b"".join(spoken_events(answer, True, random.Random(seed)))
    assert read(chat, True, streamed).canonical() == answer.canonical()


def test_losses_are_seen() -> None:
    """Order, a number's kind, a name and a text all count; how JSON was written does not."""
    one: tuple[str, object] = ("f", {"a": 1})
    other: tuple[str, object] = ("g", {})
    assert Spoken((one, other)).canonical() != Spoken((other, one)).canonical()
    assert Spoken((("f", {"a": 1.0}),)).canonical() != Spoken((one,)).canonical()
    assert Spoken(text="a").canonical() != Spoken(text="a ").canonical()
    assert Spoken((("f", {"a": 1, "b": 2}),)).canonical() == Spoken((("f", {"b": 2, "a": 1}),)).canonical()


@pytest.mark.parametrize(
    ("dialect", "stream", "data"),
    [
        ("chat", False, b"{}"),
        ("chat", False, b"no json"),
        ("chat", True, b'data: {"choices": [{"delta": {"content": "cut"}}]}\n\n'),
        ("responses", True, b'data: {"type": "response.output_text.delta", "delta": "cut"}\n\n'),
        ("messages", True, b'event: message_stop\ndata: {"type": "content_block_stop", "index": 0}\n\n'),
        ("messages", False, b'{"content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}], "stop_reason": "end_turn"}'),
    ],
)  # fmt: skip
def test_what_cannot_be_read(dialect: str, stream: bool, data: bytes) -> None:
    """Half an answer, or one whose end says something else, is broken and not an answer."""
    with pytest.raises(Broken):
        read(DIALECTS[dialect], stream, data)


def test_events_of_both_line_ends() -> None:
    """Comments and [DONE] are no events."""
    assert list(events(b': hello\r\n\r\ndata: {"a":\r\ndata: 1}\r\n\r\ndata: [DONE]\r\n\r\n')) == [{"a": 1}]


def test_the_oracle_notices_a_changed_request() -> None:
    """One character of a tool's description is enough: it has no answer then, and counts it."""
    item = items()[0]
    request = dict(DIALECTS["chat"].body(item, "m", False))
    changed = orjson.loads(orjson.dumps(request))
    changed["tools"][0]["function"]["description"] += "."

    async def ask() -> tuple[list[int], int]:
        async with oracle({item.key: item.answer}) as served, httpx.AsyncClient(trust_env=False, timeout=60) as client:
            url = f"{served.url}/v1/chat/completions"
            statuses = [(await client.post(url, json=body)).status_code for body in (request, changed)]
            return statuses, served.unknown

    assert asyncio.run(ask()) == ([200, 404], 1)


def test_nothing_is_lost(tmp_path: Path) -> None:
    """Two of every category through a real gateway, on both routes, in three dialects, streamed and whole."""
    chosen = [item for item in items() if item.id.rpartition("_")[2] in ("0", "3")]
    assert {item.category for item in chosen} == set(CATEGORIES)
    part = bfcl.part(*asyncio.run(bfcl.replay(chosen, tmp_path)))
    assert part.notes["lost"] == []
    assert part.figures["bfcl.wire_loss"] == 0
    assert part.figures["bfcl.replays"] == 12 * len(chosen)
    assert part.figures["bfcl.first_rung_share"] == 1


def test_a_lost_replay_counts() -> None:
    """One of two: half is lost, and the notes say which."""
    good = bfcl.Replay("a_0", "simple_python", "calls", "chat", False, "small", "")
    bad = bfcl.Replay("b_0", "simple_python", "calls", "chat", True, "large", "why")
    figures = bfcl.part([good, bad], Oracle({})).figures
    assert figures["bfcl.wire_loss"] == figures["bfcl.first_rung_share"] == 0.5
    assert bfcl.part([good, bad], Oracle({})).notes["lost"] == ["b_0 calls chat stream: why"]
