"""models/static-minilm-256: distil static token embeddings from MiniLM with model2vec, then int8 rows.

model2vec asks MiniLM for every token of its vocabulary alone, reduces to 256 dimensions by PCA and weights tokens down that
are frequent (SIF, by rank). Nothing is trained and no data is read.
"""

from io import BytesIO
from typing import Any

import numpy as np
import orjson

from models.rebuild.folder import MODELS, finish
from models.rebuild.source import WEIGHTS, minilm_folder

FOLDER = MODELS / "static-minilm-256"
DIM = 256


def build() -> str:
    """Build the folder. Returns its digest."""
    from model2vec.distill import distill

    model = distill(str(minilm_folder()), pca_dims=DIM)
    table = np.asarray(model.embedding, np.float32)
    if getattr(model, "weights", None) is not None:
        table = table * np.asarray(model.weights, np.float32)[:, None]
    scale = np.maximum(np.abs(table).max(axis=1), 1e-12).astype(np.float32) / 127
    rows = np.rint(table / scale[:, None]).astype(np.int8)
    files = {"table.npy": _npy(rows), "scale.npy": _npy(scale), "tokenizer.json": _tokenizer(model.tokenizer.to_str())}
    facts = {"dim": DIM, "tokens": len(rows), "source": "all-MiniLM-L6-v2", "source_sha256": WEIGHTS}
    return finish(FOLDER, files, facts)


def _npy(array: Any) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _tokenizer(text: str) -> bytes:
    """The tokenizer without truncation, padding and special tokens: "[PAD]" in a prompt is five words, not a command."""
    tree = orjson.loads(text)
    tree.update(truncation=None, padding=None, post_processor=None, added_tokens=[])
    return orjson.dumps(tree)
