"""One JSON string, read piece by piece, against a list of strings and a length."""

import re
from bisect import bisect_left
from collections.abc import Sequence

_PLAIN = re.compile(r'[^"\\\x00-\x1f\ud800-\udfff]*')
_ESCAPED = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_HALF = "half of a character"
_HEX = frozenset("0123456789abcdefABCDEF")


class Text:
    """From behind the opening quote to behind the closing one.

    listed: the strings that it may be, sorted, or None. With `open_` it may be others, too, and the list only says which are known.
    most: characters (Unicode code points, as JSON Schema counts).
    """

    def __init__(self, listed: Sequence[str] | None, most: int | None, *, open_: bool = False) -> None:
        self._listed = listed
        self._open = open_
        self._may_be = listed is not None
        self._begun = ""
        self._escape = ""
        self._high = 0
        self.most = most
        self.length = 0
        self.broken = ""
        """`listed`: no string of the list begins like this; `long`; else what is wrong with the JSON."""
        self.found: str | None = None
        """At the end: which string of the list it is; None: another one."""

    def read(self, text: str, at: int) -> tuple[int, bool]:
        """Where reading stopped, and whether the string ended there."""
        while at < len(text) and not self.broken:
            if self._escape:
                at = self._escaped(text, at)
                continue
            end = _PLAIN.match(text, at).end()  # type: ignore[union-attr]
            if end > at:
                self._no_half()
                self._take(text[at:end])
            if end == len(text) or self.broken:
                return end, False
            at = end
            if text[at] == '"':
                self._no_half()
                self._end()
                return at + 1, not self.broken
            if text[at] != "\\":
                self.broken = "a control character or half of a character"
                return at, False
            self._escape = "\\"
            at += 1
        return at, False

    def _escaped(self, text: str, at: int) -> int:
        """One character further into an escape."""
        self._escape += text[at]
        kind = self._escape[1]
        if kind != "u":
            self._escape = ""
            if kind not in _ESCAPED:
                self.broken = "an unknown escape"
                return at
            self._no_half()
            self._take(_ESCAPED[kind])
            return at + 1
        if len(self._escape) > 2 and text[at] not in _HEX:
            self.broken = "an unknown escape"
            return at
        if len(self._escape) == 6:
            code, self._escape = int(self._escape[2:], 16), ""
            self._unit(code)
        return at + 1

    def _unit(self, code: int) -> None:
        """A UTF-16 code unit: the halves of a pair come as two escapes."""
        if 0xDC00 <= code < 0xE000:
            if not self._high:
                self.broken = _HALF
                return
            pair, self._high = 0x10000 + ((self._high - 0xD800) << 10) + (code - 0xDC00), 0
            self._take(chr(pair))
            return
        self._no_half()
        if 0xD800 <= code < 0xDC00:
            self._high = code
        else:
            self._take(chr(code))

    def _no_half(self) -> None:
        """The first half of a pair must be followed by the second."""
        if self._high:
            self.broken = _HALF

    def _take(self, more: str) -> None:
        if self.broken:
            return
        self.length += len(more)
        if self.most is not None and self.length > self.most:
            self.broken = "long"
            return
        if not self._may_be or self._listed is None:
            return
        self._begun += more
        place = bisect_left(self._listed, self._begun)
        if place < len(self._listed) and self._listed[place].startswith(self._begun):
            return
        self._may_be, self._begun = False, ""
        if not self._open:
            self.broken = "listed"

    def _end(self) -> None:
        if self.broken or self._listed is None:
            return
        place = bisect_left(self._listed, self._begun) if self._may_be else len(self._listed)
        if place < len(self._listed) and self._listed[place] == self._begun:
            self.found = self._begun
        elif not self._open:
            self.broken = "listed"
