"""Chunks > drafts > one whole answer. Pure.

Joins what belongs together and nothing else: text is concatenated, calls are joined by their index and stand in the order in which
they first came (as a stream of them has to be written), the first role, id and name win (clients that concatenate them break:
"assistantassistant"), the last finish_reason and usage win.
"""

from collections.abc import Mapping
from typing import Any

from wire.types import Chunk, Draft, Json, ToolCall

CONCATENATED = ("content", "refusal", "reasoning", "reasoning_content")


class CallNumbers:
    """An upstream's numbering of the calls of one choice > ours: 0..k in the order of appearance.

    Upstreams start at 1, leave gaps, leave the index out, or send a second call under the index of the first: a new id under a known
    index is a new call.
    """

    def __init__(self) -> None:
        self._ours: dict[int, int] = {}
        self._ids: list[str] = []

    def __call__(self, call: Mapping[str, Any], position: int) -> int:
        index, id = call.get("index"), str(call.get("id") or "")
        theirs = index if isinstance(index, int) else position
        ours = self._ours.get(theirs)
        if ours is None or (id and self._ids[ours] and self._ids[ours] != id):
            ours = self._ours[theirs] = len(self._ids)
            self._ids.append(id)
        self._ids[ours] = self._ids[ours] or id
        return ours

    def __len__(self) -> int:
        return len(self._ids)


class _Call:
    __slots__ = ("arguments", "extra", "id", "kind", "name")

    def __init__(self) -> None:
        self.id = self.name = ""
        self.kind = "function"
        self.arguments: list[str] = []
        self.extra: dict[str, Any] = {}


class _Choice:
    __slots__ = ("calls", "finish", "logprobs", "numbers", "other", "probability", "texts")

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}
        self.calls: dict[int, _Call] = {}
        self.numbers = CallNumbers()
        self.other: dict[str, Any] = {}
        self.finish: str | None = None
        self.logprobs: list[Json] = []
        self.probability: float | None = None


class Fold:
    """Collects the chunks of one attempt. native: also what they say in the upstream's own words, for a dialect that speaks them."""

    def __init__(self, *, native: bool = False) -> None:
        self._choices: dict[int, _Choice] = {}
        self._drafts: list[Draft] | None = None
        self.begun = False
        """Some content has come: text, a call or a refusal, not only a role."""
        self.usage: Json | None = None
        self.extra: dict[str, Any] = {}
        self.meta: dict[str, Any] = {}
        self.head: Mapping[str, str] = {}
        self.native: list[Json] = []
        self._keeps_native = native

    def add(self, chunk: Chunk) -> None:
        self._drafts = None
        if chunk.usage is not None:
            self.usage = chunk.usage
        if chunk.extra:
            self.extra.update(chunk.extra)
        if chunk.meta:
            self.meta.update(chunk.meta)
        if chunk.head is not None:
            self.head = chunk.head
        if chunk.native is not None and self._keeps_native:
            self.native.append(chunk.native)
        if chunk.delta or chunk.finish is not None or chunk.logprobs or chunk.probability is not None:
            self._add_choice(chunk)

    def _add_choice(self, chunk: Chunk) -> None:
        choice = self._choices.get(chunk.choice)
        if choice is None:
            choice = self._choices[chunk.choice] = _Choice()
        for key, value in chunk.delta.items():
            if value is None or key == "role":
                continue
            if key == "tool_calls":
                _add_calls(choice, value)
                self.begun = self.begun or bool(choice.calls)
            elif key in CONCATENATED and isinstance(value, str):
                choice.texts.setdefault(key, []).append(value)
                self.begun = self.begun or bool(value)
            elif isinstance(value, list) and isinstance(choice.other.get(key), list):
                choice.other[key] = [*choice.other[key], *value]
            else:
                choice.other[key] = value
        if chunk.finish is not None:
            choice.finish = chunk.finish
            self.begun = True
        if chunk.logprobs and chunk.logprobs.get("content"):
            choice.logprobs.extend(chunk.logprobs["content"])
        if chunk.probability is not None:
            choice.probability = chunk.probability

    @property
    def finished(self) -> bool:
        """Every choice that began has its finish_reason."""
        return bool(self._choices) and all(choice.finish is not None for choice in self._choices.values())

    def drafts(self) -> list[Draft]:
        """One Draft per choice, in order. Kept until the next chunk: it is asked for half a dozen times a request (0.8 us each)."""
        if self._drafts is None:
            self._drafts = self._drafted()
        return self._drafts

    def _drafted(self) -> list[Draft]:
        return [
            Draft(
                choice=index,
                text="".join(choice.texts.get("content", ())),
                tool_calls=tuple(map(_tool_call, choice.calls.values())),
                refusal="".join(choice.texts.get("refusal", ())),
                finish=choice.finish,
                logprobs=tuple(choice.logprobs),
                probability=choice.probability,
                usage=self.usage,
            )
            for index, choice in sorted(self._choices.items())
        ]

    def messages(self) -> list[tuple[int, dict[str, Any], str | None, Json | None]]:
        """Per choice: index, OpenAI message, finish_reason, logprobs."""
        return [
            (index, _message(choice), choice.finish, {"content": choice.logprobs} if choice.logprobs else None)
            for index, choice in sorted(self._choices.items())
        ]


def _add_calls(choice: _Choice, deltas: Any) -> None:
    if not isinstance(deltas, list):
        return
    for position, delta in enumerate(deltas):
        if not isinstance(delta, Mapping):
            continue
        call = choice.calls.setdefault(choice.numbers(delta, position), _Call())
        call.id = call.id or str(delta.get("id") or "")
        call.kind = str(delta.get("type") or call.kind)
        function = delta.get("function")
        if isinstance(function, Mapping):
            call.name = call.name or str(function.get("name") or "")
            if isinstance(function.get("arguments"), str):
                call.arguments.append(function["arguments"])
        custom = delta.get("custom")
        if isinstance(custom, Mapping):
            call.kind = "custom"
            call.name = call.name or str(custom.get("name") or "")
            if isinstance(custom.get("input"), str):
                call.arguments.append(custom["input"])
        call.extra.update(
            {k: v for k, v in delta.items() if k not in ("index", "id", "type", "function", "custom") and v is not None}
        )


def _tool_call(call: _Call) -> ToolCall:
    return ToolCall(call.id, call.name, "".join(call.arguments), call.kind)


def _named(call: _Call) -> dict[str, Any]:
    text = "".join(call.arguments)
    if call.kind == "function":
        # "{}", never "": every client parses the arguments of a tool without any.
        return {"function": {"name": call.name, "arguments": text or "{}"}}
    return {"custom": {"name": call.name, "input": text}} if call.kind == "custom" else {}


def _message(choice: _Choice) -> dict[str, Any]:
    text = "".join(choice.texts.get("content", ()))
    refusal = "".join(choice.texts.get("refusal", ()))
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text if text or not (choice.calls or refusal) else None,
        "refusal": refusal or None,
    }
    for key in CONCATENATED[2:]:
        if key in choice.texts:
            message[key] = "".join(choice.texts[key])
    if choice.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": call.kind,
                **_named(call),
                **call.extra,
            }
            for call in choice.calls.values()
        ]
    message.update(choice.other)
    return message
