"""Checklist 14 to 21 and 28 to 49: what is accepted, what is refused, and what an answer looks like."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.backends.upstream import Asked
from tests.checklist.tools import TOOL, call, calls, check, choices, chunk, events, plays, raw, text
from tests.line.world import BAD, GOOD, SCHEMA, Handler, World, asks, completion, fails, hello, says, sse

ERROR = {"message", "type", "param", "code"}


def test_point_14_error_shape(tmp_path: Path) -> None:
    """Every error has message, type, param and a code that is a string or null, whatever the upstream wrote."""

    async def run(w: World) -> None:
        for body in (hello(), hello(stream=True), {}, hello(model="nobody")):
            response = await w.served.chat(body)
            error = response.json()["error"]
            assert set(error) == ERROR
            assert error["code"] is None or isinstance(error["code"], str)
            assert response.headers["content-type"] == "application/json"

    async def html(asked: Asked) -> None:
        await asked.answer(b"<html>oops</html>", 502, {"content-type": "text/html"})

    async def string(asked: Asked) -> None:
        await asked.answer(b'{"error":"Unauthorized"}', 401)

    async def detail(asked: Asked) -> None:
        await asked.answer(b'{"detail":[{"loc":["x"]}]}', 422)

    for cloud in (html, string, detail, fails(404), fails(400)):
        check(tmp_path, says("x"), cloud, run)


def test_point_15_bad_bodies(tmp_path: Path) -> None:
    """Bad JSON, no messages, wrong types: 400 invalid_request_error with its param (more in tests/line/test_bad_input.py)."""

    async def run(w: World) -> None:
        for content, param in ((b"{", "body"), (b'{"model":"weir"}', "messages"), (orjson.dumps(hello(n="x")), "n")):
            response = await w.served.client.post("/v1/chat/completions", content=content)
            assert response.status_code == 400
            assert response.json()["error"]["type"] == "invalid_request_error"
            assert response.json()["error"]["param"] == param

    check(tmp_path, says("x"), says("ok"), run)


def test_point_16_harmless_oddities(tmp_path: Path) -> None:
    """tools: [], tool_choice none, null and unknown parameters are accepted, on the small rung and on the large one."""
    odd: dict[str, Any] = {
        "tools": [], "temperature": None, "top_p": 0, "max_tokens": None, "stop": None, "stream_options": None, "n": None,
        "novel": {"x": 1}, "logit_bias": None, "response_format": None, "seed": None, "user": None,
    }  # fmt: skip

    async def run(w: World) -> None:
        assert (await w.served.chat(hello(**odd))).status_code == 200
        assert (await w.served.chat(hello(**odd, model="route/labels"))).status_code == 200
        sent = w.small.asked[-1].json
        assert "tools" not in sent
        assert None not in sent.values()
        assert (await w.served.chat(hello(tools=[TOOL], tool_choice="none"))).status_code == 200

    check(tmp_path, says("x"), says("ok"), run)


def test_point_17_roles(tmp_path: Path) -> None:
    """developer, several and interleaved system messages and consecutive roles reach a specialist as one system message first."""
    messages = [
        {"role": "developer", "content": "one"},
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "system", "content": [{"type": "text", "text": "two"}]},
        {"role": "user", "content": "c"},
    ]

    async def run(w: World) -> None:
        assert (await w.served.chat(asks(messages=messages))).status_code == 200
        sent = w.small.asked[0].json["messages"]
        assert [m["role"] for m in sent] == ["system", "user", "user", "user"]
        assert sent[0]["content"] == "one\n\ntwo"

    check(tmp_path, says(GOOD), says("x"), run)


def test_point_18_text_parts(tmp_path: Path) -> None:
    """Text parts are the same request as a plain string: same facts, same route, same answer."""

    async def run(w: World) -> None:
        plain = await w.served.chat(asks(messages=[{"role": "user", "content": "which?"}]))
        parts = await w.served.chat(asks(messages=[{"role": "user", "content": [{"type": "text", "text": "which?"}]}]))
        assert text(plain) == text(parts)
        assert w.served.record(plain).facts.text_hash == w.served.record(parts).facts.text_hash

    check(tmp_path, says(GOOD), says("x"), run)


def test_point_19_history(tmp_path: Path) -> None:
    """content null with tool_calls, and tool messages (string or parts), reach every backend as they were."""
    messages = [
        {"role": "user", "content": "add"},
        {"role": "assistant", "content": None, "tool_calls": [call()]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "2"}]},
    ]

    async def run(w: World) -> None:
        assert (await w.served.chat(asks(messages=messages))).status_code == 200
        assert w.small.asked[0].json["messages"] == messages
        assert w.cloud.asked[0].json["messages"] == messages

    check(tmp_path, says(BAD), says(GOOD), run)


def test_point_20_model_echo(tmp_path: Path) -> None:
    """The answer names the model that was asked for, whole and streamed; who served it is in the headers."""

    async def run(w: World) -> None:
        whole = await w.served.chat(hello(model="gpt-5-turbo"))
        assert whole.json()["model"] == "gpt-5-turbo"
        assert whole.headers["x-weir-rung"] == "cloud"
        stream = await w.served.chat(hello(model="gpt-5-turbo", stream=True))
        assert {e["model"] for e in events(stream)} == {"gpt-5-turbo"}

    check(tmp_path, says("x"), says("ok"), run)


def test_point_21_models(tmp_path: Path) -> None:
    """/v1/models has the four fields and the context length, retrieves ids with a slash, and knows what it does not know."""

    async def run(w: World) -> None:
        cards = (await w.served.client.get("/v1/models")).json()["data"]
        assert all({"id", "object", "created", "owned_by"} <= set(card) for card in cards)
        one = (await w.served.client.get("/v1/models/route/labels")).json()
        assert one["id"] == "route/labels"
        unknown = await w.served.client.get("/v1/models/nobody")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")

    check(tmp_path, says("x"), says("ok"), run)


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "function": {"name": "add"}},
        {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "add"}}]},
        },
    ],
    ids=["required", "named", "allowed_tools"],
)
def test_point_28_tool_choice(tmp_path: Path, choice: object) -> None:
    """A forced call is honoured on the specialist, and again after escalation when the specialist talks instead."""

    async def run(w: World) -> None:
        response = await w.served.chat(hello(tools=[TOOL], tool_choice=choice))
        assert response.json()["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "add"
        assert w.served.record(response).escalation == "tool_arguments"
        assert w.cloud.asked[0].json["tool_choice"] == choice

    check(tmp_path, says("I would rather talk"), says(None, "tool_calls", tool_calls=[call()]), run)


def test_point_29_one_call(tmp_path: Path) -> None:
    """parallel_tool_calls: false never yields two calls from a specialist."""

    async def run(w: World) -> None:
        response = await w.served.chat(hello(tools=[TOOL], parallel_tool_calls=False))
        assert len(response.json()["choices"][0]["message"]["tool_calls"]) == 1

    two = [call(), call(id="c2")]
    check(tmp_path, says(None, "tool_calls", tool_calls=two), says(None, "tool_calls", tool_calls=[call()]), run)


@pytest.mark.parametrize("arguments", ['{"x":"no"}', "{", '{"x":1,"y":2}', "[]", '{"x":1}{"x":2}'])
def test_point_30_arguments(tmp_path: Path, arguments: str) -> None:
    """Arguments that break the tool's parameters escalate and do not surface."""

    async def run(w: World) -> None:
        for stream in (False, True):
            response = await w.served.chat(hello(tools=[TOOL], stream=stream))
            assert w.served.record(response).escalation == "tool_arguments"
            told = response.json()["choices"][0]["message"]["tool_calls"] if not stream else calls(response)
            assert len(told) == 1
            assert '{"x":1}' in (told[0]["arguments"] if stream else told[0]["function"]["arguments"])

    small = says(None, "tool_calls", tool_calls=[{"index": 0, **call(arguments=arguments)}])
    check(tmp_path, small, says(None, "tool_calls", tool_calls=[{"index": 0, **call()}]), run)


