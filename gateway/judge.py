"""Runs a route's validators over an answer: hard checks first, in order; the first that fails decides.

A validator of our own is pure and fast and runs in the loop. A foreign one (`kind: mine.module:Class`) runs in a thread with a time limit:
one that raises or hangs is undecided, which is not sure, so the request goes up the ladder as if it were not there.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from gateway.validators.base import PASS, Ask, Validator, Verdict
from wire.types import Draft

SECONDS = 0.5
"""Time limit of a foreign validator."""
THREADS = 4
"""Foreign validators at once, in the whole process. All hanging: further ones time out, nothing else waits."""


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="validator")


async def judge(validators: Sequence[Validator], drafts: Sequence[Draft], ask: Ask) -> tuple[Verdict, list[Verdict]]:
    """One verdict over all choices (all or nothing), and every single verdict, for the Record."""
    told: list[Verdict] = []
    undecided: Verdict | None = None
    for validator in validators:
        for draft in drafts:
            verdict = await _check(validator, draft, ask)
            told.append(verdict if verdict.validator else _named(verdict, validator))
            if verdict.opinion == "fail":
                return told[-1], told
            if verdict.opinion == "undecided":
                undecided = undecided or told[-1]
    return undecided or PASS, told


async def _check(validator: Validator, draft: Draft, ask: Ask) -> Verdict:
    name = _name(validator)
    try:
        if type(validator).__module__.startswith("gateway.validators."):
            return validator.check(draft, ask)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(SECONDS):
            return await loop.run_in_executor(_threads(), validator.check, draft, ask)
    except TimeoutError:
        return Verdict("undecided", "low_confidence", name, f"the validator took longer than {SECONDS} s")
    except Exception as exc:
        return Verdict("undecided", "low_confidence", name, f"the validator raised {type(exc).__name__}")


def _name(validator: Validator) -> str:
    module = type(validator).__module__
    return (
        module.removeprefix("gateway.validators.")
        if module.startswith("gateway.validators.")
        else type(validator).__name__
    )


def _named(verdict: Verdict, validator: Validator) -> Verdict:
    return Verdict(verdict.opinion, verdict.reason, _name(validator), verdict.detail)
