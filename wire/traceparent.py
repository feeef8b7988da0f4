"""W3C Trace Context (https://www.w3.org/TR/trace-context/): which trace a request belongs to, and what goes up with each attempt.

Only `traceparent` is read. `tracestate` belongs to the caller's vendors: it goes on as it came, or is left out where no valid
`traceparent` came with it (3.3.1.5 there).
"""

import hashlib
import re
from collections.abc import Mapping

from msgspec import Struct

_HEADER = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1
_BITS = 56
"""Of a trace id that the share of sampled traces is cut from: the last ones, which version 2 of the W3C's text asks to be random."""


class Trace(Struct, frozen=True, omit_defaults=True):
    """The place of one request in a trace. Ids are lower-case hex."""

    id: str
    """32 digits."""
    span: str
    """16 digits: the request's own span."""
    parent: str = ""
    """The caller's span; "" when the trace begins here."""
    sampled: bool = True
    """Are its spans exported? Context is passed on all the same."""

    def attempt(self, number: int) -> str:
        """The id of the span of attempt `number`. Derived, so that whoever reads a Record later finds the same one."""
        digest = hashlib.blake2b(f"{self.id}{self.span}{number}".encode(), digest_size=8).hexdigest()
        return digest if digest.strip("0") else f"{number + 1:016x}"

    def upward(self, headers: Mapping[str, str], number: int) -> dict[str, str]:
        """`headers` as they go to the upstream of attempt `number`, which becomes the child of that attempt's span."""
        kept = {name: value for name, value in headers.items() if name != "tracestate" or self.parent}
        return {**kept, "traceparent": f"00-{self.id}-{self.attempt(number)}-{_SAMPLED if self.sampled else 0:02x}"}


def begin(header: str, chance: str, share: float) -> Trace:
    """The Trace of a new request. header: the caller's `traceparent`, "" when there is none; one that is not valid counts as none.
    chance: 48 random hex digits. share: of the traces that begin here are sampled; of others the caller has decided."""
    found = _HEADER.fullmatch(header.strip())
    span = chance[32:]
    if found is None or not _valid(*found.groups()):
        id = chance[:32]
        return Trace(id, span, sampled=int(id[-_BITS // 4 :], 16) < share * 2**_BITS)
    _, id, parent, flags, _ = found.groups()
    return Trace(id, span, parent, bool(int(flags, 16) & _SAMPLED))


def _valid(version: str, id: str, parent: str, _flags: str, more: str | None) -> bool:
    """Later versions may have more parts; ours has none, and `ff` is no version."""
    return version != "ff" and (version != "00" or more is None) and bool(id.strip("0")) and bool(parent.strip("0"))