def test_point_31_format_beside_tools(tmp_path: Path) -> None:
    """response_format with tools and tool_choice auto: a call passes, and so does a formatted final answer."""

    async def run(w: World) -> None:
        body = asks(tools=[TOOL], model="route/labels")
        called = await w.served.chat(body)
        assert called.json()["choices"][0]["message"]["tool_calls"]
        assert w.served.record(called).outcome == "accepted"
        after = [
            *body["messages"],
            {"role": "assistant", "content": None, "tool_calls": [call()]},
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
        ]
        final = await w.served.chat({**body, "messages": after})
        assert text(final) == GOOD
        assert w.served.record(final).outcome == "accepted"
        assert all("response_format" not in asked.json for asked in w.small.asked)

    async def small(asked: Asked) -> None:
        done = asked.json["messages"][-1]["role"] == "tool"
        await asked.answer(completion(GOOD) if done else completion(None, "tool_calls", tool_calls=[call()]))

    check(tmp_path, small, says("x"), run)


def test_point_32_context_overflow(tmp_path: Path) -> None:
    """Too long for the specialist: a larger model is tried; too long for all: 400 with every phrase that clients look for."""

    async def run(w: World) -> None:
        response = await w.served.chat(asks())
        assert response.status_code == 400
        error = response.json()["error"]
        assert error["code"] == "context_length_exceeded"
        for phrase in ("context_length_exceeded", "maximum context length", "Input tokens exceed the configured limit"):
            assert phrase in error["message"]
        assert len(w.cloud.asked) == 1

    long = fails(400, "This model's maximum context length is 8 tokens. However, you requested 900")
    check(tmp_path, long, long, run)


