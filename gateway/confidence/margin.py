"""A choice among a few legal values > how far it is ahead of the runner-up. Pure.

Several tokens may begin the same value ("Pa", "Paris") and one token several values ("San"): probabilities are summed by the value that a
token leads to, at every token where the legal values still part.
"""

from bisect import bisect_left
from collections.abc import Sequence
from math import exp, log

from gateway.confidence.scan import Leaf
from gateway.confidence.tokens import Token, alternatives, content

TOP = 12.0
"""Log-odds are clipped to +-TOP; what an answer does not have (no enum, no call) is as sure as can be."""
_ENDS = {"string": b'"', "text": b"\0", "atom": b""}
"""What follows a value, so that no value is the beginning of another; nothing printable ends a text."""
_TINY = 1e-30

Range = tuple[int, int]
"""Of the sorted legal values: those that a spelling leads to."""


def lead(token: Token) -> float:
    """Log-ratio of the token to its best alternative that is spelled otherwise."""
    mine = content(token.said)
    rivals = [value for data, value in alternatives(token.said) if data != mine]
    return _clipped(token.logprob - max(rivals)) if rivals else TOP


def margin(tokens: Sequence[Token], leaf: Leaf, legal: Sequence[bytes], raw: bytes) -> float:
    """Log-ratio of the value chosen to the best other one; the smallest over the tokens where they part.

    tokens: those that cover `leaf`. legal: values as they are spelled, without quotes. -TOP when the value is none of them.
    """
    end = _ENDS[leaf.kind]
    values = sorted({value + end for value in legal})
    said = _leads_to(raw[leaf.start : leaf.end] + end, values, end)
    if said is None:
        return -TOP
    least = TOP
    for token in tokens:
        before = raw[leaf.start : max(token.start, leaf.start)]
        still = _leads_to(before, values, end)
        if still is None or still[1] - still[0] < 2:
            break
        if token.free:
            least = min(least, _part_ways(token, leaf, before, values, said[0], raw))
    return least


def _part_ways(token: Token, leaf: Leaf, before: bytes, values: list[bytes], said: int, raw: bytes) -> float:
    """said: position of the value that was said in the end."""
    end = _ENDS[leaf.kind]
    opening = raw[token.start : leaf.start].lstrip()  # the token may begin before the value: ` "Par`
    ending = leaf.kind == "text" and token.start >= leaf.end

    def meant(data: bytes) -> Range | None:
        if token.start < leaf.start:
            data = data.lstrip()
            if not data.startswith(opening):
                return None  # no beginning of such a value
            data = data[len(opening) :]
        return _leads_to(before + (data or b"\0" if ending else data), values, end)

    chosen = meant(content(token.said))
    if chosen is None:
        return TOP
    mass, rivals = 0.0, dict[Range, float]()
    for data, value in alternatives(token.said):
        other = meant(data)
        if other is None:
            continue
        if not other[0] <= said < other[1]:
            rivals[other] = rivals.get(other, 0.0) + exp(value)
        elif chosen[0] <= other[0] and other[1] <= chosen[1]:
            mass += exp(value)
        # else it leaves open what was chosen here: for nobody
    return _clipped(log(max(mass, _TINY)) - log(max(_TINY, *rivals.values()))) if rivals else TOP


def _leads_to(spelled: bytes, values: list[bytes], end: bytes) -> Range | None:
    """The values that begin with `spelled`; else the longest value that it begins with; None when there is none."""
    low = bisect_left(values, spelled)
    high = low
    while high < len(values) and values[high].startswith(spelled):
        high += 1
    if high > low:
        return low, high
    for length in range(len(spelled), 0, -1):
        value = spelled[:length] if end == b'"' else spelled[:length] + end
        at = bisect_left(values, value)
        if at < len(values) and values[at] == value:
            return at, at + 1
    return None


def _clipped(value: float) -> float:
    return max(-TOP, min(TOP, value))
