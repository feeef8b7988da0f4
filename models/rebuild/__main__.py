"""`python -m models.rebuild [static] [minilm] [clinc150] [banking77] [snips] [snips-tagger]`: build the shipped models anew; without names,
all of them.

Needs the extra [train]. About an hour on two idle cores, 35 minutes of it for `snips`. The same versions give the same bytes.
"""

import os
import sys
import time
from importlib import import_module

STEPS = ("static", "minilm", "clinc150", "banking77", "snips", "snips-tagger")


def main(names: list[str]) -> int:
    if unknown := set(names) - set(STEPS):
        print(f"unknown: {', '.join(sorted(unknown))}; one of {', '.join(STEPS)}", file=sys.stderr)
        return 2
    os.environ["HF_HUB_OFFLINE"] = "1"  # everything that is needed is installed; nothing is fetched
    for step in STEPS:
        if not names or step in names:
            started = time.perf_counter()
            digest = import_module(f"models.rebuild.{step.replace('-', '_')}").build()
            print(f"{step}: {digest} ({time.perf_counter() - started:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