def test_point_33_when_to_retry(tmp_path: Path) -> None:
    """503 carries retry-after of at most 120 s; where asking again would fail the same way, x-should-retry: false."""

    async def run(w: World) -> None:
        direct = await w.served.chat(hello())
        assert direct.status_code == 503
        assert float(direct.headers["retry-after"]) == 120
        climbed = await w.served.chat(asks())
        assert climbed.headers["x-should-retry"] == "false"

    check(tmp_path, says(BAD), fails(429, **{"retry-after": "900"}), run)


def test_point_34_request_id(tmp_path: Path) -> None:
    """x-request-id on every response, errors, streams and operations included; the caller's own reaches vLLM and the Record."""

    async def run(w: World) -> None:
        for response in (
            await w.served.chat(hello()),
            await w.served.chat(hello(stream=True)),
            await w.served.chat({}),
            await w.served.client.get("/v1/models"),
            await w.served.client.get("/healthz"),
            await w.served.client.get("/nowhere"),
        ):
            assert response.headers["x-request-id"]
        await w.served.chat(asks(), x_request_id="mine-1")
        assert w.small.asked[-1].headers["x-request-id"] == "mine-1"
        assert w.served.last().id == "mine-1"

    check(tmp_path, says(GOOD), says("ok"), run)


LOGPROBS = {"content": [{"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}]}


def test_point_35_logprobs(tmp_path: Path) -> None:
    """Log-probabilities are returned iff they were asked for, with both keys, and are never invented after an escalation."""

    async def with_logprobs(asked: Asked) -> None:
        body = orjson.loads(completion("a"))
        body["choices"][0]["logprobs"] = LOGPROBS
        await asked.answer(orjson.dumps(body))

    async def run(w: World) -> None:
        plain = await w.served.chat(hello())
        assert plain.json()["choices"][0]["logprobs"] is None
        asked = await w.served.chat(hello(logprobs=True))
        assert asked.json()["choices"][0]["logprobs"] == {**LOGPROBS, "refusal": None}

    async def none_above(w: World) -> None:
        response = await w.served.chat(asks(logprobs=True))
        assert response.json()["choices"][0]["logprobs"] is None

    check(tmp_path, says("x"), with_logprobs, run)
    check(tmp_path, with_logprobs, says(GOOD), none_above)


def _form(schema: Any, *, strict: bool) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "label", "schema": schema, "strict": strict}}


def test_point_36_strict_subset(tmp_path: Path) -> None:
    """Outside of the strict subset: 400 when strict, never when not."""
    outside = [
        {"type": "object", "properties": {"a": {"type": "string"}}},
        {**SCHEMA, "required": []},
        {"anyOf": [SCHEMA]},
        {**SCHEMA, "properties": {"label": {"allOf": [{"type": "string"}]}}},
        {**SCHEMA, "properties": {"label": {"type": "array", "items": {"type": "string"}, "uniqueItems": True}}},
    ]

    async def run(w: World) -> None:
        for schema in outside:
            strict = await w.served.chat(hello(response_format=_form(schema, strict=True)))
            assert (strict.status_code, strict.json()["error"]["code"]) == (400, "invalid_json_schema")
            assert (await w.served.chat(hello(response_format=_form(schema, strict=False)))).status_code == 200
        assert (await w.served.chat(hello(response_format=_form(SCHEMA, strict=True)))).status_code == 200

    check(tmp_path, says('{"label":"a"}'), says('{"label":"a"}'), run)


def test_point_37_a_grammar_that_does_not_compile(tmp_path: Path) -> None:
    """A specialist that cannot compile a schema hands over to the next rung: a valid answer, not its 400."""

    async def run(w: World) -> None:
        response = await w.served.chat(asks())
        assert text(response) == GOOD
        assert w.served.record(response).escalation == "unsupported"

    refuses = fails(400, "The provided JSON schema contains features not supported by xgrammar.")
    check(tmp_path, refuses, says(GOOD), run)


SCHEMAS: list[tuple[dict[str, Any], str, str]] = [
    (
        {
            "$defs": {"node": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                               "required": ["next"], "additionalProperties": False}},
            "$ref": "#/$defs/node",
        },
        '{"next":{"next":null}}',
        '{"next":{"next":1}}',
    ),
    ({"type": "object", "properties": {"k": {"const": 3}}, "required": ["k"]}, '{"k":3}', '{"k":4}'),
    (
        {
            "type": "object",
            "properties": {"m": {"type": "array", "items": {"type": "array", "items": {"enum": [1, "b"]}}}},
            "required": ["m"],
        },
        '{"m":[[1,"b"],[]]}',
        '{"m":[[2]]}',
    ),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "good", "bad"), SCHEMAS, ids=["recursion", "const", "nested arrays"])
