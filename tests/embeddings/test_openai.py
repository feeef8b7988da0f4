"""`kind: openai`: an upstream's embeddings, through a real socket."""

import asyncio
import base64
from typing import Any

import numpy as np
import orjson
import pytest

from backends._secret import Secret
from backends.embedding.base import Batch, Embedded
from backends.embedding.openai import OpenAI, OpenAIEmbedderConfig
from tests.backends.upstream import Asked, Handler, Upstream, hang
from tests.backends.world import Resources, world
from wire.errors import BackendError, Broken, Overloaded, Refused, TimedOut, Unavailable


def item(index: int, vector: Any) -> dict[str, Any]:
    return {"object": "embedding", "index": index, "embedding": vector}


def packed(*numbers: float) -> str:
    return base64.b64encode(np.array(numbers, "<f4").tobytes()).decode()


def says(data: Any, status: int = 200, **more: Any) -> Handler:
    async def handler(asked: Asked) -> None:
        await asked.answer(orjson.dumps({"object": "list", "data": data, "model": "up", **more}), status)

    return handler


async def ask(handler: Handler, batch: Batch, **config: Any) -> tuple[Embedded, Upstream]:
    async with world(handler) as (lent, server):
        made = OpenAI("e", OpenAIEmbedderConfig(kind="openai", base_url=f"{server.url}/v1", **config), lent)
        return await made.embed(batch), server


def fails(handler: Handler, batch: Batch | None = None, **config: Any) -> BackendError:
    with pytest.raises(BackendError) as caught:
        asyncio.run(ask(handler, batch or Batch(["a", "b"]), **config))
    return caught.value


GOOD = [item(0, [0.5, 1.0]), item(1, [0.25, -1.0])]


def test_the_request_goes_up_in_the_upstreams_words() -> None:
    """Its model, its key, the inputs, unknown fields; base64, as that is read in half the time."""
    batch = Batch(["a", "b"], model="asked", dimensions=2, extra={"user": "u", "input_type": "q"}, request_id="r1")
    found, server = asyncio.run(ask(says(GOOD), batch, model="theirs", api_key=Secret("k"), headers={"X-Team": "t"}))
    asked = server.asked[0]
    assert asked.line == "POST /v1/embeddings HTTP/1.1"
    assert asked.json == {
        "model": "theirs", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 2, "user": "u", "input_type": "q",
    }  # fmt: skip
    assert asked.headers["authorization"] == "Bearer k"
    assert asked.headers["x-team"] == "t"
    assert asked.headers["x-request-id"] == "r1"
    assert found.model == "up"


def test_without_a_model_of_its_own_the_asked_one_goes_up() -> None:
    """For globs; and `encoding: float` for servers that know nothing else."""
    _, server = asyncio.run(ask(says(GOOD), Batch(["a", "b"], model="asked"), encoding="float"))
    assert server.asked[0].json["model"] == "asked"
    assert server.asked[0].json["encoding_format"] == "float"


def test_token_ids_go_up_as_they_came() -> None:
    """LangChain's arrays of ids are the upstream's own tokenizer's."""
    found, server = asyncio.run(ask(says(GOOD), Batch(ids=[[1, 2], [3]])))
    assert server.asked[0].json["input"] == [[1, 2], [3]]
    assert found.tokens.input == 3
    assert not found.tokens.estimated


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        [GOOD[1], GOOD[0]],
        [item(1, packed(0.25, -1.0)), item(0, packed(0.5, 1.0))],
        [{"embedding": [0.5, 1]}, {"embedding": [0.25, -1]}],
    ],
)
def test_vectors_are_read_in_the_order_of_the_inputs(data: Any) -> None:
    """Numbers or base64, in any order, with or without an index."""
    found, _ = asyncio.run(ask(says(data), Batch(["a", "b"])))
    assert found.vectors.dtype == np.float32
    assert found.vectors.tolist() == [[0.5, 1.0], [0.25, -1.0]]


