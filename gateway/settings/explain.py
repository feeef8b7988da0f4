"""pydantic's errors in the words of this configuration, each at a place that is really written in the file."""

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.settings.mistakes import Where
from gateway.settings.model import NAME_PATTERN

_NAME = "a name is 1 to 63 of a-z, 0-9, `_`, `.` and `-`, and starts with a letter or a digit"


def problems(
    exc: ValidationError, data: Any, where: Where, dropped: Iterable[Where] = ()
) -> Iterator[tuple[Where, str]]:
    """What `exc` says about `data`, which stands at `where`. Nothing about what misses a part that was `dropped` from it."""
    gone = tuple(dropped)
    said: set[tuple[Where, str]] = set()
    for error in exc.errors(include_url=False):
        inside = written(error, data)
        place = (*where, *inside)
        of_key = error["loc"][-1:] == ("[key]",)
        if not of_key and any(other[: len(place)] == place for other in gone):
            continue
        message = _message(error)
        if (place, message) not in said:
            said.add((place, message))
            yield place, message


def written(error: ErrorDetails, data: Any) -> Where:
    """The error's place without the parts that pydantic adds: names of union branches, `[key]`."""
    place: list[str | int] = []
    for part in error["loc"]:
        if (isinstance(data, dict) and part in data) or (
            isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)
        ):
            data = data[part]  # type: ignore[index]
            place.append(part)
    if error["type"] == "missing":
        place.append(error["loc"][-1])
    return tuple(place)


def _message(error: ErrorDetails) -> str:
    """Never repeats the input: it could be a secret. The words `true`, `false` and `null` are none."""
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "missing":
        return "is missing"
    if kind == "string_type" or (kind == "literal_error" and not isinstance(given, str)):
        return _no_string(given)
    if kind == "string_pattern_mismatch" and context.get("pattern") == NAME_PATTERN:
        return _NAME
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return "must be a table (`key: value` lines)"
    if kind in ("tuple_type", "list_type", "set_type", "frozen_set_type"):
        return "must be a list"
    if kind == "extra_forbidden":
        return "unknown key"
    message = str(context["error"]) if kind == "value_error" and "error" in context else error["msg"]
    for theirs in ("Input should", "String should", "Value should", "Tuple should", "List should", "Dictionary should"):
        message = message.replace(theirs + " be", "must be").replace(theirs, "must")
    return message


def _no_string(given: Any) -> str:
    """YAML's own types where text is wanted: say what YAML made of it."""
    if isinstance(given, bool):
        word = str(given).lower()
        return f'must be a string, and YAML reads {word} as a boolean: write "{word}" in quotes'
    if isinstance(given, int | float):
        return "must be a string, and YAML reads this as a number: put it in quotes"
    if given is None:
        return 'must be a string, and nothing (or null) stands here: write "" for an empty one'
    return f"must be a string, not a {'list' if isinstance(given, list | tuple) else 'table'}"
