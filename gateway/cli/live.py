"""`weir check --live`: asks the rungs what they are and what they enforce, and holds that against what their routes need."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from backends.base import CAPABILITIES, Backend, BackendConfig, Ledger
from gateway.decide import Route, Rung
from gateway.setup import Setup
from wire.errors import BackendError
from wire.types import Call

if TYPE_CHECKING:
    from gateway.app import Resources

SECONDS = 20.0
"""For the one small question to a rung that has no engine to look at."""
_WORDS = {"enforced": "yes", "ignored": "IGNORED", "refused": "refused", "unknown": "-"}
_BY_CONSTRAINT = {"schema": "schema", "json": "schema", "choice": "choice", "regex": "regex"}


class Seen(Struct, frozen=True):
    """One rung, as it was found."""

    backend: str
    state: str
    """answers, not asked, or why it does not answer."""
    asked: bool
    answers: bool
    facts: Mapping[str, Any] = {}
    ledger: Ledger = {}
    lacks: tuple[str, ...] = ()
    """ROUTE: what is missing for it. Of enforced routes only: these fail the check."""


async def survey(setup: Setup, resources: "Resources", *, cloud: bool = False) -> list[Seen]:
    """Every rung of the configuration, in its order. cloud: ask rungs that leave the house too; that costs a few tokens."""
    await resources.open()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_see(setup, name, cloud)) for name in setup.rungs]
        return [task.result() for task in tasks]
    finally:
        await resources.close()


async def _see(setup: Setup, name: str, cloud: bool) -> Seen:
    rung, backend = setup.rungs[name], setup.backends[name]
    config = setup.settings.backends[name]
    look = getattr(backend, "survey", None)
    if rung.missing:
        seen = Seen(name, f"needs {rung.missing}", asked=True, answers=False)
    elif (rung.cloud and not cloud) or (look is None and not hasattr(config, "base_url")) or rung.passthrough:
        seen = Seen(name, "not asked", asked=False, answers=True)
    else:
        try:
            await (look() if look is not None else _ask(backend))
            unready = str(getattr(backend, "unready", ""))
        except BackendError as exc:
            unready = exc.message
        seen = Seen(name, unready or "answers", asked=True, answers=not unready)
    facts = getattr(backend, "facts", {}) if look is not None else {}
    ledger = getattr(backend, "ledger", {})
    lacks = tuple(
        f"{route.name}: {what}"
        for route in setup.routes.values()
        if route.mode in ("enforce", "canary") and any(one.name == name for one in route.ladder)
        for what in missing(seen, ledger, needs(route, rung, config))
    )
    return Seen(name, seen.state, seen.asked, seen.answers, facts, ledger, lacks)


async def _ask(backend: Backend) -> None:
    """Raises BackendError."""
    body = {"messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 16}
    async with aclosing(backend.stream(Call(body=body, seconds=SECONDS))) as stream:
        async for _ in stream:
            pass


def needs(route: Route, rung: Rung, config: BackendConfig) -> list[str]:
    """The capabilities that `rung` must have on `route`. The top rung must only answer."""
    found = ["answers"]
    if not route.small(rung):
        return found
    if route.constraint is not None and route.constraint.kind in _BY_CONSTRAINT:
        found.append(_BY_CONSTRAINT[route.constraint.kind])
    if route.risk is not None:
        found += ["logprobs", "masked"]
    if getattr(config, "adapter", None):
        found.append("adapter")
    return found


def missing(seen: Seen, ledger: Ledger, needed: list[str]) -> list[str]:
    """What of `needed` the rung was seen not to have. What nobody could find out is not held against it, but for an answer."""
    if not seen.asked:
        return []
    if not seen.answers:
        return ["does not answer" if seen.state == "answers" else seen.state]
    return [f"{name} is {ledger[name]}" for name in needed if ledger.get(name) in ("ignored", "refused")]


def tables(found: list[Seen]) -> list[Any]:
    """How each rung is, and what those that were probed enforce."""
    from rich.table import Table

    state = Table(title="live", title_justify="left")
    for column in ("backend", "state", "engine", "adapter"):
        state.add_column(column, overflow="fold")
    for seen in found:
        replicas = seen.facts.get("replicas", ())
        engines = "\n".join(_engine(replica) for replica in replicas)
        adapters = "\n".join(str(replica.get("adapter", "")) for replica in replicas)
        state.add_row(seen.backend, seen.state, engines, adapters)
    probed = [seen for seen in found if seen.ledger]
    ledger = Table(title="enforced", title_justify="left")
    ledger.add_column("capability")
    for seen in probed:
        ledger.add_column(seen.backend, overflow="fold")
    for name in CAPABILITIES:
        ledger.add_row(name, *(_WORDS[seen.ledger.get(name, "unknown")] for seen in probed))
    return [state, ledger] if probed else [state]


def _engine(replica: Mapping[str, Any]) -> str:
    if not replica["seen"]:
        return f"{replica['url']} does not answer /health"
    load = f"{replica['running']:g} running, {replica['waiting']:g} waiting, KV {replica['kv']:.0%}"
    return f"{replica['url']} vLLM {replica['version'] or 'of no version'}, {load}"
