"""Two small models that must say the same, and tools that a small model may not call alone."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.line.speaking import calibrated, label, speaks
from tests.line.world import GOOD, Handler, asks, fails, hello, says, world

BOTH = "both: {match: {schema_name: both}, ladder: [small, cloud], mode: enforce, accept: {agrees_with: other}}"


@pytest.mark.parametrize("stream", [False, True])
def test_what_both_say_is_taken(tmp_path: Path, stream: bool) -> None:
    """The second model is asked beside the first; the same answer in another spelling is the same, and nothing larger is asked."""

    async def run() -> None:
        other = says('{ "label" : "a" }\n')
        async with world(tmp_path, says(GOOD), says("never"), routes=BOTH, other=other) as w:
            response = await w.served.chat(asks("both", stream=stream))
            assert GOOD in response.text.replace("\\", "")
            record = w.served.record(response)
            assert (record.outcome, record.served, record.escalation) == ("accepted", "small", "")
            assert [(a.rung, a.purpose) for a in record.attempts] == [("small", ""), ("other", "agree")]
            assert response.headers["x-weir-attempts"] == "2"
            assert w.other.asked[0].json["response_format"] == w.small.asked[0].json["response_format"]
            assert w.cloud.asked == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (says('{"label":"b"}'), "disagreement"),
        (says('{"label":"z"}'), "disagreement"),
        (fails(500), "backend_error"),
        (fails(503), "overload"),
    ],
)
def test_what_only_one_says_goes_up(tmp_path: Path, other: Handler, reason: str) -> None:
    """Another answer, none of the right form, or none at all: the request goes up under that reason, counted once."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says('{"label":"b"}'), routes=BOTH, other=other) as w:
            response = await w.served.chat(asks("both"))
            record = w.served.record(response)
            assert (record.outcome, record.served, record.escalation) == ("escalated", "cloud", reason)
            assert response.headers["x-weir-reason"] == reason
            series = [
                f'weir_escalations_total{{route="both",from="{low}",to="{high}",reason="{reason}"}}'
                for low, high in (("small", "cloud"), ("small", "other"), ("other", "cloud"))
            ]
            assert [w.served.metric(name) for name in series] == [1, 0, 0]

    asyncio.run(run())


def test_a_bad_first_answer_does_not_wait_for_the_second(tmp_path: Path) -> None:
    """The first one broke the schema: the second is let go at once, and the cloud asked."""

    async def hangs(_: Any) -> None:
        await asyncio.sleep(60)

    async def run() -> None:
        async with world(tmp_path, says("no"), says(GOOD), routes=BOTH, other=hangs) as w:
            record = w.served.record(await w.served.chat(asks("both")))
            assert (record.outcome, record.escalation) == ("escalated", "schema")
            assert record.attempts[1].outcome == "stopped"
            await w.other.wait_left(1)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("probability", "other", "asked", "outcome", "escalation"),
    [
        (0.95, '{"label":"b"}', 0, "accepted", ""),
        (0.7, GOOD, 1, "accepted", ""),
        (0.7, '{"label":"b"}', 1, "escalated", "disagreement"),
        (0.4, GOOD, 0, "escalated", "low_confidence"),
    ],
)
def test_only_in_the_grey_zone(
    tmp_path: Path, probability: float, other: str, asked: int, outcome: str, escalation: str
) -> None:
    """`when: grey`: a sure answer needs nobody, a hopeless one gets nobody, and in between the second model decides."""

    async def run() -> None:
        file = calibrated(tmp_path, rule="confidence+agrees:other@grey")
        route = (
            "grey: {match: {schema_name: grey}, ladder: [small, cloud], mode: enforce,"
            f" accept: {{risk: 0.01, calibration: '{file}', agrees_with: {{rung: other, when: grey}}}}}}"
        )
        async with world(tmp_path, speaks(*label(probability)), says(GOOD), routes=route, other=says(other)) as w:
            response = await w.served.chat(asks("grey"))
            record = w.served.record(response)
            assert (record.outcome, record.escalation, len(w.other.asked)) == (outcome, escalation, asked)
            assert record.attempts[0].probability == pytest.approx(probability, abs=1e-3)

    asyncio.run(run())


