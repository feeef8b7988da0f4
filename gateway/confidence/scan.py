"""Bytes of a raw answer, one after another > what each byte is. Pure.

A tolerant scanner for JSON that stands in other text (`<tool_call>`, a JSON array of calls, reasoning before it): it keeps no bytes, so a
growing answer costs as much as a whole one, and what turns out not to be JSON is passed over. UTF-8 needs no decoding here: every
byte that structures JSON is ASCII.
"""

from collections.abc import Sequence

from msgspec import Struct

OUTSIDE, STRUCTURE, KEY, VALUE = range(4)
"""What a byte is. VALUE: of a string its content and the closing quote (which decides that it ends), of an atom all of it."""

Path = tuple[str | int, ...]

_BEFORE, _FIRST_ITEM, _STRING, _ATOM, _FIRST_KEY, _KEY_NEXT, _KEY, _COLON, _AFTER, _OUTSIDE = range(10)
_SPACE = frozenset(b" \t\r\n")
_ATOM_START = frozenset(b"-0123456789tfn")
_ATOM_BYTES = frozenset(b"+-.0123456789eEtrufalsn")
_QUOTE, _BACKSLASH, _COMMA, _COLON_BYTE = b'"\\,:'
_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_ARRAY, _CLOSE_ARRAY = b"{}[]"
DEPTH = 64
"""JSON nested deeper than this is passed over."""


class Leaf(Struct, frozen=True):
    """A string, a number, true, false or null. Offsets are bytes of the raw answer, the end is excluded."""

    path: Path
    """Keys and positions from the outermost object."""
    kind: str
    """string or atom."""
    start: int
    """Of a string the first byte after its opening quote."""
    end: int
    """Of a string without the closing quote, which stands at `end`."""


class Segment(Struct, frozen=True):
    """One complete outermost object or array."""

    start: int
    end: int
    leaves: tuple[Leaf, ...]
    keys: tuple[Path, ...]
    """Every member's path, in order."""


class Scanner:
    """feed() is told one byte and says what it is. keep: also collect the complete objects and arrays in `segments`."""

    __slots__ = (
        "_keep",
        "_key",
        "_keys",
        "_leaves",
        "_path",
        "_since",
        "_slash",
        "_stack",
        "_state",
        "at",
        "segments",
        "start",
    )

    def __init__(self, *, keep: bool = False) -> None:
        self.at = 0
        """Bytes fed so far."""
        self.start = 0
        """Where the open segment began."""
        self.segments: list[Segment] = []
        self._keep = keep
        self._state = _OUTSIDE
        self._stack: list[int] = []
        self._path: list[str | int] = []
        self._key = bytearray()
        self._slash = False
        self._since = 0
        self._leaves: list[Leaf] = []
        self._keys: list[Path] = []

    @property
    def open(self) -> bool:
        """Inside of an object or array."""
        return self._state != _OUTSIDE

    @property
    def string(self) -> tuple[Path, int] | None:
        """Inside of a string value: where it stands, and its first byte (keep)."""
        return (tuple(self._path), self._since) if self._state == _STRING else None

    @property
    def keys(self) -> Sequence[Path]:
        """Of the open segment, or of the last one, the members that have been named so far (keep)."""
        return self._keys

    @property
    def leaves(self) -> Sequence[Leaf]:
        """And the values that have come to their end (keep)."""
        return self._leaves

    def feed(self, byte: int) -> int:
        """What `byte` is: OUTSIDE, STRUCTURE, KEY or VALUE."""
        kind = self._step(byte)
        self.at += 1
        return kind

    def _step(self, byte: int) -> int:
        state = self._state
        if state == _STRING:
            if self._slash:
                self._slash = False
            elif byte == _BACKSLASH:
                self._slash = True
            elif byte == _QUOTE:
                self._leaf("string")
            return VALUE
        if state == _KEY:
            return self._in_key(byte)
        if state == _ATOM:
            if byte in _ATOM_BYTES:
                return VALUE
            self._leaf("atom")
            state = _AFTER
        if state == _OUTSIDE:
            if byte != _OPEN_OBJECT and byte != _OPEN_ARRAY:
                return OUTSIDE
            self.start = self.at
            self._leaves, self._keys = [], []
            return self._enter(byte)
        if byte in _SPACE:
            return STRUCTURE
        return self._structure(byte, state)

    def _in_key(self, byte: int) -> int:
        if self._slash:
            self._slash = False
        elif byte == _BACKSLASH:
            self._slash = True
        elif byte == _QUOTE:
            self._state = _COLON
            if self._keep:
                self._path[-1] = self._key.decode("utf-8", "replace")
                self._keys.append(tuple(self._path))
            return KEY
        if self._keep:
            self._key.append(byte)
        return KEY

    def _structure(self, byte: int, state: int) -> int:
        if state in (_BEFORE, _FIRST_ITEM):
            if byte == _QUOTE:
                self._state, self._since = _STRING, self.at + 1
                return STRUCTURE
            if byte in (_OPEN_OBJECT, _OPEN_ARRAY):
                return self._enter(byte)
            if byte in _ATOM_START:
                self._state, self._since = _ATOM, self.at
                return VALUE
            if state == _FIRST_ITEM and byte == _CLOSE_ARRAY:
                return self._leave()
        elif state in (_FIRST_KEY, _KEY_NEXT):
            if byte == _QUOTE:
                self._state = _KEY
                self._key.clear()
                return STRUCTURE
            if state == _FIRST_KEY and byte == _CLOSE_OBJECT:
                return self._leave()
        elif state == _COLON:
            if byte == _COLON_BYTE:
                self._state = _BEFORE
                return STRUCTURE
        elif byte == _COMMA:
            return self._next()
        elif byte == (_CLOSE_OBJECT if self._stack[-1] == _OPEN_OBJECT else _CLOSE_ARRAY):
            return self._leave()
        return self._give_up(byte)

    def _enter(self, byte: int) -> int:
        if len(self._stack) >= DEPTH:
            self._drop()
            return OUTSIDE
        self._stack.append(byte)
        self._path.append(0 if byte == _OPEN_ARRAY else "")
        self._state = _FIRST_ITEM if byte == _OPEN_ARRAY else _FIRST_KEY
        return STRUCTURE

    def _next(self) -> int:
        position = self._path[-1]
        if isinstance(position, int):
            self._path[-1], self._state = position + 1, _BEFORE
        else:
            self._state = _KEY_NEXT
        return STRUCTURE

    def _leave(self) -> int:
        self._stack.pop()
        self._path.pop()
        if self._stack:
            self._state = _AFTER
        else:
            self._state = _OUTSIDE
            if self._keep:
                self.segments.append(Segment(self.start, self.at + 1, tuple(self._leaves), tuple(self._keys)))
        return STRUCTURE

    def _leaf(self, kind: str) -> None:
        self._state = _AFTER
        if self._keep:
            self._leaves.append(Leaf(tuple(self._path), kind, self._since, self.at))

    def _give_up(self, byte: int) -> int:
        """It was no JSON: outside again; but this byte may begin some."""
        self._drop()
        return self._step(byte) if byte in (_OPEN_OBJECT, _OPEN_ARRAY) else OUTSIDE

    def _drop(self) -> None:
        self._stack.clear()
        self._path.clear()
        self._state, self._slash = _OUTSIDE, False
