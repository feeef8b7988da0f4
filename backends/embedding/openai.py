"""Any OpenAI-compatible server, asked over `POST {base_url}/embeddings`. Token ids and unknown fields go up as they came.

The upstream is asked for base64 whatever the caller wants: 2,048 vectors of 1,536 numbers take 0.15 s of the event loop to read so, and
0.34 s as JSON numbers (one core, orjson). A server that answers with numbers all the same is read too; one that refuses the field is
configured with `encoding: float`.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import orjson
from pydantic import Field, field_validator

from backends._secret import Secret
from backends._upstream import plain_url
from backends.base import BackendResources
from backends.embedding.base import Batch, Embedded, EmbedderConfig, Matrix
from backends.http.base import Timeouts
from wire import failures, openai
from wire.errors import Broken, Unavailable
from wire.types import Tokens

MOST_ANSWER = 256 * 2**20
"""Bytes: 2,048 vectors of 3,072 JSON numbers and some."""
_MOST_ERROR = 2**20


class OpenAIEmbedderConfig(EmbedderConfig):
    """`kind: openai`."""

    base_url: str = Field("https://api.openai.com/v1", description="URL up to and without /embeddings")
    api_key: Secret | None = Field(None, description="${NAME} or ${file:PATH}; absent: no key is sent")
    key_header: str = Field("authorization", description="header of the key; `authorization` says Bearer before it")
    model: str | None = Field(None, min_length=1, description="model asked for; absent: the name that the caller used")
    headers: dict[str, str] = Field({}, description="extra headers, the same for every request")
    encoding: Literal["base64", "float"] = Field("base64", description="how the upstream is asked to write vectors")
    connect: float = Field(5.0, gt=0, description="seconds to a connection, waiting for a free one included")
    cloud: bool = True

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        return plain_url(value)

    def missing(self) -> str:
        return self.api_key.missing if self.api_key else ""


class OpenAI:
    """See the module."""

    Config = OpenAIEmbedderConfig

    def __init__(self, name: str, config: OpenAIEmbedderConfig, resources: BackendResources) -> None:
        self.name = name
        self.config = config
        self._http = resources.http
        self._url = f"{config.base_url}/embeddings"

    async def embed(self, batch: Batch) -> Embedded:
        """Raises BackendError."""
        limits = Timeouts(min(self.config.connect, batch.seconds), batch.seconds, batch.seconds, batch.seconds)
        body = self._body(batch)
        async with self._http.post(self._url, body, self._headers(batch), limits) as answer:
            if not 200 <= answer.status < 300:
                raise failures.failure(self.name, answer.status, await answer.read(_MOST_ERROR), answer.headers)
            told = await answer.read(MOST_ANSWER)
            head = answer.headers
        return self._read(batch, told, head)

    def _body(self, batch: Batch) -> bytes:
        body: dict[str, Any] = {
            **batch.extra,
            "model": self.config.model or batch.model,
            "input": batch.texts or batch.ids,
            "encoding_format": self.config.encoding,
        }
        if batch.dimensions is not None:
            body["dimensions"] = batch.dimensions
        try:
            return orjson.dumps(body)
        except TypeError as exc:  # a value that JSON has, but 64 bits or UTF-8 have not
            raise Broken(f"{self.name}: the request cannot be written as JSON") from exc

    def _headers(self, batch: Batch) -> dict[str, str]:
        config = self.config
        headers = {**batch.headers, "content-type": "application/json", "accept": "application/json"}
        if batch.request_id:
            headers["x-request-id"] = batch.request_id
        headers.update((name.lower(), value) for name, value in config.headers.items())
        if config.api_key is not None:
            key = config.api_key.reveal()
            if not key:
                variable = config.api_key.missing
                raise Unavailable(f"{self.name}: no key; set {variable}", variable=variable)
            name = config.key_header.lower()
            headers[name] = f"Bearer {key}" if name == "authorization" else key
        return headers

    def _read(self, batch: Batch, told: bytes, head: Mapping[str, str]) -> Embedded:
        """An answer > vectors in the order of the inputs. Raises Broken for anything but one finite vector for each."""
        try:
            answer = orjson.loads(told)
        except orjson.JSONDecodeError as exc:
            raise Broken(f"{self.name}: the answer is no JSON") from exc
        if isinstance(answer, dict) and answer.get("error"):
            raise failures.failure_in_stream(self.name, answer, told, head)
        rows = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(rows, list) or len(rows) != len(batch):
            raise Broken(f"{self.name}: the answer has not one vector for each of the {len(batch)} inputs")
        vectors = self._vectors(rows)
        counted = openai.tokens(answer["usage"]) if isinstance(answer.get("usage"), dict) else Tokens()
        model = answer.get("model")
        return Embedded(
            vectors,
            Tokens(input=counted.input) if counted.input else _estimated(batch),
            model if isinstance(model, str) else "",
        )

    def _vectors(self, rows: list[Any]) -> Matrix:
        found: list[Matrix | None] = [None] * len(rows)
        for at, row in enumerate(rows):
            index = row.get("index", at) if isinstance(row, dict) else None
            if type(index) is not int or not 0 <= index < len(rows) or found[index] is not None:
                raise Broken(f"{self.name}: the answer's indices are not those of the inputs")
            try:
                found[index] = _vector(row.get("embedding"))
            except (ValueError, TypeError, OverflowError, binascii.Error) as exc:
                raise Broken(f"{self.name}: the answer's vector {index} cannot be read") from exc
        try:
            vectors: Matrix = np.stack([row for row in found if row is not None])
        except ValueError as exc:
            raise Broken(f"{self.name}: the answer's vectors are not of one length") from exc
        if not vectors.size or not np.isfinite(vectors).all():
            raise Broken(f"{self.name}: the answer's vectors are empty or hold something that is no number")
        return vectors


def _vector(value: Any) -> Matrix:
    """Numbers, or base64 of float32 in little endian. Raises ValueError, TypeError, OverflowError."""
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32, copy=False)
    if not isinstance(value, list):
        raise TypeError
    with np.errstate(over="ignore"):  # infinite then, which is refused
        vector = np.array(value, np.float32)
    if vector.ndim != 1:
        raise ValueError
    return vector


def _estimated(batch: Batch) -> Tokens:
    """Ids are counted; of texts four characters are taken for a token."""
    read = sum(map(len, batch.ids)) or sum(-(-len(text) // 4) for text in batch.texts)
    return Tokens(input=read, estimated=not batch.ids)
