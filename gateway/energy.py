"""Energy of this machine's GPUs, as their driver counts it, for the metrics.

NVML counts the millijoules of each card since the driver was loaded (`nvmlDeviceGetTotalEnergyConsumption`, Volta and newer; NVML API
reference, "Device Queries"). The counter is read every few seconds, off the request path, by one process of an instance; what it grew by is
told. It holds all that a card does: idle time, and whatever else runs there. It is not split between engines that share a card.

Nothing is told where there is no such card, no driver, or no package (`pip install weir[nvml]`).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from msgspec import Struct

EVERY = 5.0
"""Seconds between two readings."""


class Card(Struct, frozen=True):
    """A GPU."""

    number: int
    """As the driver counts them on this machine."""
    uuid: str
    """The same on every machine and after every restart."""


class Counters(Protocol):
    """The driver's. May block."""

    def read(self) -> Mapping[Card, float]:
        """Card > joules, ever growing while the driver stays loaded. Raises whatever the driver's library raises."""

    def close(self) -> None: ...


Open = Callable[[], Counters | None]
"""None: there is nothing to read on this machine."""


class Shown(Protocol):
    """What metrics show of it. From another thread."""

    def energy(self, gpu: str, uuid: str, joules: float) -> None: ...


class Say(Protocol):
    def __call__(self, name: str, /, *, level: str = "info", **fields: Any) -> None: ...


class Energy:
    """Reads from `start` to `close`, in a daemon thread of its own: a driver that hangs (it does, when a card has fallen off the bus) holds
    back neither the loop nor the end of the process."""

    def __init__(self, open: Open, shown: Shown, say: Say, every: float = EVERY) -> None:
        self._open = open
        self._shown = shown
        self._say = say
        self._every = every
        self._stop = threading.Event()
        self._last: dict[Card, float] = {}
        self._failing = False

    def start(self) -> None:
        """Called once. Waits for nothing: the library is loaded in the thread."""
        threading.Thread(target=self._run, name="weir-energy", daemon=True).start()

    def close(self) -> None:
        """Reads no more. Waits for nothing."""
        self._stop.set()

    def _run(self) -> None:
        counters: Counters | None = None
        while True:
            try:
                counters = counters or self._open()
                if counters is not None:
                    self._count(counters.read())
                    self._failing = False
                elif not self._last:
                    return
            except Exception as exc:
                # Opened anew next time: a driver that is loaded again knows nothing of the old one.
                if not self._failing:
                    self._say("energy_unread", level="warning", error=type(exc).__name__)
                self._failing = True
                _close(counters)
                counters = None
            if self._stop.wait(self._every):
                _close(counters)
                return

    def _count(self, read: Mapping[Card, float]) -> None:
        """The first reading of a card is where it starts, and so is one that is lower than the last (a driver that was loaded again, or a
        reading gone wrong)."""
        for card, joules in read.items():
            grown = max(0.0, joules - self._last.get(card, joules))
            self._last[card] = joules
            self._shown.energy(str(card.number), card.uuid, grown)


def _close(counters: Counters | None) -> None:
    if counters is not None:
        with suppress(Exception):
            counters.close()


class Nvml:
    """By way of nvidia-ml-py."""

    def __init__(self, pynvml: Any, cards: Sequence[tuple[Card, Any]]) -> None:
        """cards: each with NVML's handle."""
        self._nvml = pynvml
        self._cards = cards

    def read(self) -> Mapping[Card, float]:
        return {card: self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000 for card, handle in self._cards}

    def close(self) -> None:
        self._nvml.nvmlShutdown()


def nvml() -> Counters | None:
    """This machine's cards that count energy. None: no package, no driver, no such card."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    cards = []
    with suppress(pynvml.NVMLError):
        for number in range(pynvml.nvmlDeviceGetCount()):
            with suppress(pynvml.NVMLError):  # older than Volta, or lost
                handle = pynvml.nvmlDeviceGetHandleByIndex(number)
                pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
                cards.append((Card(number, str(pynvml.nvmlDeviceGetUUID(handle))), handle))
    if cards:
        return Nvml(pynvml, cards)
    pynvml.nvmlShutdown()
    return None
