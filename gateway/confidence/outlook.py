"""A request, and the least likely token of its answer so far > how likely that answer will not be accepted. Pure.

Three things tell early whether the rung above will be needed. The words of the request do before the first token: a model that was wrong
about one kind of request is wrong about the next (SNIPS: AUROC .85 of the words alone). The least likely token so far does later
(`Watch`). And where a second small model is weighed, which answers in a few milliseconds, how sure that one is and what it talks of do
before the first token, and whether the two have parted does later (`Parting`). All are added up as log-odds.

Tried beside these on SNIPS and left out, as they moved the mean start by less than 1 % of the small model's time: pairs of words, the
function chosen, the members so far, the second least likely token, values that do not stand in the request, the tokens so far.

Fitted by `weir calibrate` beside the scorer (`gateway.fitting.outlook`), kept in its file: words as hashes without a key, which who has
a list of words can guess, and only those that several requests have. The file is the owner's alone, as the labelled requests are.
"""

import re
from collections.abc import Mapping, Sequence
from math import expm1, log1p
from zlib import crc32

from msgspec import Struct

from gateway.confidence.parting import Said
from gateway.confidence.scorer import along, logistic

LONGEST = 4096
"""Characters of a request that are read."""
_WORD = re.compile(r"\w+")


class Beside(Struct, frozen=True):
    """What is added up instead once a second model has answered; all of it log-odds. `second` is how sure that one is of its answer."""

    constant: float = 0.0
    words: float = 1.0
    """Times what the request's words say."""
    sure: float = 0.0
    """Times `second`."""
    says: Mapping[str, float] = {}
    """Function or member in its answer (`spoken`) > what that adds."""
    kept: float = 1.0
    """Once tokens have come: times all of the above."""
    lows: Sequence[tuple[float, float]] = ()
    """As in Outlook."""
    along: float = 0.0
    """Times `second`, while the answers go together."""
    parted: tuple[float, float] = (0.0, 0.0)
    """Once they have parted: a constant, and times `second`."""

    def before(self, words: float, second: float, spoken: Sequence[str]) -> float:
        """Before the first token. words: as `Outlook.before` says."""
        said = sum(self.says[one] for one in spoken if one in self.says)
        return self.constant + self.words * words + self.sure * second + said

    def doubt(self, before: float, lowest: float | None, second: float, parted: bool) -> float:
        """As `Outlook.doubt`. before: as above; parted: as a Parting says."""
        if lowest is None:
            return logistic(before)
        said = self.parted[0] + self.parted[1] * second if parted else self.along * second
        return logistic(self.kept * before + along(self.lows, unlikely(lowest)) + said)


class Outlook(Struct, frozen=True):
    """Log-odds that an answer will not be accepted, and how large they must be for an early start."""

    intercept: float = 0.0
    words: Mapping[str, float] = {}
    """Hash of a word > what it adds."""
    others: float = 0.0
    """Added for every word that is not among them."""
    length: float = 0.0
    """Added times log(1 + number of different words)."""
    kept: float = 1.0
    """Share of what the words say that still counts once tokens have come."""
    lows: Sequence[tuple[float, float]] = ()
    """(1 - probability of the least likely token so far, what that adds), rising in both; between them linear."""
    most: tuple[int, int] = (0, 0)
    """Different words, and such as are not among `words`, of the fitted request that had the most: beyond, more add nothing, as nothing is
    known of what they say."""
    starts: Mapping[str, float] = {}
    """Wasted share of early starts > the doubt from which on the next rung is started."""
    beside: Beside | None = None
    """Where a second model is weighed."""

    def before(self, text: str) -> float:
        """Log-odds by the request's words, before the answer has begun."""
        seen = hashed(text)
        known = [self.words[word] for word in seen if word in self.words]
        length, others = min(len(seen), self.most[0]), min(len(seen) - len(known), self.most[1])
        return self.intercept + sum(known) + self.others * others + self.length * log1p(length)

    def doubt(self, before: float, lowest: float | None) -> float:
        """Probability that the answer will not be accepted. lowest: as a Watch says (nats), None before the first free token."""
        return logistic(before if lowest is None else self.kept * before + along(self.lows, unlikely(lowest)))

    def start_at(self, waste: float | None) -> float | None:
        """The doubt from which on no more than `waste` of all requests are started in vain; None: never."""
        kept = [(float(share), at) for share, at in self.starts.items() if waste is not None and float(share) <= waste]
        return max(kept)[1] if kept else None


def spoken(said: Said) -> list[str]:
    """The functions that an answer calls, and the members that it has."""
    found = [name for name, _ in said if name]
    return [*found, *(f"{name}.{key}" for name, value in said if isinstance(value, dict) for key in value)]


def hashed(text: str) -> list[str]:
    """The different words of a request, sorted, so that sums are the same everywhere."""
    words = set(_WORD.findall(text[:LONGEST].casefold()))
    return sorted(f"{crc32(word.encode('utf-8', 'replace')):08x}" for word in words)


def unlikely(lowest: float) -> float:
    """1 - the probability of a token with this log-probability."""
    return -expm1(min(0.0, lowest))
