"""`not_looping`: the answer does not repeat itself without end.

Small models that decode greedily fall into loops, the same words or the same line until the token limit (Holtzman et al., "The Curious Case
of Neural Text Degeneration", arXiv 1904.09751); an engine whose arithmetic overflowed says "!!!!!!". Without this check such an answer is
found out at its end; with it, while it grows.

A text loops when a stretch of it is one unit said over and over, nothing between, letter for letter:

    1,000 characters of a unit of at most 100 (ten times or more): no list, table or refrain that people write does that
    4,000 characters of a unit of at most 800 (five times or more): the same paragraph or record again and again
    4,000 characters of a unit without a letter (digits, signs, spaces): rulers, table borders, zeros of a matrix are shorter

Stretches begin at multiples of a quarter of their length, so one that is a quarter longer is always seen, a growing answer costs two
comparisons a look, and what is said of a growing answer is said of the whole one. An answer that was asked to repeat itself ("write it 500
times") is rejected; do not put this check on such a route.
"""

from collections.abc import Iterator

from gateway.validators.base import PASS, Ask, ValidatorConfig, Verdict
from wire.types import Draft

SHORT, SHORT_UNIT = 1_000, 100
LONG, LONG_UNIT = 4_000, 800
STEPS = 4


class NotLooping:
    class Config(ValidatorConfig):
        pass

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, draft: Draft, ask: Ask) -> Verdict:
        """FAIL (truncated): an answer without an end of its own is cut off wherever it stops. Looks at the text and at each call's
        arguments; of a growing draft at its end only."""
        for text in (draft.text, *(call.arguments for call in draft.tool_calls)):
            if _loops(text, LONG, LONG_UNIT, draft.whole) or _loops(text, SHORT, SHORT_UNIT, draft.whole, letters=True):
                return Verdict("fail", "truncated", "not_looping", "repeats itself over and over")
        return PASS


def _loops(text: str, size: int, longest: int, whole: bool, *, letters: bool = False) -> bool:
    """Is there a stretch of `size` characters that is one unit of at most `longest`, over and over? letters: only units with one."""
    for start in _starts(len(text), size, whole):
        unit = _unit(text, start, size, longest)
        if unit and (not letters or any(map(str.isalpha, unit))):
            return True
    return False


def _starts(length: int, size: int, whole: bool) -> Iterator[int]:
    """Where stretches begin that end within `length`; of a growing text only the last two."""
    step = size // STEPS
    last = (length - size) // step
    first = 0 if whole else max(0, last - 1)
    yield from range(first * step, last * step + 1, step)


def _unit(text: str, start: int, size: int, longest: int) -> str:
    """What text[start : start + size] repeats, "" when nothing so short."""
    end = start + size
    head = text[start : end - longest]
    # The text is shifted over itself: it has a period where it meets itself, and its head must, too, which is found fast.
    period = text.find(head, start + 1, end) - start
    while period > 0:
        if text.startswith(text[start + period : end], start):
            return text[start : start + period]
        period = text.find(head, start + period + 1, end) - start
    return ""
