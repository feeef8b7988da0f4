"""What `Watch` said of the fitting set's answers > where an answer is stopped. Pure. (Where the next rung starts early: outlook.py.)"""

from collections.abc import Sequence

MARGIN = 1.0
"""Nats below the lowest that was ever accepted: a factor of e in probability."""


def collapsed(lowest: Sequence[float | None], accepted: Sequence[bool], margin: float = MARGIN) -> float | None:
    """A log-probability (nats) that no accepted answer fell below, by `margin`; None when none was accepted. lowest: `Watch.lowest` at the
    end; None for an answer without a free token. Raises ValueError when the two are not equally long."""
    known = [value for value, kept in zip(lowest, accepted, strict=True) if kept and value is not None]
    return min(known) - margin if known else None
