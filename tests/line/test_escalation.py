"""A bad answer goes up the ladder, for a reason that is counted; a good one stays where it is cheap."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.backends.upstream import Asked
from tests.line.world import BAD, GOOD, Handler, asks, fails, hello, says, world

NAMED = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":"no"}'}}
TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
    },
}


async def _hangs(asked: Asked) -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize("stream", [False, True])
def test_good_answer_stays_small(tmp_path: Path, stream: bool) -> None:
    """An answer that passes is delivered from the small rung and nothing large is asked."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("never")) as w:
            response = await w.served.chat(asks(stream=stream))
            assert response.status_code == 200
            assert GOOD in response.text.replace("\\", "")
            assert w.cloud.asked == []
            record = w.served.record(response)
            assert (record.outcome, record.served, record.escalation) == ("accepted", "small", "")
            assert record.counterfactual_cost == pytest.approx(20e-6)
            assert record.cost == 0
            assert w.served.metric('weir_requests_total{route="labels",outcome="accepted",mode="enforce"}') == 1

    asyncio.run(run())


REASONS: list[tuple[str, Handler]] = [
    ("schema", says(BAD)),
    ("schema", says("no json at all")),
    ("truncated", says('{"label":', "length")),
    ("truncated", says("")),
    ("refused", says(None, refusal="I will not")),
    ("refused", says("", "content_filter")),
    ("overload", fails(503)),
    ("overload", fails(429)),
    ("backend_error", fails(500)),
    ("backend_error", fails(400)),
    ("context_overflow", fails(400, "This model's maximum context length is 10 tokens")),
    ("timeout", _hangs),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("reason", "small"), REASONS)
def test_reasons(tmp_path: Path, reason: str, small: Handler, stream: bool) -> None:
    """Every failure of the small rung is escalated under its own reason, and not a byte of it reaches the caller."""
    deadline = "10" if reason == "timeout" else "45"  # of which the small rung may take a tenth

    async def run() -> None:
        async with world(tmp_path, small, says(GOOD), server="reserve: 0.9", deadline=deadline) as w:
            response = await w.served.chat(asks(stream=stream))
            assert response.status_code == 200
            assert BAD not in response.text.replace("\\", "")
            record = w.served.record(response)
            assert (record.outcome, record.served, record.escalation) == ("escalated", "cloud", reason)
            assert [attempt.outcome for attempt in record.attempts][-1] == "delivered"
            assert response.headers["x-weir-reason"] == reason
            assert response.headers["x-weir-attempts"] == "2"
            name = f'weir_escalations_total{{route="labels",from="small",to="cloud",reason="{reason}"}}'
            assert w.served.metric(name) == 1

    asyncio.run(run())


