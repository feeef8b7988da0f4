"""Checklist 26, 27, 50, 51, 53, 59 to 62: how the server behaves towards those who leave, knock, retry and crowd."""

import asyncio
from pathlib import Path

import orjson
import pytest

from gateway.access.keys import hash_key
from tests.backends.upstream import Asked
from tests.checklist.tools import check, chunk, events, raw, text
from tests.line.world import BAD, GOOD, Handler, World, asks, fails, hello, says, sse
from tests.waiting import until


async def _silent(asked: Asked) -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("small", "cloud", "at"), [(_silent, says("x"), "small"), (says(BAD), _silent, "cloud")])
def test_point_26_the_client_leaves(tmp_path: Path, small: Handler, cloud: Handler, at: str, stream: bool) -> None:
    """The upstream's connection is closed, before the first token and while escalating (more phases in
    tests/line/test_cancel.py)."""

    async def run(w: World) -> None:
        asked = w.small if at == "small" else w.cloud
        before = asked.left
        body = orjson.dumps(asks(stream=stream))
        _, writer = await asyncio.open_connection("127.0.0.1", w.served.port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await until(lambda: len(asked.asked) == 1)
        writer.close()
        await writer.wait_closed()
        await until(lambda: asked.left > before)
        await until(lambda: w.served.app.live.in_flight == 0)
        assert w.served.last().outcome == "cancelled"

    check(tmp_path, small, cloud, run)


def test_point_27_keep_alive(tmp_path: Path) -> None:
    """Headers and comments go out while a long answer is held (when configured), and proxies are told not to buffer."""

    async def slow(asked: Asked) -> None:
        await asyncio.sleep(0.2)
        await says(GOOD)(asked)

    async def run(w: World) -> None:
        response = await w.served.chat(asks(stream=True))
        assert ": keep-alive\n\n" in response.text
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["cache-control"] == "no-cache"
        assert text(response) == GOOD

    check(tmp_path, slow, says("x"), run, server="keepalive_after: 0.05")


def test_point_50_keys(tmp_path: Path) -> None:
    """Missing and wrong keys are 401 invalid_api_key; the scheme's case does not matter; no key is ever passed on."""

    async def run(w: World) -> None:
        for headers in ({}, {"authorization": "Bearer wrong"}):
            response = await w.served.chat(hello(), **headers)
            assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
            assert "wrong" not in response.text
        for headers in ({"authorization": "bEaReR k"}, {"x-api-key": "k"}):
            assert (await w.served.chat(hello(), **headers)).status_code == 200
        sent = [asked.headers for asked in w.cloud.asked]
        assert not any({"authorization", "x-api-key"} & set(headers) for headers in sent)

    check(tmp_path, says("x"), says("ok"), run, more=f"access: {{keys: [{{name: a, hash: '{hash_key('k')}'}}]}}")


def test_point_51_an_upstreams_401(tmp_path: Path) -> None:
    """An upstream's 401, whatever its shape, is our problem: 502 for the client, without its words."""

    async def string(asked: Asked) -> None:
        await asked.answer(b'{"error":"Unauthorized"}', 401)

    async def run(w: World) -> None:
        for stream in (False, True):
            response = await w.served.chat(hello(stream=stream))
            assert response.status_code == 502
            assert "sk-" not in response.text

    check(tmp_path, says("x"), string, run)
    check(tmp_path, says("x"), fails(401, "Incorrect API key provided: sk-12"), run)


BEGUN = b'{"choices":[{"index":0,"delta":{"content":"o"}}]}'
ENDED = b'{"choices":[{"index":0,"delta":{"content":"k"},"finish_reason":"stop"}]}'
ODD_STREAMS = {
    "crlf, split": [b"data: " + BEGUN + b"\r\n\r\ndata: " + ENDED[:30], ENDED[30:] + b"\r\n\r\n"],
    "comments, no space": [b": hi\n\ndata:" + BEGUN + b"\n", b"\n: ping\ndata:" + ENDED + b"\n\ndata: [DONE]\n\n"],
    "several lines": [b"data: " + BEGUN + b"\n\ndata: " + ENDED[:12] + b"\ndata: " + ENDED[12:] + b"\n\n"],
    "other fields": [b"data: " + BEGUN + b"\n\nevent: x\nid: 4\nretry: 9\ndata: " + ENDED + b"\n\ndata:[DONE]\n\n"],
}


@pytest.mark.parametrize("blocks", ODD_STREAMS.values(), ids=ODD_STREAMS.keys())
def test_point_53_odd_sse(tmp_path: Path, blocks: list[bytes]) -> None:
    """CRLF, comments, several data lines, no space, split frames and a missing [DONE] are all read."""

    async def run(w: World) -> None:
        response = await w.served.chat(hello(stream=True))
        assert text(response) == "ok"
        assert response.text.endswith("data: [DONE]\n\n")

    check(tmp_path, says("x"), raw(*blocks), run)


def test_point_59_manners(tmp_path: Path) -> None:
    """HEAD and OPTIONS are answered, CORS only for named origins, a compressed body is refused cleanly, 10 MB is the limit,
    and headers have one too."""

    async def run(w: World) -> None:
        client = w.served.client
        assert (await client.head("/")).status_code == 200
        assert (await client.head("/v1/models")).status_code == 200
        preflight = await client.options("/v1/chat/completions", headers={"origin": "https://app.example"})
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == "https://app.example"
        other = await client.options("/v1/chat/completions", headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        allowed = await client.post("/v1/chat/completions", json=hello(), headers={"origin": "https://app.example"})
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        gzip = await client.post("/v1/chat/completions", content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
        assert (gzip.status_code, gzip.json()["error"]["param"]) == (415, "content-encoding")
        large = await client.post("/v1/chat/completions", content=b"x" * (10 * 2**20 + 1))
        assert large.status_code == 413
        head = await client.post("/v1/chat/completions", json=hello(), headers={"x-long": "x" * 70_000})
        assert head.status_code in (400, 431)

    check(tmp_path, says("x"), says("ok"), run, server="cors: ['https://app.example']")


def test_point_60_retries(tmp_path: Path) -> None:
    """A retry of a counted request is not counted again, and a retry escalates once, like any request."""

    async def run(w: World) -> None:
        mine = {"authorization": "Bearer k"}
        first = await w.served.chat(asks(), **mine)
        left = first.headers["x-ratelimit-remaining-requests"]
        again = await w.served.chat(asks(), x_stainless_retry_count="1", **mine)
        assert again.headers["x-ratelimit-remaining-requests"] == left
        assert len(w.served.record(again).attempts) == 2

    more = f"access: {{keys: [{{name: a, hash: '{hash_key('k')}', rate: {{per_minute: 1, burst: 5}}}}]}}"
    check(tmp_path, says(BAD), says(GOOD), run, more=more)


def test_point_61_everything_is_down(tmp_path: Path) -> None:
    """All upstreams gone: an error object within the deadline, no hang; both kinds, refused and silent."""

    async def run(w: World) -> None:
        for stream in (False, True):
            response = await w.served.chat(asks(stream=stream))
            assert response.status_code in (502, 503, 504)
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}
            assert w.served.last().seconds.total < 30  # not when the upstream has done with being silent

    async def closes(asked: Asked) -> None:
        asked.writer.close()

    check(tmp_path, closes, closes, run, server="reserve: 0.5")
    check(tmp_path, _silent, _silent, run, routes="", server="reserve: 0.5", deadline="1")


def test_point_62_two_hundred_streams(tmp_path: Path) -> None:
    """200 streams at once: every client gets its own text, its own id, its own usage."""

    async def echo(asked: Asked) -> None:
        said = asked.json["messages"][0]["content"]
        pieces = [sse(chunk({"content": c})) for c in said]
        used = {"prompt_tokens": len(said), "completion_tokens": int(said.split()[1]), "total_tokens": 1}
        await asked.stream(*pieces, sse(chunk({}, "stop")), sse({"choices": [], "usage": used}), b"data: [DONE]\n\n")

    async def run(w: World) -> None:
        said = [f"caller {i}" for i in range(200)]
        bodies = [
            {"model": "weir", "messages": [{"role": "user", "content": t}], "stream": True,
             "stream_options": {"include_usage": True}}
            for t in said
        ]  # fmt: skip
        responses = await asyncio.gather(*(w.served.chat(body) for body in bodies))
        assert [text(r) for r in responses] == said
        assert len({e["id"] for r in responses for e in events(r)}) == 200
        assert [events(r)[-1]["usage"]["completion_tokens"] for r in responses] == list(range(200))

    check(tmp_path, says("x"), echo, run)
