"""The head of a request that came before: a connection that is kept sends nearly the same one again and again.

The parser tells a head header by header, each a call into Python. What it said of one holds for every head that has the same bytes but for
the digits of `content-length`: so that is remembered, one head per connection, and a request that comes in one piece with its body and
nothing behind it is taken as that one was. Everything else goes to the parser. Measured without sockets, of a request that is answered at
once: 15 us instead of 19 with 4 headers, instead of 26 with 16. Pure.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Self

from msgspec.structs import replace

from gateway.surface.exchange import Head
from gateway.surface.headers import plain_headers, public_headers

KNOWN_BYTES = 4096
"""Of a head that is remembered."""
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,9})\r\n", re.IGNORECASE)
_DIGITS = 9
_OTHERWISE = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"trailer"})
"""Headers that say more of the body, or of the connection, than its length."""


class Known:
    __slots__ = ("_after", "_at", "_before", "_came", "_lines", "_scope", "_size", "head")

    def __init__(self, before: bytes, after: bytes, scope: dict[str, Any], lines: list[tuple[bytes, bytes]]) -> None:
        self._before = before
        self._after = after
        self._scope = scope
        self._lines = lines
        self._at = [name for name, _ in lines].index(b"content-length")
        plain = plain_headers(lines)
        # What routers see is of all later requests too: whoever writes there gets an error.
        self.head = Head(plain, MappingProxyType(public_headers(plain)))
        """Of the request that was read last, as all that follows."""
        self._came = b""
        self._size = 0
        self._as(lines[self._at][1])

    def _again(self, data: bytes) -> bool:
        """Does `data` begin with the head, but for its length?"""
        start = len(self._before)
        end = data.find(b"\r", start, start + _DIGITS + 1)
        digits = data[start:end]
        if (
            end < 0
            or not digits.isdigit()
            or not data.startswith(self._before)
            or not data.startswith(self._after, end)
        ):
            return False
        self._as(digits)
        return True

    def _as(self, digits: bytes) -> None:
        """From now on the length is `digits`."""
        self._came = self._before + digits + self._after
        self._size = len(self._came) + int(digits)
        self._lines = self._lines.copy()
        self._lines[self._at] = (b"content-length", digits)
        # Who has the other Head keeps it as it is.
        self.head = replace(self.head, headers={**self.head.headers, "content-length": digits.decode()})

    @classmethod
    def learn(cls, data: bytes, scope: Mapping[str, Any]) -> Self | None:
        """data: one read of the socket from the first byte of a message on, of which the parser made `scope`. None: that is no request
        to be remembered, or `data` is not all of one and nothing else."""
        end = data.find(b"\r\n\r\n", 0, KNOWN_BYTES) + 4
        found = _LENGTH.findall(data, 0, end)
        lines: list[tuple[bytes, bytes]] = scope["headers"]
        told = [value for name, value in lines if name == b"content-length"]
        if len(found) != 1 or found != told or len(data) != end + int(found[0]):
            return None
        if scope["method"] != "POST" or scope["http_version"] != "1.1" or any(name in _OTHERWISE for name, _ in lines):
            return None
        digits = _LENGTH.search(data, 0, end)
        assert digits is not None
        kept = {**scope, "headers": [], "state": {}}  # replaced in each copy
        return cls(data[: digits.start(1)], data[digits.end(1) : end], kept, list(lines))

    def read(self, data: bytes) -> tuple[dict[str, Any], bytes] | None:
        """The scope without its `state`, and the body. data: as in `learn`, not yet parsed. None: another head, or not all of one request
        and nothing else."""
        if not (data.startswith(self._came) or self._again(data)) or len(data) != self._size:
            return None
        scope = self._scope.copy()
        scope["headers"] = self._lines.copy()
        return scope, data[len(self._came) :]