def test_tool_arguments(tmp_path: Path) -> None:
    """A call whose arguments break the tool's parameters is escalated."""

    async def run() -> None:
        good: dict[str, Any] = {**NAMED, "function": {"name": "f", "arguments": '{"x":1}'}}
        async with world(
            tmp_path,
            says(None, "tool_calls", tool_calls=[NAMED]),
            says(None, "tool_calls", tool_calls=[good]),
        ) as w:
            response = await w.served.chat(hello(tools=[TOOL]))
            assert response.json()["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"x":1}'
            assert w.served.record(response).escalation == "tool_arguments"

    asyncio.run(run())


def test_nothing_larger_to_ask(tmp_path: Path) -> None:
    """The check failed and the cloud has no key: 503 that says which check and which variable, and not to retry."""

    async def run() -> None:
        async with world(tmp_path, says(BAD), says("never")) as w:
            response = await w.served.chat(asks("alone"))
            error = response.json()["error"]
            assert response.status_code == 503
            assert error["code"] == "escalation_unavailable"
            assert "fits_schema" in error["message"]
            assert "WEIR_TEST_UNSET" in error["message"]
            assert response.headers["x-should-retry"] == "false"
            assert w.served.record(response).outcome == "refused"
            ready = (await w.served.client.get("/readyz")).json()
            assert ready["backends"]["keyless"] == {"available": False, "missing": "WEIR_TEST_UNSET"}

    asyncio.run(run())


UNSURE = "unsure: {match: {schema_name: unsure}, ladder: [small, keyless], mode: enforce, accept: {risk: 0.01}, on_unavailable: %s}"


@pytest.mark.parametrize(("policy", "status", "outcome"), [("deliver", 200, "degraded"), ("refuse", 503, "refused")])
def test_unproven(tmp_path: Path, policy: str, status: int, outcome: str) -> None:
    """An answer that is only unproven is delivered as degraded where the route says so, and never counted as accepted."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("never"), routes=UNSURE % policy) as w:
            response = await w.served.chat(asks("unsure"))
            assert response.status_code == status
            record = w.served.record(response)
            assert record.outcome == outcome
            assert record.attempts[0].reason == "low_confidence"
            if outcome == "degraded":
                assert response.headers["x-weir-degraded"] == "true"
                assert w.served.metric('weir_degraded_total{route="unsure"}') == 1

    asyncio.run(run())


def test_proven_bad_is_never_delivered(tmp_path: Path) -> None:
    """`on_unavailable: deliver` is for unproven answers; one that breaks the schema is refused all the same."""

    async def run() -> None:
        async with world(tmp_path, says(BAD), says("never"), routes=UNSURE % "deliver") as w:
            assert (await w.served.chat(asks("unsure"))).status_code == 503

    asyncio.run(run())


def test_top_rung_and_schema(tmp_path: Path) -> None:
    """The top rung's bad answer is delivered and recorded as late; under `strict` it is a 502."""

    async def run() -> None:
        async with world(tmp_path, says(BAD), says(BAD)) as w:
            lax = await w.served.chat(asks())
            assert lax.status_code == 200
            assert w.served.record(lax).late_verdict == "schema"
            strict = await w.served.chat(asks("strict"))
            assert strict.status_code == 502
            assert strict.json()["error"]["code"] == "no_valid_answer"
            assert strict.headers["x-should-retry"] == "false"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("cloud", "status", "code"),
    [
        (fails(500), 502, "upstream_error"),
        (fails(401, "bad key sk-secret"), 502, "upstream_error"),
        (fails(429, **{"retry-after": "7"}), 503, "upstream_overloaded"),
        (fails(400, "This model's maximum context length is 10 tokens"), 400, "context_length_exceeded"),
        (fails(400, "temperature is odd"), 400, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_top_rung_fails(tmp_path: Path, cloud: Handler, status: int, code: str | None, stream: bool) -> None:
    """What the last rung's failure means for the caller: a real status, also for a stream; an upstream's 401 is not theirs."""

    async def run() -> None:
        async with world(tmp_path, says(BAD), cloud) as w:
            response = await w.served.chat(asks(stream=stream))
            assert (response.status_code, response.json()["error"]["code"]) == (status, code)
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}
            assert "sk-secret" not in response.text
            assert w.served.record(response).status == status

    asyncio.run(run())


def test_one_deadline(tmp_path: Path) -> None:
    """Both rungs hang: the whole ladder ends at the route's deadline with 504."""

    async def run() -> None:
        route = "hurry: {match: {schema_name: hurry}, ladder: [small, cloud], mode: enforce, deadline: 2}"
        async with world(tmp_path, _hangs, _hangs, routes=route) as w:
            response = await w.served.chat(asks("hurry"))
            assert response.status_code == 504
            record = w.served.record(response)
            assert [a.reason for a in record.attempts] == ["timeout", "timeout"]
            assert record.seconds.total < 30

    asyncio.run(run())


def test_budget_blocks_only_paid_rungs(tmp_path: Path) -> None:
    """An empty purse forbids the cloud rung, says so, and the local one was asked all the same."""

    async def run() -> None:
        route = (
            "poor: {match: {schema_name: poor}, ladder: [cloud, small, cloud2], mode: enforce, budget: {usd: 0.000001}}"
        )
        more = ""
        async with world(tmp_path, says(BAD), says(BAD), routes=route.replace("cloud2", "keyless"), more=more) as w:
            response = await w.served.chat(asks("poor"))
            assert response.status_code == 503
            assert [a.rung for a in w.served.record(response).attempts] == ["cloud", "small"]

    asyncio.run(run())


def test_egress(tmp_path: Path) -> None:
    """`egress: local` never asks a cloud rung."""

    async def run() -> None:
        route = "private: {match: {schema_name: private}, ladder: [small, cloud], mode: enforce, egress: local}"
        async with world(tmp_path, says(BAD), says(GOOD), routes=route) as w:
            response = await w.served.chat(asks("private"))
            assert response.status_code == 503
            assert "egress" in response.json()["error"]["message"]
            assert w.cloud.asked == []

    asyncio.run(run())


def test_imposed_and_rendered(tmp_path: Path) -> None:
    """A route's own schema goes to the small rung only, and its answer comes back as the text that `render` makes of it."""

    async def run() -> None:
        route = (
            'imposed: {match: {header: {x-kind: "*"}}, ladder: [small, cloud], mode: enforce, render: "label {label}!",'
            ' schema: {type: object, properties: {label: {enum: ["a", "b"]}}, required: ["label"], additionalProperties: false}}'
        )
        async with world(tmp_path, says(GOOD), says("plain"), routes=route) as w:
            for stream in (False, True):
                response = await w.served.chat(hello(stream=stream), x_kind="1")
                assert "label a!" in response.text
                assert w.small.asked[-1].json["response_format"]["type"] == "json_schema"
        async with world(tmp_path, says(BAD), says("plain"), routes=route) as w:
            response = await w.served.chat(hello(), x_kind="1")
            assert response.json()["choices"][0]["message"]["content"] == "plain"
            assert "response_format" not in w.cloud.asked[-1].json

    asyncio.run(run())


ALONE = "alone_in_house: {match: {schema_name: house}, ladder: [small], mode: enforce, on_unavailable: %s%s}"


def test_a_ladder_of_one_small_rung(tmp_path: Path) -> None:
    """A ladder's only rung, in the house, must prove itself: accepted when it passes, refused when it fails, never passed off."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("never"), routes=ALONE % ("refuse", "")) as w:
            good = await w.served.chat(asks("house"))
            assert w.served.record(good).outcome == "accepted"
        async with world(tmp_path, says(BAD), says("never"), routes=ALONE % ("refuse", "")) as w:
            for stream in (False, True):
                bad = await w.served.chat(asks("house", stream=stream))
                assert bad.status_code == 503
                assert "no larger rung" in bad.json()["error"]["message"]

    asyncio.run(run())
