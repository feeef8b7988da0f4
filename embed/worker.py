"""A model's worker process: `python -m embed.worker FOLDER`.

Frames, little endian. In: u32 length, question in UTF-8. Out: u32 length, u8 kind, payload:
kind 0 READY (the folder's digest in ASCII), once; kind 1 ANSWER (the model's own words, below); kind 2 ERROR (UTF-8).
One answer per question, in order. No pickle, so neither side can be made to run code by the other.
End of input means that the parent is gone: the worker ends.

    MiniLM      question: a text                      answer: u32 layers, u32 dim, float32 x layers x dim (embed.onnx)
    a tagger    question: function, line end, text    answer: JSON (embed.tagger); such a folder has a tagger.json
"""

import os
import signal
import struct
import sys
from pathlib import Path
from typing import BinaryIO, Protocol

READY, ANSWER, ERROR = 0, 1, 2
QUESTION = struct.Struct("<I")
HEAD = struct.Struct("<IB")


class Model(Protocol):
    """What a folder holds, loaded."""

    digest: str

    def answer(self, question: str) -> bytes:
        """Blocks for some milliseconds."""


def load(folder: Path) -> Model:
    """Raises EmbedError. Imports ONNX Runtime."""
    from embed.manifest import Folder
    from embed.onnx import Onnx
    from embed.tagger import TAGGER, Loaded

    return Loaded(folder) if TAGGER in Folder(folder).manifest.files else Onnx(folder)


def main(folder: Path) -> int:
    # Ctrl-C reaches the whole process group; who ends this process is its parent, by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not break the frames
    from embed.errors import EmbedError

    try:
        model = load(folder)
        model.answer("\nwarm up")
    except EmbedError as exc:
        _send(out, ERROR, str(exc).encode())
        return 1
    _send(out, READY, model.digest.encode())
    while (question := _receive(sys.stdin.buffer)) is not None:
        try:
            _send(out, ANSWER, model.answer(question))
        except BrokenPipeError:
            return 0
        except Exception as exc:  # one bad text must not take the worker with it
            _send(out, ERROR, f"{type(exc).__name__}: {exc}".encode())
    return 0


def _receive(source: BinaryIO) -> str | None:
    head = source.read(QUESTION.size)
    if len(head) < QUESTION.size:
        return None
    (length,) = QUESTION.unpack(head)
    data = source.read(length)
    return data.decode("utf-8", "replace") if len(data) == length else None


def _send(out: BinaryIO, kind: int, payload: bytes) -> None:
    out.write(HEAD.pack(len(payload), kind) + payload)
    out.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
