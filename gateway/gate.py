"""Holds an attempt's chunks until it may be delivered. Pure. The gate opening is the commit point.

Before it opens nothing has gone out, so everything may still change: the status, the model, the answer. After it nothing may.
Whether it opens is `escalate.next_step`'s decision (Deliver), never the gate's.

A gate that opens with a lag lets out text only, once that much more has come and was looked at: a check that fails later can still cut
what was held back. Calls, the finish and all that follows a call wait for the end.
"""

import re
from collections.abc import Sequence

from msgspec import Struct, field

from gateway.fold import Fold
from wire.types import Chunk

SENTENCE = re.compile(r"[.!?…][\"')\]]*(?=\s|$)|[。！？]|\n")
"""Where a sentence ends."""


class Gate(Struct, eq=False):
    """One attempt's chunks: held while shut, passed on once open; folded into drafts all the while."""

    fold: Fold = field(default_factory=Fold)
    is_open: bool = False
    dropped: int = 0
    """Characters that came and will never go out."""
    _held: list[Chunk] = []
    _lag: int | None = None

    @property
    def lags(self) -> bool:
        """It is open, and not all that came has gone out."""
        return self.is_open and self._lag is not None

    def feed(self, chunk: Chunk) -> list[Chunk]:
        """What may go out now because of `chunk`. Nothing of an attempt that lags: ask `flow`."""
        self.fold.add(chunk)
        if self.is_open and self._lag is None:
            return [chunk]
        self._held.append(chunk)
        return []

    def pass_on(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """`chunks`, which go out: for an attempt that is open and does not lag."""
        add = self.fold.add
        for chunk in chunks:
            add(chunk)
        return chunks

    def open(self, lag: int | None = None) -> list[Chunk]:
        """Let out what was held, in order. Opening twice lets nothing out twice. lag: characters of text to keep back from now on; None:
        the answer is as it should be, and keeps nothing back."""
        self.is_open = True
        if lag is not None:
            self._lag = lag
            return self.flow()
        held, self._held = self._held, []
        return held

    def flow(self) -> list[Chunk]:
        """What may go out of an answer that has been looked at as far as it has come: all but the last `lag` characters."""
        spare = sum(map(_length, self._held)) - (self._lag or 0)
        out = 0
        for chunk in self._held:
            if chunk.delta.get("tool_calls") or chunk.finish is not None or _length(chunk) > spare:
                break
            spare -= _length(chunk)
            out += 1
        gone, self._held = self._held[:out], self._held[out:]
        return gone

    def rest(self) -> list[Chunk]:
        """All that was held back: the answer has ended well."""
        self._lag = None
        held, self._held = self._held, []
        return held

    def cut(self) -> list[Chunk]:
        """The end of an answer that turned out bad after it began to go out: what was held back up to the last end of a sentence, and the
        finish of an answer that was cut off."""
        held = "".join(str(chunk.delta.get("content") or "") for chunk in self._held)
        ends = [found.end() for found in SENTENCE.finditer(held)]
        kept = held[: ends[-1]] if ends else ""
        self.dropped += len(held) - len(kept)
        self._held, self._lag = [], None
        end = Chunk(finish="length")
        self.fold.add(end)
        return [Chunk(delta={"content": kept}), end] if kept else [end]


def _length(chunk: Chunk) -> int:
    text = chunk.delta.get("content")
    return len(text) if isinstance(text, str) else 0