def test_point_38_schemas(tmp_path: Path, schema: dict[str, Any], good: str, bad: str) -> None:
    """$ref recursion, $defs, anyOf with null, enum, const and nested arrays are judged end to end."""

    async def run(w: World) -> None:
        response = await w.served.chat(asks(response_format=_form(schema, strict=False)))
        assert text(response) == good
        assert w.served.record(response).escalation == "schema"

    check(tmp_path, says(bad), says(good), run)


def test_point_39_hostile_schemas(tmp_path: Path) -> None:
    """A remote $ref touches no network; oversize, deep and regex-bomb schemas are answered at once, and the bomb bites nobody."""
    visits: list[Asked] = []

    async def visited(asked: Asked) -> None:
        visits.append(asked)
        await asked.answer(b"{}")

    deep: dict[str, Any] = {"type": "string"}
    for _ in range(200):
        deep = {"type": "object", "properties": {"a": deep}}

    async def run(w: World) -> None:
        remote = {"type": "object", "properties": {"a": {"$ref": f"{w.small.url}/x.json"}}}
        for schema in (remote, deep, {"type": "string", "description": "x" * 300_000}):
            response = await w.served.chat(hello(response_format=_form(schema, strict=False)))
            assert response.status_code == 400
        assert visits == []
        bomb = {
            "type": "object",
            "properties": {"a": {"type": "string", "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"}},
            "required": ["a"],
        }
        bitten = await w.served.chat(asks(response_format=_form(bomb, strict=False)))
        assert bitten.status_code == 200

    check(tmp_path, visited, says(orjson.dumps({"a": "a" * 5000}).decode()), run)


