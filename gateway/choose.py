"""Which route, which mode, which rungs: everything that is settled before anything is asked.

In this order, the first that applies: a backend asked for by its own model name; bypass (switch or header); a pinned route; an open tool
loop; the router. A router that raises or is late sends the request the default way, counted.
"""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

from msgspec.structs import replace

from gateway.decide import Decision, Route, decide
from gateway.plan import Plan, plan
from gateway.setup import Live, Setup, Target
from gateway.story import Story
from wire.errors import NotFound
from wire.hashing import portion
from wire.types import Query, Scores

BYPASS_HEADER = "x-weir-bypass"
OFF = frozenset({"", "0", "false", "off", "no"})


async def choose(live: Live, story: Story) -> None:
    """Fills in the story's decision, route, mode and plan. Raises NotFound for an unknown model."""
    setup, query = story.setup, story.asked.query
    target = setup.targets[query.model]
    if target is None:
        known = ", ".join([*setup.models, *(f"route/{name}" for name in setup.routes)])
        raise NotFound(
            f"the model '{query.model}' does not exist; there are: {known}", param="model", code="model_not_found"
        )
    if target.use == "backend":
        _straight(story, Decision("", "straight"), target, target.name)
        return
    switch = query.headers.get(BYPASS_HEADER)
    bypassed = live.bypass.all or (switch is not None and switch.lower() not in OFF)
    if bypassed and not any(route.egress == "local" for route in setup.routes.values()):
        # Nothing is asked of the router: the switch must help also where the router is the trouble.
        story.route = setup.routes[target.name or setup.default]
        _straight(story, Decision(story.route.name, "bypass"), target, target.through or story.route.top.name)
        return
    first = ""
    if target.use == "route":
        decision = Decision(target.name, "pinned")
    elif (
        query.tool_loop
        and (known_loop := live.sessions.recall(query.tenant, query.session))
        and known_loop[0] in setup.routes
    ):
        decision, first = Decision(known_loop[0], "tool_loop"), known_loop[1]
    else:
        started = setup.clock()
        try:
            found = _scores(setup, query)
            story.scores = found if isinstance(found, Scores) else await found
            decision = decide(story.scores, setup.routes, setup.default)
        except Exception as exc:
            reason, story.scores = _failed(exc)
            decision = Decision(setup.default, reason)
        finally:
            story.router_seconds = setup.clock() - started
    route = setup.routes[decision.route]
    story.route, story.mode, story.decision = route, route.mode, decision
    if bypassed or decision.route in live.bypass.routes:
        _straight(story, Decision(route.name, "bypass", decision.score), target, target.through or route.top.name)
    elif route.mode != "enforce" and not (route.mode == "canary" and in_canary(route, query)):
        story.would = route.top.name if decision.direct else route.ladder[0].name
        _straight(story, decision, target, target.through or route.top.name)
    elif route.holdout and held_out(route, query):
        story.decision = Decision(route.name, "holdout", decision.score, direct=True)
        _climbing(story, route, story.decision, "")
    else:
        _climbing(story, route, decision, first)


def in_canary(route: Route, query: Query) -> bool:
    """May small rungs answer this request of a route in `mode: canary`? They answer a share of the conversations, and of one always or
    never: no agent sees two kinds of answers in turn."""
    return portion("canary", query.tenant, query.session) < route.canary


def held_out(route: Route, query: Query) -> bool:
    """Is this conversation one of those that the top rung answers alone (`holdout`)? Not where nobody may be asked up there."""
    if route.top.missing or (route.egress == "local" and route.top.cloud):
        return False
    return portion("holdout", query.tenant, query.session) < route.holdout


def _scores(setup: Setup, query: Query) -> Scores | Coroutine[Any, Any, Scores]:
    """Ask the router. Rules and tables answer without waiting for anything: they are done after one step, and need no timer (0.5 us
    instead of 4.1). Of others, what brings their scores in time. Raises what the router raises, and TypeError where it says nothing."""
    scoring = setup.router.score(query)
    try:
        waits = scoring.send(None)
    except StopIteration as done:
        found = done.value
        if isinstance(found, Scores):
            return found
        raise _no_scores(found) from None
    return _in_time(setup.settings.router.deadline, _Begun(scoring, waits))


async def _in_time(seconds: float, scoring: "_Begun") -> Scores:
    """Raises as `_scores`, and TimeoutError."""
    async with asyncio.timeout(seconds):
        found = await scoring
    if isinstance(found, Scores):
        return found
    raise _no_scores(found)


def _no_scores(found: object) -> TypeError:
    return TypeError(f"the router gave {type(found).__name__}, not Scores")


def _failed(exc: Exception) -> tuple[str, Scores]:
    """Of a router that was late, or raised: the decision's reason, and scores that say so."""
    if isinstance(exc, TimeoutError):
        return "router_timeout", Scores({}, source="timeout")
    return "router_error", Scores({}, source=f"error: {type(exc).__name__}")


class _Begun:
    """The rest of a coroutine whose first step was made: `waits` is what it waits for."""

    def __init__(self, rest: Coroutine[Any, Any, Scores], waits: Any) -> None:
        self._rest = rest
        self._waits = waits

    def __await__(self) -> Generator[Any, Any, object]:
        try:
            while True:
                try:
                    said = yield self._waits
                except (Exception, asyncio.CancelledError) as exc:
                    self._waits = self._rest.throw(exc)
                else:
                    self._waits = self._rest.send(said)
        except StopIteration as done:
            return done.value
        finally:
            self._rest.close()


def _climbing(story: Story, route: Route, decision: Decision, first: str) -> None:
    query, kept = story.asked.query, story.setup.plans[route.name]
    if decision.direct or first or query.modality != kept.modality:
        kept = plan(route, decision, modality=query.modality, reserve=kept.reserve, first=first)
    if kept.strict and story.asked.constraint is None:
        kept = replace(kept, strict=False)  # there is no schema to be strict about
    story.plan = kept


def _straight(story: Story, decision: Decision, target: Target, backend: str) -> None:
    """One rung, no check. Unchanged, byte for byte, when that backend knows the model under the name that the caller used.

    `egress: local` outranks bypass and observe: what must stay in the house is refused rather than sent.
    """
    story.decision = decision
    story.straight = True
    story.mode = story.mode or "straight"
    native = getattr(story.setup.backends[backend], "dialect", "chat") == story.asked.dialect
    story.verbatim = native and backend == target.through and bool(story.asked.raw)
    egress = story.route.egress if story.route is not None else "any"
    story.plan = Plan(rungs=(story.setup.rungs[backend],), egress=egress)
