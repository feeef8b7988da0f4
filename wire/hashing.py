"""Canonical JSON and the short hashes by which tasks, schemas and configurations are known."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

canonical: Callable[[Any], bytes] = partial(orjson.dumps, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
"""JSON with sorted keys and no spaces: equal values give equal bytes."""


def portion(*parts: str) -> float:
    """A number in [0, 1): the same for the same parts, in every process. Whoever compares it with a share picks that share of all that
    `parts` can name, and always the same ones."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8]) >> 11) / 2**53


def short_hash(value: Any) -> str:
    """First 16 hex digits of SHA-256 over the canonical JSON of `value`; "" for nothing (None, "", [], {})."""
    if not value and value is not False and value != 0:
        return ""
    data = value if isinstance(value, bytes) else canonical(value)
    return hashlib.sha256(data).hexdigest()[:16]