def test_point_40_truncation(tmp_path: Path) -> None:
    """A truncated structured answer is reported as length, with what there is; nobody repairs it."""

    async def run(w: World) -> None:
        for stream in (False, True):
            response = await w.served.chat(asks(stream=stream))
            assert text(response) == '{"label":'
            found = choices(response)[-1] if stream else response.json()["choices"][0]
            assert found["finish_reason"] == "length"

    check(tmp_path, says('{"label":', "length"), says('{"label":', "length"), run)


def test_point_41_refusals(tmp_path: Path) -> None:
    """A refusal of the top rung: refusal set, content null, not judged as JSON, asked once."""

    async def run(w: World) -> None:
        whole = await w.served.chat(asks())
        message = whole.json()["choices"][0]["message"]
        assert (message["refusal"], message["content"]) == ("no way", None)
        stream = await w.served.chat(asks(stream=True))
        assert "".join(c["delta"].get("refusal") or "" for c in choices(stream)) == "no way"
        assert len(w.cloud.asked) == 2

    check(tmp_path, says(None, refusal="no way"), says(None, refusal="no way"), run)


def test_point_42_reasoning(tmp_path: Path) -> None:
    """Reasoning comes out in exactly one field, whichever the upstream used (or both), never in the content; both go back in."""
    field = "reasoning_content"

    async def run(w: World) -> None:
        stream = await w.served.chat(hello(stream=True))
        deltas = [c["delta"] for c in choices(stream)]
        assert "".join(d.get(field) or "" for d in deltas) == "hmm"
        assert all("reasoning" not in d for d in deltas)
        assert text(stream) == "ok"

    for key in ({"reasoning": "hmm"}, {"reasoning_content": "hmm"}, {"reasoning": "hmm", "reasoning_content": "hmm"}):
        check(tmp_path, says("x"), plays(key, {"content": "ok"}), run)

    async def whole(w: World) -> None:
        history = [{"role": "assistant", "content": "a", "reasoning_content": "old"}, {"role": "user", "content": "hi"}]
        message = (await w.served.chat(hello(messages=history))).json()["choices"][0]["message"]
        assert message[field] == "hmm"
        assert "reasoning" not in message
        assert w.cloud.asked[0].json["messages"] == history

    check(tmp_path, says("x"), says("ok", reasoning="hmm"), whole)


def test_point_43_several_choices(tmp_path: Path) -> None:
    """n > 1: n choices, index 0 first in a stream, a finish_reason each, usage once; one bad choice rejects all."""

    def two(first: str, second: str) -> Handler:
        async def handler(asked: Asked) -> None:
            if asked.json.get("stream"):
                pieces = [sse(chunk({"content": second}, index=1)), sse(chunk({"content": first}, index=0))]
                ends = [sse(chunk({}, "stop", index=1)), sse(chunk({}, "stop", index=0)), b"data: [DONE]\n\n"]
                await asked.stream(*pieces, *ends)
                return
            body = orjson.loads(completion(first))
            body["choices"].append(
                {"index": 1, "message": {"role": "assistant", "content": second}, "finish_reason": "stop"}
            )
            await asked.answer(orjson.dumps(body))

        return handler

    async def run(w: World) -> None:
        whole = await w.served.chat(asks(n=2))
        assert [text(whole, i) for i in (0, 1)] == [GOOD, '{"label":"b"}']
        assert w.served.record(whole).escalation == "schema"
        stream = await w.served.chat(asks(n=2, stream=True, model="route/general"))
        assert events(stream)[0]["choices"][0]["index"] == 0
        for index in (0, 1):
            assert [c["finish_reason"] for c in choices(stream, index)].count("stop") == 1

    check(tmp_path, two(GOOD, BAD), two(GOOD, '{"label":"b"}'), run)


def test_point_44_stop_sequences(tmp_path: Path) -> None:
    """Stop sequences go to the upstream as they are and are not applied by the gateway."""

    async def run(w: World) -> None:
        response = await w.served.chat(asks(stop=['"', "}"]))
        assert w.small.asked[0].json["stop"] == ['"', "}"]
        assert text(response) == GOOD

    check(tmp_path, says(GOOD), says("x"), run)


