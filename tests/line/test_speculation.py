"""Looking at a small answer while it grows: early starts, their waste, early ends, and log-probabilities that nobody asked for."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from gateway.waste import AT_ONCE
from tests.backends.upstream import Asked
from tests.line.speaking import calibrated, label, speaks
from tests.line.world import BAD, GOOD, asks, hello, says, world
from tests.waiting import until

SURE = "sure: {{match: {{schema_name: sure}}, ladder: [small, cloud], mode: enforce, accept: {{risk: 0.01, calibration: '{}'}}{}}}"


def sure(file: str, more: str = "") -> str:
    return SURE.format(file, more)


EARLY = ", speculate: {waste: 0.03}"


@pytest.mark.parametrize("stream", [False, True])
def test_an_unsure_answer_starts_the_next_rung(tmp_path: Path, stream: bool) -> None:
    """A value token below the soft threshold starts the cloud while the small model still speaks; when the small answer is not taken
    the cloud's goes out, and the start was of use."""

    async def run() -> None:
        asked_early = asyncio.Event()

        async def cloud(asked: Asked) -> None:
            asked_early.set()
            await says(GOOD)(asked)

        route = sure(calibrated(tmp_path, soft=0.8), EARLY)
        # The small model does not go on before the cloud was asked: only an early start can end this.
        async with world(tmp_path, speaks(*label(0.6, asked_early)), cloud, routes=route) as w:
            response = await w.served.chat(asks("sure", stream=stream))
            assert response.status_code == 200
            record = w.served.record(response)
            assert (record.outcome, record.speculation, record.escalation) == ("escalated", "used", "low_confidence")
            assert [(a.rung, a.purpose, a.outcome) for a in record.attempts] == [
                ("small", "", "rejected"),
                ("cloud", "early", "delivered"),
            ]
            assert record.attempts[0].probability == pytest.approx(0.6, abs=1e-3)
            assert w.served.metric('weir_speculations_total{route="sure",result="used"}') == 1

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_the_words_of_a_request_may_start_the_next_rung(tmp_path: Path, stream: bool) -> None:
    """A request of a kind that this small model never gets right: the cloud is asked beside it, before it has said anything."""

    async def run() -> None:
        asked_early = asyncio.Event()

        async def cloud(asked: Asked) -> None:
            asked_early.set()
            await says(GOOD)(asked)

        async def small(asked: Asked) -> None:
            await asked_early.wait()
            await speaks(*label(0.6))(asked)

        route = sure(calibrated(tmp_path, soft=0.01, hopeless="which"), EARLY)
        async with world(tmp_path, small, cloud, routes=route) as w:
            response = await w.served.chat(asks("sure", stream=stream))
            assert response.status_code == 200
            record = w.served.record(response)
            assert (record.outcome, record.speculation, record.escalation) == ("escalated", "used", "low_confidence")
            assert [(a.rung, a.purpose) for a in record.attempts] == [("small", ""), ("cloud", "early")]

    asyncio.run(run())


def test_an_accepted_answer_stops_the_early_start(tmp_path: Path) -> None:
    """The small answer turned out sure enough: the cloud's connection is closed, its start counts as waste, and nothing escalated."""

    async def run() -> None:
        asked_early = asyncio.Event()

        async def cloud(asked: Asked) -> None:
            asked_early.set()
            await asyncio.sleep(60)

        route = sure(calibrated(tmp_path, soft=0.95), EARLY)
        async with world(tmp_path, speaks(*label(0.93, asked_early)), cloud, routes=route) as w:
            response = await w.served.chat(asks("sure"))
            record = w.served.record(response)
            assert (record.outcome, record.speculation, record.escalation) == ("accepted", "wasted", "")
            await w.cloud.wait_left(1)
            assert w.served.metric('weir_speculations_total{route="sure",result="wasted"}') == 1
            assert response.headers["x-weir-confidence"] == "0.9300"
            name = 'weir_escalations_total{route="sure",from="small",to="cloud",reason="low_confidence"}'
            assert w.served.metric(name) == 0

    asyncio.run(run())


