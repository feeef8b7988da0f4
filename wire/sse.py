"""Server-sent events: bytes in any pieces > events, and back. WHATWG HTML, section 9.2.6 ("Interpreting an event stream").

A stream is cut into blocks, each ending with its blank line; a block is one `Event`, also when it says nothing (a comment, a
lone blank line), so that `raw`s joined are exactly the bytes that came in and a keep-alive is passed on when it comes.

A block that ends with CR is held until the next byte (or `close`) has shown whether a LF belongs to it. So the events depend on
the bytes alone, never on how the network cut them; only streams that use bare CR as their line ending pay for it, one event late.

The usual block, `data: {...}` LF LF, takes one search and one slice: the line splitter only sees what looks otherwise. What comes off the
network is mostly such blocks and nothing else: these are cut in one go.
"""

import re

from msgspec import Struct

BOM = b"\xef\xbb\xbf"
LIMIT = 8 * 2**20
"""Bytes of one event. Larger than any event seen (base64 images of a few MiB come in one)."""

_EOL = re.compile(rb"\r\n|\n|\r")
_END_OF_LINE = rb"(?:\r\n|\n|\r(?!\n))"  # the last branch keeps a CRLF from being read as two line ends
_BLANK = re.compile(_END_OF_LINE)
_END = re.compile(_END_OF_LINE + _END_OF_LINE)


class EventTooLarge(ValueError):
    """One event is longer than the splitter's limit."""


class Event(Struct, frozen=True):
    """One block of the stream."""

    data: bytes
    """The `data` lines joined by LF; b"" when the block says nothing (comments, blank lines, other fields only)."""
    event: str = ""
    """The `event` field; "" when there is none, which means "message"."""
    raw: bytes = b""
    """The block's bytes with its delimiter, as they came."""


class Splitter:
    """Feed it blocks of bytes as they come; it gives the events that are complete."""

    __slots__ = ("_limit", "_newlines_only", "_scanned", "_started", "begun")

    def __init__(self, limit: int = LIMIT) -> None:
        self.begun = b""
        """What has come of the next event."""
        self._limit = limit
        self._newlines_only = True
        self._scanned = 0
        self._started = False

    def feed(self, block: bytes) -> list[Event]:
        """The events that `block` completes. Raises EventTooLarge."""
        if not self.begun and len(block) <= self._limit and (usual := _usual(block)):
            self._started = True
            return usual
        buffer = self.begun + block if self.begun else block
        if self._newlines_only and b"\r" in block:
            self._newlines_only = False
        events: list[Event] = []
        start = 0
        while (end := self._end(buffer, start)) > 0:
            events.append(self._event(buffer[start:end]))
            start = end
            self._scanned = end
        if len(buffer) - start > self._limit:
            raise EventTooLarge(f"an event is longer than {self._limit} bytes")
        self.begun = buffer[start:] if start else buffer
        # Up to three bytes of an unfinished delimiter (CR LF CR) may stand at the end.
        self._scanned = max(0, len(self.begun) - 3)
        return events

    def give_back(self, most: int) -> bytes | None:
        """What has come of the next event: it is to be fed again, or was read by others. None when that is more than `most` bytes, or
        when it does not begin there."""
        left = self.begun
        if len(left) > most or not self._started:
            return None
        self.begun = b""
        self._scanned = 0
        return left

    def close(self) -> list[Event]:
        """The stream has ended: what is left is the last event, also without its blank line. Raises EventTooLarge."""
        left, self.begun = self.begun, b""
        self._scanned = 0
        return [self._event(left)] if left else []

    def _end(self, buffer: bytes, start: int) -> int:
        """Index after the block that begins at `start`; 0 when it is not complete."""
        if self._newlines_only:
            if buffer.startswith(b"\n", start):
                return start + 1
            at = buffer.find(b"\n\n", max(start, self._scanned))
            return at + 2 if at >= 0 else 0
        found = _BLANK.match(buffer, start) or _END.search(buffer, max(start, self._scanned))
        if found is None or (found.end() == len(buffer) and buffer.endswith(b"\r")):
            return 0
        return found.end()

    def _event(self, raw: bytes) -> Event:
        if len(raw) > self._limit:
            raise EventTooLarge(f"an event is longer than {self._limit} bytes")
        text = raw
        if not self._started:
            self._started = True
            text = raw.removeprefix(BOM)
        if self._newlines_only and text.startswith(b"data: ") and text.find(b"\n") == len(text) - 2:
            return Event(text[6:-2], "", raw)
        return _read(text, raw)


def _usual(block: bytes) -> list[Event]:
    """The events of a block that is nothing but whole ones, each `data: {...}` LF LF: 0.4 us an event instead of 0.9. [] for any other."""
    if block[-2:] != b"\n\n" or b"\r" in block:
        return []
    pieces = block.split(b"\n\n")
    if pieces.pop():
        return []
    events = []
    for piece in pieces:
        if piece[:6] != b"data: " or b"\n" in piece:
            return []
        events.append(Event(piece[6:], "", piece + b"\n\n"))
    return events


def _read(text: bytes, raw: bytes) -> Event:
    data: list[bytes] = []
    event = b""
    for line in _EOL.split(text):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            event = value
    return Event(b"\n".join(data), event.decode("utf-8", "replace"), raw)


def encode(data: bytes, event: str = "") -> bytes:
    """One event's bytes. Every line of `data` becomes a `data` line of its own. Raises ValueError for a line end in `event`."""
    if "\n" in event or "\r" in event:
        raise ValueError("an event's name is one line")
    head = b"event: " + event.encode() + b"\n" if event else b""
    if b"\n" in data or b"\r" in data:
        return head + b"".join(b"data: " + line + b"\n" for line in _EOL.split(data)) + b"\n"
    return head + b"data: " + data + b"\n\n"
