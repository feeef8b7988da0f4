"""gateway/store/redis.py, against a real Redis."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis as Client

from backends._secret import Secret
from gateway.settings.model import RedisSettings, ResponsesSettings
from gateway.store.base import StoreError
from gateway.store.redis import Redis
from tests.store.redis_server import redis_server
from tests.waiting import PATIENCE

KEY = "a long and random secret, surely"


def store(port: int, key: str = KEY) -> Redis:
    redis = RedisSettings(url=Secret(f"redis://127.0.0.1:{port}/0"))
    return Redis(ResponsesSettings(store="redis", redis=redis, key=Secret(key), timeout=30))


@pytest.mark.live("redis")
def test_it_keeps_and_forgets(tmp_path: Path) -> None:
    """By tenant and id, for a time; deleted is gone."""

    async def run(port: int) -> None:
        kept = store(port)
        assert await kept.get("a", "id") is None
        await kept.put("a", "id", b"value", 60)
        assert await kept.get("a", "id") == b"value"
        assert await kept.get("b", "id") is None
        assert await kept.delete("b", "id") is False
        assert await kept.delete("a", "id") is True
        assert await kept.get("a", "id") is None
        await kept.put("a", "short", b"value", 0.05)
        async with asyncio.timeout(PATIENCE):
            while await kept.get("a", "short") is not None:  # noqa: ASYNC110 - Redis sets no event
                await asyncio.sleep(0.01)
        await kept.close()

    with redis_server(tmp_path) as port:
        asyncio.run(run(port))


@pytest.mark.live("redis")
def test_what_lies_in_redis_is_sealed(tmp_path: Path) -> None:
    """No word of it can be read there, it expires there, and a value that somebody moved to another tenant does not open."""

    async def run(port: int) -> None:
        kept = store(port)
        client: Any = Client(port=port)
        await kept.put("a", "id", b"the secret plan", 60)
        (key,) = await client.keys("*")
        value = await client.get(key)
        assert b"secret" not in value
        assert 0 < await client.pttl(key) <= 60_000
        await client.set(key.replace(b":a:", b":b:"), value)
        with pytest.raises(StoreError):
            await kept.get("b", "id")
        other = store(port, "another long and random secret!!")
        with pytest.raises(StoreError):
            await other.get("a", "id")
        for closing in (kept, other):
            await closing.close()
        await client.aclose()

    with redis_server(tmp_path) as port:
        asyncio.run(run(port))


@pytest.mark.live("redis")
def test_a_redis_that_comes_back(tmp_path: Path) -> None:
    """Gone: StoreError. Back: it works again, with the same client."""

    async def run() -> None:
        with redis_server(tmp_path) as port:
            kept = store(port)
            await kept.put("a", "id", b"x", 60)
        with pytest.raises(StoreError):
            await kept.get("a", "id")
        with redis_server(tmp_path, port):
            assert await kept.get("a", "id") is None
            await kept.put("a", "id", b"y", 60)
            assert await kept.get("a", "id") == b"y"
            await kept.close()

    asyncio.run(run())


@pytest.mark.live("redis")
def test_two_processes_see_the_same(tmp_path: Path) -> None:
    """What one kept the other finds; many at once share the connections."""

    async def run(port: int) -> None:
        one, two = store(port), store(port)
        await asyncio.gather(*(one.put("a", f"id{i}", b"%d" % i, 60) for i in range(200)))
        assert await asyncio.gather(*(two.get("a", f"id{i}") for i in range(200))) == [b"%d" % i for i in range(200)]
        await one.close()
        await two.close()

    with redis_server(tmp_path) as port:
        asyncio.run(run(port))


def test_without_key_or_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not set is an error of the call, not of the process; nothing is ever sent without a key."""
    monkeypatch.delenv("WEIR_TEST_UNSET", raising=False)
    unset = Secret("${WEIR_TEST_UNSET}")
    url = RedisSettings(url=Secret("redis://127.0.0.1:1/0"))

    async def run() -> None:
        for settings in (
            ResponsesSettings(store="redis", redis=url, key=unset),
            ResponsesSettings(store="redis", redis=RedisSettings(url=unset), key=Secret(KEY)),
            ResponsesSettings(store="redis", redis=RedisSettings(url=Secret("nonsense")), key=Secret(KEY)),
            ResponsesSettings(store="redis", redis=url, key=Secret(KEY)),
        ):
            kept = Redis(settings)
            with pytest.raises(StoreError):
                await kept.put("a", "id", b"x", 60)
            await kept.close()

    asyncio.run(run())


def test_a_secret_that_changes(tmp_path: Path) -> None:
    """The key is looked up at every call: a file that changed is read again."""
    path = tmp_path / "key"
    path.write_text(KEY)
    kept = Redis(
        ResponsesSettings(store="redis", redis=RedisSettings(url=Secret("redis://x")), key=Secret(f"${{file:{path}}}"))
    )
    first = kept._seal()
    assert kept._seal() is first
    path.write_text("another long and random secret!!")
    os.utime(path, (1, 1))
    assert kept._seal() is not first
