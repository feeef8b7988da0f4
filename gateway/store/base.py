"""What a store is."""

from typing import Protocol


class StoreError(Exception):
    """The store did not answer in time, or what it holds cannot be read. The message holds neither ids nor contents."""


class TooLargeToKeep(StoreError):
    """The value is larger than all that may be kept."""


class Store(Protocol):
    """Bytes under (tenant, id), for a time. What one tenant put no other can see. All calls raise StoreError."""

    async def get(self, tenant: str, id: str) -> bytes | None:
        """None when it is unknown, was deleted, has expired or had to make room."""

    async def put(self, tenant: str, id: str, value: bytes, ttl: float) -> None:
        """Keep `value` for `ttl` seconds at most."""

    async def delete(self, tenant: str, id: str) -> bool:
        """Whether it was there."""

    async def close(self) -> None: ...
