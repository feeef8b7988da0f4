"""Everything one request needs, frozen. A reload builds a new Setup and swaps one reference; requests in flight keep theirs."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

from msgspec import Struct

from backends.base import Backend
from backends.embedding.base import Embedder
from gateway.access.keys import Keys
from gateway.decide import Route, Rung
from gateway.record import Record
from gateway.settings.bypass import Bypass
from gateway.settings.model import Settings
from gateway.waste import Waste
from routers.base import Router
from wire.types import Price

Observer = Callable[[Sequence[Record]], None]
"""Gets Records in the order in which they were told, MANY at most. One that raises may lose what it was handed."""
MANY = 8
"""Records that are folded at once. Measured, between all that a request does: 29 us when each was folded by itself, 18 for each of eight.
64 at once gained nothing more, and would hold the loop for a millisecond."""
SOON = 0.01
"""Seconds that a Record waits for others."""


class Target(Struct, frozen=True):
    """What a requested model name means."""

    use: Literal["routed", "route", "backend"]
    name: str = ""
    """The route's or the backend's."""
    through: str = ""
    """The backend that knows this model under its own name; "" when there is none."""


class Setup(Struct, frozen=True):
    settings: Settings
    digest: str
    """Of the configuration."""
    router: Router
    router_digest: str
    routes: Mapping[str, Route]
    default: str
    backends: Mapping[str, Backend]
    rungs: Mapping[str, Rung]
    """Every backend as a rung, without a route's threshold."""
    prices: Mapping[str, Price]
    models: Mapping[str, Target]
    """Exact names and globs, as configured."""
    keys: Keys
    clock: Callable[[], float]
    """Monotonic seconds."""
    now: Callable[[], float]
    """Unix seconds."""
    text_hash: Callable[[str], str]
    """Keyed hash of a prompt, for the Record."""
    version: str
    warnings: Sequence[str] = ()
    embedders: Mapping[str, Embedder] = {}
    """Model names and globs, as configured > who computes their embeddings."""

    def embedder(self, model: str) -> str | None:
        """The entry of `embedders` for a requested model: the exact name first, then the globs in order. None: unknown."""
        if model in self.embedders:
            return model
        return next((pattern for pattern in self.embedders if fnmatchcase(model, pattern)), None)

    def target(self, model: str) -> Target | None:
        """Exact name first, then the globs in the order of the configuration; `route/NAME` pins a route. None: unknown."""
        found = self.models.get(model)
        if found is not None:
            return found
        if model.startswith("route/") and model[6:] in self.routes:
            return Target("route", model[6:])
        for pattern, target in self.models.items():
            if fnmatchcase(model, pattern):
                return target
        return None


class Sessions:
    """(tenant, session) > (route, rung) that last answered with a tool call. Bounded: the oldest is forgotten."""

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._known: OrderedDict[tuple[str, str], tuple[str, str]] = OrderedDict()

    def remember(self, tenant: str, session: str, route: str, rung: str) -> None:
        self._known[tenant, session] = (route, rung)
        self._known.move_to_end((tenant, session))
        if len(self._known) > self._size:
            self._known.popitem(last=False)

    def recall(self, tenant: str, session: str) -> tuple[str, str] | None:
        return self._known.get((tenant, session))


Afterwards = Callable[[Any], None]
"""Sees a finished Story, once its Record was told: offers work that is done off the path (`gateway.offpath`)."""


class Live:
    """What outlives a reload: the current Setup, the bypass switch, open tool loops, waste budgets, requests in flight, Records that
    were told and are not handed over yet."""

    def __init__(self, setup: Setup, observers: Sequence[Observer]) -> None:
        self.setup = setup
        self.observers = observers
        self.bypass = Bypass()
        self.sessions = Sessions()
        self.waste = Waste()
        self.in_flight = 0
        self.observer_errors = 0
        self.wrote: Callable[[str, float], None] = lambda route, seconds: None
        """Told after an answer's last byte: its route, and the seconds spent in sending. Raises nothing."""
        self.afterwards: list[Afterwards] = []
        self._waiting: list[Record] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timed = False
        self.sample: float | None = None
        """Share of the traces beginning here that are exported; None when tracing is off (`gateway.tracing`)."""

    def after(self, story: Any) -> None:
        """The request is over: whoever works off the path may look at it. One that raises is counted."""
        for look in self.afterwards:
            try:
                look(story)
            except Exception:
                self.observer_errors += 1

    def tell(self, story: Callable[[], Record]) -> None:
        """Make the Record and tell it. One that cannot be made changes nothing for the caller: it is counted."""
        try:
            record = story()
        except Exception:
            self.observer_errors += 1
            return
        self.observe(record)

    def observe(self, record: Record) -> None:
        """From here on the Record is told: whoever reads what the observers keep calls `fold` first, so that nobody sees less. They get it
        once its answer has gone out, with others: as soon as MANY wait, and within SOON. What waits is bounded by what one turn of the loop
        can end; a process that is killed loses it."""
        waiting = self._waiting
        waiting.append(record)
        if self._loop is None:
            self.fold()
        elif len(waiting) == MANY:
            self._loop.call_soon(self.fold)
        elif not self._timed:
            self._timed = True
            self._loop.call_later(SOON, self._in_time)

    def fold(self) -> None:
        """Hand over what was told and waits. One that raises changes nothing for anybody else: it is counted. In the loop's thread."""
        if not self._waiting:
            return
        records, self._waiting = self._waiting, []
        for at in range(0, len(records), MANY):
            some = records[at : at + MANY]
            for observer in self.observers:
                try:
                    observer(some)
                except Exception:
                    self.observer_errors += 1

    def gather(self) -> None:
        """From now on Records may wait for each other. In a running loop."""
        self._loop, self._timed = asyncio.get_running_loop(), False

    def settle(self) -> None:
        """The end of that: each Record is handed over at once, as before `gather`."""
        self._loop = None
        self.fold()

    def _in_time(self) -> None:
        self._timed = False
        self.fold()
