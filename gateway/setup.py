"""Everything one request needs, frozen. A reload builds a new Setup and swaps one reference; requests in flight keep theirs."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase, translate
from functools import cached_property
from typing import Any, Literal, Self

from msgspec import Struct

from backends.base import Backend
from backends.embedding.base import Embedder
from gateway.access.keys import Keys
from gateway.decide import Decision, Route, Rung
from gateway.plan import Plan, plan
from gateway.record import Record
from gateway.settings.bypass import Bypass
from gateway.settings.model import Settings
from gateway.waste import Waste
from routers.base import Router
from wire.types import Price

Observer = Callable[[Sequence[Record]], None]
"""Gets Records in the order in which they were told, MANY at most. One that raises may lose what it was handed."""
MANY = 16
"""Records that are made and folded at once. Measured, between all that a request does: 63 us when each was made and folded by itself, 26
for each of eight, 2 less for each of sixteen; more at once gain nothing, and hold the loop longer than 0.3 ms."""
SOON = 0.01
"""Seconds that a Record waits for others."""


class Target(Struct, frozen=True):
    """What a requested model name means."""

    use: Literal["routed", "route", "backend"]
    name: str = ""
    """The route's or the backend's."""
    through: str = ""
    """The backend that knows this model under its own name; "" when there is none."""


class Targets(dict[str, Target | None]):
    """Requested model name > what it means: the exact name first, then the globs in the order of the configuration; `route/NAME` pins a
    route. None: unknown.

    What the globs say of a name is kept, of so many and no longer ones: callers may name what they like.
    """

    KEPT = 1024
    LONGEST = 128
    """Characters."""

    def __init__(self, models: Mapping[str, Target], routes: Iterable[str]) -> None:
        super().__init__({f"route/{name}": Target("route", name) for name in routes})
        self.update(models)
        self._globs = [(re.compile(translate(pattern)).match, target) for pattern, target in models.items()]
        self._most = len(self) + self.KEPT

    def __missing__(self, model: str) -> Target | None:
        for matches, target in self._globs:
            if matches(model):
                if len(self) < self._most and len(model) <= self.LONGEST:
                    self[model] = target
                return target
        return None


class Edge(Struct, frozen=True):
    """What the surface reads of the settings for every request (pydantic takes 0.04 us longer for each name)."""

    cors: Sequence[str]
    keepalive_after: float | None
    reasoning_field: Literal["reasoning_content", "reasoning"]
    body_bytes: int
    in_flight: int
    schema_bytes: int
    schema_depth: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        server, limits = settings.server, settings.limits
        return cls(
            cors=server.cors,
            keepalive_after=server.keepalive_after,
            reasoning_field=server.reasoning_field,
            body_bytes=limits.body_bytes,
            in_flight=limits.in_flight,
            schema_bytes=limits.schema_bytes,
            schema_depth=limits.schema_depth,
        )


class Setup(Struct, frozen=True, dict=True):
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

    @cached_property
    def edge(self) -> Edge:
        return Edge.of(self.settings)

    @cached_property
    def targets(self) -> Targets:
        """What requested model names mean."""
        return Targets(self.models, self.routes)

    @cached_property
    def plans(self) -> Mapping[str, Plan]:
        """By route, what most requests may ask: text, from the lowest rung on, with a schema where the route is strict about one."""
        reserve = self.settings.server.reserve
        return {name: plan(route, Decision(name, "matched"), reserve=reserve) for name, route in self.routes.items()}

    @cached_property
    def aside(self) -> frozenset[str]:
        """Routes of whose requests some are looked at off the path, once they are over (`Live.afterwards`)."""
        judged = {name for name, settings in self.settings.routes.items() if settings.judged is not None}
        return frozenset(name for name, route in self.routes.items() if route.shadowed or name in judged)


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
"""Sees a finished Story of one of the routes in `Setup.aside`, once its Record was told: offers work that is done off the path
(`gateway.offpath`)."""


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
        self.counted: Callable[[], None] = lambda: None
        """Has observers count what they were handed, where they do that many at once. Told by `fold`, and so SOON. Raises nothing."""
        self._waiting: list[Callable[[], Record]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timed = False
        self.sample: float | None = None
        """Share of the traces beginning here that are exported; None when tracing is off (`gateway.tracing`)."""

    def after(self, story: Any) -> None:
        """A request of one of `Setup.aside` is over: whoever works off the path may look at it. One that raises is counted."""
        for look in self.afterwards:
            try:
                look(story)
            except Exception:
                self.observer_errors += 1

    def observe(self, record: Record) -> None:
        """`tell` a Record that is there already."""
        self.tell(lambda: record)

    def tell(self, make: Callable[[], Record]) -> None:
        """A request is over, and `make` makes its Record.

        From here on the Record is told: whoever reads what the observers keep calls `fold` first, so that nobody sees less. They get it
        once its answer has gone out: at once while nobody else waits for an answer, else with others, as soon as MANY wait, and within
        SOON. What waits is bounded by what one turn of the loop can end; a process that is killed loses it. Records are made then, too:
        made, looked at and forgotten in a row, they stay in the processor's cache, where one alone has to get its memory anew. That counts
        while others wait (7 us a request); while nobody does, 16 in a row are .4 ms for whoever comes then (added p99 of one connection
        1.1 ms instead of .75)."""
        waiting = self._waiting
        waiting.append(make)
        if self._loop is None:
            self.fold()
            return
        if len(waiting) == MANY or self.in_flight <= 1:
            self._loop.call_soon(self._hand_over)
        if not self._timed:
            self._timed = True
            self._loop.call_later(SOON, self._in_time)

    def fold(self) -> None:
        """Make what was told and waits, hand it over and have it counted. In the loop's thread."""
        self._hand_over()
        self.counted()

    def _hand_over(self) -> None:
        """What cannot be made, and who raises, changes nothing for anybody else: it is counted."""
        waiting, self._waiting = self._waiting, []
        for at in range(0, len(waiting), MANY):
            records = []
            for make in waiting[at : at + MANY]:
                try:
                    records.append(make())
                except Exception:
                    self.observer_errors += 1
            for observer in self.observers:
                try:
                    observer(records)
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
