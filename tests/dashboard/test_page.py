"""The page's doors, through the front: who gets in, what they get, and what never gets out."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from gateway.access.keys import hash_key
from gateway.dashboard.page import FILES
from gateway.settings.load import load
from gateway.settings.mistakes import ConfigError
from tests.line.world import BAD, CONFIG, GOOD, World, asks, says, world
from tests.serving import serving

ADMIN, PLAIN = "weir-admin-key", "weir-plain-key"
KEYS = f"""
access:
  keys:
    - {{name: boss, hash: "{hash_key(ADMIN)}", admin: true}}
    - {{name: agent, hash: "{hash_key(PLAIN)}"}}
"""
LARGEST = 200_000


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def state(lines: World, **headers: str) -> Any:
    answer = await lines.served.client.get("/ui/state", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_page_is_whole_small_and_its_own(tmp_path: Path) -> None:
    """Every file is there, under a strict policy, together below 200 kB, and names no other host."""

    async def go() -> None:
        async with world(tmp_path, says(GOOD), says(GOOD)) as lines:
            answers = [await lines.served.client.get("/ui")]
            answers += [await lines.served.client.get(f"/ui/{name}") for name in FILES]
            for answer in answers:
                assert answer.status_code == 200
                assert "default-src 'none'" in answer.headers["content-security-policy"]
                assert "unsafe" not in answer.headers["content-security-policy"]
                assert answer.headers["x-content-type-options"] == "nosniff"
                foreign = answer.text.replace("http://www.w3.org/2000/svg", "")
                assert "http://" not in foreign
                assert "https://" not in foreign
            assert answers[0].headers["content-type"].startswith("text/html")
            assert sum(len(answer.content) for answer in answers[1:]) < LARGEST
            again = await lines.served.client.get("/ui/app.js", headers={"if-none-match": answers[2].headers["etag"]})
            assert again.status_code == 304
            assert (await lines.served.client.get("/ui/../app.py")).status_code == 404
            assert (await lines.served.client.get("/ui/nothing.js")).status_code == 404

    run(go())


def test_the_state_tells_what_happened(tmp_path: Path) -> None:
    """One accepted, one escalated: counts, reason, routes, backends and decisions say so, and what would have changed it."""

    async def go() -> None:
        async with world(
            tmp_path, says(GOOD), says(GOOD), routes="slow: {ladder: [cloud], slo: {escalation_rate: 0.1}}"
        ) as lines:
            await lines.served.chat(asks())
            lines.small.handler = says(BAD)
            lines.served.app.dashboard.feed._made = -1e9
            escalated = await lines.served.chat(asks())
            told = await state(lines)
            assert told["ever"]["requests"] == 2
            assert told["ever"]["llm_calls"] == 0.5
            assert told["now"]["reasons"] == {"schema": 1}
            assert sum(told["series"]["accepted"]) == sum(told["series"]["escalated"]) == 1
            assert {rung["name"]: rung["count"] for rung in told["rungs"]} == {"small": 2, "cloud": 1}
            routes = {route["name"]: route for route in told["routes"]}
            assert (routes["labels"]["requests"], routes["labels"]["escalation"]) == (2, 0.5)
            assert routes["slow"]["slo"]["escalation_rate"] == 0.1
            backends = {backend["name"]: backend for backend in told["backends"]}
            assert backends["keyless"]["available"] is False
            assert "WEIR_TEST_UNSET" in backends["keyless"]["why"]
            newest = told["last"][0]
            assert (newest["outcome"], newest["why"], newest["served"]) == ("escalated", "schema", "cloud")
            story = (await lines.served.client.get(f"/ui/decisions/{newest['id']}")).json()
            assert escalated.headers["x-weir-request-id"] == story["record"]["id"]
            assert any("fits the schema" in line for line in story["would_change"])
            assert (await lines.served.client.get("/ui/decisions/none")).status_code == 404

    run(go())


def test_no_text_of_a_prompt_or_an_answer_gets_out(tmp_path: Path) -> None:
    """Whatever is asked and answered, the page's data holds none of it; a long name of a model is cut."""

    async def go() -> None:
        async with world(tmp_path, says('{"label":"zanzibar"}'), says('{"label":"timbuktu"}')) as lines:
            asked = asks(messages=[{"role": "user", "content": "ouagadougou"}])
            answer = await lines.served.chat({**asked, "model": "gpt-" + "x" * 5000})
            id = answer.headers["x-weir-request-id"]
            for path in ("state", "curves", f"decisions/{id}"):
                text = (await lines.served.client.get(f"/ui/{path}")).text
                assert not any(word in text for word in ("zanzibar", "timbuktu", "ouagadougou")), path
                assert "x" * 200 not in text

    run(go())


@pytest.mark.parametrize("path", ["state", "events", "curves", "decisions/req_1"])
def test_where_there_are_keys_the_page_needs_an_admins(tmp_path: Path, path: str) -> None:
    """No key and a wrong one: 401; a key without `admin: true`: 403; the files themselves are open and hold no data."""

    async def go() -> None:
        async with world(tmp_path, says(GOOD), says(GOOD), more=KEYS) as lines:
            client = lines.served.client
            assert (await client.get(f"/ui/{path}")).status_code == 401
            assert (await client.get(f"/ui/{path}", headers=bearer("weir-wrong"))).status_code == 401
            assert (await client.get(f"/ui/{path}?key={ADMIN}")).status_code == 401
            plain = await client.get(f"/ui/{path}", headers=bearer(PLAIN))
            assert (plain.status_code, plain.json()["error"]["code"]) == (403, "permission_denied")
            assert (await client.get("/ui")).status_code == 200
            if path != "events":
                assert (await client.get(f"/ui/{path}", headers=bearer(ADMIN))).status_code in (200, 404)

    run(go())


