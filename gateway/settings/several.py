"""What several workers (`server.workers`) cannot do, or do otherwise than one. Pure: Settings in, findings out."""

import sys
from collections.abc import Iterator

from gateway.settings.mistakes import Severity, Where
from gateway.settings.model import Settings

WORKERS: Where = ("server", "workers")


def check(settings: Settings) -> Iterator[tuple[Where, str, Severity]]:
    """Nothing for one worker."""
    count = settings.server.workers
    if count == 1:
        return
    if sys.platform == "win32":
        yield WORKERS, "several workers share a socket as POSIX knows it: write 1 on Windows", "error"
    if settings.responses.store == "memory":
        yield (
            ("responses", "store"),
            f"`memory` is each process's own, and `previous_response_id` must be found by all {count} workers (server.workers): write "
            "`store: redis` with its `redis:` and `key:`, or `store: off`",
            "error",
        )
    for at, key in enumerate(settings.access.keys):
        if key.rate is not None:
            share = key.rate.per_minute / count
            yield (
                ("access", "keys", at, "rate"),
                f"each of the {count} workers (server.workers) counts by itself: {key.name!r} may ask up to {count} times as often. Write "
                f"`per_minute: {share:g}` for what you mean at most, or one worker",
                "warning",
            )
    for name, backend in settings.backends.items():
        if backend.kind == "local":
            yield (
                ("backends", name),
                f"`kind: local` holds a model in a process of its own for each of the {count} workers (server.workers): {count} times the "
                "memory. vLLM, or one worker, has it once",
                "warning",
            )
