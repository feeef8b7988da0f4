"""A body that was compressed although nobody asked for it, decoded block by block.

The size of what comes out is bounded per block, whatever the ratio: ten kilobytes of gzip can stand for ten megabytes.
"""

import zlib

from wire.errors import Broken

_MOST = 2**18
"""Bytes of one decoded block."""

_AUTO = 32 + zlib.MAX_WBITS  # gzip or zlib, as its own head says
_CODINGS = ("gzip", "x-gzip", "deflate")


class Inflate:
    """Fed with what comes, asked for what it is. Raises Broken for what is not compressed as announced."""

    __slots__ = ("_begun", "_engine", "_full", "_origin", "_rest")

    def __init__(self, coding: str, origin: str) -> None:
        """Raises Broken for a coding other than gzip and deflate."""
        self._origin = origin
        if coding not in _CODINGS:
            raise Broken(f"{origin}: the answer has a content coding that was not asked for")
        self._engine = zlib.decompressobj(_AUTO)
        self._rest = b""
        self._begun = False
        self._full = False  # the last block was as large as one may be: more may be waiting inside

    def feed(self, block: bytes) -> None:
        self._rest += block

    def take(self) -> bytes:
        """The next decoded bytes, at most 256 kB; b"" when nothing comes out before more is fed."""
        while self._rest or self._full:
            if self._engine.eof:  # gzip members may follow each other (RFC 1952, 2.2)
                self._engine = zlib.decompressobj(_AUTO)
            self._begun = True
            try:
                block = self._engine.decompress(self._rest, _MOST)
            except zlib.error as exc:
                raise self._broken() from exc
            self._full = len(block) == _MOST and not self._engine.eof
            self._rest = self._engine.unused_data if self._engine.eof else self._engine.unconsumed_tail
            if block:
                return block
        return b""

    def finish(self) -> None:
        """Nothing more comes. Raises Broken when that is too early. An empty body is one, compressed or not."""
        if self._begun and not self._engine.eof:
            raise self._broken()

    def _broken(self) -> Broken:
        return Broken(f"{self._origin}: the answer's body cannot be decoded")
