"""Checklist 1 to 13: paths, and the rules of a stream that clients rely on."""

from pathlib import Path

import orjson
import pytest

from tests.checklist.tools import NO_ARGUMENTS, TOOL, call, calls, check, choices, chunk, events, plays, raw, text
from tests.line.world import BAD, GOOD, World, asks, fails, hello, says, sse


def test_point_01_paths(tmp_path: Path) -> None:
    """/v1/chat/completions and /chat/completions both work; unknown paths give a 404 JSON error object."""

    async def run(w: World) -> None:
        for path in ("/v1/chat/completions", "/chat/completions"):
            assert (await w.served.client.post(path, json=hello())).status_code == 200
        for path in ("/v1/chat", "/nowhere", "/v1/v1/chat/completions"):
            response = await w.served.client.post(path, json=hello())
            assert response.status_code == 404
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}

    check(tmp_path, says("x"), says("ok"), run)


def test_point_02_role_once(tmp_path: Path) -> None:
    """The first chunk has the role, exactly once per choice, whatever the upstream repeats or leaves out."""

    async def run(w: World) -> None:
        response = await w.served.chat(hello(stream=True))
        deltas = [c["delta"] for c in choices(response)]
        assert deltas[0]["role"] == "assistant"
        assert all("role" not in delta for delta in deltas[1:])

    check(tmp_path, says("x"), plays({"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}), run)
    check(tmp_path, says("x"), plays({"content": "a"}), run)


REPEATING = [
    {"tool_calls": [{"index": 0, **call(arguments="")}]},
    {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"x"'}}]},
    {"tool_calls": [{"index": 0, "id": None, "type": None, "function": {"name": None, "arguments": ":1}"}}]},
]


def test_point_03_tool_call_deltas(tmp_path: Path) -> None:
    """A call's first delta has index, id, type and name; later ones only index and arguments; no key is null."""

    async def run(w: World) -> None:
        response = await w.served.chat(hello(stream=True, tools=[TOOL], model="route/general"))
        deltas = [d for c in choices(response) for d in c["delta"].get("tool_calls", ())]
        assert set(deltas[0]) == {"index", "id", "type", "function"}
        assert deltas[0]["function"]["name"] == "add"
        assert all(set(d) == {"index", "function"} and set(d["function"]) == {"arguments"} for d in deltas[1:])
        assert b"null" not in orjson.dumps(deltas)

    check(tmp_path, says("x"), plays(*REPEATING, finish="tool_calls"), run)


def test_point_04_tool_indexes(tmp_path: Path) -> None:
    """Indexes are 0..k without gaps, also when the upstream starts at 1 or leaves gaps."""

    async def run(w: World) -> None:
        response = await w.served.chat(hello(stream=True, tools=[TOOL], model="route/general"))
        assert [c["id"] for c in calls(response)] == ["c1", "c2"]
        assert [c["arguments"] for c in calls(response)] == ['{"x":1}', '{"x":2}']

    deltas = [
        {"tool_calls": [{"index": 1, **call()}]},
        {"tool_calls": [{"index": 5, **call(id="c2", arguments='{"x":2}')}]},
    ]
    check(tmp_path, says("x"), plays(*deltas, finish="tool_calls"), run)


def test_point_05_arguments(tmp_path: Path) -> None:
    """Streamed arguments joined are JSON and equal the whole answer's; a tool without arguments gets {}."""

    async def run(w: World) -> None:
        whole = await w.served.chat(hello(tools=[TOOL, NO_ARGUMENTS]))
        stream = await w.served.chat(hello(tools=[TOOL, NO_ARGUMENTS], stream=True))
        expected = [c["function"]["arguments"] for c in whole.json()["choices"][0]["message"]["tool_calls"]]
        assert expected == ['{"x":1}', "{}"]
        assert [c["arguments"] for c in calls(stream)] == expected

    check(tmp_path, says(None, "tool_calls", tool_calls=[call(), call("now", "", "c2")]), says("x"), run)


def test_point_06_finish_once(tmp_path: Path) -> None:
    """Exactly one finish_reason, in its own last chunk, then [DONE]; also when the upstream says it twice."""

    async def run(w: World) -> None:
        response = await w.served.chat(hello(stream=True))
        found = choices(response)
        assert [c["finish_reason"] for c in found].count("stop") == 1
        assert found[-1] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
        assert response.text.endswith("data: [DONE]\n\n")

    twice = raw(sse(chunk({"content": "a"}, "stop")), sse(chunk({}, "stop")), b"data: [DONE]\n\n")
    check(tmp_path, says("x"), twice, run)
    check(tmp_path, says("x"), plays({"content": "a"}, done=False), run)


def test_point_07_constant_identity(tmp_path: Path) -> None:
    """id, created and model are constant over a stream, also when the upstream changes them half-way."""

    async def run(w: World) -> None:
        response = await w.served.chat(hello(stream=True))
        assert len({(e["id"], e["created"], e["model"]) for e in events(response)}) == 1
        assert text(response) == "ab"

    odd = raw(
        sse(chunk({"content": "a"})),
        sse(chunk({"content": "b"}, "stop") | {"id": "2", "model": "n"}),
        b"data: [DONE]\n\n",
    )
    check(tmp_path, says("x"), odd, run)


@pytest.mark.parametrize("stream", [False, True])
def test_point_08_nothing_of_a_rejected_answer(tmp_path: Path, stream: bool) -> None:
    """Not a byte of a specialist's rejected answer reaches the client, and nothing is asked after the commit."""

    async def run(w: World) -> None:
        response = await w.served.chat(asks(stream=stream))
        assert text(response) == GOOD
        assert "z" not in text(response)
        assert w.served.record(response).escalation == "schema"
        assert len(w.cloud.asked) == 1

    check(tmp_path, says(BAD), says(GOOD), run)


@pytest.mark.parametrize(
    ("choice", "finish", "expected"),
    [
        ("auto", "stop", "tool_calls"),
        ("required", "tool_calls", "tool_calls"),
        ({"type": "function", "function": {"name": "add"}}, "tool_calls", "stop"),
        ("auto", "length", "length"),
    ],
)
def test_point_09_finish_reasons(tmp_path: Path, choice: object, finish: str, expected: str) -> None:
    """tool_calls for auto and required, stop for a forced named tool, and length wins; whole and streamed alike."""

    async def run(w: World) -> None:
        body = hello(tools=[TOOL], tool_choice=choice, model="route/general")
        whole = await w.served.chat(body)
        assert whole.json()["choices"][0]["finish_reason"] == expected
        stream = await w.served.chat({**body, "stream": True})
        assert choices(stream)[-1]["finish_reason"] == expected

    check(tmp_path, says("x"), says(None, finish, tool_calls=[{"index": 0, **call()}]), run)


def test_point_10_usage(tmp_path: Path) -> None:
    """Usage once, last, with no choices, iff it was asked for; null before; never doubled."""
    used = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}

    async def run(w: World) -> None:
        plain = await w.served.chat(hello(stream=True))
        assert all("usage" not in e for e in events(plain))
        asked = events(await w.served.chat(hello(stream=True, stream_options={"include_usage": True})))
        assert [e["usage"] for e in asked] == [None] * (len(asked) - 1) + [used]
        assert asked[-1]["choices"] == []

    everywhere = raw(
        sse(chunk({"content": "a"}, usage=used)), sse(chunk({}, "stop", usage=used)), sse({"choices": [], "usage": used}),
        b"data: [DONE]\n\n",
    )  # fmt: skip
    check(tmp_path, says("x"), everywhere, run)


def test_point_11_one_valid_document(tmp_path: Path) -> None:
    """A json_schema answer is one JSON document valid under the schema: fences and prose escalate."""

    async def run(w: World) -> None:
        response = await w.served.chat(asks())
        assert orjson.loads(text(response)) == {"label": "a"}
        assert w.served.record(response).escalation == "schema"

    for wrong in (f"```json\n{GOOD}\n```", f"Sure! {GOOD}", GOOD + GOOD, '{"label":"a","more":1}', '{"label":NaN}'):
        check(tmp_path, says(wrong), says(GOOD), run)


@pytest.mark.parametrize("stream", [False, True])
def test_point_12_errors_before_the_first_token(tmp_path: Path, stream: bool) -> None:
    """An upstream's failure before the first token is a real status and an error object, also with stream: true."""

    async def run(w: World) -> None:
        response = await w.served.chat(hello(stream=stream))
        assert response.status_code == 502
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}

    check(tmp_path, says("x"), fails(500), run)
    check(
        tmp_path,
        says("x"),
        raw(sse({"error": {"message": "late", "type": "x", "code": 500}}), b"data: [DONE]\n\n"),
        run,
    )


def test_point_13_errors_after_the_first_token(tmp_path: Path) -> None:
    """After the first token: an error event, then the end; no finish_reason stop, no [DONE]."""

    async def run(w: World) -> None:
        response = await w.served.chat(hello(stream=True))
        assert set(events(response)[-1]["error"]) == {"message", "type", "param", "code"}
        assert "[DONE]" not in response.text
        assert '"stop"' not in response.text

    check(tmp_path, says("x"), raw(sse(chunk({"content": "a"})), sse({"error": "boom"}), b"data: [DONE]\n\n"), run)
    check(tmp_path, says("x"), raw(sse(chunk({"content": "a"}))), run)
