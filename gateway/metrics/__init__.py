"""Every Prometheus series, and the one observer that folds a Record into them: `series` says which there are, `counting` counts Records,
`registry` is what the rest of the gateway tells and asks.

Labels come from the configuration and from closed lists only: anything else becomes "other", nothing becomes "none". So the
number of series is bounded by the configuration, whatever clients send (a requested model name as a label has filled the
memory of other gateways). Series of routes and rungs that a reload removed stay until the restart: counters do not go back.

Measured on one core: `labels()` at each call 4.3 us, kept children 1.6 us for a counter and a histogram, hence `Family`; a Record
with one attempt 11 us when each child is looked up, 6 when they are kept by its kind, hence `kinds`. A page of 40 routes (11,400
lines): `generate_latest` 100 ms, `render` 32 ms, as it keeps the text of each line but its number and leaves out `_created`. Long
enough to call it from a thread (`asyncio.to_thread`); it lets go of the interpreter between families.
"""

from gateway.metrics.labels import ATTEMPT_OUTCOMES, ERROR_CODES, MODES, OUTCOMES, REASONS
from gateway.metrics.registry import Finding, Held, Metrics
from gateway.metrics.spills import escalations, had_to

__all__ = [
    "ATTEMPT_OUTCOMES",
    "ERROR_CODES",
    "MODES",
    "OUTCOMES",
    "REASONS",
    "Finding",
    "Held",
    "Metrics",
    "escalations",
    "had_to",
]
