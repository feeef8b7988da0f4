"""Asks one rung beside the line: for shadowing, and to calibrate it. The same Call and the same checks as on the line, but nobody waits for
the answer, nobody gets it, and it is no attempt of any request.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

from msgspec import structs

from gateway.calls import ask_of, call_for, validators_for
from gateway.confidence import Second
from gateway.decide import Decision, Route, Rung
from gateway.judge import judge
from gateway.plan import plan
from gateway.setup import Setup
from gateway.story import AttemptStory, Story
from gateway.validators.base import Verdict
from wire.errors import BackendError, Broken, TimedOut
from wire.types import Asked, Call, Draft, Query


def twin(setup: Setup, asked: Asked, id: str, route: Route, decision: Decision | None = None) -> Story:
    """The same request as `route` would have its small rungs answer it, whatever its mode. No Record is made of it."""
    story = Story(setup, asked, id, setup.clock(), setup.now())
    story.route, story.mode = route, "shadow"
    story.decision = decision or Decision(route.name, "pinned")
    story.plan = plan(route, story.decision, modality=asked.query.modality, reserve=setup.settings.server.reserve)
    return story


def call_of(story: Story, rung: Rung) -> Call:
    """What the line would ask `rung`, with log-probabilities also where nothing is calibrated yet."""
    return structs.replace(call_for(story, rung, rung.timeout), logprobs=True)


def askable(rung: Rung, route: Route, query: Query) -> bool:
    """May `rung` be asked on behalf of `route` when nobody waits? Never against its egress, nor with the caller's own key."""
    forbidden = route.egress == "local" and rung.cloud
    return not (forbidden or rung.missing or rung.passthrough) and query.modality <= rung.modality


async def ask(story: Story, rung: Rung, call: Call | None = None) -> AttemptStory:
    """Ask `rung` for a whole answer within its own timeout. call: default, `call_of`. A missing answer is the attempt's `error`."""
    clock = story.setup.clock
    price = story.setup.prices[rung.name]
    attempt = AttemptStory(0, 0, rung, price, clock(), clock() + rung.timeout)
    call = call or call_of(story, rung)
    error: BackendError | None = None
    try:
        async with (
            asyncio.timeout(rung.timeout),
            aclosing(story.setup.backends[rung.name].stream(call)) as chunks,
        ):
            async for chunk in chunks:
                attempt.came = True
                attempt.gate.feed(chunk)
    except BackendError as exc:
        error = exc
    except TimeoutError:
        error = TimedOut(f"'{rung.name}' took longer than {rung.timeout:g} s")
    except Exception as exc:  # a backend that breaks its contract is a backend that did not answer
        error = Broken(f"the backend raised {type(exc).__name__}")
    attempt.end(clock(), error)
    return attempt


async def check(
    story: Story, rung: Rung, drafts: Sequence[Draft], *, soft: bool = True, second: Second | None = None
) -> tuple[Verdict, list[Verdict]]:
    """Judge an answer of `rung` as the line would: one verdict, and every single one. soft: also how sure it is; second: with what it is
    weighed."""
    ask = structs.replace(ask_of(story, rung), second=second)
    return await judge(validators_for(story, rung, soft=soft), drafts, ask)
