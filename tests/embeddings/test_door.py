"""POST /v1/embeddings through a whole gateway and real sockets (point 54 of the checklist)."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import orjson
import pytest

from gateway.record import encode
from tests.backends.upstream import Asked, upstream
from tests.embeddings.kinds import Played
from tests.serving import Served, serving
from tests.waiting import PATIENCE, until

CONFIG = """
backends:
  cloud: {kind: openai, base_url: "http://127.0.0.1:1/v1", model: big, price: {input: 1}}
router: {use: {kind: rules}, default: general}
routes: {general: {ladder: [cloud]}}
models: {weir: routed}
embeddings:
  played: {kind: "tests.embeddings.kinds:Played", price: {input: 2}}
  hasty: {kind: "tests.embeddings.kinds:Played", timeout: 0.1}
  org/model-*: {kind: "tests.embeddings.kinds:Played", wants: WEIR_TEST_UNSET}
"""
KEY = "weir-test-key"
KEYED = "access: {keys: [{name: agent, hash: 'sha256:%s', rate: {per_minute: 1, burst: 1}}]}"


@asynccontextmanager
async def gateway(folder: Path, more: str = "") -> AsyncIterator[Served]:
    async with serving(CONFIG + more, folder) as served:
        yield served


def played(served: Served, name: str = "played") -> Played:
    found = served.app.live.setup.embedders[name]
    assert isinstance(found, Played)
    return found


async def embed(served: Served, given: Any, **more: Any) -> httpx.Response:
    return await served.client.post("/v1/embeddings", json={"model": "played", "input": given, **more})


def test_54_embeddings_come_as_numbers_in_order(tmp_path: Path) -> None:
    """Float by default, one item per input with its index, the asked model, usage; with and without /v1."""

    async def run() -> None:
        async with gateway(tmp_path) as served:
            found = await embed(served, ["a", "bbb", "cc"])
            assert found.status_code == 200
            assert found.headers["content-type"] == "application/json"
            assert found.json() == {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": at, "embedding": [length, 0.5]}
                    for at, length in enumerate((1.0, 3.0, 2.0))
                ],
                "model": "played",
                "usage": {"prompt_tokens": 3000, "total_tokens": 3000},
            }
            again = await served.client.post("/embeddings", json={"model": "played", "input": "a"})
            assert again.json()["data"][0]["embedding"] == [1.0, 0.5]

    asyncio.run(run())


def test_54_embeddings_as_base64(tmp_path: Path) -> None:
    """float32, little endian."""

    async def run() -> None:
        async with gateway(tmp_path) as served:
            found = await embed(served, ["a", "bbb"], encoding_format="base64")
            rows = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in found.json()["data"]]
            assert np.stack(rows).tolist() == [[1.0, 0.5], [3.0, 0.5]]

    asyncio.run(run())


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
def test_54_embeddings_for_the_official_client(tmp_path: Path, encoding: Any) -> None:
    """openai-python: asks for base64 when its user says nothing, and decodes it."""

    async def run() -> None:
        async with gateway(tmp_path) as served, openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="x") as client:
            more = {"encoding_format": encoding} if encoding else {}
            found = await client.embeddings.create(model="played", input=["a", "bbb"], **more)
            vectors = [item.embedding for item in found.data]
            if encoding == "base64":
                vectors = [np.frombuffer(base64.b64decode(str(vector)), "<f4").tolist() for vector in vectors]
            assert vectors == [[1.0, 0.5], [3.0, 0.5]]
            assert found.usage.prompt_tokens == 2000
            assert found.model == "played"

    asyncio.run(run())


def test_a_request_is_told_of_once(tmp_path: Path) -> None:
    """Headers, Record and metrics: `straight`, with what it cost, and no word of the input."""

    async def run() -> None:
        async with gateway(tmp_path) as served:
            found = await embed(served, ["secret words", "b"], user="u")
            record = served.record(found)
            assert (record.dialect, record.outcome, record.route, record.served) == (
                "embeddings",
                "straight",
                "",
                "played",
            )
            assert record.tokens.input == 2000
            assert record.cost == pytest.approx(0.004)
            assert not record.direct
            assert record.facts.model == "played"
            assert record.facts.chars == 13
            assert [(a.rung, a.outcome, a.model) for a in record.attempts] == [("played", "delivered", "played-1")]
            assert found.headers["x-weir-rung"] == "played"
            assert found.headers["x-weir-attempts"] == "1"
            assert found.headers["x-weir-mode"] == "straight"
            assert found.headers["x-request-id"] == record.id
            assert served.metric('weir_served_total{route="none",rung="played"}') == 1
            assert served.metric('weir_tokens_total{rung="played",kind="input"}') == 2000
            assert b"secret" not in encode(record)
            batch = played(served).batches[0]
            assert batch.request_id == record.id
            assert batch.extra == {"user": "u"}

    asyncio.run(run())


def test_only_harmless_headers_go_on(tmp_path: Path) -> None:
    """No credentials, nothing of ours; tracing goes on."""

    async def run() -> None:
        async with gateway(tmp_path) as served:
            headers = {"authorization": "Bearer k", "x-weir-x": "1", "traceparent": "00-1-2-01", "cookie": "c"}
            await served.client.post("/v1/embeddings", json={"model": "played", "input": "a"}, headers=headers)
            assert played(served).batches[0].headers == {"traceparent": "00-1-2-01"}

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "played"}, "input"),
        ({"model": "played", "input": []}, "input"),
        ({"model": "played", "input": ["a", ""]}, "input[1]"),
        ({"input": "a"}, "model"),
        ({"model": "played", "input": "a", "encoding_format": "x"}, "encoding_format"),
    ],
)
def test_a_bad_request_is_a_400_in_shape(tmp_path: Path, body: Any, param: str) -> None:
    """All four keys, the field's name, a request id and a Record."""

    async def run() -> None:
        async with gateway(tmp_path) as served:
            found = await served.client.post("/v1/embeddings", json=body)
            assert found.status_code == 400
            error = found.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert (error["type"], error["param"]) == ("invalid_request_error", param)
            assert served.record(found).outcome == "refused"

    asyncio.run(run())


