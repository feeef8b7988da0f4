"""`judged`: what a small rung delivered is looked at by a larger one, off the path."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from msgspec import structs

from gateway import judged
from gateway.judged import Judged
from gateway.settings.load import load
from gateway.settings.mistakes import ConfigError
from tests.backends.upstream import Asked
from tests.line.world import BAD, GOOD, Handler, World, asks, completion, fails, hello, says, world
from tests.waiting import until

CHECKED = (
    "checked: {match: {schema_name: checked}, ladder: [small, cloud], mode: enforce, judged: {by: cloud, sample: %s}}"
)
RIGHT = '{"why": "it fits", "correct": true}'
WRONG = '{"why": "secret reason", "correct": false}'
ROUTE = 'route="checked",rung="small"'


def judge(says_so: str, other: str = BAD) -> Handler:
    """A cloud that says so when it is asked to judge, and `other` when it is asked itself."""
    verdict, answer = says(says_so), says(other)

    async def handler(asked: Asked) -> None:
        await (verdict if is_judging(asked) else answer)(asked)

    return handler


def is_judging(asked: Asked) -> bool:
    return str(asked.json["messages"][0]["content"]).startswith("You judge")


def counted(here: World, result: str) -> float:
    return here.served.metric(f'weir_judged_total{{{ROUTE},result="{result}"}}')


def lines(folder: Path) -> list[dict[str, Any]]:
    file = folder / "var" / "records.jsonl"
    found = (
        [orjson.loads(line) for line in file.read_bytes().rpartition(b"\n")[0].splitlines()] if file.exists() else []
    )
    return [line for line in found if line.get("kind") == "judged"]


@pytest.mark.parametrize(
    ("verdict", "result"),
    [
        (RIGHT, "right"),
        (WRONG, "wrong"),
        ("It is correct.", "invalid"),
        ('{"correct": true}', "invalid"),
        ('{"why": "x", "correct": "yes"}', "invalid"),
        ("", "invalid"),
    ],
)
def test_what_the_judge_said_is_counted(tmp_path: Path, verdict: str, result: str) -> None:
    """A verdict counts, an answer that is none is invalid; its price is in a sum of its own, never in the request's."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), judge(verdict), routes=CHECKED % 1) as here:
            response = await here.served.chat(asks("checked"))
            assert response.json()["choices"][0]["message"]["content"] == GOOD
            await until(lambda: counted(here, result) == 1)
            assert here.served.record(response).cost == 0
            cost = here.served.metric('weir_judged_cost_usd_total{route="checked",by="cloud"}')
            assert cost == pytest.approx((10 * 1 + 5 * 2) / 1e6)
            await until(lambda: len(lines(tmp_path)) == 1)
        line = lines(tmp_path)[0]
        assert (line["result"], line["rung"], line["by"], line["route"]) == (result, "small", "cloud", "checked")
        assert line["request"] == response.headers["x-weir-request-id"]
        assert "secret reason" not in str(line)

    asyncio.run(run())


def test_a_judge_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    """Counted with its reason; the caller has long had the answer."""

    async def cloud(asked: Asked) -> None:
        await (fails(500) if is_judging(asked) else says(GOOD))(asked)

    async def run() -> None:
        async with world(tmp_path, says(GOOD), cloud, routes=CHECKED % 1) as here:
            assert (await here.served.chat(asks("checked"))).status_code == 200
            await until(lambda: counted(here, "error") == 1)
            await until(lambda: len(lines(tmp_path)) == 1)
        assert lines(tmp_path)[0]["reason"] == "backend_error"

    asyncio.run(run())


def test_what_the_judge_gets(tmp_path: Path) -> None:
    """The request and the delivered answer as JSON within one message, the criterion, and a schema to answer in; whatever the answer
    says stays a string of that JSON."""
    answer = '{"label":"a"}'

    async def run() -> None:
        routes = (CHECKED % 1).replace("sample: 1", 'sample: 1, criterion: "Is the label right?"')
        async with world(tmp_path, says(answer), judge(RIGHT), routes=routes) as here:
            await here.served.chat(asks("checked"))
            await until(lambda: counted(here, "right") == 1)
            told = here.cloud.asked[-1].json
        assert [message["role"] for message in told["messages"]] == ["system", "user"]
        material = orjson.loads(told["messages"][1]["content"])
        assert material["answer"] == answer
        assert material["criterion"] == "Is the label right?"
        assert material["request"]["messages"] == [{"role": "user", "content": "which?"}]
        assert told["response_format"]["json_schema"]["schema"]["required"] == ["why", "correct"]
        assert "logprobs" not in told

    asyncio.run(run())


def test_a_call_is_judged_as_it_was_made(tmp_path: Path) -> None:
    """Tool calls are the answer where there are any; the tools that were offered are shown."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}

    async def run() -> None:
        routes = "called: {match: {tools: true}, ladder: [small, cloud], mode: enforce, judged: {by: cloud, sample: 1}}"
        small = says(None, "tool_calls", tool_calls=[call])
        async with world(tmp_path, small, judge(RIGHT), routes=routes) as here:
            response = await here.served.chat(hello(model="route/called", tools=[tool]))
            assert here.served.record(response).outcome == "accepted"
            series = 'weir_judged_total{route="called",rung="small",result="right"}'
            await until(lambda: here.served.metric(series) == 1)
            material = orjson.loads(here.cloud.asked[-1].json["messages"][1]["content"])
        assert material["answer"] == [{"name": "f", "arguments": '{"a":1}'}]
        assert material["request"]["tools"] == [tool]

    asyncio.run(run())


def test_only_what_a_small_rung_delivered_is_judged(tmp_path: Path) -> None:
    """An escalated answer is the large model's own, and a request of another route is not its business."""

    async def run() -> None:
        async with world(tmp_path, says(BAD), judge(RIGHT, GOOD), routes=CHECKED % 1) as here:
            escalated = await here.served.chat(asks("checked"))
            assert here.served.record(escalated).outcome == "escalated"
            await here.served.chat(asks("label"))
            await here.served.chat(hello())
            await asyncio.sleep(0)
            assert not any(map(is_judging, here.cloud.asked))
            assert here.served.app.live.observer_errors == 0

    asyncio.run(run())