def test_a_start_that_was_of_use_is_no_longer_under_way(tmp_path: Path) -> None:
    """As soon as the small answer is rejected, not when the cloud has answered: more requests than may speculate at once may all be waiting
    for the cloud."""

    async def run() -> None:
        waits: list[asyncio.Event] = []
        answer = asyncio.Event()

        async def small(asked: Asked) -> None:
            waits.append(asyncio.Event())
            await speaks(*label(0.6, waits[-1]))(asked)

        async def cloud(asked: Asked) -> None:
            waits[-1].set()
            await answer.wait()
            await says(GOOD)(asked)

        route = sure(calibrated(tmp_path, soft=0.8), EARLY)
        async with world(tmp_path, small, cloud, routes=route) as w, asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[httpx.Response]] = []
            while len(tasks) < AT_ONCE + 5:
                tasks.append(group.create_task(w.served.chat(asks("sure"))))
                await until(lambda: len(w.cloud.asked) == len(tasks))
            answer.set()
            records = [w.served.record(await task) for task in tasks]
            assert {record.speculation for record in records} == {"used"}

    asyncio.run(run())


def test_waste_is_bounded(tmp_path: Path) -> None:
    """After wasted starts the bucket is empty, or in debt: the next unsure answers are waited for, until enough requests have come."""

    async def run() -> None:
        async def cloud(asked: Asked) -> None:
            await asyncio.sleep(60)

        never = asyncio.Event()
        route = sure(calibrated(tmp_path, soft=0.95), EARLY)

        async def small(asked: Asked) -> None:
            waits = () if never.is_set() else (asked_early,)
            await speaks(*label(0.93, *waits))(asked)

        asked_early = asyncio.Event()

        async def first(asked: Asked) -> None:
            asked_early.set()
            await cloud(asked)

        async with world(tmp_path, small, first, routes=route) as w:
            outcomes = []
            for _ in range(12):
                response = await w.served.chat(asks("sure"))
                outcomes.append(w.served.record(response).speculation)
                never.set()
            assert outcomes[0] == "wasted"
            assert outcomes[2:] == [""] * 10
            assert len(w.cloud.asked) <= outcomes.count("wasted") <= 2

    asyncio.run(run())


def test_a_start_that_was_needed_is_not_waste(tmp_path: Path) -> None:
    """Starts whose answer went out are paid back: every unsure answer that fails starts early."""

    async def run() -> None:
        route = sure(calibrated(tmp_path, soft=0.8), EARLY)
        asked_early = asyncio.Event()

        async def cloud(asked: Asked) -> None:
            asked_early.set()
            await says(GOOD)(asked)

        async def small(asked: Asked) -> None:
            asked_early.clear()
            await speaks(*label(0.6, asked_early))(asked)

        async with world(tmp_path, small, cloud, routes=route) as w:
            for _ in range(4):
                assert w.served.record(await w.served.chat(asks("sure"))).speculation == "used"

    asyncio.run(run())


def test_without_speculation_nothing_starts_early(tmp_path: Path) -> None:
    """The same answer on a route that does not speculate: one rung after the other."""

    async def run() -> None:
        async with world(tmp_path, speaks(*label(0.6)), says(GOOD), routes=sure(calibrated(tmp_path, soft=0.8))) as w:
            record = w.served.record(await w.served.chat(asks("sure")))
            assert [(a.rung, a.purpose) for a in record.attempts] == [("small", ""), ("cloud", "")]
            assert record.speculation == ""
            assert "stream" not in w.small.asked[0].json

    asyncio.run(run())


