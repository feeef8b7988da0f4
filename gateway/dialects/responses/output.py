"""Chunks > output items, and the events that tell of them.

Reasoning and text are told to be done as soon as something else begins; calls stay open to the end, since nothing forbids an upstream
to go on with the first one after it began the second. Text that comes after that is a new message: an item that was told to be done is
never touched again.

Items are `completed`, but for the last one of an answer that the token limit or a filter cut: that is `incomplete`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wire.types import EMPTY, Chunk, Json

Tell = Callable[[str, dict[str, Any]], None]
"""Takes an event's type and its fields, and reads them at once: what they hold goes on growing."""
Names = Mapping[str, tuple[str, str]]
"""The name that a model calls a tool of a namespace by > (namespace, name)."""

PREFIXES = {
    "message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc", "function_call_output": "fco",
    "custom_tool_call_output": "ctco",
}  # fmt: skip


def item_id(response: str, kind: str, number: int) -> str:
    """The id of item `number` of a response. It names the response: `response_of` finds it again."""
    return f"{PREFIXES.get(kind, 'item')}_{response}{number:04x}"


def response_of(item: str) -> str:
    """The id of the response that the item of this id belongs to, if Weir gave it; else an id that nobody has."""
    return f"resp_{item.partition('_')[2][:-4]}"


class Item:
    """One output item: a message, reasoning or a call."""

    def __init__(self, id: str, index: int, value: dict[str, Any]) -> None:
        self.id = id
        self.index = index
        self.value = {"id": id, **value, "status": "in_progress"}
        self.open = True

    def place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index}


class _Call:
    """A call under way: it becomes an item when its name is known."""

    def __init__(self) -> None:
        self.id = self.name = ""
        self.custom = False
        self.waiting = ""
        """What came before the name did."""
        self.item: Item | None = None


