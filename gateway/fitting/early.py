"""What `Watch` said of the fitting set's answers > where the next rung starts early, and where this one is stopped. Pure.

All of it is in nats of log-probability, of `Watch.lowest`; None stands for an answer without a free token.
"""

from collections.abc import Sequence

MARGIN = 1.0
"""Nats below the lowest that was ever accepted: a factor of e in probability."""


def soft(lowest: Sequence[float | None], accepted: Sequence[bool], waste: float) -> float | None:
    """The largest value such that at most `waste` of all requests are accepted and fell below it: their early starts are thrown away.

    0.0 when all of them may be; None when nothing is known. Raises ValueError when the two are not equally long.
    """
    known = _known(lowest, accepted)
    if all(value is None for value in lowest):
        return None
    spare = int(waste * len(lowest) + 1e-9)
    return known[spare] if spare < len(known) else 0.0


def collapsed(lowest: Sequence[float | None], accepted: Sequence[bool], margin: float = MARGIN) -> float | None:
    """A value that no accepted answer fell below, by `margin`; None when none was accepted. Raises ValueError as `soft`."""
    known = _known(lowest, accepted)
    return known[0] - margin if known else None


def _known(lowest: Sequence[float | None], accepted: Sequence[bool]) -> list[float]:
    return sorted(value for value, kept in zip(lowest, accepted, strict=True) if kept and value is not None)
