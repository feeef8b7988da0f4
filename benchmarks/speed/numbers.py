"""From what a generator prints to figures. Pure.

A row is one measurement: the generator's own fields (`load.c`: requests, rps, p50, p99 ... in us) and what `_bench.measure` adds
(cpu_s of the gateway, other_share of the cores that somebody else took).
"""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from statistics import median

import orjson

Row = Mapping[str, float]

HOURS_A_MONTH = 730
USD_A_CORE_HOUR = 0.0446
"""On demand, a virtual core of a current compute instance of a large cloud (2026): a yardstick, the same for everybody."""


def read(printed: str) -> dict[str, float]:
    """The last line that begins with JSON. Raises ValueError when there is none: its message is the output's end."""
    lines = [line for line in printed.splitlines() if line.startswith("JSON ")]
    if not lines:
        raise ValueError(printed.strip()[-500:] or "the load generator printed nothing")
    found: dict[str, float] = orjson.loads(lines[-1][5:])
    return found


def percentile(values: Iterable[float], share: float) -> float:
    """Nearest rank: the smallest value that at least `share` of all do not exceed. Raises ValueError without values."""
    ordered = sorted(values)
    if not ordered or not 0 < share <= 1:
        raise ValueError("a percentile needs values, and a share in ]0, 1]")
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def middle(rows: Sequence[Row], key: str) -> float:
    """The median over rounds. Raises KeyError, and ValueError without rows."""
    if not rows:
        raise ValueError(f"no round has {key}")
    return median(row[key] for row in rows)


def added_ms(gateway: Sequence[Row], direct: Sequence[Row], key: str) -> float:
    """The gateway's percentile minus that of `direct` in the same round, us > ms; the median over rounds.

    It is the difference of two percentiles, not the percentile of differences: nobody can send the same request twice.
    """
    pairs = [(ours[key] - bare[key]) / 1000 for ours, bare in zip(gateway, direct, strict=True)]
    return median(pairs)


def cpu_us(row: Row, per: str = "requests") -> float:
    """CPU time of the gateway's processes for each request (or chunk), us. Raises ValueError when nothing was answered."""
    if not row[per]:
        raise ValueError(f"no {per} were answered")
    return row["cpu_s"] / row[per] * 1e6


def middle_cpu_us(rows: Sequence[Row], per: str = "requests") -> float:
    return median(cpu_us(row, per) for row in rows)


def per_core(rows: Sequence[Row]) -> float:
    """Requests per second of CPU: what one core would serve. The median over rounds.

    At saturation that is the request rate itself; it stays fair to a gateway that is faster than the load's core (nginx).
    """
    return 1e6 / middle_cpu_us(rows)


def failures(row: Row) -> float:
    """Requests that got no 200."""
    return sum(row.get(key, 0) for key in ("shed", "other", "broken", "unanswered", "unsent"))


def refused_share(row: Row) -> float:
    """Of all that was due, what got no answer."""
    return failures(row) / (failures(row) + row["requests"])


def cores(rate: float, us: float) -> float:
    """Cores that `rate` requests per second keep busy at `us` CPU each."""
    return rate * us / 1e6


def usd_a_month(busy: float) -> float:
    """What so many busy cores cost (a share of a core costs its share)."""
    return busy * USD_A_CORE_HOUR * HOURS_A_MONTH
