"""The replicas behind one backend, looked at in the background. One fleet per set of URLs and process: backends that differ by their
adapter only share it, and a reload finds it again."""

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from backends._files import Stamp, digest, stamp
from backends._vllm_choice import order, rendezvous
from backends._vllm_engine import Card, Engine
from backends.http.control import Control

MOST = 32
"""Replicas."""
ANSWER = 1.0, 5.0
"""Seconds that an engine may take to answer a look, at least and at most; in between, as long as lies between two looks."""
SESSIONS = 10_000
"""Conversations whose replica is remembered; the oldest is forgotten."""


class Fleet:
    """urls: base URLs, the first one is the backend's own. dns: the host name of the first stands for one replica per address."""

    def __init__(self, urls: Sequence[str], *, dns: bool = False) -> None:
        self._named = urls[0] if dns else ""
        self.engines: dict[str, Engine] = {url: Engine(url) for url in urls}
        self.contents: dict[str, tuple[Stamp, str]] = {}
        """Folder of a base model's weights > their stamp and digest, for those that can be read from here."""
        self._sessions: OrderedDict[str, str] = OrderedDict()
        self._looked = float("-inf")
        self._one_at_a_time = asyncio.Lock()

    def order(self, now: float, usable: Mapping[str, bool], session: str, signature: str) -> list[Engine]:
        """Whom to ask, and who is next when it cannot. usable: by base URL, absent is yes."""
        engines = list(self.engines.values())
        if len(engines) == 1:
            return engines
        names = [engine.base_url for engine in engines]
        last = self._sessions.get(session)
        found = order(
            [engine.load(now, usable.get(engine.base_url, True)) for engine in engines],
            last=names.index(last) if last in self.engines else None,
            ring=rendezvous(names, signature) if signature else (),
        )
        return [engines[at] for at in found]

    def remember(self, session: str, engine: Engine) -> None:
        """`engine` has answered this conversation: it holds its prefix now."""
        if session and len(self.engines) > 1:
            self._sessions[session] = engine.base_url
            self._sessions.move_to_end(session)
            if len(self._sessions) > SESSIONS:
                self._sessions.popitem(last=False)

    async def look(self, control: Control, headers: Mapping[str, str], every: float) -> None:
        """Look at every engine, unless another backend has just done so. Raises nothing."""
        async with self._one_at_a_time:
            now = asyncio.get_running_loop().time()
            if now - self._looked < every / 2:
                return
            if self._named:
                await self._resolve(every)
            least, most = ANSWER
            seconds = min(max(every, least), most)
            async with asyncio.TaskGroup() as group:
                for engine in self.engines.values():
                    group.create_task(engine.look(control, headers, seconds))
            self._looked = asyncio.get_running_loop().time()

    async def read(self, model: str) -> None:
        """Digest the weights that the engines say they serve under `model` ("" for their only base), where they can be read from here."""
        for root in {card.root for card in self.bases(model) if card.root.startswith("/")}:
            folder = Path(root)
            now = await asyncio.to_thread(stamp, folder)
            if now and self.contents.get(root, ((), ""))[0] != now:
                self.contents[root] = (now, await asyncio.to_thread(digest, folder))

    def bases(self, model: str) -> list[Card]:
        """The card of `model`, of each engine that was seen and has it. Without a name, or with one that a proxy has made up, of the
        only base."""
        found = []
        for engine in self.engines.values():
            bases = {name: card for name, card in engine.cards.items() if not card.parent}
            card = bases.get(model) or (next(iter(bases.values())) if len(bases) == 1 else None)
            found += [card] if card is not None else []
        return found

    def identity(self, model: str) -> list[str]:
        """What the engines serve under `model`: digests of the weights, and where those are out of sight what /v1/models says. []
        until then."""
        told = set()
        for card in self.bases(model):
            seen = self.contents.get(card.root, ((), ""))[1]
            told.add(seen or f"{Path(card.root).name if card.root.startswith('/') else card.root}#{card.length}")
        return sorted(told)

    async def _resolve(self, seconds: float) -> None:
        """One replica per address of the name. A name server that does not answer changes nothing."""
        parts = urlsplit(self._named)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with suppress(OSError, TimeoutError, UnicodeError):
            async with asyncio.timeout(max(seconds, 1.0)):
                told = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
            addresses = sorted({str(entry[4][0]) for entry in told})[:MOST]
            urls = [urlunsplit(parts._replace(netloc=f"{_host(address)}:{port}")) for address in addresses]
            if urls:
                # A new dict: whoever walks over the old one goes on undisturbed.
                self.engines = {url: self.engines.get(url) or Engine(url) for url in urls}


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
