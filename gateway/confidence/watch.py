"""A growing answer > its least likely token so far. Pure.

What `Rung.outlook` (start the next rung early) and `Rung.collapsed` (stop this one) look at while tokens still come. It cannot know
the end, so it counts every free token of the JSON: which field comes next, and whether one more does, is as telling as a value (SNIPS,
of the answers that are not accepted: the first one that is too unlikely comes after 35 % of the answer, of values alone after 72 %).
Both were measured with this same class.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.confidence.parting import Parting, Said
from gateway.confidence.scan import OUTSIDE, Scanner
from gateway.confidence.tokens import content, free, logprob
from wire.types import Chunk, Draft

_SPACE = b" \t\r\n"
_END_OF_REASONING = b"</think>"


class Watch:
    """feed() every chunk of an attempt; `lowest` is the smallest log-probability (nats) of a free token of choice 0 so far, None
    before the first. It never rises, except when `</think>` shows that all before it was reasoning: then it is None again.

    A token counts that covers at least one byte of the JSON, or any of an answer that begins like neither JSON nor a tag. Forced
    tokens (no second legal alternative), tokens of the reasoning channel and those without a log-probability do not count.
    """

    __slots__ = ("_matched", "_mode", "_scanner", "lowest")

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.lowest: float | None = None
        self._scanner = Scanner()
        self._mode = ""
        """"" while nothing has come; text: all is value; json: what the scanner calls so."""
        self._matched = 0
        """Bytes of `</think>` seen in a row."""

    def feed(self, chunk: Chunk) -> None:
        """Take in one chunk. Never raises on what a server sent. O(bytes of its tokens)."""
        if chunk.choice != 0 or not chunk.logprobs:
            return
        delta = chunk.delta
        if (delta.get("reasoning") or delta.get("reasoning_content")) and not (
            delta.get("content") or delta.get("tool_calls")
        ):
            return
        tokens: Any = chunk.logprobs.get("content")
        for token in tokens if isinstance(tokens, Sequence) else ():
            if isinstance(token, Mapping):
                self._token(token)

    def _token(self, token: Mapping[str, Any]) -> None:
        known = logprob(token)
        if self._counts(content(token)) and known is not None and free(token):
            self.lowest = known if self.lowest is None else min(self.lowest, known)

    def _counts(self, data: bytes) -> bool:
        inside = False
        for byte in data:
            if not self._mode and byte not in _SPACE:
                self._mode = "json" if byte in b"{[<" else "text"
            if self._mode == "json" and self._scanner.feed(byte) != OUTSIDE:
                inside = True
            if byte == _END_OF_REASONING[self._matched]:
                self._matched += 1
                if self._matched == len(_END_OF_REASONING):
                    self._begin()
                    inside = False
            else:
                self._matched = 1 if byte == _END_OF_REASONING[0] else 0
        return inside or self._mode == "text"


def grown(draft: Draft, second: Said = ()) -> tuple[list[float], list[bool]]:
    """What a Watch, and a Parting from what a second model said, say after each token of `draft`, from the first free one on; empty when
    none was free. Also of the reasoning, where it counts as an answer: whoever looked at the answer while it grew has seen that too."""
    watch, parting = Watch(), Parting(second)
    falls: list[float] = []
    parted: list[bool] = []
    for token in draft.logprobs:
        chunk = Chunk(logprobs={"content": [token]})
        watch.feed(chunk)
        parting.feed(chunk)
        if watch.lowest is not None:
            falls.append(watch.lowest)
            parted.append(parting.parted)
    return falls, parted