class Output:
    """The items of one response, as they grow."""

    def __init__(self, response: str, tell: Tell, *, logprobs: bool, names: Names = EMPTY) -> None:
        """response: the response's id without its prefix. logprobs: the caller asked for them. names: where tools come from."""
        self._names = names
        self.items: list[Item] = []
        self.finish: str | None = None
        self._response = response
        self._tell = tell
        self._logprobs = logprobs
        self._calls: dict[Any, _Call] = {}
        """Upstream's index > call."""
        self._call_ids: set[str] = set()

    def feed(self, chunk: Chunk) -> None:
        delta = chunk.delta
        reasoning = _words(delta.get("reasoning_content")) or _words(delta.get("reasoning"))
        if reasoning:
            self._add_text("reasoning", "reasoning_text", reasoning, ())
        text = _words(delta.get("content"))
        entries = _logprobs(chunk.logprobs) if self._logprobs else []
        if text or (entries and not delta.get("tool_calls") and self._writes_text()):
            self._add_text("message", "output_text", text, entries)
        if refusal := _words(delta.get("refusal")):
            self._add_text("message", "refusal", refusal, ())
        self._annotate(delta.get("annotations"))
        calls = delta.get("tool_calls")
        for position, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, Mapping):
                self._add_call(call, position)
        self.finish = chunk.finish or self.finish

    def end(self, *, cut: bool) -> list[Json]:
        """Close what is open; the items as they stand in the response. cut: the answer did not come to its own end."""
        for call in self._calls.values():
            if call.item is None:
                self._begin_call(call)  # never named: better told than lost
        if not self.items:
            self._add_text("message", "output_text", "", ())
        for item in self.items:
            self._close(item, "incomplete" if cut and item is self.items[-1] else "completed")
        return self.values()

    def values(self) -> list[Json]:
        return [item.value for item in self.items]

    def torn(self) -> list[Json]:
        """The items of an answer that broke off."""
        return [{**item.value, "status": "incomplete"} if item.open else item.value for item in self.items]

    # -- text: messages and reasoning -----------------------------------------------------------------------------------------------

    def _growing(self, kind: str) -> Item | None:
        """The last item, if it is a `kind` that still grows."""
        last = self.items[-1] if self.items else None
        return last if last is not None and last.open and last.value["type"] == kind else None

    def _writes_text(self) -> bool:
        message = self._growing("message")
        return message is not None and message.value["content"][-1]["type"] == "output_text"

    def _add_text(self, kind: str, part: str, text: str, entries: Sequence[Json]) -> None:
        item = self._growing(kind) or self._begin(kind, {"type": kind, **_empty(kind)})
        content: list[dict[str, Any]] = item.value["content"]
        if not content or content[-1]["type"] != part:
            if content:
                self._close_part(item)
            content.append(_part(part))
            self._tell("response.content_part.added", {**item.place(), **_at(item), "part": _part(part)})
        if not text and not entries:
            return
        last = content[-1]
        last[_key(part)] += text
        told: dict[str, Any] = {**item.place(), **_at(item), "delta": text}
        if part == "output_text":
            last["logprobs"] += entries
            told["logprobs"] = list(entries)
        self._tell(f"response.{part}.delta", told)

    def _annotate(self, annotations: Any) -> None:
        """Web citations, as chat writes them, into this API's flat form."""
        item = self._growing("message")
        if item is None or not isinstance(annotations, list) or not item.value["content"]:
            return
        part = item.value["content"][-1]
        for given in annotations:
            inner = given.get("url_citation") if isinstance(given, Mapping) else None
            if not isinstance(inner, Mapping) or part["type"] != "output_text":
                continue
            annotation = {"type": "url_citation", **inner}
            told = {"annotation_index": len(part["annotations"]), "annotation": annotation}
            part["annotations"].append(annotation)
            self._tell("response.output_text.annotation.added", {**item.place(), **_at(item), **told})

    def _close_part(self, item: Item) -> None:
        part = dict(item.value["content"][-1])
        kind = part["type"]
        told: dict[str, Any] = {**item.place(), **_at(item), _key(kind): part[_key(kind)]}
        if kind == "output_text":
            told["logprobs"] = list(part["logprobs"])
        self._tell(f"response.{kind}.done", told)
        self._tell("response.content_part.done", {**item.place(), **_at(item), "part": part})

    # -- calls ----------------------------------------------------------------------------------------------------------------------

    def _add_call(self, delta: Json, position: int) -> None:
        theirs = delta.get("index")
        call = self._calls.setdefault(position if theirs is None else theirs, _Call())
        custom = delta.get("custom")
        call.custom = call.custom or delta.get("type") == "custom" or isinstance(custom, Mapping)
        said = custom if isinstance(custom, Mapping) else delta.get("function")
        said = said if isinstance(said, Mapping) else {}
        call.id = call.id or _words(delta.get("id"))
        call.name = call.name or _words(said.get("name"))
        call.waiting += _words(said.get("input" if call.custom else "arguments"))
        if call.item is None and call.name:
            self._begin_call(call)
        if call.item is not None and call.waiting:
            self._grow_call(call.item, call.waiting)
            call.waiting = ""

    def _begin_call(self, call: _Call) -> None:
        # Clients and their results tell calls apart by this id: small models give all of theirs the same, or none.
        if not call.id or call.id in self._call_ids:
            call.id = f"call_{self._response[-12:]}{len(self._call_ids):02x}"
        self._call_ids.add(call.id)
        kind, key = ("custom_tool_call", "input") if call.custom else ("function_call", "arguments")
        namespace, name = self._names.get(call.name, ("", call.name))
        whose = {"namespace": namespace} if namespace else {}
        call.item = self._begin(kind, {"type": kind, "call_id": call.id, **whose, "name": name, key: ""})
        if call.waiting:
            self._grow_call(call.item, call.waiting)
            call.waiting = ""

    def _grow_call(self, item: Item, text: str) -> None:
        key = _key(item.value["type"])
        item.value[key] += text
        self._tell(f"{_event(item)}.delta", {**item.place(), "delta": text})

    # -- items ----------------------------------------------------------------------------------------------------------------------

    def _begin(self, kind: str, value: dict[str, Any]) -> Item:
        if self.items and self.items[-1].value["type"] in ("message", "reasoning"):
            self._close(self.items[-1], "completed")
        number = len(self.items)
        item = Item(item_id(self._response, kind, number), number, value)
        self.items.append(item)
        self._tell("response.output_item.added", {"output_index": number, "item": item.value})
        return item

    def _close(self, item: Item, status: str) -> None:
        if not item.open:
            return
        item.open = False
        kind = item.value["type"]
        if kind in ("message", "reasoning"):
            self._close_part(item)
        else:
            if kind == "function_call" and not item.value["arguments"] and status == "completed":
                self._grow_call(item, "{}")  # never "": every client parses the arguments of a tool without any
            key = _key(kind)
            told = {"name": item.value["name"]} if kind == "function_call" else {}
            self._tell(f"{_event(item)}.done", {**item.place(), **told, key: item.value[key]})
        item.value["status"] = status
        self._tell("response.output_item.done", {"output_index": item.index, "item": item.value})


def _empty(kind: str) -> dict[str, Any]:
    return {"role": "assistant", "content": []} if kind == "message" else {"summary": [], "content": []}


def _part(kind: str) -> dict[str, Any]:
    extra: dict[str, Any] = {"annotations": [], "logprobs": []} if kind == "output_text" else {}
    return {"type": kind, _key(kind): "", **extra}


def _key(kind: str) -> str:
    """Where the text of a part or a call stands."""
    return {"refusal": "refusal", "function_call": "arguments", "custom_tool_call": "input"}.get(kind, "text")


def _event(call: Item) -> str:
    custom = call.value["type"] == "custom_tool_call"
    return "response.custom_tool_call_input" if custom else "response.function_call_arguments"


def _at(item: Item) -> dict[str, int]:
    return {"content_index": len(item.value["content"]) - 1}


def _words(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _logprobs(logprobs: Json | None) -> list[Json]:
    entries = (logprobs or {}).get("content")
    return [
        {**_logprob(entry), "top_logprobs": [_logprob(other) for other in entry.get("top_logprobs") or ()]}
        for entry in (entries if isinstance(entries, list) else ())
    ]


def _logprob(entry: Json) -> dict[str, Any]:
    return {"token": entry.get("token"), "bytes": entry.get("bytes") or [], "logprob": entry.get("logprob")}
