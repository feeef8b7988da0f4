"""`shadow` and `canary`: what callers notice (nothing, or always the same), and what is learnt meanwhile."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.record import ShadowRecord, decode_shadow
from gateway.recorder import FILE, stored
from tests.backends.upstream import Asked
from tests.line.world import BAD, GOOD, SCHEMA, World, asks, fails, says, world
from tests.waiting import until
from wire.hashing import portion

SHADOW = """shadowed: {{match: {{schema_name: shadowed}}, ladder: [small, cloud], mode: shadow,
             shadow: {{sample: {sample}, in_flight: {most}}}}}"""


def shadowing(*, sample: float = 1.0, most: int = 2) -> str:
    return SHADOW.format(sample=sample, most=most)


def total(w: World, result: str) -> float:
    return w.served.metric(f'weir_shadow_total{{route="shadowed",rung="small",result="{result}"}}')


def on_disk(folder: Path) -> list[bytes]:
    file = folder / "var" / FILE
    return file.read_bytes().rpartition(b"\n")[0].splitlines() if file.exists() else []  # whole ones


def told(folder: Path) -> list[ShadowRecord]:
    """The lines beside the Records."""
    return [decode_shadow(line) for line in on_disk(folder) if b'"kind":"shadow"' in line]


@pytest.mark.parametrize(
    ("small", "result", "reason"),
    [
        (says('{ "label" :  "a"}'), "agree", ""),
        (says('{"label":"b"}'), "disagree", ""),
        (says(BAD), "invalid", "schema"),
        (fails(500), "error", "backend_error"),
    ],
)
def test_shadow_compares_and_nobody_notices(tmp_path: Path, small: Any, result: str, reason: str) -> None:
    """The caller gets what the model it asked for says; the small rung is asked under the route's rules afterwards, and compared in
    canonical form. Its line names the request and holds no text."""

    async def run() -> None:
        async with world(tmp_path, small, says(GOOD), routes=shadowing()) as w:
            response = await w.served.chat({**asks("shadowed"), "model": "gpt-5"}, x_request_id="r-1")
            assert response.json()["choices"][0]["message"]["content"] == GOOD
            assert orjson.loads(w.cloud.asked[0].body)["model"] == "gpt-5"  # unchanged
            record = w.served.record(response)
            assert (record.mode, record.outcome, record.would, record.served) == (
                "shadow",
                "straight",
                "small",
                "cloud",
            )
            assert [attempt.rung for attempt in record.attempts] == ["cloud"]
            await until(lambda: total(w, result) == 1)
            body = w.small.asked[0].json
            assert body["response_format"]["json_schema"]["schema"] == SCHEMA
            assert body["logprobs"] is True
            await until(lambda: len(on_disk(tmp_path)) == 2)
            line = told(tmp_path)[0]
            assert (line.request, line.route, line.rung, line.result, line.reason) == (
                "r-1",
                "shadowed",
                "small",
                result,
                reason,
            )
            assert line.accepted is (result in ("agree", "disagree"))
            assert (line.served, line.tokens.output) == ("cloud", 0 if result == "error" else 5)
            assert not any(text in b"".join(on_disk(tmp_path)) for text in (b"which?", b'label\\"'))
            records = [one.id for one in stored(tmp_path / "var")]
            assert records == ["r-1"]  # they are read as if nothing stood beside them

    asyncio.run(run())


def test_the_sample_is_no_chance(tmp_path: Path) -> None:
    """A hash of the request's id: the same requests in every process and replay, and about the share."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says(GOOD), routes=shadowing(sample=0.3)) as w:
            names = [f"request-{number}" for number in range(60)]
            for name in names:
                await w.served.chat(asks("shadowed"), x_request_id=name)
            meant = {name for name in names if portion("shadow", name) < 0.3}
            assert 5 < len(meant) < 35
            await until(lambda: total(w, "agree") + total(w, "dropped") == len(meant))
            await until(lambda: len(told(tmp_path)) == total(w, "agree"))
            assert {line.request for line in told(tmp_path)} <= meant

    asyncio.run(run())


