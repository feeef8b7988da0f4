"""Asks a rung for every labelled request, once: what it said is kept with its log-probabilities, so that nothing is asked twice.

One JSON line an answer, 0600, appended as they come: an interrupted run goes on where it stopped. The key of a line is a hash of what was
sent, so that another prompt, schema or tool set is another question. A model that could not answer in time, or not at all, has answered
with nothing, and that is kept too; a server that was away has not, and is asked again.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway import money
from gateway.aside import ask, call_of
from gateway.decide import Rung
from gateway.story import AttemptStory, Story
from wire.errors import BackendError, Broken, Overloaded, Unavailable
from wire.hashing import short_hash
from wire.types import Call, Draft, Tokens

TRIES = 4
"""Of a request whose server is overloaded or away."""
PAUSE = 0.5
"""Seconds before the second try; doubled for each further one."""
LONGEST = 20.0

Progress = Callable[[int, int], None]
"""(answered, all)."""


class Answer(Struct, frozen=True, omit_defaults=True):
    """What a rung said to one request."""

    key: str
    drafts: Sequence[Draft] = ()
    error: str = ""
    """One of wire.errors.Reason when it did not answer."""
    message: str = ""
    """And in words."""
    seconds: float = 0.0
    tokens: Tokens = Tokens()
    cost: float = 0.0
    model: str = ""


class Away(Exception):
    """Too many requests had no answer, for the server was overloaded or away. What was answered is kept."""


def key_of(call: Call) -> str:
    constraint = call.constraint
    wanted = [constraint.kind, constraint.value] if constraint is not None else None
    return short_hash([call.body, wanted, call.text])


class Kept:
    """The answers in one file. Not for two processes at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {answer.key: answer for answer in _stored(path)}
        self._fd = -1

    def add(self, answer: Answer) -> None:
        """Raises OSError."""
        self.answers[answer.key] = answer
        data = msgspec.json.encode(answer) + b"\n"
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Kept"]:
        """Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.fchmod(self._fd, 0o600)
        try:
            size = os.fstat(self._fd).st_size
            if size and os.pread(self._fd, 1, size - 1) != b"\n":  # the last run was cut off in the middle of a line
                os.write(self._fd, b"\n")
            yield self
        finally:
            os.close(self._fd)
            self._fd = -1


def _stored(path: Path) -> Iterator[Answer]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            yield msgspec.json.decode(line, type=Answer)
        except msgspec.MsgspecError:
            continue  # torn


async def collect(
    stories: Sequence[Story],
    rung: Rung,
    kept: Kept,
    *,
    in_flight: int = 16,
    progress: Progress = lambda done, total: None,
    pause: float = PAUSE,
) -> list[Answer | None]:
    """What `rung` says to each of `stories`, in their order; None where the server was away. Raises Unavailable, OSError."""
    keys = [key_of(call_of(story, rung)) for story in stories]
    todo = {key: story for key, story in zip(keys, stories, strict=True) if key not in kept.answers}
    done, total = len(set(keys)) - len(todo), len(set(keys))
    progress(done, total)
    waiting = iter(todo.items())

    async def work() -> None:
        nonlocal done
        for key, story in waiting:
            attempt = await _patiently(story, rung, pause)
            if not _away(attempt.error):
                kept.add(_answer(key, story, attempt))
            done += 1
            progress(done, total)

    async with kept.open():
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(in_flight, len(todo))):
                    group.create_task(work())
        except* Unavailable as several:
            raise several.exceptions[0] from None
    return [kept.answers.get(key) for key in keys]


async def _patiently(story: Story, rung: Rung, pause: float) -> AttemptStory:
    """Raises Unavailable."""
    for number in range(TRIES):
        attempt = await ask(story, rung)
        if isinstance(attempt.error, Unavailable):
            raise attempt.error
        if not _away(attempt.error) or number == TRIES - 1:
            break
        wanted = getattr(attempt.error, "retry_after", None)
        await asyncio.sleep(min(LONGEST, pause * 2**number if wanted is None else wanted))
    return attempt


def _away(error: BackendError | None) -> bool:
    return isinstance(error, Overloaded | Broken)


def _answer(key: str, story: Story, attempt: AttemptStory) -> Answer:
    used = attempt.tokens(story)
    return Answer(
        key=key,
        drafts=attempt.gate.fold.drafts() if attempt.error is None else (),
        error=attempt.error.reason if attempt.error else "",
        message=attempt.error.message if attempt.error else "",
        seconds=(attempt.ended or attempt.started) - attempt.started,
        tokens=used,
        cost=money.cost(used, attempt.price),
        model=str(attempt.gate.fold.meta.get("model") or attempt.rung.digest),
    )
