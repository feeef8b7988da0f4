"""Runs a route's validators over an answer: hard checks first, in order; the first that fails decides.

A validator of our own is pure and fast and runs in the loop. A foreign one (`kind: mine.module:Class`) runs in a thread with a time limit:
one that raises or hangs is undecided, which is not sure, so the request goes up the ladder as if it were not there. The threads are
daemons behind a bounded queue: one that hangs for ever keeps neither the process from ending nor the drafts of later requests.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from typing import cast

from msgspec import ValidationError, convert, to_builtins

from gateway.validators.base import PASS, Ask, Validator, Verdict
from wire.types import Draft

SECONDS = 0.5
"""Time limit of a foreign validator."""
THREADS = 4
"""Foreign validators at once, in the whole process. All hanging: further ones are undecided, nothing else waits."""
WAITING = 64
"""Foreign checks that may wait for a thread; further ones are undecided at once."""

Check = Callable[[Draft, Ask], Verdict]


async def judge(validators: Sequence[Validator], drafts: Sequence[Draft], ask: Ask) -> tuple[Verdict, list[Verdict]]:
    """One verdict over all choices (all or nothing), and every single verdict, for the Record. No choice at all has failed, and as long
    as one of them grows nothing passes."""
    if not drafts:
        nothing = Verdict("fail", "truncated", "finished", "no choice in the answer")
        return nothing, [nothing]
    undecided: Verdict | None = None
    told: list[Verdict] = []
    for draft in drafts:
        if draft.finish is None:
            undecided = Verdict("undecided", "truncated", "finished", "the answer has not come to its end")
            told.append(undecided)
            break
    for validator in validators:
        ours, name, passed = _kind(type(validator))
        for draft in drafts:
            if ours:
                try:
                    verdict = validator.check(draft, ask)
                except Exception as exc:
                    verdict = _raised(exc, name)
            else:
                verdict = await _foreign(validator, draft, ask, name)
            if verdict is PASS:
                told.append(passed)
                continue
            if not verdict.validator:
                verdict = _named(verdict, name)
            told.append(verdict)
            if verdict.opinion == "fail":
                return verdict, told
            if verdict.opinion == "undecided":
                undecided = undecided or verdict
    return undecided or PASS, told


def fails(validators: Sequence[Validator], drafts: Sequence[Draft], ask: Ask) -> Verdict | None:
    """The first failed hard check of an answer that still grows. Foreign validators are not asked: one that hangs would hold every piece
    of the answer; they judge the end."""
    for validator in validators:
        ours, name, _ = _kind(type(validator))
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


@lru_cache(maxsize=256)
def _kind(validator: type[Validator]) -> tuple[bool, str, Verdict]:
    """Is it one of ours, its name, and its PASS. Kept: looked up for every check (0.1 us instead of 1.2)."""
    module = validator.__module__
    ours = module.startswith("gateway.validators.")
    name = module.removeprefix("gateway.validators.") if ours else validator.__name__
    return ours, name, _named(PASS, name)


def _named(verdict: Verdict, name: str) -> Verdict:
    return Verdict(verdict.opinion, verdict.reason, name, verdict.detail, verdict.probability)
