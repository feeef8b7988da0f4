"""gateway.energy: what the driver's counters grow by is told, and a driver that fails, or is not there, harms nobody."""

import asyncio
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.energy import Card, Energy, nvml
from gateway.metrics import Metrics
from tests.gpus import CARD, Cards
from tests.waiting import until

OTHER = Card(1, "GPU-1b")


class Told:
    """What was told, in order: (gpu, uuid, joules)."""

    def __init__(self) -> None:
        self.took: list[tuple[str, str, float]] = []
        self.events: list[tuple[str, Any]] = []

    def energy(self, gpu: str, uuid: str, joules: float) -> None:
        self.took.append((gpu, uuid, joules))

    def say(self, name: str, /, *, level: str = "info", **fields: Any) -> None:
        self.events.append((name, fields.get("error")))


def read(cards: Cards, done: Callable[[Told], bool]) -> Told:
    """Reads without a pause to speak of until `done`, then stops."""

    async def run() -> Told:
        told = Told()
        energy = Energy(cards, told, told.say, every=0.001)
        energy.start()
        try:
            await until(lambda: done(told))
        finally:
            energy.close()
        await until(lambda: not _threads())
        return told

    return asyncio.run(run())


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "weir-energy"]


def test_what_a_counter_grew_by_is_told() -> None:
    """The first reading is where a card starts (what it took before is not ours), also for one that shows up later."""
    cards = Cards({CARD: 5000.0}, {CARD: 5010.5, OTHER: 70.0}, {CARD: 5010.5, OTHER: 72.0})
    told = read(cards, lambda told: len(told.took) >= 5)
    assert told.took[:5] == [
        ("0", "GPU-0a", 0.0), ("0", "GPU-0a", 10.5), ("1", "GPU-1b", 0.0), ("0", "GPU-0a", 0.0), ("1", "GPU-1b", 2.0),
    ]  # fmt: skip
    assert cards.closed == 1


def test_a_driver_that_was_loaded_again_counts_from_nothing() -> None:
    """A reading below the last one is where it starts anew: nothing is negative, and one that went wrong costs one interval at most."""
    told = read(Cards({CARD: 5000.0}, {CARD: 30.0}, {CARD: 31.0}), lambda told: len(told.took) >= 3)
    assert [joules for _, _, joules in told.took[:3]] == [0.0, 0.0, 1.0]


def test_a_driver_that_fails_is_asked_anew_and_told_once() -> None:
    """It is closed and opened again at each try, the log says so once for a row of failures, and nothing that was taken is lost."""
    cards = Cards({CARD: 10.0}, OSError("lost"), OSError("lost"), {CARD: 14.0}, RuntimeError(), {CARD: 15.0})
    told = read(cards, lambda told: len(told.took) >= 3)
    assert [joules for _, _, joules in told.took[:3]] == [0.0, 4.0, 1.0]
    assert told.events == [("energy_unread", "OSError"), ("energy_unread", "RuntimeError")]
    assert (cards.opened, cards.closed) == (4, 4)


def test_nothing_is_told_where_nothing_counts() -> None:
    """Without a card that counts, the thread ends at once, no series appears, and the log is quiet."""

    async def run() -> None:
        told, metrics = Told(), Metrics()
        Energy(lambda: None, metrics, told.say, every=60).start()
        await until(lambda: not _threads())
        assert told.events == []
        assert b"weir_gpu_energy_joules_total{" not in metrics.render()

    asyncio.run(run())


class NVMLError(Exception):
    pass


class Pynvml(SimpleNamespace):
    """As much of nvidia-ml-py as is called. cards: by number the millijoules, or None for one that counts none; None: no driver."""

    NVMLError = NVMLError

    def __init__(self, cards: list[int | None] | None) -> None:
        super().__init__(cards=cards, users=0)

    def nvmlInit(self) -> None:
        if self.cards is None:
            raise NVMLError("NVML Shared Library Not Found")
        self.users += 1

    def nvmlShutdown(self) -> None:
        self.users -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return 100 + index

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        millijoules: int | None = self.cards[handle - 100]
        if millijoules is None:
            raise NVMLError("Not Supported")
        return millijoules


def test_nvml_counts_in_millijoules_and_passes_over_cards_that_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card keeps the driver's number and UUID; one older than Volta is left out; the library is given back."""
    library = Pynvml([None, 2500])
    monkeypatch.setitem(sys.modules, "pynvml", library)
    counters = nvml()
    assert counters is not None
    assert counters.read() == {Card(1, "GPU-101"): 2.5}
    counters.close()
    assert library.users == 0


@pytest.mark.parametrize("library", [None, Pynvml(None), Pynvml([]), Pynvml([None])])
def test_without_package_driver_or_card_there_is_nothing_to_read(
    library: Pynvml | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them is an error, and none keeps the library open."""
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert nvml() is None
    assert library is None or library.users == 0
