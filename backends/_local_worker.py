"""The process that holds a `local` model: `python -m backends._local_worker JSON`.

Frames, both ways: u32 length, little endian, then JSON. In: {"job": n, ...order}, {"cancel": n}. Out: `ready` once, or `failed` and the
end; then for every job `tokens` and `finish` events as they come, and one that ends it: `end`, or `failed` with its kind.
One job at a time, in order. End of input means that the parent is gone: the work stops and the process ends.
No pickle, so neither side can be made to run code by the other.
"""

import json
import os
import queue
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, BinaryIO, Protocol

LENGTH = struct.Struct("<I")


class Model(Protocol):
    """What the worker serves."""

    context: int
    special: bool

    def answer(self, order: Mapping[str, Any], stopped: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """Events without a job."""


def main(load: Callable[[str], Model], told: str) -> int:
    """load: makes the model, from what the command line says."""
    # Ctrl-C reaches the whole process group; who ends this process is its parent, by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not break the frames
    try:
        model = load(told)
    except ImportError as exc:
        send(out, {"event": "failed", "message": f"{exc}: it needs Weir's extra [local]"})
        return 1
    except Exception as exc:  # whatever a folder makes the libraries raise
        send(out, {"event": "failed", "message": f"{type(exc).__name__}: {exc}"})
        return 1
    with suppress(BrokenPipeError):
        serve(model, sys.stdin.buffer, out)
    return 0


def serve(model: Model, source: BinaryIO, out: BinaryIO) -> None:
    """Answer jobs until the input ends."""
    # The parent sends the next job when the last has ended: no more than one waits here, and only the last cancellation counts.
    jobs: queue.Queue[dict[str, Any] | None] = queue.Queue()
    cancelled = [0]
    gone = threading.Event()

    def listen() -> None:
        while (told := receive(source)) is not None:
            if "cancel" in told:
                cancelled[0] = told["cancel"]
            else:
                jobs.put(told)
        gone.set()
        jobs.put(None)

    threading.Thread(target=listen, daemon=True).start()
    send(out, {"event": "ready", "context": model.context, "special": model.special})
    while (job := jobs.get()) is not None:
        number = job["job"]
        end: dict[str, Any] = {"event": "end", "job": number}
        try:
            for event in model.answer(job, lambda: gone.is_set() or number == cancelled[0]):  # noqa: B023
                send(out, {**event, "job": number})
        except BrokenPipeError:
            return
        except Exception as exc:  # one bad job must not take the worker with it
            end = {"event": "failed", "job": number, **_told(exc)}
        send(out, end)


def _told(exc: Exception) -> dict[str, str]:
    """What may be logged of an error (`message`), and what may quote the request (`detail`)."""
    kind = getattr(exc, "kind", "")
    if kind:
        return {"kind": kind, "message": str(exc), "detail": getattr(exc, "detail", "")}
    *_, last = traceback.extract_tb(exc.__traceback__)
    place = f"{os.path.basename(last.filename)}:{last.lineno}"
    return {"kind": "broken", "message": f"{type(exc).__name__} at {place}", "detail": str(exc)}


def receive(source: BinaryIO) -> dict[str, Any] | None:
    """A frame; None at the end."""
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    data = source.read(length)
    return json.loads(data) if len(data) == length else None


def send(out: BinaryIO, value: Mapping[str, Any]) -> None:
    data = json.dumps(value).encode()
    out.write(LENGTH.pack(len(data)) + data)
    out.flush()


if __name__ == "__main__":
    from backends._local_engine import loaded

    os._exit(main(loaded, sys.argv[1]))  # every frame was flushed; taking torch's threads down would take seconds
