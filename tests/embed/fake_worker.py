"""A worker that speaks the frames of embed.worker without a model: it says a text again. The text says what happens.

"until:FILE" is answered when FILE is there, "touch:FILE" makes it so.
"""

import os
import sys
import time

from embed import worker


def main() -> int:
    out = os.fdopen(1, "wb", closefd=False)
    if "refuse" in sys.argv:
        worker._send(out, worker.ERROR, b"models/x/model.onnx: SHA-256 is wrong")
        return 1
    worker._send(out, worker.READY, b"fake")
    while (text := worker._receive(sys.stdin.buffer)) is not None:
        if text == "die":
            os._exit(9)
        if text == "hang":
            time.sleep(60)
        while text.startswith("until:") and not os.path.exists(text.removeprefix("until:")):
            time.sleep(0.005)
        if text == "bad":
            worker._send(out, worker.ERROR, b"ValueError: bad text")
            continue
        if text.startswith("touch:"):
            with open(text.removeprefix("touch:"), "w"):
                pass
        worker._send(out, worker.ANSWER, text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
