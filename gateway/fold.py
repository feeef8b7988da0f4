"""Chunks > drafts > one whole answer. Pure.

Joins what belongs together and nothing else: text is concatenated, calls are joined by their index and stand in the order in which
they first came (as a stream of them has to be written), the first role, id and name win (clients that concatenate them break:
"assistantassistant"), the last finish_reason and usage win.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from wire.types import Chunk, Draft, Json, ToolCall

REASONING = ("reasoning", "reasoning_content")
CONCATENATED = ("content", "refusal", *REASONING)

Message = tuple[int, dict[str, Any], str | None, Json | None]
"""A choice: its index, the OpenAI message, finish_reason, logprobs."""


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


class _Choice(Struct, eq=False):
    texts: dict[str, list[str]] = {}
    calls: dict[int, _Call] = {}
    numbers: CallNumbers | None = None
    """Once a call has come."""
    other: dict[str, Any] = {}
    finish: str | None = None
    logprobs: list[Json] = []
    probability: float | None = None


class Fold(Struct, eq=False):
    """Collects the chunks of one attempt. native: a list, where what they say in the upstream's own words is to be kept in it, for a
    dialect that speaks them. A Struct, as its choices are: made without a call into Python (0.15 us instead of 0.7). To write a field costs
    more than to look at it, so what stays as it is, is not written (0.32 us a chunk instead of 0.46)."""

    native: list[Json] | None = None
    begun: bool = False
    """Some content has come: text, a call or a refusal, not only a role."""
    called: bool = False
    """A call has come."""
    plain: bool = True
    """Nothing has come that not every caller may see as it came: log-probabilities, of which Weir asks for some of its own; words of the
    upstream's own."""
    usage: Json | None = None
    extra: dict[str, Any] = {}
    meta: dict[str, Any] = {}
    head: Mapping[str, str] = {}
    probability: float | None = None
    """Of the first choice, by number, that has one."""
    _choices: dict[int, _Choice] = {}
    _drafts: list[Draft] | None = None

    def add(self, chunk: Chunk) -> None:
        if self._drafts is not None:
            self._drafts = None
        if chunk.usage is not None:
            self.usage = chunk.usage
        if chunk.extra:
            self.extra.update(chunk.extra)
        if chunk.meta:
            self.meta.update(chunk.meta)
        if chunk.head is not None:
            self.head = chunk.head
        if chunk.native is not None:
            self.plain = False
            if self.native is not None:
                self.native.append(chunk.native)
        delta, finish, logprobs, probability = chunk.delta, chunk.finish, chunk.logprobs, chunk.probability
        if not delta and finish is None and not logprobs and probability is None:
            return
        choice = self._choices.get(chunk.choice)
        if choice is None:
            choice = self._choices[chunk.choice] = _Choice()
        for key, value in delta.items():
            if key in CONCATENATED and isinstance(value, str):
                texts = choice.texts.get(key)
                if texts is None:
                    choice.texts[key] = [value]
                else:
                    texts.append(value)
                if value and not self.begun:
                    self.begun = True
            elif value is None or key == "role":
                continue
            elif key == "tool_calls":
                _add_calls(choice, value)
                if choice.calls:
                    self.begun = self.called = True
            elif isinstance(value, list) and isinstance(choice.other.get(key), list):
                choice.other[key] = [*choice.other[key], *value]
            else:
                choice.other[key] = value
        if finish is not None:
            choice.finish = finish
            self.begun = True
        if logprobs:
            self.plain = False
            choice.logprobs.extend(logprobs.get("content") or ())
        if probability is not None:
            choice.probability = probability
            self.probability = next(
                choice.probability for _, choice in sorted(self._choices.items()) if choice.probability is not None
            )

    @property
    def finished(self) -> bool:
        """Every choice that began has its finish_reason."""
        return bool(self._choices) and all(choice.finish is not None for choice in self._choices.values())

    def drafts(self) -> list[Draft]:
        """One Draft per choice, in order. Kept until the next chunk: it is asked for several times a request."""
        drafts = self._drafts
        if drafts is None:
            drafts = self._drafts = []
            choices = self._choices
            for index in choices if len(choices) == 1 else sorted(choices):
                choice = choices[index]
                texts = choice.texts
                drafts.append(
                    Draft(
                        index,
                        "".join(texts["content"]) if "content" in texts else "",
                        tuple(map(_tool_call, choice.calls.values())) if choice.calls else (),
                        "".join(texts["refusal"]) if "refusal" in texts else "",
                        choice.finish,
                        tuple(choice.logprobs) if choice.logprobs else (),
                        choice.probability,
                        self.usage,
                    )
                )
        return drafts

    def messages(self) -> list[Message]:
        told: list[Message] = []
        for draft in self._drafts or self.drafts():
            choice, text, refusal = self._choices[draft.choice], draft.text, draft.refusal
            calls = choice.calls
            message: dict[str, Any] = {
                "role": "assistant",
                "content": text if text or not (calls or refusal) else None,
                "refusal": refusal or None,
            }
            for key in REASONING:
                if key in choice.texts:
                    message[key] = "".join(choice.texts[key])
            if calls:
                message["tool_calls"] = [
                    {"id": call.id, "type": call.kind, **_named(call), **call.extra} for call in calls.values()
                ]
            if choice.other:
                message.update(choice.other)
            logprobs = {"content": choice.logprobs} if choice.logprobs else None
            told.append((draft.choice, message, choice.finish, logprobs))
        return told


def _add_calls(choice: _Choice, deltas: Any) -> None:
    if not isinstance(deltas, list):
        return
    if choice.numbers is None:
        choice.numbers = CallNumbers()
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
