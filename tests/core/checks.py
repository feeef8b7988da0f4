"""Validators from outside of the house, for the tests of `judge`."""

import threading
from collections.abc import Callable

from gateway.validators.base import Ask, Verdict
from wire.types import Draft


class Foreign:
    """Does as told, and counts."""

    def __init__(self, does: Callable[[Draft], Verdict]) -> None:
        self.does = does
        self.asked: list[int] = []
        self.threads: set[str] = set()

    def check(self, draft: Draft, ask: Ask) -> Verdict:
        self.asked.append(draft.choice)
        self.threads.add(threading.current_thread().name)
        return self.does(draft)


class Hanging:
    """Hangs until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.entered = 0

    def check(self, draft: Draft, ask: Ask) -> Verdict:
        self.entered += 1
        self.released.wait()
        return Verdict("pass")
