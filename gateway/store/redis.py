"""In Redis: shared by several processes, outlives them; every value is sealed before it leaves.

The key and the URL are looked up when they are used: a file that changed is read again, one that is missing is an error of that call.
Redis expires the values itself.
"""

import math
from typing import TYPE_CHECKING

from gateway.settings.model import ResponsesSettings
from gateway.settings.references import SHORTEST_KEY
from gateway.store.base import StoreError
from gateway.store.seal import Seal

if TYPE_CHECKING:
    from redis.asyncio import Redis as Client

CONNECTIONS = 64
"""At once; further calls wait, as long as any call may take."""


class Redis:
    def __init__(self, settings: ResponsesSettings) -> None:
        assert settings.redis is not None
        assert settings.key is not None
        self._url = settings.redis.url
        self._prefix = settings.redis.prefix
        self._key = settings.key
        self._timeout = settings.timeout
        self._clients: dict[str, Client] = {}
        """URL > client: one, unless the URL's file changed."""
        self._seals: dict[str, Seal] = {}

    async def get(self, tenant: str, id: str) -> bytes | None:
        from redis.exceptions import RedisError

        seal = self._seal()
        try:
            found = await self._client().get(self._place(tenant, id))
        except (RedisError, OSError) as exc:
            raise StoreError(f"Redis: {type(exc).__name__}") from exc
        return seal.open(found, tenant, id) if isinstance(found, bytes) else None

    async def put(self, tenant: str, id: str, value: bytes, ttl: float) -> None:
        from redis.exceptions import RedisError

        sealed = self._seal().close(value, tenant, id)
        try:
            await self._client().set(self._place(tenant, id), sealed, px=max(1, math.ceil(ttl * 1000)))
        except (RedisError, OSError) as exc:
            raise StoreError(f"Redis: {type(exc).__name__}") from exc

    async def delete(self, tenant: str, id: str) -> bool:
        from redis.exceptions import RedisError

        try:
            return bool(await self._client().delete(self._place(tenant, id)))
        except (RedisError, OSError) as exc:
            raise StoreError(f"Redis: {type(exc).__name__}") from exc

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    def _place(self, tenant: str, id: str) -> str:
        return f"{self._prefix}{tenant}:{id}"

    def _seal(self) -> Seal:
        key = self._key.reveal()
        if len(key) < SHORTEST_KEY:
            raise StoreError("responses.key is not set, or too short")
        if key not in self._seals:
            self._seals = {key: Seal(key)}
        return self._seals[key]

    def _client(self) -> "Client":
        url = self._url.reveal()
        if not url:
            raise StoreError("responses.redis.url is not set")
        if url not in self._clients:
            self._clients[url] = self._connected(url)
        return self._clients[url]

    def _connected(self, url: str) -> "Client":
        """A client that gives up early: one that waits is no use to a request. Connects when it is used."""
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=self._timeout,
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                retry=Retry(NoBackoff(), 1),  # a connection that Redis closed meanwhile
            )
        except ValueError as exc:
            raise StoreError("responses.redis.url is no URL of a Redis") from exc
        return Redis.from_pool(pool)
