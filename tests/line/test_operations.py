"""Reload, keys, limits, health, Records over HTTP."""

import asyncio
from pathlib import Path

import orjson

from gateway.access.keys import hash_key
from tests.backends.upstream import Asked
from tests.line.world import GOOD, asks, hello, says, world
from tests.surface.test_connection import answered
from tests.waiting import until


def test_reload_swaps_whole(tmp_path: Path) -> None:
    """A changed file takes effect by itself; a request in flight keeps the old Setup."""

    free = asyncio.Event()

    async def slow(asked: Asked) -> None:
        await free.wait()
        await says("slow")(asked)

    async def run() -> None:
        async with world(tmp_path, says(GOOD), slow) as w:
            app = w.served.app
            old = app.live.setup.digest
            async with asyncio.TaskGroup() as group:
                flying = group.create_task(w.served.chat(hello()))
                await until(lambda: len(w.cloud.asked) == 1)
                w.served.rewrite(w.served.config.read_text().replace("default: general", "default: labels"))
                await until(lambda: app.live.setup.digest != old)
                free.set()
            assert w.served.record(flying.result()).config == old
            record = w.served.record(await w.served.chat(hello()))
            assert record.route == "labels"
            assert record.config == app.live.setup.digest
            assert w.served.metric('weir_config_reloads_total{result="ok"}') == 1

    asyncio.run(run())


def test_a_wrong_file_keeps_the_old_one(tmp_path: Path) -> None:
    """Validate whole: one mistake anywhere and nothing changes, and it is said."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("ok")) as w:
            app = w.served.app
            old = app.live.setup
            w.served.rewrite(w.served.config.read_text().replace("default: general", "default: nowhere"))
            await until(lambda: 'result="failed"} 1' in app.metrics.render().decode())
            assert app.live.setup is old
            assert (await w.served.chat(hello())).status_code == 200

    asyncio.run(run())


def test_keys_and_limits(tmp_path: Path) -> None:
    """Without a key 401, with one the tenant's name stands in the Record, and its bucket ends with 429 and a time to wait."""
    more = (
        f"access: {{keys: [{{name: agent, hash: '{hash_key('k-1')}', rate: {{per_minute: 0.01, burst: 3}}}},"
        f" {{name: boss, hash: '{hash_key('k-2')}', admin: true}}]}}"
    )

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("ok"), more=more) as w:
            nobody = await w.served.chat(hello())
            assert (nobody.status_code, nobody.json()["error"]["code"]) == (401, "invalid_api_key")
            assert (await w.served.client.get("/v1/models")).status_code == 401
            assert (await w.served.client.get("/healthz")).status_code == 200
            mine = {"authorization": "bearer k-1"}
            response = await w.served.chat(hello(), **mine)
            assert w.served.record(response).tenant == "agent"
            assert response.headers["x-ratelimit-limit-requests"] == "3"
            for _ in range(2):
                await w.served.chat(hello(), **mine)
            limited = await w.served.chat(hello(), **mine)
            assert limited.status_code == 429
            assert float(limited.headers["retry-after"]) > 0
            assert "authorization" not in w.cloud.asked[0].headers

            path = f"/v1/weir/requests/{response.headers['x-weir-request-id']}"
            assert (await w.served.client.get(path)).status_code == 401
            own = await w.served.client.get(path, headers=mine)
            assert own.json()["route"] == "general"
            assert (await w.served.client.get("/v1/weir/requests", headers=mine)).status_code == 403
            boss = {"authorization": "Bearer k-2"}
            assert len((await w.served.client.get("/v1/weir/requests", headers=boss)).json()) >= 4

    asyncio.run(run())


def test_health_and_metrics(tmp_path: Path) -> None:
    """Health asks nobody; metrics are scraped as text; a Record of a refused request counts its error."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("ok")) as w:
            await w.served.chat(asks())
            await w.served.client.post("/v1/chat/completions", content=b"{")
            assert (await w.served.client.get("/healthz")).json() == {"status": "ok"}
            ready = (await w.served.client.get("/readyz")).json()
            assert ready["routes"]["labels"]["ladder"] == ["small", "cloud"]
            page = await w.served.client.get("/metrics")
            assert page.headers["content-type"].startswith("text/plain")
            assert 'weir_accepted_total{route="labels",rung="small"} 1' in page.text
            assert 'weir_errors_total{code="invalid_json"} 1' in page.text
            assert len(w.small.asked) == 1

    asyncio.run(run())


def test_too_many_at_once(tmp_path: Path) -> None:
    """Past `limits.in_flight` a request is refused at once with 503 and retry-after, not queued."""

    free = asyncio.Event()

    async def slow(asked: Asked) -> None:
        await free.wait()
        await says("slow")(asked)

    async def run() -> None:
        async with world(tmp_path, says(GOOD), slow, more="limits: {in_flight: 2}") as w:
            async with asyncio.TaskGroup() as group:
                flying = [group.create_task(w.served.chat(hello())) for _ in range(2)]
                await until(lambda: len(w.cloud.asked) == 2)
                refused = await w.served.chat(hello())
                free.set()
            assert [task.result().status_code for task in flying] == [200, 200]
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "overloaded"
            assert refused.headers["retry-after"] == "1"

    asyncio.run(run())


def test_who_asks_is_known_as_long_as_the_keys_are_the_same(tmp_path: Path) -> None:
    """On one connection, request after request in one piece each: the key that came is whom it names, another one is another, and one
    that the configuration no longer knows is nobody from then on."""
    access = f"access: {{keys: [{{name: a, hash: '{hash_key('k-1')}'}}, {{name: b, hash: '{hash_key('k-2')}'}}]}}"
    body = orjson.dumps(hello())

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("ok"), more=access) as w:
            reader, writer = await asyncio.open_connection("127.0.0.1", w.served.port)

            async def tenant(key: str) -> str:
                head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n"
                writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
                status, headers, _ = await answered(reader)
                if status.startswith(b"HTTP/1.1 401 "):
                    return "nobody"
                w.served.app.live.fold()
                found = w.served.app.recorder.find(headers["x-weir-request-id"])
                assert found is not None
                return found.tenant

            keys = ["k-1"] * 4 + ["k-2"] * 4 + ["k-1"] * 4
            assert "".join([await tenant(key) for key in keys]) == "aaaabbbbaaaa"
            w.served.rewrite(w.served.config.read_text().replace(hash_key("k-1"), hash_key("k-4")))
            assert await w.served.app.reload()
            assert await tenant("k-1") == "nobody"
            writer.close()

    asyncio.run(run())
