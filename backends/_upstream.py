"""What the HTTP backends do alike: check a base URL, write a body, and let go of a connection."""

import asyncio
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import orjson

from backends.http.base import Answer
from wire.errors import BackendError, Broken

_LINGER = 0.05


def plain_url(value: str) -> str:
    """`value` without its last slash. Raises ValueError for anything but an http(s) URL of host and path."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a URL that starts with http:// or https://")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("a URL without user, password, query and fragment; a key belongs into api_key")
    return value.rstrip("/")


def encoded(name: str, body: dict[str, Any]) -> bytes:
    """`body` as JSON. Raises Broken."""
    try:
        return orjson.dumps(body)
    except TypeError as exc:  # a value that JSON has, but 64 bits or UTF-8 have not
        raise Broken(f"{name}: the request cannot be written as JSON") from exc


async def linger(answer: Answer) -> None:
    """Read a stream that is over, but not ended, to its body's end, so that its connection can be kept; give up after 50 ms."""
    with suppress(TimeoutError, BackendError):
        async with asyncio.timeout(_LINGER):
            async for _ in answer.blocks():
                pass


def now() -> float:
    """The loop's clock, seconds."""
    return asyncio.get_running_loop().time()
