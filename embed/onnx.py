"""Models on ONNX Runtime, in the process that calls them: the worker, the rebuild and the benchmarks. Never the event loop.

Why int8, one thread, one text at a time: see models/minilm-int8/README.md for the measurement (int8 halves the time of
float32 and keeps what the heads read; a batch of padded texts is no faster on one core).
"""

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from embed.errors import EmbedError
from embed.manifest import Folder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Vector = npt.NDArray[np.float32]

MAX_PIECES = 256
"""Word pieces of a text that the model reads (as all-MiniLM-L6-v2 was trained), [CLS] and [SEP] included."""

MAX_CHARS = 4096
"""A tokenizer reads no more of a text than this: 256 word pieces of English are about 1,100 characters."""

SHAPE = struct.Struct("<II")
"""(layers, dim), before the numbers of a worker's answer."""


def session(files: Folder, threads: int = 1) -> Any:
    """An inference session of the folder's model.onnx. Raises EmbedError. Imports ONNX Runtime here, so that importing us is free."""
    from onnxruntime import InferenceSession, SessionOptions, disable_telemetry_events

    disable_telemetry_events()
    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A parked thread that spins costs the gateway its core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return InferenceSession(files.read("model.onnx"), options, providers=["CPUExecutionProvider"])


def tokenizer(files: Folder) -> "Tokenizer":
    """The folder's tokenizer; it neither pads nor cuts. Raises EmbedError."""
    from tokenizers import Tokenizer

    found = Tokenizer.from_buffer(files.read("tokenizer.json"))
    found.no_padding()
    found.no_truncation()
    return found


class Onnx:
    """MiniLM, loaded. `layers` blocks the caller for some milliseconds; not safe to share between threads."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        """Raises EmbedError (DigestMismatch names the file)."""
        files = Folder(folder)
        self._session = session(files, threads)
        self._tokenizer = tokenizer(files)
        self._tokenizer.enable_truncation(MAX_PIECES)
        self.digest = files.manifest.digest
        try:
            self.shape = (len(files.manifest.facts["layers"]), int(files.manifest.facts["dim"]))
        except (KeyError, TypeError) as exc:
            raise EmbedError(f"{folder}: manifest.json must say facts.layers and facts.dim") from exc

    def layers(self, text: str) -> Vector:
        """Mean over the tokens of each of the model's layers in the manifest, the last one last.

        Returns (layers, dim) float32, every row of length 1; the last row is the sentence embedding.
        """
        ids = np.array([self._tokenizer.encode(text[:MAX_CHARS]).ids], np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        pooled: Vector = self._session.run(None, feed)[0][0]
        length = np.linalg.norm(pooled, axis=1, keepdims=True)
        return np.asarray(pooled / np.maximum(length, 1e-12), np.float32)

    def answer(self, question: str) -> bytes:
        """`layers` as the worker says it (embed.worker)."""
        found = self.layers(question)
        return SHAPE.pack(*found.shape) + found.tobytes()
