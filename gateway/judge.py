"""Runs a route's validators over an answer: hard checks first, in order; the first that fails decides.

A validator of our own is pure and fast and runs in the loop. A foreign one (`kind: mine.module:Class`) runs in a thread with a time limit:
one that raises or hangs is undecided, which is not sure, so the request goes up the ladder as if it were not there. The threads are
daemons behind a bounded queue: one that hangs for ever keeps neither the process from ending nor the drafts of later requests.
"""

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import cast

from msgspec import Struct, ValidationError, convert, to_builtins

from gateway.validators.base import PASS, Ask, Validator, Verdict
from wire.types import Draft

SECONDS = 0.5
"""Time limit of a foreign validator."""
THREADS = 4
"""Foreign validators at once, in the whole process. All hanging: further ones are undecided, nothing else waits."""
WAITING = 64
"""Foreign checks that may wait for a thread; further ones are undecided at once."""

Check = Callable[[Draft, Ask], Verdict]
Judgement = tuple[Verdict, list[Verdict]]
"""One verdict over all choices (all or nothing), and every single verdict, for the Record."""


async def judge(validators: Sequence[Validator], drafts: Sequence[Draft], ask: Ask) -> Judgement:
    """As `judgement`, for who waits in any case."""
    found = judgement(validators, drafts, ask)
    return found if isinstance(found, tuple) else await found


def judgement(
    validators: Sequence[Validator], drafts: Sequence[Draft], ask: Ask, said: "_Said | None" = None
) -> Judgement | Awaitable[Judgement]:
    """No choice at all has failed, and as long as one of them grows nothing passes. To be waited for only where a foreign validator is
    asked: most routes have none, and need no coroutine (1 us). said: what the checks before `validators` said."""
    if not drafts:
        nothing = Verdict("fail", "truncated", "finished", "no choice in the answer")
        return nothing, [nothing]
    if said is None:
        said = _Said()
        for draft in drafts:
            if draft.finish is None:
                said.hear(Verdict("undecided", "truncated", "finished", "the answer has not come to its end"))
                break
    told, only = said.told, drafts[0]
    plain = (
        only.finish == "stop" and only.text and not (only.tool_calls or only.refusal or ask.tools) and len(drafts) == 1
    )
    for place, validator in enumerate(validators):
        ours, name, passed, quiet = _kinds[type(validator)]
        if plain and quiet:
            told.append(passed)
            continue
        if not ours:
            return _wait(name, validators[place:], drafts, ask, said)
        for draft in drafts:
            try:
                verdict = validator.check(draft, ask)
            except Exception as exc:
                verdict = _raised(exc, name)
            if verdict is PASS:
                told.append(passed)
            elif said.hear(verdict if verdict.validator else _named(verdict, name)):
                return told[-1], told
    return said.undecided or PASS, told


async def _wait(
    name: str, validators: Sequence[Validator], drafts: Sequence[Draft], ask: Ask, said: "_Said"
) -> Judgement:
    """name: of the first of `validators`, which is foreign."""
    for draft in drafts:
        verdict = await _foreign(validators[0], draft, ask, name)
        if said.hear(verdict if verdict.validator else _named(verdict, name)):
            return said.told[-1], said.told
    found = judgement(validators[1:], drafts, ask, said)
    return found if isinstance(found, tuple) else await found


class _Said(Struct, eq=False):
    """What the checks of one answer have said so far: all of it, and the first who could not tell."""

    told: list[Verdict] = []
    undecided: Verdict | None = None

    def hear(self, verdict: Verdict) -> bool:
        """Has it failed?"""
        self.told.append(verdict)
        if verdict.opinion == "undecided" and self.undecided is None:
            self.undecided = verdict
        return verdict.opinion == "fail"


def fails(validators: Sequence[Validator], drafts: Sequence[Draft], ask: Ask) -> Verdict | None:
    """The first failed hard check of an answer that still grows. Foreign validators are not asked: one that hangs would hold every piece
    of the answer; they judge the end."""
    for validator in validators:
        ours, name, _, _ = _kinds[type(validator)]
        if not ours or getattr(validator, "soft", False):
            continue
        for draft in drafts:
            with suppress(Exception):  # raised: undecided, and the end will tell
                verdict = validator.check(draft, ask)
                if verdict.opinion == "fail":
                    return verdict if verdict.validator else _named(verdict, name)
    return None


async def _foreign(validator: Validator, draft: Draft, ask: Ask, name: str) -> Verdict:
    try:
        async with asyncio.timeout(SECONDS):
            verdict = await _in_thread(validator.check, draft, ask)
        if not isinstance(verdict, Verdict):
            return Verdict("undecided", "low_confidence", name, f"the validator returned {type(verdict).__name__}")
        # A Struct takes whatever it is given.
        return verdict if verdict is PASS else convert(to_builtins(verdict), Verdict)
    except TimeoutError:
        return Verdict("undecided", "low_confidence", name, f"the validator took longer than {SECONDS} s")
    except queue.Full:
        return Verdict("undecided", "low_confidence", name, "too many checks wait for a thread")
    except ValidationError as exc:
        return Verdict("undecided", "low_confidence", name, f"the validator returned a Verdict that is none: {exc}")
    except Exception as exc:
        return _raised(exc, name)


def _raised(exc: Exception, name: str) -> Verdict:
    return Verdict("undecided", "low_confidence", name, f"the validator raised {type(exc).__name__}")


Job = tuple["asyncio.Future[Verdict]", Check, Draft, Ask]


async def _in_thread(check: Check, draft: Draft, ask: Ask) -> Verdict:
    """Raises queue.Full, and what `check` raises."""
    future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
    _jobs().put_nowait((future, check, draft, ask))
    return await future


@cache
def _jobs() -> "queue.Queue[Job]":
    jobs: queue.Queue[Job] = queue.Queue(WAITING)
    for number in range(THREADS):
        threading.Thread(target=_work, args=(jobs,), name=f"validator-{number}", daemon=True).start()
    return jobs


def _work(jobs: "queue.Queue[Job]") -> None:
    while True:
        future, check, draft, ask = jobs.get()
        if future.cancelled():  # its time ran out while it waited
            continue
        verdict: Verdict | None = None
        failure: Exception | None = None
        try:
            verdict = check(draft, ask)
        except Exception as exc:
            failure = exc
        except BaseException as exc:  # SystemExit would end this thread
            failure = RuntimeError(type(exc).__name__)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            future.get_loop().call_soon_threadsafe(_settle, future, verdict, failure)


def _settle(future: "asyncio.Future[Verdict]", verdict: Verdict | None, failure: Exception | None) -> None:
    if future.done():
        return
    if failure is not None:
        future.set_exception(failure)
    else:
        future.set_result(cast(Verdict, verdict))


class _Kinds(dict[type[Validator], tuple[bool, str, Verdict, bool]]):
    """By class of validator: is it one of ours, its name, its PASS, and is it quiet. Looked up for every check; as many as
    there are classes."""

    def __missing__(self, validator: type[Validator]) -> tuple[bool, str, Verdict, bool]:
        module = validator.__module__
        ours = module.startswith("gateway.validators.")
        name = module.removeprefix("gateway.validators.") if ours else validator.__name__
        self[validator] = ours, name, _named(PASS, name), ours and getattr(validator, "quiet", False)
        return self[validator]


_kinds = _Kinds()


def _named(verdict: Verdict, name: str) -> Verdict:
    return Verdict(verdict.opinion, verdict.reason, name, verdict.detail, verdict.probability)
