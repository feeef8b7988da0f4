"""JSON as upstreams write it, into values that can be written again."""

import json
import re
from typing import Any

import orjson

_SURROGATES = re.compile("[\ud800-\udfff]")


def parse(data: bytes) -> Any:
    """Decode JSON. Raises ValueError.

    What strict readers refuse and some servers send is read too: escaped lone surrogates (half of an emoji, cut at a token)
    and bytes that are no UTF-8 become U+FFFD, a number beyond float64 becomes None. So every value can be encoded again.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            value = json.loads(data.decode("utf-8", "replace"), parse_constant=lambda _: None, parse_int=_integer)
        except RecursionError as exc:
            raise ValueError("nested too deeply") from exc
        return _scrubbed(value)


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 19 else float(digits)  # as orjson: what 64 bits cannot hold is a float


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATES.sub("�", value)
    if isinstance(value, list):
        return [_scrubbed(item) for item in value]
    if isinstance(value, dict):
        return {_scrubbed(key): _scrubbed(item) for key, item in value.items()}
    return value
