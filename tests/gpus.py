"""Cards that count what they took: in place of a driver's (`gateway.energy.Counters`)."""

from collections.abc import Mapping

from gateway.energy import Card, Counters

CARD = Card(0, "GPU-0a")


class Cards:
    """Gives one reading after the other, the last one for ever. A reading that is an exception is raised."""

    def __init__(self, *readings: Mapping[Card, float] | Exception) -> None:
        self._readings = list(readings)
        self.reads = 0
        self.opened = 0
        self.closed = 0

    def __call__(self) -> Counters | None:
        self.opened += 1
        return self

    def read(self) -> Mapping[Card, float]:
        self.reads += 1
        reading = self._readings.pop(0) if len(self._readings) > 1 else self._readings[0]
        if isinstance(reading, Exception):
            raise reading
        return reading

    def close(self) -> None:
        self.closed += 1


def steady(joules: float = 500.0, readings: int = 1000) -> Cards:
    """One card that takes so much from one reading to the next."""
    return Cards(*({CARD: 1e6 + joules * number} for number in range(readings)))