def test_the_sample_is_no_chance(tmp_path: Path) -> None:
    """About so many, and for a request id always the same answer."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), judge(RIGHT), routes=CHECKED % 0.5) as here:
            stories: list[Any] = []
            here.served.app.live.afterwards[:] = [stories.append]
            await here.served.chat(asks("checked"))
            story, judging = stories[0], here.served.app.live.setup.settings.routes["checked"].judged
            assert judging is not None
            picked = []
            for number in range(400):
                story.id = f"r{number}"
                picked.append(judged.wanted(story, story.route, story.delivered, judging))
                assert judged.wanted(story, story.route, story.delivered, judging) is picked[-1]
            assert 150 < sum(picked) < 250

    asyncio.run(run())


def test_more_than_there_is_room_for_is_dropped(tmp_path: Path) -> None:
    """A slow judge holds up nobody: further answers are not judged, and that is counted."""
    free = asyncio.Event()

    async def cloud(asked: Asked) -> None:
        await free.wait()
        await asked.answer(completion(RIGHT))

    async def run() -> None:
        async with world(tmp_path, says(GOOD), cloud, routes=CHECKED % 1) as here:
            for _ in range(judged.IN_FLIGHT + 3):
                assert (await here.served.chat(asks("checked"))).status_code == 200
            assert counted(here, "dropped") == 3
            free.set()
            await until(lambda: counted(here, "right") == judged.IN_FLIGHT)
            await here.served.chat(asks("checked"))
            await until(lambda: counted(here, "right") == judged.IN_FLIGHT + 1)

    asyncio.run(run())


def test_a_full_queue_drops_too(tmp_path: Path) -> None:
    """The room off the path is shared; where there is none nothing is left counted as under way."""

    class Full:
        def offer(self, job: Any) -> bool:
            return False

    async def run() -> None:
        dropped: list[tuple[str, str]] = []
        async with world(tmp_path, says(GOOD), judge(RIGHT), routes=CHECKED % 1) as here:
            look = Judged(Full(), lambda record: None, lambda *what: dropped.append(what))  # type: ignore[arg-type]
            here.served.app.live.afterwards[:] = [look]
            for _ in range(judged.IN_FLIGHT * 2):
                await here.served.chat(asks("checked"))
        assert dropped == [("checked", "small")] * judged.IN_FLIGHT * 2

    asyncio.run(run())


# --- what may leave the house -------------------------------------------------------------------------------------------------------


def test_a_local_route_is_never_judged_by_a_cloud(tmp_path: Path) -> None:
    """Refused when the configuration is read; and should it get past that, at run time."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), judge(RIGHT), routes=CHECKED % 1) as here:
            live = here.served.app.live
            route = structs.replace(live.setup.routes["checked"], egress="local")
            live.setup = structs.replace(live.setup, routes={**live.setup.routes, "checked": route})
            response = await here.served.chat(asks("checked"))
            assert here.served.record(response).outcome == "accepted"
            await asyncio.sleep(0)
            assert here.cloud.asked == []

    asyncio.run(run())
    text = (tmp_path / "weir.yaml").read_text().replace("judged: {by: cloud", "egress: local, judged: {by: cloud")
    (tmp_path / "local.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "local.yaml")
    assert any(
        "routes.checked.judged.by: `egress: local` forbids 'cloud' (`cloud: true`), also as a judge" in str(mistake)
        for mistake in caught.value.mistakes
    )


def test_a_judge_of_its_own_answers_is_warned_of(tmp_path: Path) -> None:
    """A small model that judges itself tells nothing new."""

    async def run() -> None:
        async with world(
            tmp_path, says(GOOD), judge(RIGHT), routes=(CHECKED % 1).replace("by: cloud", "by: small")
        ) as here:
            told = [str(warning) for warning in here.served.app.live.setup.warnings]
            assert any("'small' would judge answers of its own" in warning for warning in told)

    asyncio.run(run())


def test_pictures_are_not_judged(tmp_path: Path) -> None:
    """The judge reads text: without the picture it would judge something else."""

    async def run() -> None:
        stories: list[Any] = []
        async with world(tmp_path, says(GOOD), judge(RIGHT), routes=CHECKED % 1) as here:
            here.served.app.live.afterwards[:] = [stories.append]
            await here.served.chat(asks("checked"))
        story = stories[0]
        judging = story.setup.settings.routes["checked"].judged
        assert judged.wanted(story, story.route, story.delivered, judging)
        query = structs.replace(story.asked.query, modality=frozenset({"text", "image"}))
        story.asked = structs.replace(story.asked, query=query)
        assert not judged.wanted(story, story.route, story.delivered, judging)

    asyncio.run(run())
