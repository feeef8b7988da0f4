"""One demo from the first file to the last process: whatever is started here is ended here."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

import gateway
from gateway.demo import account, client, server, setting, traffic
from gateway.demo.account import Figures, Observation
from gateway.demo.setting import Setting
from gateway.record import Record, decode
from gateway.recorder import stored

if TYPE_CHECKING:
    from openai import AsyncOpenAI

DATA = Path(gateway.__file__).parent.parent / "data"
LOG = "gateway.log"
WRITTEN_SECONDS = 10.0
WARM_SECONDS = 10.0


class Story(Struct, frozen=True):
    """One request worth a look."""

    outcome: str
    id: str
    text: str
    answer: str


class Outcome(Struct, frozen=True):
    """What a demo came to."""

    figures: Figures
    books: Sequence[str]
    """Differences between what client, Records and /metrics counted; none when all is well."""
    stories: Sequence[Story]
    seen: Sequence[Observation]
    records: Sequence[Record]
    url: str
    config: Path
    start_seconds: float

    @property
    def well(self) -> bool:
        return not (self.books or self.figures.errors or self.figures.invalid)

    def table(self, given: Setting) -> dict[str, Any]:
        """For `--json`."""
        return {
            "setting": msgspec.to_builtins(given),
            "stand_in": {
                "noise": setting.NOISE,
                "median_s": setting.MEDIAN / given.speed,
                "sigma": setting.SIGMA,
                "price": setting.PRICE,
            },
            "figures": msgspec.to_builtins(self.figures),
            "books_differ": list(self.books),
            "look_at": {story.outcome: story.id for story in self.stories},
            "start_s": self.start_seconds,
        }


@asynccontextmanager
async def playing(given: Setting, folder: Path, tell: Callable[[Observation], None]) -> AsyncIterator[Outcome]:
    """Serve, ask, count: the outcome, while the gateway still serves. `folder` gets configuration, log and Records.

    Raises DataMissing, ClientMissing, DidNotStart, OSError.
    """
    data = traffic.load(DATA)
    items = traffic.sample(data, given.utterances, given.seed)
    config = setting.write(folder, given, data, items)
    async with server.serving(config, folder / LOG) as served, client.agent(served.url, given.parallel) as agent:
        warming = await _warm_up(served, agent, data.labels)
        before = (await served.get("/metrics")).decode()
        started = time.perf_counter()
        seen = await client.send(agent, items, data.labels, given.parallel, tell)
        seconds = time.perf_counter() - started
        page = (await served.get("/metrics")).decode()
        records = await _records(folder / setting.STATE, len(items), warming)
        yield Outcome(
            figures=account.figures(seen, records, seconds),
            books=compare(seen, records, page, before),
            stories=stories(seen),
            seen=seen,
            records=records,
            url=served.url,
            config=config,
            start_seconds=served.start_seconds,
        )


async def _warm_up(served: server.Server, agent: "AsyncOpenAI", labels: Sequence[str]) -> set[str]:
    """Ask until the specialist's second tier answers: its worker starts after the gateway does, and until then the first tier
    answers alone. The ids of what was asked; these requests are no part of any figure."""
    asked: set[str] = set()
    until = time.monotonic() + WARM_SECONDS
    while time.monotonic() < until:
        (observation,) = await client.send(agent, [setting.WARM], labels, 1, lambda _: None)
        asked.add(observation.id)
        record = decode(await served.get(f"/v1/weir/requests/{observation.id}"))
        if record.attempts and record.attempts[0].tier == "minilm":
            break
        await asyncio.sleep(0.05)
    return asked


def compare(seen: Sequence[Observation], records: Sequence[Record], page: str, before: str = "") -> list[str]:
    """Where the three books differ, said in words; [] when they agree to the unit. `before`: /metrics before the first of `seen`."""
    ours = account.ledger_of_client(seen)
    counted = account.ledger_of_metrics(page)
    counted.subtract(account.ledger_of_metrics(before))
    metrics = account.differences(ours, counted)
    written = account.differences(ours, account.ledger_of_records(records))
    return [*(f"/metrics: {line}" for line in metrics), *(f"Records: {line}" for line in written)]


def stories(seen: Iterable[Observation]) -> list[Story]:
    """The first request of each outcome, for `weir why`."""
    first: dict[str, Observation] = {}
    for o in seen:
        if o.id:
            first.setdefault(o.outcome, o)
    return [Story(outcome, o.id, o.item.text, o.answer) for outcome, o in sorted(first.items())]


async def _records(state: Path, expected: int, others: set[str]) -> list[Record]:
    """All Records but `others`; they are told before the last byte but written a little later. What is not there in time is missing."""
    until = time.monotonic() + WRITTEN_SECONDS
    while True:
        found = [record for record in stored(state) if record.id not in others]
        if len(found) >= expected or time.monotonic() > until:
            return found
        await asyncio.sleep(0.1)
