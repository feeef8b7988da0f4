"""Checks of single request fields, with errors that name the field and the way out. null counts as absent everywhere."""

from collections.abc import Mapping, Sequence
from typing import Any

from wire.errors import BadRequest
from wire.hashing import canonical, short_hash


def reject(param: str, message: str, code: str | None = None) -> BadRequest:
    return BadRequest(f"{message} (field: {param})", param=param, code=code)


def text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise reject(name, f"'{name}' must be a string, not {kind(value)}")
    return value


def flag(body: Mapping[str, Any], name: str, *, inside: str = "") -> bool:
    """`inside` is the place of `body` in the request, for a flag that does not stand at its top."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        place = f"{inside}.{name}" if inside else name
        raise reject(place, f"'{place}' must be true or false, not {kind(value)}")
    return bool(value)


def number(body: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise reject(name, f"'{name}' must be a number, not {kind(value)}")
    if not low <= value <= high:
        raise reject(name, f"'{name}' must be between {low:g} and {high:g}, got {value}")
    return value


def integer(body: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise reject(name, f"'{name}' must be an integer, not {kind(value)}")
    if not low <= value <= high:
        raise reject(name, f"'{name}' must be between {low} and {high}, got {value}")
    return value


def table(value: Any, param: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise reject(param, f"'{param}' must be an object, not {kind(value)}")
    return value


def items(value: Any, param: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise reject(param, f"'{param}' must be an array, not {kind(value)}")
    return value


def digest(value: Any, param: str) -> str:
    """`short_hash`, where `value` can be written as JSON at all: it may be read 1,024 levels deep, and written 254."""
    try:
        return short_hash(value)
    except TypeError as exc:
        raise too_deep(param) from exc


def written(value: Any, param: str) -> bytes:
    """`canonical`, as `digest`."""
    try:
        return canonical(value)
    except TypeError as exc:
        raise too_deep(param) from exc


def too_deep(param: str) -> BadRequest:
    return reject(param, f"'{param}' is nested too deeply")


def kind(value: Any) -> str:
    """The JSON name of a value's type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"