def test_an_unknown_model_is_a_404_that_lists_the_known(tmp_path: Path) -> None:
    """A chat model's name is none either."""

    async def run() -> None:
        async with gateway(tmp_path) as served:
            for name in ("nobody", "weir"):
                found = await embed(served, "a", model=name)
                assert found.status_code == 404
                assert found.json()["error"]["code"] == "model_not_found"
                assert "played" in found.json()["error"]["message"]

    asyncio.run(run())


def test_a_glob_stands_for_many_names(tmp_path: Path) -> None:
    """The answer echoes the asked name; the embedder is told it."""

    async def run() -> None:
        async with gateway(tmp_path) as served:
            found = await embed(served, "a", model="org/model-7")
            assert found.json()["model"] == "org/model-7"
            assert found.headers["x-weir-rung"] == "org/model-*"
            assert played(served, "org/model-*").batches[0].model == "org/model-7"

    asyncio.run(run())


def test_models_lists_embeddings(tmp_path: Path) -> None:
    """Exact names in the list; a glob's names can be retrieved."""

    async def run() -> None:
        async with gateway(tmp_path) as served:
            listed = (await served.client.get("/v1/models")).json()["data"]
            assert {"played", "hasty", "weir"} <= {card["id"] for card in listed}
            assert (await served.client.get("/v1/models/org/model-1")).json()["id"] == "org/model-1"
            assert (await served.client.get("/v1/models/nobody")).status_code == 404

    asyncio.run(run())


