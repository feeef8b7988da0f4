"""A worker process without a model: `python -m tests.backends.local_worker HOW`. It speaks the real worker's frames.

It says the text of the last message, one token a word, and does what some words say: `slow` takes 0.2 s, `stuck` an hour (between tokens it
asks whether to stop, as the real one), `deaf` an hour without asking, `die` ends the process, `bad` raises, `long` is a context overflow,
`pid` says the process.
HOW: `good`, or `refuses`: it cannot load its model; `crash`: it ends before it is ready.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from backends._local_engine import Cannot
from backends._local_worker import main


class Echo:
    context = 100
    special = False

    def answer(self, order: Mapping[str, Any], stopped: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        words = order["messages"][-1]["content"].split()
        for choice in range(order["n"]):
            tokens = []
            for word in words:
                self._do(word, stopped)
                if stopped():
                    return
                text = str(os.getpid()) if word == "pid" else word
                tokens.append([text] if not order["top"] else [text, -0.5, [[text, -0.5], ["x", -9999.0]]])
                if order["live"]:
                    yield {"event": "tokens", "choice": choice, "tokens": tokens}
                    tokens = []
            counts = {"prompt": 3, "completion": len(words)}
            yield {"event": "finish", "choice": choice, "tokens": tokens, "finish": "stop", "kept": None, **counts}

    def _do(self, word: str, stopped: Callable[[], bool]) -> None:
        if word == "slow":
            time.sleep(0.2)
        elif word == "stuck":
            while not stopped():
                time.sleep(0.005)
        elif word == "deaf":
            time.sleep(3600)
        elif word == "die":
            os._exit(3)
        elif word == "bad":
            raise RuntimeError("a secret of the prompt")
        elif word == "long":
            raise Cannot("context", "too long")


def load(how: str) -> Echo:
    if how == "refuses":
        raise OSError("no such weights")
    if how == "crash":
        os._exit(4)
    return Echo()


if __name__ == "__main__":
    sys.exit(main(load, sys.argv[1]))
