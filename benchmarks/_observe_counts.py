"""Do the counters of several workers equal the client's own? `counts.*`, for `benchmarks.observe`.

10,000 mixed requests over 4 workers with a reload in the middle, then SIGTERM: the page, and the last line of the log, against what the
client counted. Then again with one worker killed (SIGKILL) in the middle: what is missing against what the client saw fail.
"""

import asyncio
import os
import signal
import tempfile
from pathlib import Path

from tests.workers.test_serve import instance

REQUESTS, QUICK = 10_000, 1_000
WORKERS = 4
AT_ONCE = 16


def measure(*, quick: bool) -> dict[str, float]:
    """Raises RuntimeError where a gateway did not do as it was told."""
    count = QUICK if quick else REQUESTS
    with tempfile.TemporaryDirectory(prefix="weir-counts-") as folder:
        lost, drained = asyncio.run(_reloaded(Path(folder), count))
    with tempfile.TemporaryDirectory(prefix="weir-counts-") as folder:
        missing, failed = asyncio.run(_killed(Path(folder), count // 4))
    return {
        "counts.lost": lost,
        "counts.lost_after_sigterm": drained,
        "counts.requests": count,
        "counts.sigkill_beyond_failed": missing,
        "counts.sigkill_failed": failed,
    }


async def _reloaded(folder: Path, count: int) -> tuple[float, float]:
    async with instance(folder, WORKERS) as weir:
        await weir.crowd(count // 2, AT_ONCE)
        text = weir.config.read_text()
        weir.config.write_text(text.replace("price: {input: 3,", "price: {input: 4,"))
        weir.process.send_signal(signal.SIGHUP)
        await weir.crowd(count - count // 2, AT_ONCE)
        await weir.told("reloaded")
        lost = abs(await weir.counted() - weir.asked)
        if await weir.end() != 0:
            raise RuntimeError("the gateway did not end with 0")
        return lost, abs((await weir.told("stopped"))["requests"] - weir.asked)


async def _killed(folder: Path, count: int) -> tuple[float, float]:
    """(counted too much, or missing beyond what the client saw fail; what the client saw fail)."""
    async with instance(folder, WORKERS, delay=0.02) as weir:
        traffic = asyncio.gather(weir.crowd(count, AT_ONCE), _kill(weir.workers()[0]))
        await traffic
        counted = await weir.counted()
        beyond = max(weir.asked - counted, counted - weir.asked - weir.lost, 0.0)
        return beyond, float(weir.lost)


async def _kill(victim: int) -> None:
    await asyncio.sleep(1.0)
    os.kill(victim, signal.SIGKILL)