def test_usage_is_the_upstreams() -> None:
    """And an estimate, said to be one, when it counted nothing."""
    usage = {"prompt_tokens": 9, "total_tokens": 9}
    counted, _ = asyncio.run(ask(says(GOOD, usage=usage), Batch(["a", "b"])))
    assert (counted.tokens.input, counted.tokens.estimated) == (9, False)
    guessed, _ = asyncio.run(ask(says(GOOD), Batch(["a" * 8, "b"])))
    assert (guessed.tokens.input, guessed.tokens.estimated) == (3, True)


@pytest.mark.parametrize(
    "data",
    [
        None, [], GOOD[:1], [*GOOD, item(2, [1.0, 1.0])], [GOOD[0], GOOD[0]], [item(-1, [1.0]), item(0, [1.0])],
        [item(0, [1.0]), item(1, [1.0, 2.0])], [item(0, []), item(1, [])], [item(0, [None]), item(1, [1.0])],
        [item(0, ["x"]), item(1, [1.0])], [item(0, [1e300]), item(1, [1.0])], [item(0, [[1.0]]), item(1, [[1.0]])],
        [item(0, "no base64!"), item(1, packed(1.0))], [item(0, "AAA="), item(1, packed(1.0))],
        [item(0, None), item(1, [1.0])], ["x", "y"], [item(0, packed(float("nan"))), item(1, packed(1.0))],
    ],
)  # fmt: skip
def test_what_is_not_one_finite_vector_for_each_input_is_broken(data: Any) -> None:
    """Never a vector too few, doubled, of another length or with something that is no number."""
    assert type(fails(says(data))) is Broken


def test_an_answer_that_is_no_json_is_broken() -> None:
    """A page of HTML, say."""

    async def page(asked: Asked) -> None:
        await asked.answer(b"<html>")

    assert type(fails(page)) is Broken


def test_an_error_inside_a_200_is_an_error() -> None:
    """Some servers answer so."""
    assert isinstance(fails(says([], error={"message": "x", "type": "rate_limit_error"})), Overloaded)


@pytest.mark.parametrize(("status", "expected"), [(400, Refused), (401, Broken), (429, Overloaded), (500, Broken)])
def test_an_upstreams_refusal_is_read_as_everywhere(status: int, expected: type[BackendError]) -> None:
    """One place says what a status means (`wire.failures`)."""
    assert type(fails(says([], status))) is expected


def test_an_upstream_that_says_nothing_is_late() -> None:
    """Within the batch's seconds."""
    assert isinstance(fails(hang, Batch(["a"], seconds=0.05)), TimedOut)


def test_a_caller_who_leaves_takes_the_connection_along() -> None:
    """Being cancelled closes the upstream."""

    async def run() -> None:
        async with world(hang) as (lent, server):
            made = OpenAI("e", OpenAIEmbedderConfig(kind="openai", base_url=server.url), lent)
            async with asyncio.TaskGroup() as group:
                task = group.create_task(made.embed(Batch(["a"])))
                await server.wait_asked(1)
                task.cancel()
            await server.wait_left(1)

    asyncio.run(run())


def test_without_its_key_it_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error and `missing` name the variable."""
    monkeypatch.delenv("WEIR_TEST_UNSET", raising=False)
    config = OpenAIEmbedderConfig(kind="openai", api_key=Secret("${WEIR_TEST_UNSET}"))
    assert config.missing() == "WEIR_TEST_UNSET"
    with pytest.raises(Unavailable) as caught:
        asyncio.run(OpenAI("e", config, Resources()).embed(Batch(["a"])))
    assert caught.value.variable == "WEIR_TEST_UNSET"


@pytest.mark.parametrize("url", ["ftp://x", "http://u:p@x", "http://x?k=1", "x"])
def test_a_base_url_is_plain(url: str) -> None:
    """A mistake in the configuration, not at the first request."""
    with pytest.raises(ValueError, match="URL"):
        OpenAIEmbedderConfig(kind="openai", base_url=url)
