"""Checks of single request fields."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.dialects import fields
from wire.errors import BadRequest

JSON: list[Any] = [None, True, 1, 1.5, "a", [], {}]


def refused(call: Callable[[], object]) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (lambda body: fields.text(body, "x"), {"a"}),
        (lambda body: fields.flag(body, "x"), {True}),
        (lambda body: fields.number(body, "x", 0, 2), {1, 1.5}),
        (lambda body: fields.integer(body, "x", 0, 2), {1}),
    ],
)
def test_types(check: Callable[[dict[str, Any]], object], good: set[Any]) -> None:
    """Each check takes its own type and null, which is as good as absent; a boolean is no number, and the error names both types."""
    assert not check({})
    assert not check({"x": None})
    for value in JSON[1:]:
        if any(value == fine and type(value) is type(fine) for fine in good):
            assert check({"x": value}) == value
        else:
            error = refused(lambda value=value: check({"x": value}))  # type: ignore[misc]
            assert error.param == "x"
            assert "'x'" in error.message
            assert fields.kind(value) in error.message


@pytest.mark.parametrize("value", [-0.1, 2.1])
def test_ranges(value: float) -> None:
    """Out of range names the range."""
    error = refused(lambda: fields.number({"x": value}, "x", 0, 2))
    assert "between 0 and 2" in error.message
    assert fields.number({"x": 0}, "x", 0, 2) == 0
    assert fields.number({"x": 2}, "x", 0, 2) == 2
    assert "between 1 and 3" in refused(lambda: fields.integer({"x": 4}, "x", 1, 3)).message


@pytest.mark.parametrize("value", JSON)
def test_containers(value: Any) -> None:
    """An object is an object and an array an array; null is neither."""
    if isinstance(value, dict):
        assert fields.table(value, "a.b") == value
    else:
        assert refused(lambda: fields.table(value, "a.b")).param == "a.b"
    if isinstance(value, list):
        assert fields.items(value, "a.b") == value
    else:
        assert fields.kind(value) in refused(lambda: fields.items(value, "a.b")).message


def test_a_flag_inside() -> None:
    """A flag further down is named by its whole place."""
    error = refused(lambda: fields.flag({"on": "yes"}, "on", inside="options"))
    assert error.param == "options.on"
    assert fields.flag({"on": True}, "on", inside="options")


def test_a_value_nested_beyond_writing() -> None:
    """JSON can be read deeper than it can be written; what must be hashed says so instead of breaking."""
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    assert refused(lambda: fields.digest(deep, "tools")).param == "tools"
    assert len(fields.digest([1], "tools")) == 16
    assert fields.digest([], "tools") == ""


@pytest.mark.parametrize(
    ("value", "name"),
    list(zip(JSON, ["null", "a boolean", "a number", "a number", "a string", "an array", "an object"], strict=True)),
)
def test_kinds(value: Any, name: str) -> None:
    """Types have their JSON names."""
    assert fields.kind(value) == name


def test_an_error_names_its_field() -> None:
    """The message alone tells the field: many clients show nothing else."""
    error = fields.reject("messages[0].role", "no such role", "some_code")
    assert error.message == "no such role (field: messages[0].role)"
    assert (error.param, error.code, error.status, error.type) == (
        "messages[0].role",
        "some_code",
        400,
        "invalid_request_error",
    )
