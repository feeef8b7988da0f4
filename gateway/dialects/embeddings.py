"""OpenAI embeddings, in both directions. Pure. Source: the OpenAI API specification 2.3.0, CreateEmbeddingRequest.

Clients: openai-python asks for base64 when its user says nothing; LangChain sends token ids instead of texts.
"""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import orjson
from msgspec import Meta, Struct

from backends.embedding.base import Batch, Embedded, Matrix
from gateway.dialects import fields
from wire.types import Json

name = "embeddings"

MOST_INPUTS = 2048
ROWS = 64
"""Vectors that are written at once: 64 of 1,536 numbers take 5 ms as JSON."""
KNOWN = frozenset({"model", "input", "encoding_format", "dimensions"})

_Id = Annotated[int, Meta(ge=0)]
_PLACE = re.compile(r"`\$((?:\[\d+\])+)`")


class Wanted(Struct, frozen=True):
    """A request, understood."""

    batch: Batch
    """Without what only the surface knows: seconds, request id."""
    encoding: Literal["float", "base64"]

    @property
    def chars(self) -> int:
        return sum(map(len, self.batch.texts))


def understand(body: Any, headers: Mapping[str, str]) -> Wanted:
    """headers: those that may go on to an upstream. Raises BadRequest naming the field."""
    if not isinstance(body, dict):
        raise fields.reject("body", f"the request body must be a JSON object, not {fields.kind(body)}")
    model = fields.text(body, "model")
    if not model:
        raise fields.reject("model", "you must provide a model; GET /v1/models lists them")
    encoding = fields.text(body, "encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise fields.reject("encoding_format", "'encoding_format' must be float or base64")
    dimensions = fields.integer(_whole(body), "dimensions", 1, 2**31)
    fields.text(body, "user")
    texts, ids = _inputs(body.get("input"))
    extra = {key: value for key, value in body.items() if key not in KNOWN and value is not None}
    batch = Batch(texts, ids, model, dimensions, extra=extra, headers=headers)
    return Wanted(batch, "base64" if encoding == "base64" else "float")


def _whole(body: Json) -> Json:
    """1.0 is an integer too (JSON Schema, 6.1.1)."""
    value = body.get("dimensions")
    return {"dimensions": int(value)} if isinstance(value, float) and value.is_integer() else body


def _inputs(given: Any) -> tuple[Sequence[str], Sequence[Sequence[int]]]:
    """Texts or token ids; the other one is empty. Raises BadRequest."""
    if isinstance(given, str):
        return _filled([given], "input"), ()
    if given is None:
        raise fields.reject("input", "you must provide 'input': a string, an array of strings, or arrays of token ids")
    values = fields.items(given, "input")
    if not values:
        raise fields.reject("input", "'input' is empty: at least one text is needed")
    if isinstance(values[0], int) and not isinstance(values[0], bool):
        return (), [_checked(values, list[_Id])]
    if len(values) > MOST_INPUTS:
        raise fields.reject("input", f"'input' has {len(values)} entries, at most {MOST_INPUTS} may be sent at once")
    if isinstance(values[0], list):
        return (), _filled(_checked(values, list[list[_Id]]), "input[{}]")
    return _filled(_checked(values, list[str]), "input[{}]"), ()


def _checked(values: Sequence[Any], form: Any) -> Any:
    """`values` when they are of this form: 10 ns an item, in a body that may hold millions. Raises BadRequest naming the item."""
    try:
        return msgspec.convert(values, form)
    except msgspec.ValidationError as exc:
        found = _PLACE.search(str(exc))
        place = f"input{found[1]}" if found else "input"
        raise fields.reject(
            place,
            f"'{place}' must be of the kind that stands first: 'input' is strings, or token ids, or arrays of ids",
        ) from None


def _filled(values: Sequence[Any], place: str) -> Sequence[Any]:
    for at, value in enumerate(values):
        if not value:
            raise fields.reject(place.format(at), f"'{place.format(at)}' is empty: there is nothing to embed")
    return values


def pieces(wanted: Wanted, answer: Embedded) -> Iterator[bytes]:
    """The answer's body, in pieces of ROWS vectors: whoever writes it may let others work in between."""
    row = _base64 if wanted.encoding == "base64" else _numbers
    yield b'{"object":"list","data":['
    for start in range(0, len(answer.vectors), ROWS):
        items = [
            b'{"object":"embedding","index":%d,"embedding":%s}' % (start + at, row(vector))
            for at, vector in enumerate(answer.vectors[start : start + ROWS])
        ]
        yield (b"," if start else b"") + b",".join(items)
    told: Json = {
        "model": wanted.batch.model,
        "usage": {"prompt_tokens": answer.tokens.input, "total_tokens": answer.tokens.input},
    }
    yield b"]," + orjson.dumps(told)[1:]


def _numbers(vector: Matrix) -> bytes:
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY)


def _base64(vector: Matrix) -> bytes:
    """float32, little endian: what numpy.frombuffer(..., "<f4") reads."""
    return b'"' + base64.b64encode(vector.astype("<f4", copy=False).tobytes()) + b'"'
