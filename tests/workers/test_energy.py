"""`weir serve --workers N` on a machine whose cards count their energy: one process reads them, one page tells of them."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.waiting import until
from tests.workers.test_serve import SLOW, instance

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="several workers share a socket as POSIX knows it"),
    pytest.mark.timeout(240),
]

PYNVML = '''
"""In place of nvidia-ml-py: one card, which takes 1.5 joules after its first readings. Notes who has opened it."""
import os

class NVMLError(Exception): ...

readings = [7000, 7000, 8500]

def nvmlInit():
    with open({notes!r}, "a") as notes:
        notes.write(f"{{os.getpid()}}\\n")

def nvmlShutdown(): ...
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(number): return number
def nvmlDeviceGetUUID(handle): return "GPU-0a"

def nvmlDeviceGetTotalEnergyConsumption(handle):
    return readings.pop(0) if len(readings) > 1 else readings[0]
'''


def test_only_the_supervisor_counts_the_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers serve, neither has opened the driver, and the instance's page says once what the card took."""
    notes, package = tmp_path / "opened", tmp_path / "package"
    package.mkdir()
    (package / "pynvml.py").write_text(PYNVML.format(notes=str(notes)))
    monkeypatch.setenv("PYTHONPATH", str(package))

    async def run() -> None:
        async with instance(tmp_path, 2) as told:
            await until(notes.exists, SLOW)
            page = ""
            async with asyncio.timeout(SLOW):
                while 'weir_gpu_energy_joules_total{gpu="0",uuid="GPU-0a"} 1.5\n' not in page:
                    page = (await told.client.get("/metrics")).text
                    await asyncio.sleep(0.1)
            assert page.count("weir_gpu_energy_joules_total{") == 1
            assert page.count("# TYPE weir_gpu_energy_joules_total counter") == 1
            assert len(told.workers()) == 2
            assert notes.read_text().split() == [str(told.process.pid)]

    asyncio.run(run())
