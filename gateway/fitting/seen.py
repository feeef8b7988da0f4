"""What an Outlook is fitted on. Pure."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gateway.fitting.isotonic import pav

FOLDS = 5
PENALTIES = (10.0, 30.0, 100.0, 300.0)
KNOTS = 40
"""Of the curve over the least likely token."""
SURE = 0.005
"""The curve is kept within [SURE, 1 - SURE]."""

Matrix = NDArray[np.float64]


class Seen(Struct, frozen=True):
    """One labelled request."""

    text: str
    """What the user asked last."""
    falls: Sequence[float]
    """`Watch.lowest` after each free token (nats); empty when nothing was free."""
    accepted: bool
    second: float | None = None
    """Log-odds that a second model gave its own answer; None: it said nothing that could be weighed."""
    spoken: Sequence[str] = ()
    """The functions and members of its answer."""
    parted: Sequence[bool] = ()
    """`Parting.parted` where `falls` are; of the same length where there is a second."""


def risen(low: Matrix, rejected: Matrix) -> list[tuple[float, float]]:
    """(how unlikely, log-odds that the answer is not accepted), rising."""
    share = np.clip(pav(low, rejected), SURE, 1 - SURE)
    order = np.argsort(low, kind="stable")
    at = order[np.unique(np.linspace(0, len(low) - 1, KNOTS).round().astype(int))]
    found = dict(zip(low[at].tolist(), np.log(share[at] / (1 - share[at])).tolist(), strict=True))
    return sorted(found.items())