def test_a_full_embedder_is_a_503_with_retry_after(tmp_path: Path) -> None:
    """In shape, counted, and nothing kept."""

    async def run() -> None:
        async with gateway(tmp_path) as served:
            found = await embed(served, "busy")
            assert found.status_code == 503
            assert found.headers["retry-after"] == "3"
            assert found.json()["error"]["code"] == "upstream_overloaded"
            record = served.record(found)
            assert (record.outcome, record.status, record.attempts[0].reason) == ("refused", 503, "overload")
            assert served.app.live.in_flight == 0

    asyncio.run(run())


def test_a_late_embedder_is_a_504(tmp_path: Path) -> None:
    """`timeout` bounds the whole batch."""

    async def run() -> None:
        async with gateway(tmp_path) as served:
            found = await embed(served, "hang", model="hasty")
            assert found.status_code == 504
            assert found.json()["error"]["code"] == "upstream_timeout"
            assert played(served, "hasty").left == 1

    asyncio.run(run())


def test_a_bug_is_a_500_without_words_of_the_request(tmp_path: Path) -> None:
    """What an embedder raises that is no BackendError stays inside."""

    async def run() -> None:
        async with gateway(tmp_path) as served:
            found = await embed(served, "bug")
            assert found.status_code == 500
            assert "text of a request" not in found.text
            assert served.record(found).outcome == "refused"

    asyncio.run(run())


def test_26_a_caller_who_leaves_stops_the_work(tmp_path: Path) -> None:
    """The embedder is cancelled, nothing is in flight any more, and the Record says cancelled."""

    async def run() -> None:
        async with gateway(tmp_path) as served:
            async with asyncio.TaskGroup() as group:
                body = {"model": "played", "input": "hang"}
                caller = group.create_task(served.client.post("/v1/embeddings", json=body))
                await until(lambda: bool(played(served).batches))
                caller.cancel()
            await until(lambda: played(served).left == 1)
            await until(lambda: served.app.live.in_flight == 0)
            record = served.last()
            assert (record.outcome, record.attempts[0].outcome) == ("cancelled", "stopped")

    asyncio.run(run())


def test_keys_and_limits_hold_here_too(tmp_path: Path) -> None:
    """401 without the key, 429 past the rate, the tenant in the Record; a too large body is 413, a GET 405."""

    async def run() -> None:
        from gateway.access.keys import hash_key

        more = KEYED % hash_key(KEY).removeprefix("sha256:") + "\nlimits: {body_bytes: 1024}\n"
        async with gateway(tmp_path, more) as served:
            assert (await embed(served, "a")).status_code == 401
            headers = {"authorization": f"Bearer {KEY}"}
            body = {"model": "played", "input": "a"}
            first = await served.client.post("/v1/embeddings", json=body, headers=headers)
            assert first.status_code == 200
            assert first.headers["x-ratelimit-remaining-requests"] == "0"
            assert served.record(first).tenant == "agent"
            second = await served.client.post("/v1/embeddings", json=body, headers=headers)
            assert (second.status_code, second.json()["error"]["code"]) == (429, "rate_limit_exceeded")
            assert (await served.client.get("/v1/embeddings")).status_code == 405
        async with gateway(tmp_path, "limits: {body_bytes: 1024}\n") as served:
            assert (await embed(served, "a" * 2000)).status_code == 413

    asyncio.run(run())


def test_an_embedder_without_its_key_is_said_to_be_unavailable(tmp_path: Path) -> None:
    """A warning names the variable, and the metric is 0; serving goes on."""

    async def run() -> None:
        async with gateway(tmp_path) as served:
            assert any("WEIR_TEST_UNSET" in warning for warning in served.app.live.setup.warnings)
            assert served.metric('weir_backend_available{rung="org/model-*"}') == 0
            assert served.metric('weir_backend_available{rung="played"}') == 1

    asyncio.run(run())


