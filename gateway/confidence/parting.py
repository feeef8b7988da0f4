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
_NOTHING, _ANY = object(), object()

Said = Sequence[tuple[str, Any]]
"""(function, its arguments) of each call; ("", the document) of an answer that is JSON."""


class Parting:
    """feed() every chunk of an attempt; `parted` says whether its JSON, as far as it has come, can still become what the second said.

    Held against each other: the functions called, in order, and what stands in their arguments, or in the document. A member has parted
    when the second does not have it, has another value there, or has one before it, in its own order, that did not come. An answer that is
    no JSON never parts.
    """

    __slots__ = (
        "_apart",
        "_came",
        "_first",
        "_keys",
        "_leaves",
        "_list",
        "_named",
        "_orders",
        "_raw",
        "_said",
        "_scanner",
        "parted",
    )

    def __init__(self, second: Said) -> None:
        self.parted = False
        self._said = second
        self._scanner = Scanner(keep=True)
        self._raw = bytearray()
        self._orders: list[dict[str, int]] = [
            {name: at for at, name in enumerate(members)} if isinstance(members, dict) else {} for _, members in second
        ]
        """Of each call, where its members stand."""
        self._begin(0)

    def _begin(self, first: int) -> None:
        self._list = self._scanner.keys
        self._first = first
        """Objects before the one that is looked at."""
        self._apart = False
        """By what has come of it to its end."""
        self._named = False
        """It says which function it calls; else it is the arguments themselves."""
        self._keys = self._leaves = 0
        """How much of it was looked at."""
        self._came: dict[int, int] = {}
        """How many members of each call have come: as none has parted, these are the first ones."""

    def feed(self, chunk: Chunk) -> None:
        """Take in one chunk. Never raises on what a server sent. O(bytes of its tokens)."""
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
        if scanner.keys is not self._list:  # another object
            self._begin(len(scanner.segments) - (not scanner.open))
        keys, leaves = scanner.keys[self._keys :], scanner.leaves[self._leaves :]
        if not self._keys and keys:
            self._named = bool(self._said[0][0]) and _rest(keys[0])[0] in {"name", *_ARGUMENTS}
        self._keys += len(keys)
        self._leaves += len(leaves)
        self._apart = self._apart or any(map(self._strange, keys)) or any(map(self._differs, leaves))
        self.parted = self._apart or self._leads_elsewhere()

    def _strange(self, path: Path) -> bool:
        """A member that the second does not have, or has not yet."""
        at, inner = self._place(path)
        if len(inner) != 1:
            return False
        order = self._orders[at] if 0 <= at < len(self._orders) else {}
        place, came = order.get(str(inner[0])), self._came.get(at, 0)
        if place is None or place > came:
            return True
        self._came[at] = max(came, place + 1)
        return False

    def _differs(self, leaf: Leaf) -> bool:
        text = bytes(self._raw[leaf.start : leaf.end])
        value = _loaded(b'"' + text + b'"' if leaf.kind == "string" else text)
        meant = self._meant(leaf.path)
        return meant is not _ANY and (meant != value or isinstance(meant, bool) != isinstance(value, bool))

    def _leads_elsewhere(self) -> bool:
        """The string value that is being written does not begin like the second's."""
        inside = self._scanner.string
        if inside is None:
            return False
        path, since = inside
        begun = bytes(self._raw[since:])
        if b"\\" in begun:  # escapes: wait for its end
            return False
        meant = self._meant(path)
        if meant is _ANY:
            return False
        return not isinstance(meant, str) or not meant.encode("utf-8", "replace").startswith(begun)

    def _meant(self, path: Path) -> Any:
        """What the second has there; _ANY where that does not matter."""
        at, inner = self._place(path)
        known = 0 <= at < len(self._said)
        if self._named and _rest(path) == ("name",):
            return self._said[at][0] if known else _NOTHING
        if not inner:
            return _ANY
        found: Any = self._said[at][1] if known else _NOTHING
        for step in inner:
            try:
                found = found[step]
            except (LookupError, TypeError):
                return _NOTHING
        return found

    def _place(self, path: Path) -> tuple[int, Path]:
        """Which call, and where in its arguments; () for what is none of them."""
        first, rest = self._first if self._said[0][0] else 0, _rest(path)
        at = first + path[0] if isinstance(path[0], int) else first
        inner = rest if not self._named else rest[1:] if rest and rest[0] in _ARGUMENTS else ()
        return at, tuple(map(_spelled, inner))


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


def _spelled(step: str | int) -> str | int:
    """A scanner's keys stand as they were written, escapes and all."""
    if isinstance(step, int) or "\\" not in step:
        return step
    found = _loaded(f'"{step}"'.encode())
    return found if isinstance(found, str) else step


def _rest(path: Path) -> Path:
    return path[1:] if isinstance(path[0], int) else path