def test_shadow_is_bounded_and_ends_with_the_server(tmp_path: Path) -> None:
    """A small rung that hangs holds `in_flight` requests, further ones are dropped and counted, callers wait for nobody; at shutdown what
    hangs is cancelled."""
    left = 0

    async def hangs(asked: Asked) -> None:
        nonlocal left
        try:
            await asyncio.Event().wait()
        finally:
            left += 1

    async def run() -> None:
        async with world(tmp_path, hangs, says(GOOD), routes=shadowing()) as w:
            for _ in range(5):
                assert (await w.served.chat(asks("shadowed"))).status_code == 200
            await until(lambda: len(w.small.asked) == 2)
            assert total(w, "dropped") == 3
        assert len(w.small.asked) == 2

    asyncio.run(run())
    assert left == 2


def test_shadow_obeys_egress(tmp_path: Path) -> None:
    """What must stay in the house is not shown to a small rung outside of it, off the path or not."""
    routes = """shadowed: {match: {schema_name: shadowed}, ladder: [cloud, small], mode: shadow, egress: local, shadow: {sample: 1.0}}
  open: {match: {schema_name: open}, ladder: [cloud, small], mode: shadow, shadow: {sample: 1.0}}"""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says(GOOD), routes=routes) as w:
            assert (await w.served.chat(asks("shadowed"))).status_code == 200
            assert (await w.served.chat(asks("open"))).status_code == 200
            await until(lambda: len(w.cloud.asked) == 1)  # the second request's only
            await until(lambda: w.served.metric('weir_shadow_total{route="open",rung="cloud",result="agree"}') == 1)
            assert w.served.metric('weir_shadow_cost_usd_total{route="open",rung="cloud"}') == pytest.approx(20e-6)
            assert w.served.metric('weir_shadow_total{route="shadowed",rung="cloud",result="agree"}') == 0

    asyncio.run(run())


def test_shadow_leaves_alone_what_no_small_rung_would_have_got(tmp_path: Path) -> None:
    """Bypassed requests, failed ones, and those that the router sent to the top; and its cost is in a sum of its own."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), fails(500), routes=shadowing()) as w:
            await w.served.chat(asks("shadowed"))
            await w.served.chat(asks("shadowed"), x_weir_bypass="1")
            await w.served.chat(asks())
            await until(lambda: w.served.app.live.in_flight == 0)
            assert total(w, "agree") == total(w, "dropped") == 0
            assert [asked.json["response_format"]["json_schema"]["name"] for asked in w.small.asked] == ["label"]

    asyncio.run(run())


CANARY = "part: {match: {schema_name: part}, ladder: [small, cloud], mode: canary, canary: 0.4}"


def test_canary_keeps_a_conversation_on_its_side(tmp_path: Path) -> None:
    """A share of the conversations is enforced, by a hash: each of them always or never; all are recorded as canary."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says('{"label":"b"}'), routes=CANARY) as w:
            served: dict[str, set[str]] = {}
            for _ in range(2):
                for session in map(str, range(40)):
                    response = await w.served.chat(asks("part"), x_session_id=session)
                    record = w.served.record(response)
                    served.setdefault(session, set()).add(record.served)
                    assert record.mode == "canary"
                    assert record.outcome == ("accepted" if record.served == "small" else "straight")
                    assert record.would == ("" if record.served == "small" else "small")
            assert all(len(rungs) == 1 for rungs in served.values())
            mine = {session for session, rungs in served.items() if rungs == {"small"}}
            assert mine == {session for session in served if portion("canary", "", session) < 0.4}
            assert 5 < len(mine) < 30

    asyncio.run(run())


def test_a_canary_is_unchanged_outside_of_its_share(tmp_path: Path) -> None:
    """Like `observe`: the bytes of the request and of the answer."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("whatever"), routes=CANARY) as w:
            out = next(name for name in map(str, range(99)) if portion("canary", "", name) >= 0.4)
            body = orjson.dumps({**asks("part"), "model": "gpt-5", "odd": [1.0]})
            headers = {"x-session-id": out, "content-type": "application/json"}
            response = await w.served.client.post("/v1/chat/completions", content=body, headers=headers)
            assert w.cloud.asked[0].body == body
            assert response.json()["choices"][0]["message"]["content"] == "whatever"

    asyncio.run(run())