def test_point_45_token_limits(tmp_path: Path) -> None:
    """max_tokens and max_completion_tokens are both honoured; a rung that wants only the newer name gets only that."""

    async def run(w: World) -> None:
        await w.served.chat(hello(max_tokens=7))
        assert w.cloud.asked[-1].json["max_tokens"] == 7
        await w.served.chat(hello(max_completion_tokens=8))
        assert w.cloud.asked[-1].json["max_completion_tokens"] == 8
        text = w.served.config.read_text().replace("model: big,", "model: big, tokens_field: max_completion_tokens,")
        w.served.rewrite(text)
        assert await w.served.app.reload()
        await w.served.chat(hello(max_tokens=7))
        assert w.cloud.asked[-1].json["max_completion_tokens"] == 7
        assert "max_tokens" not in w.cloud.asked[-1].json

    check(tmp_path, says("x"), says("ok"), run)


def test_point_46_same_request_same_route(tmp_path: Path) -> None:
    """The same request is routed the same way every time."""

    async def run(w: World) -> None:
        told = [w.served.record(await w.served.chat(asks(seed=1, temperature=0))) for _ in range(5)]
        assert len({(r.route, r.served, r.facts.signature) for r in told}) == 1

    check(tmp_path, says(GOOD), says("x"), run)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
        {"type": "file", "file": {"file_data": "AA"}},
    ],
    ids=["image", "audio", "file"],
)
def test_point_47_modalities(tmp_path: Path, part: dict[str, Any]) -> None:
    """A part that the specialist does not take goes to a rung that does, whole; with none it is a 400 that says so."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "see"}, part]}]

    async def run(w: World) -> None:
        response = await w.served.chat(asks(messages=messages))
        assert w.served.record(response).served == "cloud"
        assert w.small.asked == []
        assert w.cloud.asked[0].json["messages"] == messages
        alone = await w.served.chat(asks(messages=messages, model="route/only"))
        assert alone.status_code == 400
        assert alone.json()["error"]["code"] == "unsupported_content"
        assert w.small.asked == []

    check(
        tmp_path,
        says(GOOD),
        says(GOOD),
        run,
        routes="only: {match: {schema_name: only}, ladder: [small], mode: enforce}",
    )


def test_point_48_usage_is_the_answers(tmp_path: Path) -> None:
    """Usage counts the answer that was returned; what the rejected one cost stands in the Record and the metrics."""

    async def run(w: World) -> None:
        response = await w.served.chat(asks())
        assert response.json()["usage"]["total_tokens"] == 15
        record = w.served.record(response)
        assert record.attempts[0].tokens.output == 5
        assert w.served.metric('weir_wasted_tokens_total{rung="small"}') == 15

    check(tmp_path, says(BAD), says(GOOD), run)


def test_point_49_token_details(tmp_path: Path) -> None:
    """cached and reasoning tokens pass through and are priced; missing details are tolerated."""
    used = {
        "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 3},
    }  # fmt: skip

    async def detailed(asked: Asked) -> None:
        body = orjson.loads(completion("ok"))
        body["usage"] = used
        await asked.answer(orjson.dumps(body))

    async def run(w: World) -> None:
        response = await w.served.chat(hello())
        assert response.json()["usage"] == used
        assert w.served.record(response).tokens.cached_input == 4

    check(tmp_path, says("x"), detailed, run)


def test_point_52_unicode(tmp_path: Path) -> None:
    """Emoji, CJK, U+2028 and halves of surrogate pairs, cut anywhere: no corruption, no 500."""
    said = "😀 漢字 \u2028 é"
    data = sse(chunk({"content": said}, "stop"))

    async def run(w: World) -> None:
        response = await w.served.chat(hello(stream=True))
        assert text(response) == said
        half = b'{"model":"weir","messages":[{"role":"user","content":"cut \\ud83d"}]}'
        assert (await w.served.client.post("/v1/chat/completions", content=half)).status_code == 200

    blocks = [data[i : i + 7] for i in range(0, len(data), 7)]
    check(tmp_path, says("x"), raw(*blocks, b"data: [DONE]\n\n"), run)

    async def lone(w: World) -> None:
        response = await w.served.chat(hello(stream=True))
        assert response.status_code == 200
        assert text(response).startswith("half ")

    check(
        tmp_path,
        says("x"),
        raw(b'data: {"choices":[{"index":0,"delta":{"content":"half \\ud83d"},"finish_reason":"stop"}]}\n\n'),
        lone,
    )


def test_point_56_functions(tmp_path: Path) -> None:
    """The older functions and function_call are translated both ways: asked as tools, answered in the caller's form."""
    body = hello(functions=[TOOL["function"]], function_call="auto", model="route/labels")

    async def run(w: World) -> None:
        whole = (await w.served.chat(body)).json()["choices"][0]
        assert whole["message"]["function_call"] == {"name": "add", "arguments": '{"x":1}'}
        assert "tool_calls" not in whole["message"]
        assert whole["finish_reason"] == "function_call"
        function: Any = TOOL["function"]
        strict = {**TOOL, "function": {**function, "strict": True}}  # how vLLM is asked for a grammar of the arguments
        assert w.small.asked[-1].json["tools"] == [strict]
        stream = await w.served.chat({**body, "stream": True})
        found = [c["delta"]["function_call"] for c in choices(stream) if "function_call" in c["delta"]]
        assert found[0]["name"] == "add"
        assert "".join(f["arguments"] for f in found) == '{"x":1}'
        assert choices(stream)[-1]["finish_reason"] == "function_call"
        history = [
            {"role": "user", "content": "add"},
            {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": '{"x":1}'}},
            {"role": "function", "name": "add", "content": "2"},
        ]
        await w.served.chat({**body, "messages": history})
        sent = w.small.asked[-1].json["messages"]
        assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"]

    small = says(None, "tool_calls", tool_calls=[{"index": 0, **call()}])
    check(tmp_path, small, says("x"), run)


def test_point_57_what_only_a_cloud_knows(tmp_path: Path) -> None:
    """store, metadata, service_tier and their like are accepted and go to backends that know them, not to vLLM."""
    extras: dict[str, Any] = {
        "store": True, "metadata": {"a": "b"}, "service_tier": "auto", "prompt_cache_key": "k", "safety_identifier": "s",
        "prediction": {"type": "content", "content": "x"}, "verbosity": "low",
    }  # fmt: skip

    async def run(w: World) -> None:
        assert (await w.served.chat(asks(**extras))).status_code == 200
        assert not set(extras) & set(w.small.asked[0].json)
        assert extras.items() <= w.cloud.asked[0].json.items()

    check(tmp_path, says(BAD), says(GOOD), run)


def test_point_58_custom_tools(tmp_path: Path) -> None:
    """A custom tool is nothing for a small model: it goes to the cloud, and its call comes back."""
    custom = {"type": "custom", "custom": {"name": "patch"}}
    called = {"id": "c1", "type": "custom", "custom": {"name": "patch", "input": "+1"}}

    async def run(w: World) -> None:
        response = await w.served.chat(hello(tools=[custom]))
        assert response.status_code == 200
        assert response.json()["choices"][0]["message"]["tool_calls"] == [called]
        assert w.small.asked == []

    check(tmp_path, says("x"), says(None, "tool_calls", tool_calls=[called]), run)


def test_helpers_can_fail(tmp_path: Path) -> None:
    """The accumulator of these tests sees a repeated name: a checklist that cannot fail proves nothing."""

    async def run(w: World) -> None:
        response = await w.served.client.post(
            "/v1/chat/completions", json=hello(stream=True, model="straight", tools=[TOOL])
        )
        assert calls(response)[0]["name"] == "addadd"

    twice = [{"tool_calls": [{"index": 0, **call(arguments="")}]}, {"tool_calls": [{"index": 0, **call()}]}]
    check(tmp_path, says("x"), plays(*twice), run)