def test_key_none_opens_it_and_off_closes_it(tmp_path: Path) -> None:
    """`ui: {key: none}`: whoever reaches the address; `ui: off`: nothing is there, and nothing is counted."""

    async def go() -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        async with world(tmp_path / "a", says(GOOD), says(GOOD), more=KEYS + "ui: {key: none}") as lines:
            assert (await lines.served.client.get("/ui/state")).status_code == 200
        async with world(tmp_path / "b", says(GOOD), says(GOOD), more="ui: off") as lines:
            await lines.served.chat(asks())
            assert lines.served.app.dashboard.window.folded == 0
            for path in ("", "/app.js", "/state", "/events"):
                assert (await lines.served.client.get(f"/ui{path}")).status_code == 404

    run(go())


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:8080"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_without_keys_a_browser_must_be_on_our_own_page(tmp_path: Path, headers: dict[str, str]) -> None:
    """Another site, or another name for this address (DNS rebinding), gets 403 with the way out."""

    async def go() -> None:
        async with world(tmp_path, says(GOOD), says(GOOD)) as lines:
            answer = await lines.served.client.get("/ui/state", headers=headers)
            assert answer.status_code == 403
            assert "access.keys" in answer.json()["error"]["message"]
            for host in ("localhost:80", "[::1]:80", "127.0.0.1"):
                await state(lines, host=host)

    run(go())


def test_the_feed_sends_states_and_ends_with_the_server(tmp_path: Path) -> None:
    """An open page does not hold up a stop: its stream ends with an event that says why."""

    async def go() -> None:
        events = b""
        async with world(tmp_path, says(GOOD), says(GOOD)) as lines:
            lines.served.app.dashboard.every = 0.01
            async with (
                httpx.AsyncClient(base_url=lines.served.url, timeout=60) as client,
                client.stream("GET", "/ui/events") as answer,
            ):
                assert answer.headers["content-type"].startswith("text/event-stream")
                assert answer.headers["cache-control"] == "no-store"
                async for data in answer.aiter_bytes():
                    events += data
                    if b"\n\n" in events:
                        lines.served.app.dashboard.stopping = lambda: True
        assert orjson.loads(events.split(b"data: ", 1)[1].split(b"\n\n", 1)[0])["ever"]["requests"] == 0
        assert b"event: stopping" in events

    run(go())


def test_too_many_pages_are_told_so(tmp_path: Path) -> None:
    """`ui.listeners` pages listen, the next gets 503 and when to come back."""

    async def go() -> None:
        async with (
            world(tmp_path, says(GOOD), says(GOOD), more="ui: {listeners: 1}") as lines,
            lines.served.client.stream("GET", "/ui/events"),
        ):
            second = await lines.served.client.get("/ui/events")
            assert (second.status_code, second.headers["retry-after"]) == (503, "5")

    run(go())


def test_a_page_for_everybody_is_warned_of(tmp_path: Path) -> None:
    """Without a key, on an address that others reach: `weir check` says what that means. A mistyped word is a mistake."""
    text = """
backends: {{a: {{kind: openai, base_url: "http://127.0.0.1:1/v1"}}}}
router: {{use: {{kind: rules}}, default: g}}
routes: {{g: {{ladder: [a]}}}}
models: {{weir: routed}}
server: {{host: 0.0.0.0}}
access: open
ui: {ui}
"""
    path = tmp_path / "weir.yaml"
    path.write_text(text.format(ui="{key: none}"))
    assert any("every tenant" in str(warning) for warning in load(path).warnings)
    path.write_text(text.format(ui='"off"'))
    assert load(path).settings.ui.enabled is False
    path.write_text(text.format(ui="{key: nobody}"))
    with pytest.raises(ConfigError, match="key"):
        load(path)


def test_curves_are_those_in_force(tmp_path: Path) -> None:
    """A rung with a calibration has its curve on the page: the promise, the threshold that keeps it, and what it accepts."""

    async def go() -> None:
        text = "clinc: {match: {schema_name: intent}, ladder: [intents, cloud], accept: {risk: 0.02}, mode: enforce}"
        path = tmp_path / "weir.yaml"
        config = CONFIG.format(
            small="http://127.0.0.1:1",
            cloud="http://127.0.0.1:1",
            routes=text,
            server="",
            more="",
            deadline="8",
            backends="intents: {kind: encoder, specialist: models/clinc150}",
        )
        path.write_text(config)
        async with serving(config, tmp_path) as served:
            (told,) = (await served.client.get("/ui/curves")).json()
            rung = served.app.live.setup.routes["clinc"].ladder[0]
            assert (told["route"], told["rung"], told["risk"]) == ("clinc", "intents", 0.02)
            assert told["threshold"] == rung.threshold
            assert told["digest"] == rung.calibrated
            assert 0 < told["bound"] <= 0.02
            assert told["coverage"] > 0.8
            assert len(told["curve"]) > 10

    run(go())
