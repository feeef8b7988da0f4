"""Weir never makes things worse than no Weir: a part that raises or hangs changes nothing for the caller, and is counted."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from gateway.record import Record
from gateway.surface import models
from gateway.validators.base import Ask, ValidatorConfig, Verdict
from routers.base import RouterConfig, RouterResources, RouteSpec
from tests.backends.upstream import Asked
from tests.line.world import BAD, GOOD, asks, completion, hello, says, world
from tests.waiting import PATIENCE, until
from wire.types import Draft, Query, Scores


class Broken:
    """A router that raises."""

    Config = RouterConfig

    def __init__(self, config: RouterConfig, routes: Sequence[RouteSpec], resources: RouterResources) -> None: ...

    async def score(self, query: Query) -> Scores:
        raise RuntimeError("router: " + query.text)


class Hanging(Broken):
    """A router that never answers."""

    async def score(self, query: Query) -> Scores:
        await asyncio.sleep(60)
        return Scores({})


class Raises:
    """A validator that raises."""

    Config = ValidatorConfig

    def __init__(self, config: ValidatorConfig) -> None: ...

    def check(self, draft: Draft, ask: Ask) -> Verdict:
        raise RuntimeError("validator: " + draft.text)


class Hangs(Raises):
    """A validator that takes for ever (long enough to tell)."""

    def check(self, draft: Draft, ask: Ask) -> Verdict:
        time.sleep(1.5)
        return Verdict("pass")


@pytest.mark.parametrize(("kind", "reason"), [("Broken", "router_error"), ("Hanging", "router_timeout")])
def test_router(tmp_path: Path, kind: str, reason: str) -> None:
    """The request goes the default way, counted."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("default")) as w:
            text = w.served.config.read_text().replace("use: {kind: rules}", f"use: {{kind: '{__name__}:{kind}'}}")
            w.served.rewrite(text)
            assert await w.served.app.reload()
            response = await w.served.chat(hello())
            assert response.json()["choices"][0]["message"]["content"] == "default"
            record = w.served.record(response)
            assert (record.reason, record.route) == (reason, "general")
            assert "hi" not in record.router
            told = reason.removeprefix("router_")
            assert w.served.metric(f'weir_router_errors_total{{kind="{told}"}}') == 1

    asyncio.run(run())


def test_router_behind_a_200_that_was_sent(tmp_path: Path) -> None:
    """`keepalive_after`: while the router hangs nobody knows yet that the stream will be passed through; it is, behind the comments."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("unchanged"), server="keepalive_after: 0.05") as w:
            text = w.served.config.read_text().replace("use: {kind: rules}", f"use: {{kind: '{__name__}:Hanging'}}")
            w.served.rewrite(text.replace("general: {ladder: [cloud], mode: enforce}", "general: {ladder: [cloud]}"))
            assert await w.served.app.reload()
            response = await w.served.chat(hello(model="gpt-5", stream=True))
            comments, _, events = response.text.rpartition(": keep-alive\n\n")
            assert comments == ": keep-alive\n\n" * (len(comments) // len(": keep-alive\n\n"))
            assert '"model":"served"' in events
            assert events.endswith("data: [DONE]\n\n")
            assert w.served.last().outcome == "straight"

    asyncio.run(run())


def test_a_keeper_that_found_no_room_has_sent_nothing(tmp_path: Path) -> None:
    """`keepalive_after`: the caller has not read his last answer yet, so the 200 of the next one waits for room, and the gate opens
    meanwhile: the stream begins with its head all the same."""

    async def cloud(asked: Asked) -> None:
        if asked.json.get("stream"):
            await asyncio.sleep(0.3)
            await says("hi")(asked)
        else:
            await asked.answer(completion("x" * 8_000_000))

    async def run() -> None:
        async with world(tmp_path, says(GOOD), cloud, server="keepalive_after: 0.05") as w:
            reader, writer = await asyncio.open_connection("127.0.0.1", w.served.port, limit=2**26)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            for body in (hello(), hello(stream=True)):
                data = orjson.dumps(body)
                head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\ncontent-length: %d\r\n\r\n" % len(data)
                writer.write(head + data)
            await until(lambda: len(w.served.app.recorder.recent()) == 1)
            await asyncio.sleep(0.5)  # the keeper waits, and the upstream begins
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            answers = await asyncio.wait_for(reader.readuntil(b"data: [DONE]"), PATIENCE)
            assert answers.count(b"HTTP/1.1 200 OK") == 2
            writer.close()

    asyncio.run(run())


def test_a_record_is_told_whatever_happens_to_a_whole_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the surface fails between the opening of an answer that is not complete yet and its end."""

    async def without_usage(asked: Asked) -> None:
        whole = orjson.loads(completion("hi"))
        del whole["usage"]
        await asked.answer(orjson.dumps(whole))

    def raises(story: object) -> None:
        raise RuntimeError

    async def run() -> None:
        async with world(tmp_path, says(GOOD), without_usage) as w:
            with monkeypatch.context() as patched:
                patched.setattr(models, "_how", raises)
                assert (await w.served.chat(hello())).status_code == 500
            assert w.served.last().outcome == "cancelled"

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["Raises", "Hangs"])
def test_validator(tmp_path: Path, kind: str) -> None:
    """The answer counts as unproven, so the request goes up the ladder."""
    route = f"odd: {{match: {{schema_name: odd}}, ladder: [small, cloud], mode: enforce, accept: {{validators: ['{__name__}:{kind}']}}}}"

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("from above"), routes=route) as w:
            response = await w.served.chat(asks("odd"))
            assert response.json()["choices"][0]["message"]["content"] == "from above"
            verdict = w.served.record(response).attempts[0].verdicts[0]
            assert (verdict.opinion, verdict.validator) == ("undecided", kind)
            assert GOOD not in verdict.detail

    asyncio.run(run())


def test_observer_and_recorder(tmp_path: Path) -> None:
    """An observer that raises, and a state directory that cannot be written, cost no request."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("x")) as w:
            told: list[Record] = []

            def raises(records: Sequence[Record]) -> None:
                raise RuntimeError

            w.served.app.live.observers = (raises, *w.served.app.live.observers, told.extend)
            state = tmp_path / "var"
            for file in state.glob("records*"):
                file.unlink()
            (state / "records.jsonl").mkdir()
            assert (await w.served.chat(asks())).status_code == 200
            w.served.app.live.fold()
            assert len(told) == 1
            assert w.served.app.live.observer_errors == 1

    asyncio.run(run())


def test_no_text_in_the_record(tmp_path: Path) -> None:
    """Nothing of a prompt or of an answer stands in a Record, a metric or a header, also when a check fails on it."""

    async def run() -> None:
        async with world(tmp_path, says(BAD.replace("z", "canary-answer")), says(GOOD)) as w:
            body = asks(
                messages=[{"role": "system", "content": "canary-system"}, {"role": "user", "content": "canary-text"}]
            )
            response = await w.served.chat(body)
            w.served.app.live.fold()
            await w.served.app.recorder.close()
            written = (tmp_path / "var" / "records.jsonl").read_text() + w.served.app.metrics.render().decode()
            written += str(response.headers)
            assert "canary" not in written
            assert w.served.record(response).escalation == "schema"

    asyncio.run(run())
