"""A safe start: in `observe`, and under bypass, the caller gets what it would get without Weir."""

import asyncio
from pathlib import Path

import orjson
import pytest

from gateway.settings.bypass import Bypass, write
from tests.backends.upstream import Asked
from tests.line.world import GOOD, asks, says, sse, world
from tests.waiting import until

ODD = b'{"model": "gpt-5",   "messages":[{"role":"user","content":"\\u00e9 odd"}], "x": {"b":1,"a":[1.0]} }'
ODD_STREAM = b'{"stream":true,"model": "gpt-5", "messages":[{"role":"user","content":"x"}]}'
BLOCKS = [
    b": comment\r\n\r\n",
    sse({"id": "1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]}),
    b'data:{"id":"1","odd"  :1,"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":"stop"}]}\n\n',
    b"data: [DONE]\n\n",
]
OBSERVED = "observed: {match: {model: gpt-5}, ladder: [small, cloud]}"


async def _odd(asked: Asked) -> None:
    headers = {"x-request-id": "theirs", "x-ratelimit-remaining-requests": "3", "openai-version": "9"}
    if asked.json.get("stream"):
        await asked.stream(*BLOCKS, headers=headers)
    else:
        await asked.answer(b'{ "odd" : [1.0 , 2]}', headers=headers)


def test_bytes_are_equal_both_ways(tmp_path: Path) -> None:
    """Request and answer pass byte for byte, spacing, unknown fields, comments and upstream headers included."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), _odd, routes=OBSERVED) as w:
            headers = {
                "content-type": "application/json",
                "authorization": "Bearer mine",
                "x-weir-note": "1",
                "x-other": "2",
            }
            post = w.served.client.post
            whole = await post("/v1/chat/completions", content=ODD, headers=headers)
            assert (whole.status_code, whole.content) == (200, b'{ "odd" : [1.0 , 2]}')
            assert w.cloud.asked[0].body == ODD
            assert "authorization" not in w.cloud.asked[0].headers
            assert "x-weir-note" not in w.cloud.asked[0].headers
            assert w.cloud.asked[0].headers["x-other"] == "2"
            assert whole.headers["x-ratelimit-remaining-requests"] == "3"
            assert whole.headers["x-request-id"] == "theirs"
            stream = await post("/v1/chat/completions", content=ODD_STREAM, headers=headers)
            assert stream.content == b"".join(BLOCKS)
            assert w.cloud.asked[1].body == ODD_STREAM
            assert w.small.asked == []
            record = w.served.record(stream)
            assert (record.outcome, record.mode, record.would, record.served) == (
                "straight",
                "observe",
                "small",
                "cloud",
            )

    asyncio.run(run())


def test_bytes_are_equal_piece_by_piece(tmp_path: Path) -> None:
    """Also of a stream of which each piece comes alone, after the one before it has reached the caller."""

    async def run() -> None:
        arrived = [asyncio.Event() for _ in BLOCKS]

        async def slowly(asked: Asked) -> None:
            await asked.stream(BLOCKS[0], end=False)
            for before, block in zip(arrived, BLOCKS[1:], strict=False):
                await before.wait()
                await asked.chunk(block)
            await asked.send(b"0\r\n\r\n")

        async with world(tmp_path, says(GOOD), slowly, routes=OBSERVED) as w:
            got = b""
            async with w.served.client.stream("POST", "/v1/chat/completions", content=ODD_STREAM) as response:
                async for data in response.aiter_raw():
                    got += data
                    for at, event in enumerate(arrived):
                        if got.startswith(b"".join(BLOCKS[: at + 1])):
                            event.set()
            assert got == b"".join(BLOCKS)

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_errors_pass_unchanged(tmp_path: Path, stream: bool) -> None:
    """An upstream's own error keeps its status, headers and bytes."""

    async def refuses(asked: Asked) -> None:
        await asked.answer(b'{"error":"odd string"}', 429, {"retry-after": "9"})

    async def run() -> None:
        async with world(tmp_path, says(GOOD), refuses, routes=OBSERVED) as w:
            response = await w.served.client.post("/v1/chat/completions", content=ODD_STREAM if stream else ODD)
            assert (response.status_code, response.content) == (429, b'{"error":"odd string"}')
            assert response.headers["retry-after"] == "9"
            assert w.served.last().status == 429

    asyncio.run(run())


def test_observe_without_a_known_name(tmp_path: Path) -> None:
    """A Weir name has no model behind it: the route's top rung answers, and the caller reads the name that it used."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("from the cloud")) as w:
            response = await w.served.chat(asks("watched"))
            assert response.json()["choices"][0]["message"]["content"] == "from the cloud"
            assert response.json()["model"] == "weir"
            assert w.cloud.asked[0].json["model"] == "big"
            assert w.served.record(response).would == "small"

    asyncio.run(run())


def test_a_backend_by_its_model_name(tmp_path: Path) -> None:
    """`models: {name: {use: backend/NAME}}` goes straight there, unchanged, unchecked."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), _odd) as w:
            response = await w.served.chat({**asks(), "model": "straight"})
            assert response.content == b'{ "odd" : [1.0 , 2]}'
            assert w.served.last().outcome == "straight"

    asyncio.run(run())


def test_bypass_header_and_switch(tmp_path: Path) -> None:
    """One agent's header, one route's switch, and everybody's switch: straight to the model asked for, counted and visible."""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("straight")) as w:
            body = {**asks(), "model": "gpt-5"}
            assert (await w.served.chat(body)).json()["choices"][0]["message"]["content"] == GOOD
            header = await w.served.chat(body, x_weir_bypass="1")
            assert header.json()["choices"][0]["message"]["content"] == "straight"
            assert header.headers["x-weir-reason"] == "bypass"
            assert orjson.loads(w.cloud.asked[-1].body)["model"] == "gpt-5"
            assert (await w.served.chat(body, x_weir_bypass="false")).json()["choices"][0]["message"]["content"] == GOOD

            state, live = tmp_path / "var", w.served.app.live
            write(state, Bypass(routes=("labels",)))
            await until(lambda: live.bypass.routes == ("labels",))
            assert (await w.served.chat(body)).json()["choices"][0]["message"]["content"] == "straight"
            assert w.served.metric('weir_bypass{route="labels"}') == 1
            write(state, Bypass(all=True))
            await until(lambda: live.bypass.all)
            assert (await w.served.chat(body)).headers["x-weir-reason"] == "bypass"
            assert (await w.served.client.get("/readyz")).json()["bypass"]["all"] is True
            write(state, Bypass())
            await until(lambda: not live.bypass.all)
            assert (await w.served.chat(body)).json()["choices"][0]["message"]["content"] == GOOD

    asyncio.run(run())


def test_egress_outranks_bypass_and_observe(tmp_path: Path) -> None:
    """What must stay in the house is refused rather than sent: by no switch, header or mode does it reach the cloud."""
    routes = """private: {match: {schema_name: private}, ladder: [small, cloud], mode: enforce, egress: local}
  peek: {match: {schema_name: peek}, ladder: [small, cloud], egress: local}"""

    async def run() -> None:
        async with world(tmp_path, says(GOOD), says("leaked"), routes=routes) as w:
            for name, headers in (("private", {"x_weir_bypass": "1"}), ("peek", {})):
                refused = await w.served.chat({**asks(name), "model": "gpt-5"}, **headers)
                assert refused.status_code == 503
                assert "egress" in refused.json()["error"]["message"]
            write(tmp_path / "var", Bypass(routes=("private",)))
            await until(lambda: w.served.app.live.bypass.routes == ("private",))
            assert (await w.served.chat({**asks("private"), "model": "gpt-5"})).status_code == 503
            assert w.cloud.asked == []
            assert (await w.served.chat({**asks(), "model": "gpt-5"}, x_weir_bypass="1")).json()

    asyncio.run(run())
