"""What a dialect is: a pure translator between one API's wire and ours."""

from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct

from gateway.fold import Fold
from wire.errors import WeirError
from wire.types import Asked, Chunk


class Stamp(Struct, frozen=True):
    """What is constant over one answer, whoever gives it."""

    id: str
    """Unique, without a prefix: each dialect writes its own before it (chatcmpl-, resp_, msg_)."""
    created: int
    """Unix seconds."""
    model: str
    """The name that the caller asked for."""
    reasoning: str = "reasoning_content"
    """The one field in which chat clients get a model's reasoning."""


class Caller(Struct, frozen=True):
    """Who asks."""

    headers: Mapping[str, str] = {}
    """Request headers, lower case, credentials removed."""
    tenant: str = ""


class Writer(Protocol):
    """Writes one answer as a stream. Bytes are returned, never sent; b"" when there is nothing to send yet."""

    def feed(self, chunk: Chunk) -> bytes:
        """The events for `chunk`."""

    def end(self) -> bytes:
        """The last events. Called once, after the last chunk."""

    def error(self, error: WeirError) -> bytes:
        """The event for an error after the first byte, and the end of the stream. Called instead of `end`."""


class Dialect(Protocol):
    """May have `id_header`, the response header in which its clients look for the request's id beside `x-request-id`, and
    `status(error) -> int`, where its API says an error with another status than OpenAI's does."""

    name: str
    schema_param: str
    """Where the caller wrote the answer's schema, for errors about it."""

    def understand(self, body: Any, raw: bytes, caller: Caller) -> Asked:
        """Raises BadRequest naming the field and the way out."""

    def whole(self, asked: Asked, stamp: Stamp, answer: Fold) -> bytes:
        """A complete answer, for `stream: false`."""

    def writer(self, asked: Asked, stamp: Stamp) -> Writer: ...

    def error(self, error: WeirError) -> bytes:
        """An error's body, before the first byte."""
