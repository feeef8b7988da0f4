"""What an engine says of itself: /health, /version, /metrics, /v1/models. Reading is pure; asking is in `Engine.look`.

Source: vLLM 0.32. Checked on the CPU build: a page of metrics has 56 KiB, an adapter's card names its base as `parent`
and the path that it was loaded from, letter for letter, as `root`.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from backends._vllm_choice import CLOSED, FAILURES, Circuit, Load
from backends.base import Ledger
from backends.http.control import Control, document
from wire.errors import BackendError, Broken, Overloaded, TimedOut

MISSES = 2
"""Looks without an answer until an engine counts as down. One may be late under load; a 503 of /health needs no second."""
_SERIES = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:kv_cache_usage_perc": "kv",
    "vllm:gpu_cache_usage_perc": "kv",
    "process_start_time_seconds": "started",
}


class Gauges(Struct, frozen=True):
    """Of a page of /metrics. Data-parallel engines behind one port are added up; their KV use is the fullest one's."""

    waiting: float = 0.0
    running: float = 0.0
    kv: float = 0.0
    started: float = 0.0
    """Unix seconds; 0 when it is not said (several API processes)."""


class Card(Struct, frozen=True):
    """A model or adapter in /v1/models."""

    root: str = ""
    parent: str = ""
    """"" for a base model."""
    length: int = 0
    """Tokens of context; 0 when it is not said."""


def gauges(page: bytes) -> Gauges:
    """Lines that are no sample of ours, or no number, are passed over."""
    found = {"waiting": 0.0, "running": 0.0, "kv": 0.0, "started": 0.0}
    for line in page.decode("utf-8", "replace").splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        field = _SERIES.get(name)
        if field is None:
            continue
        try:
            value = float(line.rpartition(" ")[2])
        except ValueError:
            continue
        if not 0 <= value < 1e15:
            continue
        found[field] = found[field] + value if field in ("waiting", "running") else max(found[field], value)
    return Gauges(**found)


def cards(answer: Any) -> dict[str, Card]:
    """Name > card; {} for anything but a list of models."""
    data = answer.get("data") if isinstance(answer, Mapping) else None
    found = {}
    for item in data if isinstance(data, list) else ():
        if isinstance(item, Mapping) and isinstance(item.get("id"), str):
            length = item.get("max_model_len")
            found[item["id"]] = Card(
                root=str(item.get("root") or ""),
                parent=str(item.get("parent") or ""),
                length=length if type(length) is int else 0,
            )
    return found


class Engine:
    """One server and what is known of it. Shared by every backend of its base URL, and kept across reloads."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.root = base_url.removesuffix("/v1")
        """Where /health, /version and /metrics are."""
        self.alive = True
        """Until a look says otherwise: nobody has to look for requests to go there."""
        self.seen = False
        self.version = ""
        self.gauges = Gauges()
        self.cards: dict[str, Card] = {}
        self.starts = 0
        """How often it was seen to start: with its first look, and whenever its start time, version or base model changed."""
        self.own = 0
        """Requests of this process under way here."""
        self.own_then = 0
        self.flying: dict[str, int] = {}
        """The same by the name of the model or adapter."""
        self.found: dict[str, tuple[int, Ledger]] = {}
        """Model and version > the ledger, and `starts` when it was made."""
        self.circuit: Circuit = CLOSED
        self.changing = asyncio.Lock()
        """Held by whoever loads or unloads adapters."""
        self.probing = asyncio.Lock()
        self._misses = 0

    def load(self, now: float, usable: bool) -> Load:
        """As `order` wants it. usable: as far as the backend that asks is concerned (its adapter is there)."""
        told = self.gauges
        return Load(
            usable=usable and self.alive and self.circuit.admits(now),
            waiting=told.waiting,
            running=told.running,
            kv=told.kv,
            own=self.own,
            own_then=self.own_then,
        )

    @contextmanager
    def busy(self, model: str) -> Iterator[None]:
        """A request is under way."""
        self.own += 1
        self.flying[model] = self.flying.get(model, 0) + 1
        try:
            yield
        finally:
            self.own -= 1
            self.flying[model] -= 1
            if not self.flying[model]:
                del self.flying[model]

    def judge(self, now: float, exc: BackendError | None) -> None:
        """What an answer, or the lack of one, says about this replica. None: it has begun to answer."""
        if exc is None:
            self.circuit = self.circuit.answered()
        elif isinstance(exc, Overloaded):
            self.circuit = self.circuit.full(now, exc.retry_after)
        elif isinstance(exc, Broken | TimedOut):
            self.circuit = self.circuit.failed(now)

    def forget(self, model: str) -> None:
        """The engine said that it does not know `model`."""
        self.cards = {name: card for name, card in self.cards.items() if name != model}

    async def look(self, control: Control, headers: Mapping[str, str], seconds: float) -> None:
        """Ask it how it is. Raises nothing: no answer is an answer."""
        try:
            await control.get(f"{self.root}/health", headers, seconds)
            own = self.own
            told = await self._told(control, headers, seconds)
            version = self.version or await self._version(control, headers, seconds)
            # Its models are few and their page is short; what it serves decides whether a promise still holds.
            found = cards(document(self.root, await control.get(f"{self.base_url}/models", headers, seconds)))
        except BackendError as exc:
            self.missed(exc)
            return
        if (
            not self.seen
            or not self.alive
            or told.started != self.gauges.started
            or _bases(found) != _bases(self.cards)
        ):
            self.starts += 1
            version = await self._version(control, headers, seconds)
        self.alive = self.seen = True
        self._misses = 0
        if told is not self.gauges:  # what was sent since the last word still counts on top of it
            self.gauges, self.own_then = told, own
        self.version, self.cards = version, found

    def missed(self, exc: BackendError) -> None:
        """A look without an answer."""
        self._misses += 1
        if isinstance(exc, Overloaded) or (self._misses >= MISSES and not (isinstance(exc, TimedOut) and self.own)):
            self.alive = False

    async def _told(self, control: Control, headers: Mapping[str, str], seconds: float) -> Gauges:
        try:
            return gauges(await control.get(f"{self.root}/metrics", headers, seconds))
        except TimedOut:  # too busy to say: as busy as it was, or the others' requests would all go there
            return self.gauges
        except BackendError:  # a server without metrics is asked by what this process knows alone
            return Gauges(started=self.gauges.started)

    async def _version(self, control: Control, headers: Mapping[str, str], seconds: float) -> str:
        try:
            told = document(self.root, await control.get(f"{self.root}/version", headers, seconds))
        except BackendError:
            return ""
        return str(told.get("version", ""))[:64] if isinstance(told, Mapping) else ""

    def facts(self) -> dict[str, Any]:
        told = self.gauges
        return {
            "url": self.root,
            "healthy": self.alive,
            "seen": self.seen,
            "version": self.version,
            "waiting": told.waiting,
            "running": told.running,
            "kv": told.kv,
            "in_flight": self.own,
            "failures": self.circuit.failures,
            "open": self.circuit.failures >= FAILURES,
        }


def _bases(found: Mapping[str, Card]) -> dict[str, Card]:
    return {name: card for name, card in found.items() if not card.parent}
