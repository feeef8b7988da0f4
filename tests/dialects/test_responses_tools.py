"""gateway/dialects/responses/tools: namespaces become flat, and what no rung can run is left out."""

import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects import responses
from gateway.dialects.base import Caller
from gateway.dialects.responses import tools
from gateway.dialects.responses.items import NOT_HERE
from wire.errors import BadRequest
from wire.types import Asked

F: dict[str, Any] = {"type": "function", "name": "f"}
G: dict[str, Any] = {"type": "function", "name": "g", "description": "does g"}
USER = {"role": "user", "content": "q"}


def space(name: str, *inner: Any, **more: Any) -> dict[str, Any]:
    return {"type": "namespace", "name": name, "tools": list(inner), **more}


def asked(input: Any = "hi", **more: Any) -> Asked:
    body = {"model": "m", "input": input, **more}
    return responses.understand(body, orjson.dumps(body), Caller({}, "acme"))


def refused(**body: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        asked(**body)
    return caught.value


def names(told: Asked) -> list[str]:
    return [tool[tool["type"]]["name"] for tool in told.body.get("tools", ())]


def test_a_namespace_becomes_flat() -> None:
    """Each tool under a name of its own; what the namespace is for is said once; the echo leads back."""
    told = asked(tools=[F, space("n", F, G, {"type": "custom", "name": "c"}, description="about")])
    assert names(told) == ["f", "n__f", "n__g", "n__c"]
    assert [tool[tool["type"]].get("description") for tool in told.body["tools"]] == [None, "n: about", "does g", None]
    assert told.body["tools"][3]["type"] == "custom"
    assert told.echo["names"] == {"n__f": ("n", "f"), "n__g": ("n", "g"), "n__c": ("n", "c")}
    assert told.dropped == ()


@given(st.lists(st.tuples(st.text(max_size=70), st.text(min_size=1, max_size=70)), max_size=6, unique=True))
def test_flat_names_are_chats_and_unique(pairs: list[tuple[str, str]]) -> None:
    """Whatever namespaces and tools are called, chat's limits hold, no two share a name, and a call sent back finds its own."""
    given = [(f"t[{at}]", space(n or "x", {**F, "name": f})) for at, (n, f) in enumerate(pairs)]
    known = tools.listed([("t", {**F, "name": "a__b"}), *given])
    flat = list(known.names)
    assert len(set(known.flat.values())) == len(known.flat)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in flat)
    for name, full in known.names.items():
        assert known.called(*full) == name


def test_a_taken_name_gets_a_digest() -> None:
    """Before or behind it in the list."""
    for listed in ([F | {"name": "n__f"}, space("n", F)], [space("n", F), F | {"name": "n__f"}]):
        told = asked(tools=listed)
        assert "n__f" not in told.echo["names"]
        assert len(set(names(told))) == 2


@pytest.mark.parametrize("listed", [True, False])
def test_a_call_sent_back_has_the_name_that_was_called(listed: bool) -> None:
    """Also when its namespace is no longer among the tools."""
    call = {"type": "function_call", "call_id": "a", "namespace": "n", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "a", "output": "x"}
    told = asked([USER, call, result], tools=[space("n", F)] if listed else [])
    assert told.body["messages"][1]["tool_calls"][0]["function"]["name"] == "n__f"


@pytest.mark.parametrize("kind", ["additional_tools", "tool_search_output"])
def test_items_bring_tools(kind: str) -> None:
    """They can be called from then on; what is known already is not listed twice."""
    told = asked([USER, {"type": kind, "tools": [G, space("n", F)]}], tools=[F, space("n", F)])
    assert names(told) == ["f", "n__f", "g"]
    assert refused(input=[USER, {"type": kind, "tools": [{"type": "function"}]}]).param == "input[1].tools[0].name"


@pytest.mark.parametrize("kind", [*sorted(tools.HOSTED), "web_search_2025_08_26", "web_search_preview_2025_03_11"])
@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_hosted_tools_are_left_out(kind: str, choice: Any) -> None:
    """The rungs see none, the caller is told, and the echo keeps the list."""
    given = [{"type": kind}, F, {"type": kind, "again": True}]
    told = asked(tools=given, tool_choice=choice)
    assert names(told) == ["f"]
    assert told.dropped == (f"tools.{kind}",)
    assert told.echo["tools"] == given
    assert not {"tools", "tool_choice"} & set(asked(tools=[{"type": kind}], tool_choice=choice).body)


@pytest.mark.parametrize(
    ("given", "choice", "param"),
    [
        ([{"type": "mcp", "server_label": "s"}, F], {"type": "mcp", "server_label": "s"}, "tool_choice"),
        ([{"type": "web_search"}], "required", "tool_choice"),
        (
            [{"type": "web_search"}, F],
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]},
            "tool_choice",
        ),
    ],
)
def test_a_forced_hosted_tool_is_unsupported(given: Any, choice: Any, param: str) -> None:
    """Never a silent answer without it."""
    error = refused(tools=given, tool_choice=choice)
    assert (error.status, error.param, error.code) == (400, param, "unsupported_parameter")
    assert given[0]["type"] in error.message


F_OF_N = {"type": "function", "function": {"name": "n__f"}}
G_OF_N = {"type": "function", "function": {"name": "n__g"}}


def allowed(mode: str, *chosen: Any) -> Any:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(chosen)}}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("required", "required"),
        ({"type": "function", "name": "f", "namespace": "n"}, F_OF_N),
        ({"type": "function", "name": "f"}, F_OF_N),
        ({"type": "namespace", "name": "n"}, allowed("required", F_OF_N, G_OF_N)),
        ({"type": "allowed_tools", "tools": [{"type": "namespace", "name": "n"}]}, allowed("auto", F_OF_N, G_OF_N)),
        (
            {"type": "allowed_tools", "tools": [{"type": "web_search"}, {"type": "function", "name": "f"}]},
            allowed("auto", F_OF_N),
        ),
        ({"type": "allowed_tools", "tools": [{"type": "web_search"}]}, "none"),
    ],
)
def test_choices_among_namespaces(choice: Any, expected: Any) -> None:
    """By both names, by its own where it is the only one of that name, or all of a namespace."""
    assert asked(tools=[space("n", F, G), {"type": "web_search"}], tool_choice=choice).body["tool_choice"] == expected


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "fuction", "name": "f"}, "tools[0].type"),
        ({"type": "namespace", "tools": []}, "tools[0].name"),
        ({"type": "namespace", "name": "n"}, "tools[0].tools"),
        (space("n", 7), "tools[0].tools[0]"),
        (space("n", {"type": "function"}), "tools[0].tools[0].name"),
        (space("n", {"type": "web_search"}), "tools[0].tools[0].type"),
        (space("n", space("m", F)), "tools[0].tools[0].type"),
    ],
)
def test_bad_tools_are_named(tool: Any, param: str) -> None:
    """A type that nobody knows is a mistake, not a tool to leave out."""
    error = refused(tools=[tool])
    assert (error.status, error.param) == (400, param)


@pytest.mark.parametrize("kind", NOT_HERE)
def test_items_that_cannot_be_told_are_unsupported(kind: str) -> None:
    """An answer without them would be wrong: a 400 that names the item and its type."""
    error = refused(input=[USER, {"type": kind}])
    assert (error.param, error.code) == ("input[1].type", "unsupported_parameter")
    assert kind in error.message


def test_an_empty_input_needs_something_else() -> None:
    """Instructions alone are enough."""
    assert refused(input=[]).param == "input"
    assert asked([], instructions="say hi").body["messages"] == [{"role": "system", "content": "say hi"}]
