"""Bad input gets a 4xx in OpenAI's shape that names the field and the way out; the process keeps serving."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.line.world import GOOD, SCHEMA, asks, hello, says, world

REMOTE = {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/x.json"}}}


def _with_schema(schema: Any, strict: bool = False) -> bytes:
    form = {"type": "json_schema", "json_schema": {"name": "label", "schema": schema, "strict": strict}}
    return orjson.dumps(hello(response_format=form))


def _deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


CASES: dict[str, tuple[bytes, int, str | None]] = {
    "malformed": (b'{"model": "weir", ', 400, "body"),
    "empty": (b"", 400, "body"),
    "no object": (b"[1]", 400, "body"),
    "not utf-8": (b'{"model": "\xff"}', 400, "body"),
    "no model": (b'{"messages": [{"role": "user", "content": "x"}]}', 400, "model"),
    "model is a number": (orjson.dumps(hello(model=3)), 400, "model"),
    "unknown model": (orjson.dumps(hello(model="nobody")), 404, "model"),
    "unknown route": (orjson.dumps(hello(model="route/nowhere")), 404, "model"),
    "no messages": (b'{"model": "weir"}', 400, "messages"),
    "messages empty": (b'{"model": "weir", "messages": []}', 400, "messages"),
    "messages is a string": (b'{"model": "weir", "messages": "hi"}', 400, "messages"),
    "role unknown": (b'{"model": "weir", "messages": [{"role": "boss", "content": "x"}]}', 400, "messages[0].role"),
    "content is a number": (
        b'{"model": "weir", "messages": [{"role": "user", "content": 3}]}',
        400,
        "messages[0].content",
    ),
    "stream is a string": (orjson.dumps(hello(stream="yes")), 400, "stream"),
    "temperature too high": (orjson.dumps(hello(temperature=3)), 400, "temperature"),
    "n is zero": (orjson.dumps(hello(n=0)), 400, "n"),
    "tools is a table": (orjson.dumps(hello(tools={})), 400, "tools"),
    "response_format unknown": (orjson.dumps(hello(response_format={"type": "xml"})), 400, "response_format.type"),
    "remote $ref": (_with_schema(REMOTE), 400, "response_format.json_schema.schema"),
    "no schema": (_with_schema({"type": "objekt"}, True), 400, "response_format.json_schema.schema"),
    "deep schema": (_with_schema(_deep(100)), 400, "response_format.json_schema.schema"),
    "bad pattern": (_with_schema({"type": "string", "pattern": "("}), 400, "response_format.json_schema.schema"),
    "12 MB": (orjson.dumps(hello(padding="x" * 12_000_000)), 413, "body"),
}


def test_bad_input(tmp_path: Path) -> None:
    """Each of them is refused by name, is counted, and a good request right after it is served."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("ok")) as w:
            for name, (content, status, param) in CASES.items():
                response = await w.served.client.post("/v1/chat/completions", content=content)
                error = response.json()["error"]
                assert (name, response.status_code, error["param"]) == (name, status, param)
                assert set(error) == {"message", "type", "param", "code"}, name
                assert error["type"] == "invalid_request_error", name
                assert response.headers["x-request-id"], name
                assert (await w.served.chat(hello())).status_code == 200, name
            assert w.small.asked == []

    asyncio.run(run())


def test_a_body_without_a_length_is_bounded(tmp_path: Path) -> None:
    """A chunked body is counted as it comes and refused at the limit."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("ok")) as w:

            async def endless() -> Any:
                for _ in range(200):
                    yield b"x" * 100_000

            try:
                response = await w.served.client.post("/v1/chat/completions", content=endless())
                assert response.status_code == 413
            except httpx.HTTPError:
                pass  # the server may close while the client still sends
            assert (await w.served.chat(hello())).status_code == 200

    asyncio.run(run())


def test_elsewhere(tmp_path: Path) -> None:
    """Unknown paths and methods are JSON errors too; a compressed body is refused cleanly."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("ok")) as w:
            client = w.served.client
            for method, path, status in [
                ("GET", "/v1/nothing", 404),
                ("POST", "/nothing", 404),
                ("GET", "/v1/chat/completions", 405),
                ("DELETE", "/v1/models", 405),
                ("GET", "/v1/models/nobody", 404),
            ]:
                response = await client.request(method, path)
                assert (path, response.status_code) == (path, status)
                assert set(response.json()["error"]) == {"message", "type", "param", "code"}
            gzip = await client.post("/chat/completions", content=b"x", headers={"content-encoding": "gzip"})
            assert gzip.status_code == 415

    asyncio.run(run())


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_models(tmp_path: Path, prefix: str) -> None:
    """Every name that can be listed is listed and can be retrieved, pins with a slash too; both with and without /v1."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("ok")) as w:
            listed = (await w.served.client.get(f"{prefix}/models")).json()
            names = [card["id"] for card in listed["data"]]
            assert {"weir", "straight", "route/labels"} <= set(names)
            assert all(set(card) >= {"id", "object", "created", "owned_by"} for card in listed["data"])
            for name in [*names, "gpt-anything"]:
                assert (await w.served.client.get(f"{prefix}/models/{name}")).json()["id"] == name
            assert (await w.served.client.post(f"{prefix}/chat/completions", json=hello())).status_code == 200
            pinned = await w.served.chat(asks("other", model="route/labels"))
            assert w.served.record(pinned).reason == "pinned"
            assert pinned.json()["model"] == "route/labels"

    asyncio.run(run())


def test_unknown_fields_pass_through(tmp_path: Path) -> None:
    """What Weir does not know reaches the upstream untouched."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("ok")) as w:
            await w.served.chat(hello(novelty={"a": [1, {"b": None}]}, seed=7))
            sent = w.cloud.asked[-1].json
            assert sent["novelty"] == {"a": [1, {"b": None}]}
            assert sent["seed"] == 7
            assert SCHEMA

    asyncio.run(run())