# --- tools with effects -----------------------------------------------------------------------------------------------------------


def tool(name: str, **more: Any) -> dict[str, Any]:
    inner = {"name": name, "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}, **more}
    return {"type": "function", "function": inner}


def call(name: str, arguments: str = '{"x":1}') -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(name: str, arguments: str = '{"x":1}') -> Handler:
    return says(None, "tool_calls", tool_calls=[call(name, arguments)])


ACTS = "acts: {ladder: [small, %s], mode: enforce, writes: ['delete_*'], tools: {%s}%s}"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("name", "mark", "rules", "outcome"),
    [
        ("look", {}, "", "accepted"),
        ("refund", {}, "refund: {local: never}", "escalated"),
        ("delete_all", {}, "", "escalated"),
        ("delete_all", {}, "delete_all: {local: always}", "accepted"),
        ("pay", {"x-weir-writes": True}, "", "escalated"),
        ("pay", {"x-weir-writes": True}, "pay: {local: always}", "accepted"),
        ("pay", {"annotations": {"readOnlyHint": False}}, "", "escalated"),
        ("pay", {"annotations": {"destructiveHint": True}}, "", "escalated"),
        ("pay", {"annotations": {"readOnlyHint": True}}, "", "accepted"),
        ("book", {}, "book: {local: agree}", "escalated"),
    ],
)
def test_who_may_call(tmp_path: Path, name: str, mark: dict[str, Any], rules: str, outcome: str, stream: bool) -> None:
    """A tool that a small model may not call, that matches `writes` or is marked as writing, goes up under `policy` unless the route has
    an entry for it. Our own mark stays in the house."""

    async def run() -> None:
        async with world(tmp_path, calls(name), calls(name, '{"x":2}'), routes=ACTS % ("cloud", rules, "")) as w:
            response = await w.served.chat(hello(model="route/acts", tools=[tool(name, **mark)], stream=stream))
            record = w.served.record(response)
            assert record.outcome == outcome
            assert record.escalation == ("policy" if outcome == "escalated" else "")
            assert ('{"x":1}' in response.text.replace("\\", "")) == (outcome == "accepted")
            assert b"x-weir-writes" not in w.small.asked[0].body

    asyncio.run(run())


def test_a_call_that_both_make(tmp_path: Path) -> None:
    """`local: agree`: the same call of the second model, its arguments in another order, is a confirmation; another call is none."""

    async def run(second: str, outcome: str, escalation: str) -> None:
        route = ACTS % ("cloud", "book: {local: agree}", ", accept: {agrees_with: {rung: other}}")
        first = calls("book", '{"x":1,"y":2}')
        async with world(tmp_path, first, calls("book"), routes=route, other=calls("book", second)) as w:
            record = w.served.record(await w.served.chat(hello(model="route/acts", tools=[tool("book")])))
            assert (record.outcome, record.escalation) == (outcome, escalation)
            assert list(record.attempts[0].calls) == ["book"]

    asyncio.run(run('{ "y": 2, "x": 1.0 }', "accepted", ""))
    asyncio.run(run('{"x":1,"y":3}', "escalated", "disagreement"))


def test_a_forbidden_call_is_not_even_degraded(tmp_path: Path) -> None:
    """Nobody larger can be asked and the route delivers unproven answers: this one is refused, and the error says why."""

    async def run() -> None:
        route = ACTS % ("keyless", "refund: {local: never}", ", on_unavailable: deliver")
        async with world(tmp_path, calls("refund"), says("never"), routes=route) as w:
            response = await w.served.chat(hello(model="route/acts", tools=[tool("refund")]))
            assert response.status_code == 503
            assert "may not call" in response.json()["error"]["message"]
            assert '"x"' not in response.text
            assert w.served.last().attempts[0].reason == "policy"

    asyncio.run(run())
