"""The small interface behind which an HTTP client stands."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from msgspec import Struct


class Standing(dict[str, str]):
    """Headers that go with one request after the other, not changed once they are made: what they come to on the wire is written once."""

    __slots__ = ("written",)

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(headers)
        self.written: dict[Any, str] = {}
        """The client's: where to > how they are written there."""


class Timeouts(Struct, frozen=True):
    """Seconds per phase. `total` bounds everything up to the end of the body when set."""

    connect: float = 5.0
    first_byte: float = 30.0
    idle: float = 30.0
    total: float | None = None


class Answer(Protocol):
    """An HTTP answer whose head is here and whose body is still to come."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case; hop-by-hop headers, content-length and content-encoding removed."""

    @property
    def ended(self) -> bool:
        """The body has come to its end: nothing holds the connection any more."""

    @property
    def whole(self) -> bytes | None:
        """The body, where it came with its head and was not read yet: at most a few hundred KiB. None: ask `read`."""

    def blocks(self) -> AsyncIterator[bytes]:
        """The body as it comes, decoded. Raises BackendError (TimedOut, Broken)."""

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        """Give the blocks of the body to `take` as they come, until it returns False; False: the body has ended. `take` may be called
        from the loop, where nobody is woken. Raises BackendError, and what `take` raises."""

    async def read(self, limit: int = 64 * 2**20) -> bytes:
        """The whole body. Raises BackendError; Broken when it is longer than `limit` bytes."""


class Http(Protocol):
    def post(
        self, url: str, body: bytes, headers: Mapping[str, str], timeouts: Timeouts, request_id: str = ""
    ) -> AbstractAsyncContextManager[Answer]:
        """POST and yield the answer, whatever its status. Leaving the context, also by cancellation in any phase
        (queued, connecting, before the head, mid-body), closes the connection unless the body was read to its end.
        request_id: goes along as `x-request-id`, which `headers` then has not. Raises wire.errors.TimedOut, Broken."""