def test_a_collapsed_token_ends_the_attempt(tmp_path: Path) -> None:
    """A value token that no accepted answer ever had: the small model is stopped in mid-answer, and the cloud asked at once."""

    async def run() -> None:
        never = asyncio.Event()
        route = sure(calibrated(tmp_path, collapsed=0.2))
        async with world(tmp_path, speaks(*label(0.1, never)), says(GOOD), routes=route) as w:
            response = await w.served.chat(asks("sure"))
            record = w.served.record(response)
            assert (record.outcome, record.escalation) == ("escalated", "low_confidence")
            assert record.attempts[0].verdicts[0].validator == "collapsed"
            await w.small.wait_left(1)

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_the_first_violating_byte_ends_the_attempt(tmp_path: Path, stream: bool) -> None:
    """`z` is no label: the small model is stopped there, while it would go on for ever; not a byte of it is seen."""

    async def run() -> None:
        never = asyncio.Event()
        route = sure(calibrated(tmp_path, collapsed=0.001))
        async with world(tmp_path, speaks(*label(0.99, never, value="z")), says(GOOD), routes=route) as w:
            response = await w.served.chat(asks("sure", stream=stream))
            assert BAD[:-2] not in response.text.replace("\\", "")
            record = w.served.record(response)
            assert (record.outcome, record.escalation) == ("escalated", "schema")
            await w.small.wait_left(1)

    asyncio.run(run())


def test_arguments_are_looked_at_while_they_grow(tmp_path: Path) -> None:
    """A call whose arguments cannot fit any more is stopped; one whose arguments fit is delivered with the confidence of its tokens,
    though these came in other events than the arguments."""
    tool = {
        "type": "function",
        "function": {
            "name": "f",
            "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
        },
    }

    async def run(*pieces: Any, reason: str) -> None:
        route = (
            "sure: {ladder: [small, cloud], mode: enforce,"
            f" accept: {{risk: 0.01, calibration: '{calibrated(tmp_path, collapsed=0.001)}'}}}}"
        )
        small = speaks(*pieces, finish="tool_calls", text=False)
        async with world(tmp_path, small, says(GOOD), routes=route) as w:
            for stream in (False, True):
                response = await w.served.chat(hello(model="route/sure", tools=[tool], stream=stream))
                record = w.served.record(response)
                assert record.escalation == reason
                assert (record.outcome == "accepted") == (not reason)
                if not reason:
                    assert record.attempts[0].probability == pytest.approx(0.95, abs=1e-3)
                    assert "top_logprobs" not in response.text

    asyncio.run(run(('{"x":', 0.99), ('"', 0.99), asyncio.Event(), reason="tool_arguments"))
    asyncio.run(run(('{"x":', 0.999), ("7", 0.95), ("}", 0.999), reason=""))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("wanted", [None, 0, 1, 2])
def test_only_the_log_probabilities_that_were_asked_for(tmp_path: Path, stream: bool, wanted: int | None) -> None:
    """Weir asks for log-probabilities on its own: a caller who did not sees none, and one who did sees as many alternatives as asked."""

    async def run() -> None:
        route = sure(calibrated(tmp_path, soft=0.5, collapsed=0.001), EARLY)
        more: dict[str, Any] = {} if wanted is None else {"logprobs": True, "top_logprobs": wanted}
        async with world(tmp_path, speaks(*label(0.95)), says("never"), routes=route) as w:
            response = await w.served.chat(asks("sure", stream=stream, **more))
            assert w.served.record(response).outcome == "accepted"
            assert w.small.asked[0].json["logprobs"] is True
            assert w.small.asked[0].json["top_logprobs"] >= 2
            shown = [choice["logprobs"] for choice in choices(response.text, stream) if choice.get("logprobs")]
            if wanted is None:
                assert shown == []
                assert "top_logprobs" not in response.text
            else:
                entries = [entry for part in shown for entry in part["content"]]
                assert "".join(entry["token"] for entry in entries) == GOOD
                assert {len(entry["top_logprobs"]) for entry in entries} == {wanted}

    asyncio.run(run())


def choices(text: str, stream: bool) -> list[dict[str, Any]]:
    """Every choice of an answer or of a stream's events."""
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: {")] if stream else [text]
    return [choice for line in lines for choice in orjson.loads(line)["choices"]]