def test_54_token_ids_reach_an_openai_compatible_upstream(tmp_path: Path) -> None:
    """As LangChain sends them: unchanged up, vectors back in order; the upstream's 400 stays one, its 401 is no caller's."""

    async def answers(asked: Asked) -> None:
        given = asked.json["input"]
        if given == [[0]]:
            await asked.answer(
                b'{"error":{"message":"bad id","type":"invalid_request_error","param":"input","code":null}}', 400
            )
        elif given == [[9]]:
            await asked.answer(b'{"error":"Unauthorized"}', 401)
        else:
            rows = [{"index": at, "embedding": [float(len(ids))]} for at, ids in enumerate(given)]
            await asked.answer(orjson.dumps({"data": rows[::-1], "usage": {"prompt_tokens": 3}}))

    async def run() -> None:
        async with upstream(answers) as server:
            more = f"  text-embedding-*: {{kind: openai, base_url: '{server.url}/v1', price: {{input: 1}}}}\n"
            async with gateway(tmp_path, more) as served:
                model = "text-embedding-3-small"
                found = await embed(served, [[5, 6], [7]], model=model)
                assert [row["embedding"] for row in found.json()["data"]] == [[2.0], [1.0]]
                assert found.json()["usage"]["total_tokens"] == 3
                assert server.asked[0].json["input"] == [[5, 6], [7]]
                assert server.asked[0].json["model"] == model
                refused = await embed(served, [[0]], model=model)
                assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")
                assert (await embed(served, [[9]], model=model)).status_code == 502

    asyncio.run(run())


def test_the_embedded_minilm_knows_what_means_the_same(tmp_path: Path) -> None:
    """The real worker: paraphrases are closer than sentences that have nothing to do with each other; token ids, other dimensions and
    long texts are refused with the way out."""

    async def run() -> None:
        more = "  weir-embed: {kind: minilm}\n"
        async with gateway(tmp_path, more) as served, openai.AsyncOpenAI(
            base_url=f"{served.url}/v1", api_key="x", max_retries=0
        ) as client:  # fmt: skip
            texts = [
                "How do I reset my password?",
                "I forgot my password, how can I change it?",
                "Bake the bread at 220 degrees.",
            ]
            async with asyncio.timeout(2 * PATIENCE):
                while (ready := await embed(served, "x", model="weir-embed")).status_code == 503:
                    assert ready.headers["retry-after"]
                    await asyncio.sleep(0.05)
            found = await client.embeddings.create(model="weir-embed", input=texts)
            vectors = np.array([item.embedding for item in found.data])
            assert vectors.shape == (3, 384)
            assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
            assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3
            assert found.usage.prompt_tokens == 9 + 13 + 10  # "bake" is two pieces
            alone = await embed(served, texts[1], model="weir-embed")
            assert np.array(alone.json()["data"][0]["embedding"]) @ vectors[1] == pytest.approx(1.0, abs=1e-5)
            for bad, code, param in (
                ({"input": [[1, 2]]}, "unsupported_parameter", "input"),
                ({"input": "a", "dimensions": 10}, "unsupported_parameter", "dimensions"),
                ({"input": "word " * 300}, "context_length_exceeded", "input"),
            ):
                refused = await served.client.post("/v1/embeddings", json={"model": "weir-embed", **bad})
                assert refused.status_code == 400
                assert (refused.json()["error"]["code"], refused.json()["error"]["param"]) == (code, param)

    asyncio.run(run())


def test_the_ends_of_the_way_are_counted_here_too(tmp_path: Path) -> None:
    """How long a request waited for its handler and how long its answer took to write, of one that was answered and one that was not."""

    async def run() -> None:
        async with gateway(tmp_path) as served:
            await embed(served, "a")
            assert served.last().seconds.accept is not None
            await embed(served, "a", model="unknown")
            assert served.last().seconds.accept is not None
            series = 'weir_request_seconds_count{route="none",stage="%s"}'
            await until(lambda: [served.metric(series % stage) for stage in ("accept", "write")] == [2, 2])

    asyncio.run(run())
