"""Holds an attempt's chunks until it may be delivered. Pure. The gate opening is the commit point.

Before it opens nothing has gone out, so everything may still change: the status, the model, the answer. After it nothing may.
Whether it opens is `escalate.next_step`'s decision (Deliver), never the gate's.
"""

from gateway.fold import Fold
from wire.types import Chunk


class Gate:
    """One attempt's chunks: held while shut, passed on once open; folded into drafts all the while."""

    def __init__(self) -> None:
        self.fold = Fold()
        self.is_open = False
        self._held: list[Chunk] = []

    def feed(self, chunk: Chunk) -> list[Chunk]:
        """What may go out now because of `chunk`."""
        self.fold.add(chunk)
        if self.is_open:
            return [chunk]
        self._held.append(chunk)
        return []

    def open(self) -> list[Chunk]:
        """Let out what was held, in order. Opening twice lets nothing out twice."""
        self.is_open = True
        held, self._held = self._held, []
        return held
