"""The tools of a Responses request > those of a chat request.

Namespaces (a named group of functions: Codex sends its agents' tools so) are flattened, as chat has one list: `NAMESPACE__NAME`, or a
shortened name with a digest where that is too long, has signs that chat forbids, or is taken. The name depends on nothing but the
request, so a call that is sent back turns into the one that the model made. `Tools.names` leads back.

Tools that OpenAI's own servers run (web_search, mcp ...), or that only a client of this API can (computer, shell ...), exist on no rung.
Agents send them by default and do without, so they are left out and named in `Tools.dropped`; only a request that insists on one is
refused.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from gateway.dialects import fields
from wire.errors import BadRequest
from wire.types import Json

Placed = tuple[str, Json]
"""Where a part of the request stands, for errors about it, and the part."""

HOSTED = frozenset(
    {
        "apply_patch", "code_interpreter", "computer", "computer_use", "computer_use_preview", "file_search", "image_generation",
        "local_shell", "mcp", "programmatic_tool_calling", "shell", "tool_search", "web_search", "web_search_preview",
    }
)  # fmt: skip
"""Types of openai-python 3.52 but function, custom and namespace; their dated versions (web_search_2025_08_26) count as them."""
OWN = ("function", "custom")
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
FORBIDDEN = re.compile(r"[^A-Za-z0-9_-]")
DATED = re.compile(r"(_\d+)+$")

Full = tuple[str, str]
"""Namespace ("" for none) and name."""


class Tools(Struct, frozen=True):
    """What may be called."""

    tools: Sequence[Json] = ()
    """As chat writes them."""
    flat: Mapping[Full, str] = field(default_factory=dict)
    """What each tool is called there."""
    dropped: Sequence[str] = ()
    """Types that are left out, each once."""

    @property
    def names(self) -> dict[str, Full]:
        """The flat names of tools that come from a namespace > where they come from."""
        return {flat: full for full, flat in self.flat.items() if full[0]}

    def called(self, namespace: Any, name: str) -> str:
        """What a call that is sent back was called in chat; its tool may be gone by now."""
        if not isinstance(namespace, str) or not namespace:
            return name
        return self.flat.get((namespace, name)) or _flat(namespace, name, self.flat.values())


def listed(given: Iterable[Placed]) -> Tools:
    """The tools of a request, and of items that brought some. Raises BadRequest naming the place."""
    spread = [one for place, tool in given for one in _spread(place, tool)]
    taken = {_name(place, tool) for place, space, tool in spread if not space and _type(place, tool) in OWN}
    told: list[Json] = []
    flat: dict[Full, str] = {}
    dropped: dict[str, None] = {}
    for place, space, tool in spread:
        kind = _type(place, tool)
        if kind not in OWN:
            if DATED.sub("", kind) not in HOSTED or space:
                raise fields.reject(f"{place}.type", f"'{place}.type' '{kind}' is not known here")
            dropped[kind] = None
            continue
        full = (space, _name(place, tool))
        if full in flat:
            continue  # loaded twice: by a search, say
        flat[full] = _flat(*full, taken) if space else full[1]
        taken.add(flat[full])
        told.append(_nested(place, tool, flat[full]))
    return Tools(told, flat, tuple(dropped))


def choice(given: Any, tools: Tools) -> Any:
    """`tool_choice` as chat writes it; None where it says nothing. Raises BadRequest."""
    if given is None or given in ("none", "auto"):
        return given
    if given == "required":
        if not tools.tools:
            raise _forced(tools.dropped) if tools.dropped else _nothing()
        return given
    if not isinstance(given, Mapping):
        raise fields.reject("tool_choice", "'tool_choice' must be none, auto, required or an object naming a tool")
    if given.get("type") == "allowed_tools":
        return _allowed(given, tools)
    named = _chosen("tool_choice", given, tools)
    if not named:
        raise _forced([str(given["type"])])
    if len(named) > 1:  # a namespace: any of its tools
        return {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": named}}
    return named[0]


# --- into chat's form -------------------------------------------------------------------------------------------------------------


def _spread(place: str, tool: Json) -> list[tuple[str, str, Json]]:
    """(place, namespace, tool) of a tool, or of those in a namespace. What the namespace is for goes in front of its first tool."""
    if tool.get("type") != "namespace":
        return [(place, "", tool)]
    space, about = _name(place, tool), tool.get("description")
    inner = []
    for at, value in enumerate(fields.items(tool.get("tools"), f"{place}.tools")):
        one = fields.table(value, f"{place}.tools[{at}]")
        if not at and isinstance(about, str) and about:
            one = {**one, "description": "\n".join([f"{space}: {about}", str(one.get("description") or "")]).strip()}
        inner.append((f"{place}.tools[{at}]", space, one))
    return inner


def _nested(place: str, tool: Json, name: str) -> dict[str, Any]:
    """Flat > nested."""
    kind, flat = _type(place, tool), {**_inner(tool), "name": name}
    if kind == "custom":
        return {"type": kind, "custom": kept(flat, "name", "description", "format")}
    if flat.get("parameters") is not None:
        fields.table(flat["parameters"], f"{place}.parameters")
    fields.flag(flat, "strict", inside=place)
    return {"type": kind, "function": kept(flat, "name", "description", "parameters", "strict", "x-weir-writes")}


def _type(place: str, tool: Json) -> str:
    kind = tool.get("type", "function")
    if not isinstance(kind, str):
        raise fields.reject(f"{place}.type", f"'{place}.type' must be a string, not {fields.kind(kind)}")
    return kind


def _inner(tool: Json) -> Json:
    """Where name and the rest stand: some clients nest, as in chat."""
    inner = tool.get(tool.get("type", "function"))
    return inner if isinstance(inner, Mapping) else tool


def _name(place: str, tool: Json) -> str:
    name = _inner(tool).get("name")
    if not isinstance(name, str) or not name:
        raise fields.reject(f"{place}.name", f"'{place}.name' must be a non-empty string")
    return name


def _flat(space: str, name: str, taken: Iterable[str]) -> str:
    joined = f"{space}__{name}"
    if NAME.fullmatch(joined) and joined not in taken:
        return joined
    digest = hashlib.sha256(f"{space}\0{name}".encode("utf-8", "replace")).hexdigest()[:8]
    return f"{FORBIDDEN.sub('_', joined)[:55]}_{digest}"


def kept(table: Json, *names: str) -> dict[str, Any]:
    """These keys of a table, nulls left out."""
    return {key: table[key] for key in names if table.get(key) is not None}


# --- choices ----------------------------------------------------------------------------------------------------------------------


def _allowed(given: Json, tools: Tools) -> Any:
    mode = given.get("mode", "auto")
    if mode not in ("auto", "required"):
        raise fields.reject("tool_choice.mode", "'tool_choice.mode' must be auto or required")
    listed = fields.items(given.get("tools"), "tool_choice.tools")
    allowed = [
        one
        for at, tool in enumerate(listed)
        for one in _chosen(f"tool_choice.tools[{at}]", fields.table(tool, "tool_choice.tools"), tools, check=False)
    ]
    if listed and not allowed:  # nothing but tools that are left out
        if mode == "required":
            raise _forced(sorted({str(tool.get("type")) for tool in listed}))
        return "none"
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": allowed}}


def _chosen(place: str, chosen: Json, tools: Tools, *, check: bool = True) -> list[dict[str, Any]]:
    """`{type, name}` > `{type, TYPE: {name}}`, a namespace > each of its tools, a tool that is left out > nothing."""
    kind = _type(place, {"type": None, **chosen})
    if DATED.sub("", kind) in HOSTED:
        return []
    if kind not in (*OWN, "namespace"):
        raise fields.reject(f"{place}.type", f"'{place}.type' '{kind}' is not known here")
    inner = chosen.get(kind)
    named = inner if isinstance(inner, Mapping) else chosen
    name, space = named.get("name"), named.get("namespace")
    if not isinstance(name, str):
        raise fields.reject(f"{place}.name", f"'{place}.name' must be a string")
    if kind == "namespace":
        wanted = {flat for full, flat in tools.flat.items() if full[0] == name}
    else:
        wanted = {tools.flat[full]} if (full := _meant(space, name, tools)) in tools.flat else {name}
    found = [tool for tool in tools.tools if _called(tool) in wanted and kind in (tool["type"], "namespace")]
    if not found and check:
        raise fields.reject(place, f"Tool choice '{name}' not found in 'tools' parameter.")
    if not found and kind != "namespace":
        return [{"type": kind, kind: {"name": name}}]
    return [{"type": tool["type"], tool["type"]: {"name": _called(tool)}} for tool in found]


def _meant(space: Any, name: str, tools: Tools) -> Full:
    """A choice may name a tool of a namespace alone, where only one is called so."""
    if isinstance(space, str) and space:
        return space, name
    alike = [full for full in tools.flat if full[1] == name]
    return alike[0] if len(alike) == 1 else ("", name)


def _called(tool: Json) -> str:
    return str(tool[tool["type"]]["name"])


def _forced(kinds: Sequence[str]) -> BadRequest:
    return fields.reject(
        "tool_choice",
        f"no model here has the tool that 'tool_choice' asks for: {', '.join(kinds)}",
        code="unsupported_parameter",
    )


def _nothing() -> BadRequest:
    return fields.reject("tool_choice", "'tool_choice' is required, but there are no 'tools'")
