"""A growing answer, held against what a second small model has already said > whether the two have parted. Pure.

A second model that answers within milliseconds is there before the first token of the other. From then on every name and value that the
growing answer closes either stands in the second's answer or does not: the first that does not tells what the end would tell.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.confidence.scan import Leaf, Path, Scanner
from gateway.confidence.tokens import content
from wire.types import Chunk, Draft

_ARGUMENTS = frozenset({"arguments", "parameters"})
_NOTHING = object()

Said = Sequence[tuple[str, Any]]
"""(function, its arguments) of each call; ("", the document) of an answer that is JSON."""


class Parting:
    """feed() every chunk of an attempt; `parted` says whether its JSON, as far as it has come, can still become what `second` says.

    Held against each other: the functions called, in order, and what stands in their arguments, or in the document. A member has parted
    when the second does not have it, has another value there, or has one before it, in its own order, that did not come. An answer that is
    no JSON never parts.
    """

    __slots__ = ("_parted", "_raw", "_said", "_scanner", "_seen", "parted")

    def __init__(self, second: Said) -> None:
        self.parted = False
        self._said = second
        self._scanner = Scanner(keep=True)
        self._raw = bytearray()
        self._parted = False
        """By what has come to its end."""
        self._seen = (0, 0)
        """Objects before the one that was looked at, and how much of it."""

    def feed(self, chunk: Chunk) -> None:
        """Take in one chunk. Never raises on what a server sent."""
        if chunk.choice != 0 or not chunk.logprobs or not self._said:
            return
        tokens: Any = chunk.logprobs.get("content")
        for token in tokens if isinstance(tokens, Sequence) else ():
            if isinstance(token, Mapping):
                self.token(content(token))

    def token(self, data: bytes) -> None:
        """The bytes of one token."""
        self._raw += data
        scanner = self._scanner
        for byte in data:
            scanner.feed(byte)
        first = len(scanner.segments) - (not scanner.open)
        seen = first, len(scanner.keys) + len(scanner.leaves)
        if seen != self._seen:
            self._seen = seen
            self._parted = _parted(scanner.keys, scanner.leaves, self._raw, self._said, first)
        self.parted = self._parted or self._leads_elsewhere(first)

    def _leads_elsewhere(self, first: int) -> bool:
        """The string value that is being written does not begin like the second's."""
        inside = self._scanner.string
        if inside is None:
            return False
        path, since = inside
        begun = bytes(self._raw[since:])
        if b"\\" in begun:  # escapes: wait for its end
            return False
        calls = bool(self._said[0][0])
        named = calls and _names(self._scanner.keys)
        at, inner = _place(path, first if calls else 0, named)
        if named and _rest(path) == ("name",):
            meant: Any = self._said[at][0] if 0 <= at < len(self._said) else _NOTHING
        elif inner:
            meant = _inside(_at(self._said, at), inner)
        else:
            return False
        return not isinstance(meant, str) or not meant.encode("utf-8", "replace").startswith(begun)


def said(second: Draft) -> Said:
    """[] for an answer that is no JSON object."""
    if second.tool_calls:
        return [(call.name, _loaded(call.arguments.encode() or b"{}")) for call in second.tool_calls]
    document = _loaded(second.text.encode())
    return [("", document)] if isinstance(document, dict) else []


def _loaded(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return _NOTHING


def _parted(keys: Sequence[Path], leaves: Sequence[Leaf], raw: bytearray, said: Said, first: int) -> bool:
    """keys, leaves: of one object or array, in order. first: which of the calls it is, or begins with."""
    calls = bool(said[0][0])
    named = calls and _names(keys)
    came: dict[int, set[str | int]] = {}
    for path in keys:
        at, inner = _place(path, first if calls else 0, named)
        if len(inner) != 1:
            continue
        members = _at(said, at)
        before = came.setdefault(at, set())
        order = list(members) if isinstance(members, dict) else []
        if inner[0] not in order or not before.issuperset(order[: order.index(inner[0])]):
            return True
        before.add(inner[0])
    return any(_differs(leaf, raw, said, first, calls, named) for leaf in leaves)


def _differs(leaf: Leaf, raw: bytearray, said: Said, first: int, calls: bool, named: bool) -> bool:
    text = bytes(raw[leaf.start : leaf.end])
    value = _loaded(b'"' + text + b'"' if leaf.kind == "string" else text)
    at, inner = _place(leaf.path, first if calls else 0, named)
    if named and _rest(leaf.path) == ("name",):
        return not 0 <= at < len(said) or said[at][0] != value
    found = _inside(_at(said, at), inner)
    return bool(inner) and (found != value or isinstance(found, bool) != isinstance(value, bool))


def _inside(found: Any, path: Path) -> Any:
    for step in path:
        try:
            found = found[step]
        except (LookupError, TypeError):
            return _NOTHING
    return found


def _names(keys: Sequence[Path]) -> bool:
    """Does the object say which function it calls? Else it is the arguments themselves."""
    return bool(keys) and _rest(keys[0])[0] in {"name", *_ARGUMENTS}


def _place(path: Path, first: int, named: bool) -> tuple[int, Path]:
    """Which call, and where in its arguments; () for what is none of them."""
    rest = _rest(path)
    at = first + path[0] if isinstance(path[0], int) else first
    inner = rest if not named else rest[1:] if rest and rest[0] in _ARGUMENTS else ()
    return at, tuple(map(_spelled, inner))


def _spelled(step: str | int) -> str | int:
    """A scanner's keys stand as they were written, escapes and all."""
    if isinstance(step, int) or "\\" not in step:
        return step
    found = _loaded(f'"{step}"'.encode())
    return found if isinstance(found, str) else step


def _rest(path: Path) -> Path:
    return path[1:] if isinstance(path[0], int) else path


def _at(said: Said, at: int) -> Any:
    return said[at][1] if 0 <= at < len(said) else _NOTHING
