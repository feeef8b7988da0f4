"""gateway.dialects.embeddings: what may be embedded, and how vectors are written."""

import base64
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from backends.embedding.base import Batch, Embedded
from gateway.dialects import embeddings
from gateway.dialects.embeddings import Wanted
from wire.errors import BadRequest
from wire.types import Tokens


def understood(given: Any, **body: Any) -> Wanted:
    return embeddings.understand({"model": "m", "input": given, **body}, {})


def refused(given: Any, **body: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        understood(given, **body)
    assert caught.value.status == 400
    return caught.value.param or ""


def written(vectors: Any, encoding: Any = "float") -> dict[str, Any]:
    answer = Embedded(np.array(vectors, np.float32), Tokens(input=5))
    told: dict[str, Any] = orjson.loads(b"".join(embeddings.pieces(Wanted(Batch(model="m"), encoding), answer)))
    return told


@pytest.mark.parametrize(
    ("given", "texts", "ids"),
    [
        ("a", ["a"], []),
        (["a", "b"], ["a", "b"], []),
        ([1, 2], [], [[1, 2]]),
        ([[1, 2], [3]], [], [[1, 2], [3]]),
    ],
)
def test_every_form_of_input(given: Any, texts: list[str], ids: list[list[int]]) -> None:
    """A text, texts, the ids of one text, the ids of several."""
    batch = understood(given).batch
    assert list(batch.texts) == texts
    assert list(batch.ids) == ids
    assert len(batch) == len(texts) or len(batch) == len(ids)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        (None, "input"), ("", "input"), ([], "input"), ({}, "input"), (5, "input"), (["a", ""], "input[1]"),
        (["a", 1], "input[1]"), ([1, "a"], "input[1]"), ([1, True], "input[1]"), ([1, -1], "input[1]"),
        ([[1], []], "input[1]"), ([[1], ["a"]], "input[1][0]"), ([[1], "a"], "input[1]"), ([None], "input[0]"),
        ([True], "input[0]"), ([1.5], "input[0]"),
    ],
)  # fmt: skip
def test_a_bad_input_is_named(given: Any, place: str) -> None:
    """400 with the place of the first entry that is wrong."""
    assert refused(given) == place


def test_so_many_inputs_and_no_more() -> None:
    """2,048 at once, as OpenAI says; ids of one text are one input, however many."""
    assert len(understood(["a"] * 2048).batch) == 2048
    assert refused(["a"] * 2049) == "input"
    assert refused([[1]] * 2049) == "input"
    assert len(understood([1] * 3000).batch) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", None),
        ("model", 5),
        ("encoding_format", "hex"),
        ("dimensions", 0),
        ("dimensions", "x"),
        ("dimensions", 1.5),
        ("dimensions", -1.0),
        ("dimensions", True),
        ("user", 5),
    ],
)
def test_a_bad_field_is_named(field: str, value: Any) -> None:
    """400 with `param`."""
    assert refused("a", **{field: value}) == field


def test_a_body_that_is_no_object_is_refused() -> None:
    """400, never a crash."""
    with pytest.raises(BadRequest):
        embeddings.understand(["a"], {})


def test_null_is_absent_and_the_unknown_goes_on() -> None:
    """Fields that nobody here knows are kept for the upstream."""
    wanted = understood("a", encoding_format=None, dimensions=None, user="u", input_type="query", other=None)
    assert wanted.encoding == "float"
    assert wanted.batch.dimensions is None
    assert wanted.batch.extra == {"user": "u", "input_type": "query"}


def test_an_answer_as_openai_writes_it() -> None:
    """Object, data in order with index, the asked model, usage."""
    assert written([[0.5, 1.0], [0.25, -1.0]]) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, 1.0]},
            {"object": "embedding", "index": 1, "embedding": [0.25, -1.0]},
        ],
        "model": "m",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }


def test_many_vectors_are_written_in_pieces_and_in_order() -> None:
    """More vectors than one piece holds: none is lost, doubled or moved."""
    told = written([[float(at)] for at in range(embeddings.ROWS * 2 + 1)])
    assert [item["index"] for item in told["data"]] == list(range(embeddings.ROWS * 2 + 1))
    assert [item["embedding"] for item in told["data"]] == [[float(at)] for at in range(embeddings.ROWS * 2 + 1)]


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.floats(-1, 1, width=32)))
def test_both_encodings_hold_the_same_numbers(vectors: Any) -> None:
    """base64 is float32 in little endian; numbers are written so that float32 comes back exactly."""
    numbers = [item["embedding"] for item in written(vectors)["data"]]
    packed = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in written(vectors, "base64")["data"]]
    assert (np.array(numbers, np.float32) == vectors).all()
    assert (np.stack(packed) == vectors).all()
